"""The CAMs of one gradient, each against its formula written out with hooks and loops."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.explainers import (
    Explainer,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
    parse_explainer,
)

SIZE = (24, 20)
TARGETS = np.array([0, 1, 2, 1])
IMAGES = np.random.default_rng(5).random((4, 3, *SIZE), dtype=np.float32)
FAMILY = [GradCAM(), GradCAMPlusPlus(), HiResCAM(), LayerCAM(), XGradCAM()]


def net(*, pooled: int = 2, linear: nn.Module | None = None) -> nn.Sequential:
    """A small network whose head tells positions apart unless it pools to one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 6, 3, stride=2, padding=1),
                relu=nn.ReLU(),
                last=nn.Conv2d(6, 8, 3, stride=2, padding=1),
                last_relu=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(pooled),
                flatten=nn.Flatten(),
                linear=linear or nn.Linear(8 * pooled**2, 3),
            )
        ).eval()


def classifier_of(module: nn.Module) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=SIZE)


def at_layer(module: nn.Module, layer: str, image: np.ndarray, target: int) -> tuple[Tensor, ...]:
    """Activations and gradients ``[C, h, w]`` of one image, by a plain hook."""
    kept: list[Tensor] = []
    hook = module.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[-1]))
    logit = module(torch.from_numpy(image[None]))[0, target]
    hook.remove()
    (gradient,) = torch.autograd.grad(logit, kept[0])
    return kept[0][0].detach().double(), gradient[0].double()


def grad_cam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    """Eq. 19 with the derivatives of exp(logit) as they stand, at a logit of 0.3."""
    exp = np.exp(0.3)
    total = torch.zeros(a.shape[1:]).double()
    for k in range(len(a)):
        weight = 0.0
        for i in range(a.shape[1]):
            for j in range(a.shape[2]):
                first, second, third = (
                    exp * g[k, i, j],
                    exp * g[k, i, j] ** 2,
                    exp * g[k, i, j] ** 3,
                )
                if first > 0:
                    alpha = second / (2 * second + a[k].sum() * third)
                    weight += alpha * first
        total += weight * a[k]
    return total.clamp_min(0) / exp


def hirescam(a: Tensor, g: Tensor) -> Tensor:
    return sum(g[k] * a[k] for k in range(len(a))).clamp_min(0)


def layercam(a: Tensor, g: Tensor) -> Tensor:
    return sum(g[k].clamp_min(0) * a[k] for k in range(len(a))).clamp_min(0)


def xgradcam(a: Tensor, g: Tensor) -> Tensor:
    total = torch.zeros(a.shape[1:]).double()
    for k in range(len(a)):
        if a[k].sum() > 0:
            total += (a[k] / a[k].sum() * g[k]).sum() * a[k]
    return total.clamp_min(0)


def enlarged(maps: list[Tensor], size: tuple[int, int]) -> np.ndarray:
    stacked = torch.stack(maps)[:, None].float()
    return nn.functional.interpolate(stacked, size, mode="bilinear")[:, 0].numpy()


def assert_maps_close(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.dtype == np.float32
    assert expected.max(axis=(1, 2)).min() > 0
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize(
    ("explainer", "formula", "layer"),
    [
        (HiResCAM, hirescam, "last_relu"),
        (HiResCAM, hirescam, "conv"),
        (LayerCAM, layercam, "last_relu"),
        (LayerCAM, layercam, "conv"),
        (XGradCAM, xgradcam, "last_relu"),
        (XGradCAM, xgradcam, "relu"),
        (GradCAMPlusPlus, grad_cam_plus_plus, "last_relu"),
        (GradCAMPlusPlus, grad_cam_plus_plus, "relu"),
    ],
)
def test_the_map_is_the_paper_s_formula(
    explainer: type, formula: Callable[[Tensor, Tensor], Tensor], layer: str
) -> None:
    module = net()
    expected = [
        formula(*at_layer(module, layer, image, target))
        for image, target in zip(IMAGES, TARGETS, strict=True)
    ]
    got = explainer(layer=layer).explain(classifier_of(module), IMAGES, TARGETS)
    assert got.attributions is None
    assert_maps_close(got.heatmaps, enlarged(expected, SIZE))


def test_where_pooling_and_a_linear_layer_follow_grad_cam_hirescam_and_xgradcam_are_one() -> None:
    classifier = classifier_of(net(pooled=1))
    maps = GradCAM().explain(classifier, IMAGES, TARGETS).heatmaps
    assert maps.any()
    for other in (HiResCAM(), XGradCAM()):
        same = other.explain(classifier, IMAGES, TARGETS).heatmaps
        np.testing.assert_allclose(same, maps, rtol=1e-4, atol=1e-7)


def test_where_positions_count_they_differ() -> None:
    classifier = classifier_of(net(pooled=2))
    maps = [e.explain(classifier, IMAGES, TARGETS).heatmaps for e in FAMILY]
    for i, one in enumerate(maps):
        for other in maps[:i]:
            assert np.abs(one - other).max() > 0.01 * one.max()


def test_hirescam_sums_to_the_logit_without_its_bias_where_a_linear_layer_follows() -> None:
    module = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 2, 3, padding=1),
            relu=nn.ReLU(),
            flatten=nn.Flatten(),
            linear=nn.Linear(2 * SIZE[0] * SIZE[1], 3),
        )
    )
    nn.init.uniform_(module.linear.weight, 0, 0.1)  # nothing for the ReLU to cut
    classifier = classifier_of(module)
    maps = HiResCAM().explain(classifier, IMAGES, TARGETS).heatmaps
    logits = classifier.logits(torch.from_numpy(IMAGES)) - module.linear.bias.detach()
    sums = maps.astype(np.float64).sum(axis=(1, 2))
    np.testing.assert_allclose(sums, logits.numpy()[range(4), TARGETS], rtol=1e-4)


def test_a_channel_that_is_dead_has_no_weight_and_spoils_nothing() -> None:
    module = net()
    with torch.no_grad():
        module.last.weight[3] = 0
        module.last.bias[3] = -1
    classifier = classifier_of(module)
    assert not classifier.activations(torch.from_numpy(IMAGES), "last_relu")[:, 3].any()
    for explainer in FAMILY:
        maps = explainer.explain(classifier, IMAGES, TARGETS).heatmaps
        assert np.isfinite(maps).all()
        assert maps.any()


def test_grad_cam_plus_plus_does_not_depend_on_how_small_gradients_are() -> None:
    """Constants in the denominator, as public code has them, would show here."""
    large, small = net(), net()
    with torch.no_grad():
        for parameter in (small.linear.weight, small.linear.bias):
            parameter *= 1e-6
        for layer in (large.last, small.last):
            layer.weight *= 1e-3
            layer.bias *= 1e-3
    maps = [
        GradCAMPlusPlus().explain(classifier_of(m), IMAGES, TARGETS).heatmaps
        for m in (large, small)
    ]
    np.testing.assert_allclose(maps[0] / maps[0].max(), maps[1] / maps[1].max(), rtol=1e-2)


def test_grad_cam_plus_plus_stays_finite_where_activations_are_negative() -> None:
    module = net()
    with torch.no_grad():
        module.linear.weight *= 1000
    maps = GradCAMPlusPlus(layer="last").explain(classifier_of(module), IMAGES, TARGETS).heatmaps
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("explainer", FAMILY)
def test_the_name_of_a_layer_is_checked(explainer: Explainer) -> None:
    assert parse_explainer(explainer.kind) == explainer
    assert parse_explainer(f"{explainer.kind}(layer='relu')") == type(explainer)(layer="relu")
    with pytest.raises(ParameterError, match="`layer` must name a layer"):
        parse_explainer(f"{explainer.kind}(layer='')")
    with pytest.raises(ParameterError, match="has no parameter 'layr': did you mean 'layer'"):
        parse_explainer(f"{explainer.kind}(layr='relu')")
