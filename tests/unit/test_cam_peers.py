"""The CAM family against public code, grad-cam and torch-cam, on a ResNet-18.

Where they agree, the correlation of the maps is above .9999. Where they do not, the test holds
them against their own variant of the formula, written out here: the reason is known.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.explainers import (
    AblationCAM,
    EigenCAM,
    Explainer,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from xai_core.torchvision_import import import_torchvision

SIZE = (96, 96)
IMAGES = np.random.default_rng(0).random((2, 3, *SIZE), dtype=np.float32)
NEGATIVE, POSITIVE = 1, 3  # the signs of these classes' logits
TARGETS = np.array([NEGATIVE, POSITIVE])
Maps = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return import_torchvision().models.resnet18(weights=None, num_classes=10).eval()


def enlarged(maps: Tensor) -> np.ndarray:
    return nn.functional.interpolate(maps[:, None], SIZE, mode="bilinear")[:, 0].numpy()


def ours(resnet: nn.Module, explainer: Explainer) -> np.ndarray:
    classifier = TorchClassifier(resnet, name="resnet", size=SIZE)
    return explainer.explain(classifier, IMAGES, TARGETS).heatmaps


def grad_cam(resnet: nn.Module, name: str) -> np.ndarray:
    import_torchvision()  # grad-cam imports it too, and stops where its operators are missing
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    classes = [ClassifierOutputTarget(int(target)) for target in TARGETS]
    with getattr(pytorch_grad_cam, name)(model=resnet, target_layers=[resnet.layer4]) as method:
        maps: np.ndarray = method(input_tensor=torch.from_numpy(IMAGES), targets=classes)
    return maps


def torch_cam(resnet: nn.Module, name: str) -> np.ndarray:
    import torchcam.methods

    with getattr(torchcam.methods, name)(resnet, "layer4", input_shape=(3, *SIZE)) as method:
        scores = resnet(torch.from_numpy(IMAGES))
        (maps,) = method(class_idx=TARGETS.tolist(), scores=scores, normalized=False)
    return enlarged(maps.detach())


def variant(resnet: nn.Module, formula: Maps) -> np.ndarray:
    """Maps of a formula of activations and gradients ``[N, C, h, w]`` at the last layer."""
    kept: list[Tensor] = []
    hook = resnet.layer4.register_forward_hook(lambda *call: kept.append(call[-1]))
    logits = resnet(torch.from_numpy(IMAGES))
    hook.remove()
    (gradients,) = torch.autograd.grad(logits[range(2), TARGETS].sum(), kept[0])
    return enlarged(torch.relu(formula(kept[0].detach(), gradients)))


def correlations(one: np.ndarray, other: np.ndarray) -> list[float]:
    pairs = zip(one, other, strict=True)
    found = [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in pairs]
    assert np.isfinite(found).all(), "a constant map correlates with nothing"
    return found


@pytest.mark.parametrize(
    ("explainer", "name"),
    [
        (GradCAM(), "GradCAM"),
        (HiResCAM(), "HiResCAM"),
        (LayerCAM(), "LayerCAM"),
        (XGradCAM(), "XGradCAM"),
    ],
)
def test_agrees_with_grad_cam(resnet: nn.Module, explainer: Explainer, name: str) -> None:
    assert min(correlations(ours(resnet, explainer), grad_cam(resnet, name))) > 0.9999


@pytest.mark.parametrize(
    ("explainer", "name"),
    [
        (GradCAM(), "GradCAM"),
        (LayerCAM(), "LayerCAM"),
        (XGradCAM(), "XGradCAM"),
    ],
)
def test_agrees_with_torch_cam(resnet: nn.Module, explainer: Explainer, name: str) -> None:
    assert min(correlations(ours(resnet, explainer), torch_cam(resnet, name))) > 0.9999


@pytest.fixture(scope="module")
def score_cam(resnet: nn.Module) -> np.ndarray:
    """Ours, once: it costs a forward pass for each of 512 channels."""
    return ours(resnet, ScoreCAM(score="logit"))


def test_score_cam_agrees_with_torch_cam(resnet: nn.Module, score_cam: np.ndarray) -> None:
    assert min(correlations(score_cam, torch_cam(resnet, "ScoreCAM"))) > 0.9999


def test_grad_cam_s_score_cam_enlarges_by_the_corners(
    resnet: nn.Module, score_cam: np.ndarray
) -> None:
    """Its masks, not its formula, differ: they are enlarged with align_corners."""

    @torch.no_grad()
    def by_the_corners(a: Tensor, _: Tensor) -> Tensor:
        maps = []
        for image, target, channels in zip(torch.from_numpy(IMAGES), TARGETS, a, strict=True):
            masks = nn.functional.interpolate(
                channels[:, None], SIZE, mode="bilinear", align_corners=True
            )
            low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
            masks = (masks - low) / (high - low + 1e-8)
            logits = torch.cat([resnet(image * some)[:, target] for some in masks.split(32)])
            maps.append((torch.softmax(logits, dim=0)[:, None, None] * channels).sum(0))
        return torch.stack(maps)

    theirs = grad_cam(resnet, "ScoreCAM")
    assert 0.999 < min(correlations(score_cam, theirs)) < 0.9999
    assert min(correlations(variant(resnet, by_the_corners), theirs)) > 0.999999


def test_grad_cam_s_grad_cam_plus_plus_adds_a_constant_to_small_gradients(
    resnet: nn.Module,
) -> None:
    def with_constant(a: Tensor, g: Tensor) -> Tensor:
        alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3 + 1e-6)
        return ((alpha * g.clamp_min(0)).sum((2, 3), keepdim=True) * a).sum(1)

    theirs = grad_cam(resnet, "GradCAMPlusPlus")
    assert min(correlations(ours(resnet, GradCAMPlusPlus()), theirs)) < 0.9999
    assert min(correlations(variant(resnet, with_constant), theirs)) > 0.999999


def test_torch_cam_s_grad_cam_plus_plus_never_divides(resnet: nn.Module) -> None:
    """It divides ``alpha[mask]`` in place, which is a copy, so alpha stays the square."""

    def undivided(a: Tensor, g: Tensor) -> Tensor:
        return ((g**2 * g.clamp_min(0)).sum((2, 3), keepdim=True) * a).sum(1)

    theirs = torch_cam(resnet, "GradCAMpp")
    assert min(correlations(ours(resnet, GradCAMPlusPlus()), theirs)) < 0.99
    assert min(correlations(variant(resnet, undivided), theirs)) > 0.999999


def test_grad_cam_s_eigen_cam_centres_the_activations(resnet: nn.Module) -> None:
    def centred(a: Tensor, _: Tensor) -> Tensor:
        positions = a.flatten(2).transpose(1, 2)
        positions = positions - positions.mean(dim=1, keepdim=True)
        vectors = [torch.from_numpy(np.linalg.svd(p.numpy())[2][0]) for p in positions]
        maps = [p @ v for p, v in zip(positions, vectors, strict=True)]
        return torch.stack(maps).reshape(len(a), *a.shape[2:])

    theirs = grad_cam(resnet, "EigenCAM")
    assert max(correlations(ours(resnet, EigenCAM()), theirs)) < 0.9
    assert min(correlations(variant(resnet, centred), theirs)) > 0.999999


def test_grad_cam_s_ablation_cam_is_upside_down_where_the_logit_is_negative(
    resnet: nn.Module,
) -> None:
    """It divides the drop of the logit by the logit, sign and all."""
    with torch.no_grad():
        logits = resnet(torch.from_numpy(IMAGES))[range(2), TARGETS]
    assert logits[0] < 0 < logits[1]

    def by_the_logit(a: Tensor, g: Tensor) -> Tensor:
        # What follows the layer is linear, so a channel's part of the logit is its a x g.
        drops = (a * g).sum((2, 3), keepdim=True)
        return (drops / logits.view(-1, 1, 1, 1) * a).sum(1)

    theirs = grad_cam(resnet, "AblationCAM")
    negative, positive = correlations(ours(resnet, AblationCAM()), theirs)
    assert positive > 0.9999
    assert negative < 0
    assert min(correlations(variant(resnet, by_the_logit), theirs)) > 0.9999
