"""Integrated Gradients against closed forms, a plain loop, and Captum."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.explainers import Complete, IntegratedGradients
from xai_core.quadrature import quadrature

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
RNG = np.random.default_rng(7)
IMAGES = RNG.random((3, 3, 6, 5), dtype=np.float32)
TARGETS = np.array([1, 0, 2])
COEFFICIENTS = RNG.normal(size=(3, 3, 6, 5)).astype(np.float32)  # [class, channel, row, column]


class Power(nn.Module):
    """Logit k = sum of c_k x^p, whose integrated gradients are c_k (x^p - x'^p) per value."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power
        self.coefficients = nn.Parameter(torch.from_numpy(COEFFICIENTS))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", x**self.power, self.coefficients)


def smooth_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Softplus(),
            nn.Conv2d(6, 6, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(6 * 4 * 3, 3),
        ).eval()


def classifier_of(module: nn.Module, *, batch_size: int | None = None) -> TorchClassifier:
    return TorchClassifier(
        module, name="mine", size=(6, 5), mean=MEAN, std=STD, batch_size=batch_size
    )


def in_rgb(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model as a function of RGB."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return lambda images: module((images - mean) / std)


def attributions_of(explainer: IntegratedGradients, classifier: TorchClassifier) -> np.ndarray:
    attributions = explainer.explain(classifier, IMAGES, TARGETS).attributions
    assert attributions is not None
    return attributions


def assert_attributions_close(got: np.ndarray, expected: np.ndarray, *, to: float = 1e-5) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=to * np.abs(expected).max())


def closed_form(power: int, baseline: float) -> np.ndarray:
    mean, std = np.reshape(MEAN, (1, 3, 1, 1)), np.reshape(STD, (1, 3, 1, 1))
    at_image, at_baseline = (IMAGES - mean) / std, (baseline - mean) / std
    return COEFFICIENTS[TARGETS] * (at_image**power - at_baseline**power)


@pytest.mark.parametrize(("baseline", "colour"), [("black", 0.0), ("white", 1.0)])
@pytest.mark.parametrize(("power", "steps"), [(1, 1), (2, 1), (4, 2), (6, 3)])
def test_gauss_legendre_is_exact_on_polynomials(
    power: int, steps: int, baseline: str, colour: float
) -> None:
    explainer = IntegratedGradients(steps=steps, baseline=baseline)
    got = attributions_of(explainer, classifier_of(Power(power)))
    assert_attributions_close(got, closed_form(power, colour))


def test_gauss_legendre_is_not_exact_beyond_its_degree() -> None:
    got = attributions_of(IntegratedGradients(steps=1), classifier_of(Power(3)))
    expected = closed_form(3, 0.0)
    assert np.abs(got - expected).max() > 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_gauss_legendre_integrates_polynomials_up_to_its_degree(steps: int) -> None:
    nodes, weights = quadrature("gauss-legendre", steps)
    assert len(nodes) == steps
    for degree in range(2 * steps):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), rel=1e-10)


def test_the_trapezoid_rule_is_the_mean_of_the_trapezoids() -> None:
    nodes, weights = quadrature("trapezoid", 4)
    assert nodes.tolist() == [0, 0.25, 0.5, 0.75, 1]
    values = RNG.random(5)
    areas = [0.25 * (values[i] + values[i + 1]) / 2 for i in range(4)]
    assert weights @ values == pytest.approx(sum(areas))


@pytest.mark.parametrize("steps", [1, 5, 12])
def test_the_trapezoid_rule_equals_a_plain_loop(steps: int) -> None:
    model = in_rgb(smooth_net())
    expected = np.zeros_like(IMAGES)
    for index, (image, target) in enumerate(zip(torch.from_numpy(IMAGES), TARGETS, strict=True)):
        gradients = []
        for step in range(steps + 1):
            point = (image * step / steps)[None].requires_grad_()
            (gradient,) = torch.autograd.grad(model(point)[0, target], point)
            gradients.append(gradient[0])
        for before, after in pairwise(gradients):
            expected[index] += (image * (before + after) / 2 / steps).numpy()
    explainer = IntegratedGradients(steps=steps, rule="trapezoid")
    got = attributions_of(explainer, classifier_of(smooth_net()))
    assert_attributions_close(got, expected)


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_integrated_gradients_equal_captums(colour: float) -> None:
    images = torch.from_numpy(IMAGES)
    expected = captum.attr.IntegratedGradients(in_rgb(smooth_net())).attribute(
        images,
        baselines=torch.full_like(images, colour),
        target=torch.from_numpy(TARGETS),
        n_steps=20,
        method="gausslegendre",
    )
    explainer = IntegratedGradients(steps=20, baseline="white" if colour else "black")
    got = attributions_of(explainer, classifier_of(smooth_net()))
    assert_attributions_close(got, expected.detach().numpy())


@pytest.mark.parametrize("baseline", ["black", "mean", "blurred", ("black", "white")])
def test_attributions_sum_to_the_difference_of_the_logits(baseline: str | tuple[str, ...]) -> None:
    explainer, classifier = IntegratedGradients(baseline=baseline), classifier_of(smooth_net())
    assert isinstance(explainer, Complete)
    differences = explainer.differences(classifier, IMAGES, TARGETS)
    sums = attributions_of(explainer, classifier).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sums, differences, rtol=1e-3, atol=1e-4)


def test_the_difference_is_that_of_the_targets_logit_at_image_and_baseline() -> None:
    net = smooth_net()
    with torch.no_grad():
        logits = in_rgb(net)(torch.from_numpy(IMAGES))
        black = in_rgb(net)(torch.zeros(1, 3, 6, 5))[0]
    expected = [float(logits[i, t] - black[t]) for i, t in enumerate(TARGETS)]
    got = IntegratedGradients().differences(classifier_of(net), IMAGES, TARGETS)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_attributions_of_several_baselines_are_averaged() -> None:
    classifier = classifier_of(smooth_net())
    both = IntegratedGradients(steps=8, baseline=("black", "white"))
    each = [IntegratedGradients(steps=8, baseline=name) for name in ("black", "white")]
    expected = np.mean([attributions_of(one, classifier) for one in each], axis=0)
    assert_attributions_close(attributions_of(both, classifier), expected)


def test_the_black_baseline_is_black_before_normalisation() -> None:
    classifier = classifier_of(smooth_net())
    images = np.zeros_like(IMAGES)
    explanation = IntegratedGradients(steps=3).explain(classifier, images, TARGETS)
    assert not explanation.heatmaps.any()


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [
        ("abs-sum", lambda a: np.abs(a[:, 0]) + np.abs(a[:, 1]) + np.abs(a[:, 2])),
        ("sum", lambda a: a[:, 0] + a[:, 1] + a[:, 2]),
        ("max-abs", lambda a: np.maximum(np.maximum(abs(a[:, 0]), abs(a[:, 1])), abs(a[:, 2]))),
    ],
)
def test_the_heatmap_is_the_named_reduction(
    reduce: str, expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    explainer = IntegratedGradients(steps=4, reduce=reduce)
    explanation = explainer.explain(classifier_of(smooth_net()), IMAGES, TARGETS)
    np.testing.assert_allclose(
        explanation.heatmaps, expected(explanation.attributions), rtol=1e-5, atol=1e-7
    )
    assert explanation.heatmaps.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_the_map_of_an_image_does_not_depend_on_its_batch(batch_size: int) -> None:
    explainer = IntegratedGradients(steps=5)
    expected = attributions_of(explainer, classifier_of(smooth_net(), batch_size=15))
    classifier = classifier_of(smooth_net(), batch_size=batch_size)
    assert_attributions_close(attributions_of(explainer, classifier), expected)
    for index in range(3):
        one = slice(index, index + 1)
        alone = explainer.explain(classifier, IMAGES[one], TARGETS[one]).attributions
        assert_attributions_close(alone, expected[one])


class Batches:
    """The sizes of the batches that a module saw; shared by the module and its copies."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __deepcopy__(self, memo: dict[int, object]) -> Batches:
        return self


class Watched(nn.Module):
    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches
        self.net = smooth_net()

    def forward(self, x: Tensor) -> Tensor:
        self.batches.sizes.append(int(x.shape[0]))
        return self.net(x)


@pytest.mark.parametrize("steps", [5, 50, 500])
def test_the_largest_batch_does_not_grow_with_the_steps(steps: int) -> None:
    batches = Batches()
    classifier = classifier_of(Watched(batches), batch_size=32)
    batches.sizes.clear()
    IntegratedGradients(steps=steps).explain(classifier, IMAGES, TARGETS)
    assert max(batches.sizes) <= 32
    assert sum(batches.sizes) == 3 * steps
    assert len(batches.sizes) == -(-3 * steps // 32)  # images and steps share full batches


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"baseline": ()}, "`baseline` must name at least one baseline"),
        ({"baseline": "blak"}, "no baseline 'blak': did you mean 'black'"),
        ({"baseline": ("black", "whit")}, "no baseline 'whit': did you mean 'white'"),
    ],
)
def test_a_parameter_that_it_cannot_take_is_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        IntegratedGradients(**options)
