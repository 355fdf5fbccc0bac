"""Integrated Grad-CAM: closed forms, the paper's sum, and what the notebook leaves out."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.explainers import GradCAM, IntegratedGradCAM, parse_explainer

SIZE = (12, 10)
TARGETS = np.array([0, 1, 2])
IMAGES = np.random.default_rng(5).random((3, 3, *SIZE), dtype=np.float32)


def net(*, bias: float = 0.0, square: bool = False, relu: bool = False) -> nn.Sequential:
    """One layer as large as the image, then a head; linear unless it is told otherwise."""

    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        module = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 4, 3, padding=1),
                relu=nn.ReLU() if relu else nn.Identity(),
                after=Square() if square else nn.Identity(),
                pool=nn.AdaptiveAvgPool2d(2),
                flatten=nn.Flatten(),
                linear=nn.Linear(16, 3),
            )
        )
    nn.init.constant_(module.conv.bias, bias)
    return module.eval()


def classifier_of(module: nn.Module, **options: Any) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=SIZE, **options)


def weights_and_activations(
    module: nn.Module, layer: str, image: Tensor, target: int
) -> tuple[Tensor, Tensor]:
    """Grad-CAM's weights ``[C, 1, 1]`` and the activations ``[C, h, w]`` of one image."""
    kept: list[Tensor] = []
    hook = module.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[-1]))
    logit = module(image[None])[0, target]
    hook.remove()
    (gradient,) = torch.autograd.grad(logit, kept[0])
    return gradient[0].mean(dim=(1, 2))[:, None, None], kept[0][0].detach()


def explain(module: nn.Module, **parameters: Any) -> np.ndarray:
    explainer = IntegratedGradCAM(layer="relu", **parameters)
    return explainer.explain(classifier_of(module), IMAGES, TARGETS).heatmaps


@pytest.mark.parametrize("baseline", ["black", "white"])
def test_of_a_linear_model_it_is_half_the_grad_cam_of_the_difference_of_activations(
    baseline: str,
) -> None:
    """A(path(a)) - A(x') = a (A(x) - A(x')) and the weights are constant; a integrates to 1/2."""
    module = net(bias=0.7)
    got = explain(module, steps=1, baseline=baseline)
    for heatmap, image, target in zip(got, IMAGES, TARGETS, strict=True):
        start = torch.full((3, *SIZE), float(baseline == "white"))
        weights, at_image = weights_and_activations(
            module, "relu", torch.from_numpy(image), int(target)
        )
        _, at_start = weights_and_activations(module, "relu", start, int(target))
        expected = torch.relu((weights * (at_image - at_start)).sum(0)) / 2
        np.testing.assert_allclose(heatmap, expected.numpy(), rtol=1e-4, atol=1e-7)


def test_of_a_linear_model_without_bias_it_is_half_of_grad_cam() -> None:
    module = net()
    classifier = classifier_of(module)
    gradcam = GradCAM(layer="relu").explain(classifier, IMAGES, TARGETS).heatmaps
    assert gradcam.any()
    np.testing.assert_allclose(explain(module, steps=3), gradcam / 2, rtol=1e-4, atol=1e-7)


def test_of_a_quadratic_model_it_is_a_third_of_grad_cam() -> None:
    """Weights and activations both grow with a; a^2 integrates to 1/3, exactly with two nodes."""
    module = net(square=True)
    gradcam = GradCAM(layer="relu").explain(classifier_of(module), IMAGES, TARGETS).heatmaps
    assert gradcam.any()
    np.testing.assert_allclose(explain(module, steps=2), gradcam / 3, rtol=1e-4, atol=1e-7)
    assert np.abs(explain(module, steps=1) - gradcam / 3).max() > 0.01 * gradcam.max()


def paper_s_sum(module: nn.Module, image: Tensor, target: int, nodes: Tensor, by: Tensor) -> Tensor:
    """The mean over the path of rectified Grad-CAM terms, one node at a time."""
    start = torch.zeros_like(image)
    _, at_start = weights_and_activations(module, "relu", start, target)
    total = torch.zeros(SIZE)
    for node, weight in zip(nodes, by, strict=True):
        alpha, here = weights_and_activations(module, "relu", start + node * image, target)
        term = torch.zeros(SIZE)
        for k in range(len(here)):
            term += alpha[k] * (here[k] - at_start[k])
        total += weight * term.clamp_min(0)
    return total


def test_it_is_the_sum_along_the_path_with_the_difference_and_the_factor() -> None:
    module = net(bias=0.2, square=True, relu=True)
    got = explain(module, steps=20, rule="trapezoid")
    nodes, by = torch.linspace(0, 1, 21), torch.full((21,), 1 / 20)
    by[0] = by[-1] = 1 / 40
    for heatmap, image, target in zip(got, IMAGES, TARGETS, strict=True):
        expected = paper_s_sum(module, torch.from_numpy(image), int(target), nodes, by)
        assert expected.max() > 0
        np.testing.assert_allclose(heatmap, expected.numpy(), rtol=1e-3, atol=1e-5)


def test_more_steps_change_no_scale() -> None:
    """The notebook's sum grows with the number of steps."""
    module = net(bias=0.2, square=True, relu=True)
    few, many = explain(module, steps=25), explain(module, steps=100)
    np.testing.assert_allclose(few, many, rtol=0.02, atol=0.01 * many.max())


def test_the_rules_agree() -> None:
    module = net(bias=0.2, square=True, relu=True)
    gauss, trapezoid = explain(module, steps=60), explain(module, steps=60, rule="trapezoid")
    np.testing.assert_allclose(gauss, trapezoid, rtol=0.02, atol=0.01 * gauss.max())


def test_what_stays_as_it_is_at_the_baseline_has_no_relevance() -> None:
    """Without the difference of activations, a bias would make black pixels relevant."""
    module = net(bias=2.0, relu=True)
    images = IMAGES.copy()
    images[..., :5] = 0
    dark = IntegratedGradCAM(layer="relu").explain(classifier_of(module), images, TARGETS).heatmaps
    assert dark[..., 6:].any()
    assert not dark[..., :4].any()  # column 4 sees column 5
    seen = GradCAM(layer="relu").explain(classifier_of(module), images, TARGETS).heatmaps
    assert seen[..., :4].any()


def test_the_passes_are_one_gradient_a_step_and_the_activations_of_the_baseline() -> None:
    for rule, gradients in (("gauss-legendre", 7), ("trapezoid", 8)):
        classifier = classifier_of(net())
        IntegratedGradCAM(steps=7, rule=rule).explain(classifier, IMAGES, TARGETS)
        assert classifier.passes.gradients == 3 * gradients
        assert classifier.passes.forwards == 3


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    module = net(bias=0.2, square=True, relu=True)
    expected = explain(module, steps=7, baseline="blurred")
    explainer = IntegratedGradCAM(layer="relu", steps=7, baseline="blurred")
    classifier = classifier_of(module, batch_size=batch_size)
    got = explainer.explain(classifier, IMAGES, TARGETS).heatmaps
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("integrated_gradcam(steps=0)", "`steps` must be at least 1, got 0"),
        ("integrated_gradcam(baseline='blakc')", "did you mean 'black'"),
        ("integrated_gradcam(layer='')", "`layer` must name a layer"),
        ("integrated_gradcam(rule='simpson')", "simpson"),
    ],
)
def test_parameters_are_checked(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_explainer(text)
