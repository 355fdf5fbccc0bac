"""Expected Gradients, Blur IG and Guided IG against closed forms and plain loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from xai_core.arrays import Float32, Float64
from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.explainers import (
    BlurIG,
    Complete,
    ExpectedGradients,
    Explainer,
    GuidedIG,
    build_explainer,
)
from xai_core.explainers.blur_path import blurred

RNG = np.random.default_rng(9)
IMAGES = RNG.random((3, 3, 7, 6), dtype=np.float32)
TARGETS = np.array([1, 0, 2])
WEIGHTS = RNG.normal(size=(3, 3, 7, 6)).astype(np.float32)


class Power(nn.Module):
    """Logit k = sum of w_k x^p."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power
        self.weights = nn.Parameter(torch.from_numpy(WEIGHTS))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", x**self.power, self.weights)


def small_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(5 * 7 * 6, 3)
        ).eval()


def classifier_of(module: nn.Module, batch_size: int = 4) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=(7, 6), batch_size=batch_size)


def attributions(explainer: Explainer, classifier: TorchClassifier) -> Float32:
    found = explainer.explain(classifier, IMAGES, TARGETS).attributions
    assert found is not None
    return found


def black_blur(sigma: float) -> Float32:
    soft: Float32 = gaussian_filter(IMAGES, sigma=(0, 0, sigma, sigma), mode="constant")
    return soft


def test_expected_gradients_of_a_linear_model_are_exact_for_any_draw() -> None:
    explainer = ExpectedGradients(samples=4, baseline=("black", "white"))
    expected = WEIGHTS[TARGETS] * (IMAGES - 0.5)  # each baseline as often as the other
    found = attributions(explainer, classifier_of(Power(1)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_expected_gradients_of_a_quadratic_model_approach_their_closed_form() -> None:
    # E over a of (x - x') 2 w (x' + a (x - x')) = w (x^2 - x'^2); stratified, so the error is
    # far below that of as many independent draws.
    found = attributions(ExpectedGradients(samples=400, baseline="white"), classifier_of(Power(2)))
    np.testing.assert_allclose(found, WEIGHTS[TARGETS] * (IMAGES**2 - 1), atol=2e-3)


def test_random_colours_are_on_average_grey() -> None:
    found = attributions(ExpectedGradients(samples=2000), classifier_of(Power(1), batch_size=64))
    np.testing.assert_allclose(found, WEIGHTS[TARGETS] * (IMAGES - 0.5), atol=0.1)


def test_expected_gradients_follow_the_seed_and_not_the_batch() -> None:
    explainer = ExpectedGradients(samples=5)
    together = attributions(explainer, classifier_of(small_net()))
    alone = explainer.explain(classifier_of(small_net(), 2), IMAGES[1:2], TARGETS[1:2])
    np.testing.assert_allclose(alone.attributions, together[1:2], rtol=1e-4, atol=1e-6)
    other = attributions(ExpectedGradients(samples=5, seed=1), classifier_of(small_net()))
    assert not np.allclose(other, together, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_the_blur_is_scipys_with_black_around_the_image(sigma: float) -> None:
    found = blurred(torch.from_numpy(IMAGES), torch.full((3,), sigma, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), black_blur(sigma), atol=1e-6)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("steps", [1, 9])
def test_blur_ig_is_complete_whatever_the_steps_up_to_degree_two(power: int, steps: int) -> None:
    explainer = BlurIG(steps=steps, sigma=2.0)
    found = attributions(explainer, classifier_of(Power(power)))
    expected = WEIGHTS[TARGETS] * (IMAGES**power - black_blur(2.0) ** power)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_blur_ig_agrees_with_a_plain_fine_sum_over_the_blurs() -> None:
    module, sigmas = small_net(), np.linspace(0, 3.0, 600)
    total = np.zeros_like(IMAGES, dtype=np.float64)
    for weak, strong in itertools.pairwise(sigmas):
        leaf = torch.from_numpy(black_blur(float(weak))).requires_grad_()
        module(leaf)[range(3), TARGETS].sum().backward()
        assert leaf.grad is not None
        total += leaf.grad.numpy() * (black_blur(float(weak)) - black_blur(float(strong)))
    found = attributions(BlurIG(steps=100, sigma=3.0), classifier_of(small_net()))
    assert np.corrcoef(found.ravel(), total.ravel())[0, 1] > 0.9999
    np.testing.assert_allclose(found, total, atol=0.02 * np.abs(total).max())


def plain_guided_ig(
    image: Float64, gradient: Callable[[Float64], Float64], steps: int, fraction: float, far: float
) -> Float64:
    """Guided IG from black, one input value at a time, groups found anew after every move."""
    end, x, result = image.ravel(), np.zeros(image.size), np.zeros(image.size)
    for step in range(1, steps + 1):
        slope = gradient(x.reshape(image.shape)).ravel()
        low, high = max(step / steps - far, 0) * end, min(step / steps + far, 1) * end
        new = np.maximum(x, low)
        while True:
            excess = (end - new).sum() - (1 - step / steps) * end.sum()
            able = [i for i in range(len(end)) if new[i] < high[i]]
            if excess < 1e-9 * end.sum() or not able:
                break
            able.sort(key=lambda i: abs(slope[i]))
            last = abs(slope[able[min(int(fraction * (len(end) - 1)), len(able) - 1)]])
            chosen = [i for i in able if abs(slope[i]) <= last]
            share = min(excess / sum(high[i] - new[i] for i in chosen), 1.0)
            for i in chosen:
                new[i] = high[i] if share == 1 else new[i] + share * (high[i] - new[i])
        result += (new - x) * slope
        x = new
    return result.reshape(image.shape)


@pytest.mark.parametrize(
    ("fraction", "far"), [(0.25, 0.02), (0.25, 1.0), (0.1, 0.3), (1.0, 1.0), (0.25, 0.0)]
)
def test_guided_ig_agrees_with_its_algorithm_written_plainly(fraction: float, far: float) -> None:
    module = small_net()
    explainer = GuidedIG(steps=10, fraction=fraction, max_distance=far)
    found = attributions(explainer, classifier_of(module))
    for image, target, ours in zip(IMAGES, TARGETS, found, strict=True):

        def gradient(x: Float64, target: int = int(target)) -> Float64:
            leaf = torch.from_numpy(x.astype(np.float32))[None].requires_grad_()
            (slope,) = torch.autograd.grad(module(leaf)[0, target], leaf)
            return slope[0].numpy().astype(np.float64)

        plain = plain_guided_ig(image.astype(np.float64), gradient, 10, fraction, far)
        np.testing.assert_allclose(ours, plain, atol=1e-5 * np.abs(plain).max())


def test_guided_ig_of_a_linear_model_is_that_of_any_path() -> None:
    found = attributions(GuidedIG(steps=7, baseline="white"), classifier_of(Power(1)))
    np.testing.assert_allclose(found, WEIGHTS[TARGETS] * (IMAGES - 1), rtol=1e-4, atol=1e-6)


def test_guided_ig_of_its_own_baseline_is_zero() -> None:
    black = np.zeros_like(IMAGES[:1])
    found = GuidedIG(steps=3).explain(classifier_of(small_net()), black, TARGETS[:1])
    assert not found.heatmaps.any()


@pytest.mark.parametrize(
    ("explainer", "within"),
    [(BlurIG(steps=100, sigma=3.0), 1e-3), (GuidedIG(steps=200), 0.02)],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_sum_is_what_differences_says(explainer: Explainer, within: float) -> None:
    classifier = classifier_of(small_net())
    assert isinstance(explainer, Complete)
    differences = explainer.differences(classifier, IMAGES, TARGETS)
    sums = attributions(explainer, classifier).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sums, differences, atol=within * np.abs(differences).max())


@pytest.mark.parametrize(
    ("explainer", "sizes"),
    [
        (ExpectedGradients(samples=5), [4, 4, 4, 3]),
        (BlurIG(steps=5), [4, 4, 4, 3]),
        (GuidedIG(steps=5), [1] * 15),  # a path of its own for every image, see the docstring
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_batches_are_full_and_every_gradient_is_counted(
    explainer: Explainer, sizes: list[int]
) -> None:
    seen: list[int] = []

    class Watched(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)  # type: ignore[no-any-return]

    classifier = classifier_of(Watched(*small_net()))
    seen.clear()
    attributions(explainer, classifier)
    assert seen == sizes
    assert (classifier.passes.gradients, classifier.passes.forwards) == (15, 0)


@pytest.mark.parametrize(
    ("kind", "parameters", "named"),
    [
        ("expected_gradients", {"samples": 0}, "samples"),
        ("expected_gradients", {"baseline": "blak"}, "did you mean 'black'"),
        ("expected_gradients", {"baseline": []}, "at least one baseline"),
        ("blur_ig", {"sigma": 0.0}, "sigma"),
        ("blur_ig", {"steps": 0}, "steps"),
        ("guided_ig", {"fraction": 0.0}, "fraction"),
        ("guided_ig", {"max_distance": 1.5}, "max_distance"),
    ],
)
def test_what_makes_no_sense_is_refused(
    kind: str, parameters: dict[str, object], named: str
) -> None:
    with pytest.raises(ParameterError, match=named):
        build_explainer(kind, parameters)
