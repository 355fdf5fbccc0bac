"""Guided Grad-CAM, Integrated Gradients weighed by Grad-CAM, and any two explainers as one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.explainers import (
    CentreMap,
    Combination,
    Explainer,
    Explanation,
    GradCAM,
    GuidedGradCAM,
    IGTimesGradCAM,
    IntegratedGradients,
    RandomMap,
    combine,
    parse_explainer,
)
from xai_core.parameters import identity

SIZE = (16, 12)
TARGETS = np.array([0, 1, 2])
IMAGES = np.random.default_rng(5).random((3, 3, *SIZE), dtype=np.float32)


def net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 6, 3, stride=2, padding=1),
                relu=nn.ReLU(),
                last=nn.Conv2d(6, 8, 3, padding=1),
                last_relu=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(2),
                flatten=nn.Flatten(),
                linear=nn.Linear(32, 3),
            )
        ).eval()


def classifier_of(module: nn.Module) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=SIZE)


def guided_backprop(image: Tensor, target: int) -> Tensor:
    """The guided gradient, by hooks that cut what is negative on its way back."""
    module = net()
    for layer in (module.relu, module.last_relu):
        layer.register_full_backward_hook(lambda _m, given, _o: (given[0].clamp(min=0),))
    leaf = image[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(leaf)[0, target], leaf)
    return gradient[0]


@pytest.mark.parametrize("layer", [None, "relu"])
def test_guided_grad_cam_is_guided_backprop_times_the_enlarged_grad_cam(layer: str | None) -> None:
    got = GuidedGradCAM(layer=layer, reduce="sum").explain(classifier_of(net()), IMAGES, TARGETS)
    cam = GradCAM(layer=layer).explain(classifier_of(net()), IMAGES, TARGETS).heatmaps
    assert got.attributions is not None
    for n in range(3):
        guided = guided_backprop(torch.from_numpy(IMAGES[n]), TARGETS[n]).numpy()
        expected = np.stack([guided[channel] * cam[n] for channel in range(3)])
        np.testing.assert_allclose(got.attributions[n], expected, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(got.heatmaps[n], expected.sum(0), rtol=1e-3, atol=1e-8)
    assert got.heatmaps.any()


def test_ig_times_grad_cam_is_integrated_gradients_times_the_enlarged_grad_cam() -> None:
    classifier = classifier_of(net())
    explainer = IGTimesGradCAM(
        layer="relu", steps=4, rule="trapezoid", baseline=("white", "black"), reduce="max-abs"
    )
    got = explainer.explain(classifier, IMAGES, TARGETS)
    assert classifier.passes.gradients == 3 * (2 * 5 + 1)
    ig = IntegratedGradients(steps=4, rule="trapezoid", baseline=("white", "black"))
    attributions = ig.explain(classifier, IMAGES, TARGETS).attributions
    cam = GradCAM(layer="relu").explain(classifier, IMAGES, TARGETS).heatmaps
    assert got.attributions is not None
    assert attributions is not None
    for channel in range(3):
        expected = attributions[:, channel] * cam
        np.testing.assert_allclose(got.attributions[:, channel], expected, rtol=1e-5, atol=1e-9)
    assert np.array_equal(got.heatmaps, np.abs(got.attributions).max(axis=1))
    assert (got.attributions < 0).any()


def test_hybrids_check_their_parameters() -> None:
    for text, message in (
        ("guided_gradcam(layer='')", "`layer` must name a layer"),
        ("ig_times_gradcam(layer='')", "`layer` must name a layer"),
        ("ig_times_gradcam(steps=0)", "`steps` must be at least 1"),
        ("ig_times_gradcam(baseline='blakc')", "did you mean 'black'"),
    ):
        with pytest.raises(ParameterError, match=message):
            parse_explainer(text)


@dataclass(frozen=True)
class Fixed:
    """Gives the same map for every image: a ramp from ``low`` to ``high``."""

    kind: ClassVar[str] = "fixed"
    needs: ClassVar[str] = "nothing"
    source: ClassVar[str] = "test"
    promises: ClassVar[frozenset[str]] = frozenset()

    low: float = -1.0
    high: float = 1.0

    def explain(self, _classifier: object, images: np.ndarray, _targets: object) -> Explanation:
        ramp = np.linspace(self.low, self.high, SIZE[0] * SIZE[1], dtype=np.float32)
        return Explanation(np.stack([ramp.reshape(SIZE) * (n + 1) for n in range(len(images))]))


@dataclass(frozen=True)
class Nothing(Fixed):
    """Sees no relevance anywhere."""

    kind: ClassVar[str] = "nothing"

    def explain(self, _classifier: object, images: np.ndarray, _targets: object) -> Explanation:
        return Explanation(np.zeros((len(images), *SIZE), dtype=np.float32))


HOWS = {
    "product": lambda a, b: a * b,
    "geometric": lambda a, b: np.sqrt(a * b),
    "mean": lambda a, b: (a + b) / 2,
    "max": np.maximum,
    "min": np.minimum,
}


@pytest.mark.parametrize("how", HOWS)
def test_a_combination_is_that_of_the_maps_without_negatives_each_divided_by_its_maximum(
    how: str,
) -> None:
    one, other = Fixed(-1, 3), Fixed(5, -1)
    got = combine(one, other, how=how).explain(classifier_of(net()), IMAGES, TARGETS)  # type: ignore[arg-type]
    assert got.attributions is None
    assert got.heatmaps.dtype == np.float32
    rising = np.linspace(-1, 3, SIZE[0] * SIZE[1]).clip(0) / 3
    falling = np.linspace(5, -1, SIZE[0] * SIZE[1]).clip(0) / 5
    expected = HOWS[how](rising, falling).reshape(SIZE)
    for heatmap in got.heatmaps:  # the second image's maps are twice as large, and scaled
        np.testing.assert_allclose(heatmap, expected, rtol=1e-4, atol=1e-6)


def test_a_map_without_relevance_combines_to_nothing_or_to_half() -> None:
    classifier = classifier_of(net())
    product = combine(Nothing(), CentreMap()).explain(classifier, IMAGES, TARGETS).heatmaps
    assert not product.any()
    mean = combine(Nothing(), CentreMap(), how="mean").explain(classifier, IMAGES, TARGETS).heatmaps
    np.testing.assert_allclose(mean.max(axis=(1, 2)), 0.5)
    for how in HOWS:
        maps = combine(Nothing(), Fixed(-2, -1), how=how).explain(classifier, IMAGES, TARGETS)  # type: ignore[arg-type]
        assert not maps.heatmaps.any()


def test_a_combination_with_itself_is_the_scaled_map() -> None:
    classifier = classifier_of(net())
    cam = GradCAM().explain(classifier, IMAGES, TARGETS).heatmaps
    got = combine(GradCAM(), "gradcam", how="geometric").explain(classifier, IMAGES, TARGETS)
    scale = cam.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(got.heatmaps * scale, cam, rtol=1e-5, atol=1e-8)


def test_combinations_are_written_and_read_back_as_texts() -> None:
    both = combine(GradCAM(layer="relu"), RandomMap(seed=3), how="max")
    assert both == combine("gradcam(layer='relu')", "random(seed=3)", how="max")
    text = identity(both.kind, both)
    assert parse_explainer(text) == both
    nested = combine(both, IntegratedGradients(baseline=("black", "white")))
    again = parse_explainer(identity(nested.kind, nested))
    assert again == nested
    assert isinstance(again, Explainer)
    assert hash(again) == hash(nested)


def test_an_explainer_of_one_s_own_is_named_by_where_it_stands() -> None:
    both = combine(Fixed(high=2.5), "gradcam")
    assert both.a == f"{__name__}:Fixed(low=-1.0, high=2.5)"
    assert parse_explainer(both.a) == Fixed(high=2.5)
    assert parse_explainer("combine") == Combination()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("combine(a='gradcan')", "no explainer 'gradcan': did you mean 'gradcam'"),
        ("combine(b='gradcam(layr=1)')", "did you mean 'layer'"),
        ("combine(how='sum')", "sum"),
    ],
)
def test_a_combination_checks_its_parameters(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_explainer(text)


def test_an_explainer_that_has_no_text_is_refused() -> None:
    @dataclass(frozen=True)
    class Local(Fixed):
        kind: ClassVar[str] = "local"

    with pytest.raises(ParameterError, match="Local"):
        combine(Local(), "gradcam")
