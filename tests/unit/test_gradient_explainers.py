"""Gradient, noise and path methods against closed forms, plain loops and Captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from xai_core.classifier import TorchClassifier
from xai_core.explainers import build_explainer
from xai_core.explainers.explanation import Complete

IMAGES = np.random.default_rng(3).random((3, 3, 8, 8)).astype(np.float32)
TARGETS = np.array([0, 1, 1])


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, 3, 8, 8, generator=generator))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,kchw->nk", images, self.weight)


class Quadratic(Linear):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,kchw->nk", images**2, self.weight)


def small_cnn() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        relu = nn.ReLU(inplace=True)  # one module, used twice, as in ResNet
        layers = [nn.Conv2d(3, 6, 3, padding=1), relu, nn.Conv2d(6, 6, 3, padding=1), relu]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)).eval()


def smooth_cnn() -> nn.Module:
    """Without the kinks of ReLUs, at which a quadrature converges slowly."""
    module = small_cnn()
    return nn.Sequential(module[0], nn.Tanh(), module[2], nn.Tanh(), *module[4:])


def made(module: nn.Module, batch_size: int = 7) -> TorchClassifier:
    return TorchClassifier(module, name="tiny", size=(8, 8), batch_size=batch_size)


def attributions(kind: str, module: nn.Module, **parameters: object) -> np.ndarray:
    found = build_explainer(kind, parameters).explain(made(module), IMAGES, TARGETS).attributions
    assert found is not None
    return found


def test_on_a_linear_model_saliency_and_smoothgrad_are_its_weights() -> None:
    weights = Linear().weight.detach().numpy()[TARGETS]
    assert np.allclose(np.abs(attributions("saliency", Linear())), np.abs(weights), atol=1e-5)
    assert np.allclose(attributions("smoothgrad", Linear(), samples=5), weights, atol=1e-5)
    squares = attributions("smoothgrad_squared", Linear(), samples=5)
    assert np.allclose(squares, weights**2, atol=1e-4)


def test_on_a_linear_model_vargrad_is_zero() -> None:
    assert np.allclose(attributions("vargrad", Linear(), samples=6), 0, atol=1e-5)


def test_on_a_quadratic_model_the_noise_methods_have_their_closed_form() -> None:
    # grad = 2 w (x + e): its mean is 2 w x, its variance 4 w^2 sigma^2.
    weights = Quadratic().weight.detach().numpy()[TARGETS]
    smooth = attributions("smoothgrad", Quadratic(), samples=4000, sigma=0.1)
    assert np.allclose(smooth, 2 * weights * IMAGES, atol=0.05)
    variance = attributions("vargrad", Quadratic(), samples=4000, sigma=0.1)
    assert np.allclose(variance, 4 * weights**2 * 0.01, rtol=0.2, atol=1e-4)


def test_gradient_x_input_is_the_product() -> None:
    expected = 2 * Quadratic().weight.detach().numpy()[TARGETS] * IMAGES**2
    assert np.allclose(attributions("gradient_x_input", Quadratic()), expected, atol=1e-5)


def test_expected_gradients_of_a_linear_model_are_weight_times_distance_from_the_baseline() -> None:
    weights = Linear().weight.detach().numpy()[TARGETS]
    found = attributions("expected_gradients", Linear(), baseline="white", samples=4)
    assert np.allclose(found, weights * (IMAGES - 1), atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "parameters", "tolerance"),
    [
        ("blur_ig", {"steps": 200, "sigma": 3.0}, 0.03),
        ("guided_ig", {"steps": 200}, 0.03),
        ("integrated_gradients", {"steps": 200}, 0.001),
    ],
)
def test_path_methods_add_up_to_the_difference_of_the_logits(
    kind: str, parameters: dict[str, object], tolerance: float
) -> None:
    explainer = build_explainer(kind, parameters)
    assert isinstance(explainer, Complete)
    classifier = made(smooth_cnn())
    total = explainer.explain(classifier, IMAGES, TARGETS).attributions.sum(axis=(1, 2, 3))
    expected = explainer.differences(classifier, IMAGES, TARGETS)
    assert np.abs(total - expected).max() <= tolerance * np.abs(expected).max()


def test_guided_backprop_agrees_with_captum() -> None:
    from captum.attr import GuidedBackprop

    plain = small_cnn()
    separate = nn.Sequential(plain[0], nn.ReLU(), plain[2], nn.ReLU(), *plain[4:])
    expected = GuidedBackprop(separate).attribute(
        torch.from_numpy(IMAGES).requires_grad_(), target=torch.from_numpy(TARGETS)
    )
    found = attributions("guided_backprop", small_cnn())
    assert np.allclose(found, expected.detach().numpy(), atol=1e-6)


def test_smoothgrad_agrees_with_a_plain_loop_over_its_own_noise() -> None:
    from xai_core.seeding import generator_for

    module, total = small_cnn(), np.zeros_like(IMAGES)
    for index, image in enumerate(IMAGES):
        generator = generator_for(image, seed=0, purpose="noise")
        for _ in range(4):
            noise = generator.standard_normal(image.shape, dtype=np.float32)
            leaf = torch.from_numpy(image + 0.2 * noise)[None].requires_grad_()
            module(leaf)[0, TARGETS[index]].backward()
            total[index] += leaf.grad[0].numpy() / 4
    found = attributions("smoothgrad", small_cnn(), sigma=0.2, samples=4)
    assert np.allclose(found, total, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("saliency", {}),
        ("gradient_x_input", {}),
        ("smoothgrad", {"samples": 4}),
        ("vargrad", {"samples": 4}),
        ("expected_gradients", {"samples": 4}),
        ("blur_ig", {"steps": 6, "sigma": 3.0}),
        ("guided_ig", {"steps": 6}),
        ("guided_backprop", {}),
    ],
)
def test_a_map_does_not_depend_on_its_batch(kind: str, parameters: dict[str, object]) -> None:
    explainer = build_explainer(kind, parameters)
    together = explainer.explain(made(small_cnn(), 5), IMAGES, TARGETS).heatmaps
    for index in range(len(IMAGES)):
        alone = explainer.explain(
            made(small_cnn(), 3), IMAGES[index : index + 1], TARGETS[index : index + 1]
        )
        assert np.allclose(alone.heatmaps[0], together[index], atol=1e-5)
