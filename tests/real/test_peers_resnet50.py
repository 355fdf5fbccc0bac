"""Our explainers against public code, Captum, grad-cam and torch-cam, on the real ResNet-50.

All run in the same process on the same photographs. The peers get the network as its users have
it, with the normalisation before it; ours works on its own folded, channels-last copy. Where they
agree, the correlation for every image is above .9999. Where they do not, the formula is written
out here with the paper's choice and with the peer's, and each side is held against its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import captum.attr
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from xai_core.arrays import Float32
from xai_core.classifier import Classifier, load_classifier
from xai_core.explainers import (
    AblationCAM,
    EigenCAM,
    Explainer,
    GradCAM,
    GradCAMPlusPlus,
    GuidedBackprop,
    HiResCAM,
    IntegratedGradients,
    LayerCAM,
    Occlusion,
    Saliency,
    SmoothGrad,
    XGradCAM,
)
from xai_core.seeding import generator_for
from xai_core.torchvision_import import import_torchvision

DATA = Path(__file__).parents[3] / "shared/data"
WEIGHTS = DATA / "weights/resnet50.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = (224, 224)
PHOTOGRAPHS = ("zebra_000000104455_1822456.jpg", "dog_000000491525_10051.jpg")
ZEBRA, SORREL, DOG = 340, 339, 179
TARGETS = np.array([ZEBRA, DOG])
# At layer4 Grad-CAM, HiResCAM and XGrad-CAM are the same map, at layer3 they are not.
LAYERS = ("layer3", "layer4")
Maps = Callable[[Tensor, Tensor], Tensor]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside this repository"),
]


class Sides(NamedTuple):
    """The same weights twice, and the photographs ``[2, 3, 224, 224]``, RGB in [0, 1]."""

    peers: nn.Sequential
    ours: Classifier
    images: Float32


@pytest.fixture(scope="module")
def sides() -> Sides:
    torchvision = import_torchvision()
    resnet = torchvision.models.resnet50(weights=None)
    resnet.load_state_dict(load_file(WEIGHTS))
    normalise = torchvision.transforms.Normalize(MEAN, STD)
    peers = nn.Sequential(OrderedDict(normalise=normalise, model=resnet)).eval()
    photographs = [Image.open(DATA / "coco/images" / name) for name in PHOTOGRAPHS]
    pixels = np.stack([np.asarray(photograph.convert("RGB")) for photograph in photographs])
    images = (pixels.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    assert images.shape[2:] == SIZE
    return Sides(peers, load_classifier("resnet50", weights=WEIGHTS), images)


def attributions(sides: Sides, explainer: Explainer) -> Float32:
    found = explainer.explain(sides.ours, sides.images, TARGETS).attributions
    assert found is not None
    return found


def heatmaps(sides: Sides, explainer: Explainer, targets: np.ndarray = TARGETS) -> Float32:
    return explainer.explain(sides.ours, sides.images, targets).heatmaps


def tensors(sides: Sides) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(sides.images), torch.from_numpy(TARGETS)


def enlarged(maps: Tensor) -> np.ndarray:
    large = nn.functional.interpolate(maps[:, None], SIZE, mode="bilinear")
    return large[:, 0].detach().numpy()


def correlations(one: np.ndarray, other: np.ndarray | Tensor) -> list[float]:
    pairs = zip(np.asarray(one), np.asarray(other), strict=True)
    found = [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in pairs]
    assert np.isfinite(found).all(), "a constant map correlates with nothing"
    return found


# --- Captum ---


def test_saliency_is_captums(sides: Sides) -> None:
    images, targets = tensors(sides)
    theirs = captum.attr.Saliency(sides.peers).attribute(
        images.requires_grad_(), target=targets, abs=False
    )
    assert min(correlations(attributions(sides, Saliency()), theirs)) > 0.9999


def test_integrated_gradients_are_captums(sides: Sides) -> None:
    images, targets = tensors(sides)
    theirs = captum.attr.IntegratedGradients(sides.peers).attribute(
        images,
        torch.zeros_like(images),  # black before the normalisation, as ours
        target=targets,
        n_steps=16,
        method="gausslegendre",
        internal_batch_size=8,
    )
    ours = attributions(sides, IntegratedGradients(steps=16, baseline="black"))
    assert min(correlations(ours, theirs.detach())) > 0.9999


def test_smoothgrad_is_captums_under_the_same_noise(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(sides.peers))
    found = attributions(sides, SmoothGrad(samples=4, sigma=0.15))
    for image, target, ours in zip(sides.images, TARGETS, found, strict=True):
        generator = generator_for(image, seed=0, purpose="noise")
        drawn = [generator.standard_normal(image.shape, dtype=np.float32) for _ in range(4)]
        noise = torch.from_numpy(0.15 * np.stack(drawn))
        monkeypatch.setattr(torch, "normal", lambda *_, noise=noise, **__: noise)
        theirs = tunnel.attribute(
            torch.from_numpy(image)[None],
            nt_type="smoothgrad",
            nt_samples=4,
            stdevs=0.15,
            target=int(target),
            abs=False,
        )
        assert min(correlations(ours[None], theirs.detach())) > 0.9999


def test_guided_backpropagation_is_captums(sides: Sides) -> None:
    """Captum needs no help here although each block calls one ReLU three times, in place.

    It hooks the tensors of every call, not the module, and hands the ReLU a clone; and
    torchvision's ResNet calls ReLUs only as modules, so that Captum sees them all.
    """
    images, targets = tensors(sides)
    relus = [child for child in sides.peers.modules() if isinstance(child, nn.ReLU)]
    assert len(relus) == 17
    assert all(relu.inplace for relu in relus)
    theirs = captum.attr.GuidedBackprop(sides.peers).attribute(
        images.requires_grad_(), target=targets
    )
    ours = attributions(sides, GuidedBackprop())
    assert min(correlations(ours, theirs.detach())) > 0.9999
    assert max(correlations(ours, attributions(sides, Saliency()))) < 0.5


def test_occlusion_is_captums(sides: Sides) -> None:
    images, targets = tensors(sides)
    # Our losses are of the probability. 42 px divide the 168 that are left beside the window:
    # elsewhere Captum cuts the last window off at the border, and ours moves it inside.
    occlusion = captum.attr.Occlusion(lambda batch: torch.softmax(sides.peers(batch), dim=1))
    with torch.no_grad():
        theirs = occlusion.attribute(
            images,
            sliding_window_shapes=(3, 56, 56),
            strides=(3, 42, 42),
            target=targets,
            perturbations_per_eval=4,
        )
    ours = heatmaps(sides, Occlusion(window=56, stride=42, substrate="black"))
    assert min(correlations(ours, theirs[:, 0])) > 0.9999


@pytest.mark.parametrize("layer", LAYERS)
def test_grad_cam_is_captums(sides: Sides, layer: str) -> None:
    images, targets = tensors(sides)
    method = captum.attr.LayerGradCam(sides.peers, sides.peers.model.get_submodule(layer))
    theirs = method.attribute(images, target=targets, relu_attributions=True)
    assert min(correlations(heatmaps(sides, GradCAM(layer=layer)), enlarged(theirs[:, 0]))) > 0.9999


# --- grad-cam and torch-cam ---


def grad_cam(
    module: nn.Module, layer: nn.Module, inputs: Tensor, name: str, targets: np.ndarray = TARGETS
) -> np.ndarray:
    import_torchvision()  # grad-cam imports it too, and stops where its operators are missing
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    classes = [ClassifierOutputTarget(int(target)) for target in targets]
    with getattr(pytorch_grad_cam, name)(model=module, target_layers=[layer]) as method:
        maps: np.ndarray = method(input_tensor=inputs, targets=classes)
    return maps


def of_grad_cam(sides: Sides, name: str, layer: str = "layer4") -> np.ndarray:
    module = sides.peers.model.get_submodule(layer)
    return grad_cam(sides.peers, module, torch.from_numpy(sides.images), name)


def of_torch_cam(sides: Sides, name: str, layer: str = "layer4") -> np.ndarray:
    import torchcam.methods

    with getattr(torchcam.methods, name)(sides.peers, f"model.{layer}") as method:
        scores = sides.peers(torch.from_numpy(sides.images))
        (maps,) = method(class_idx=TARGETS.tolist(), scores=scores, normalized=False)
    return enlarged(maps)


def layer4_and_gradients(sides: Sides, targets: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Return the targets' logits, and the activations and gradients ``[N, C, h, w]``."""
    kept: list[Tensor] = []
    hook = sides.peers.model.layer4.register_forward_hook(lambda *call: kept.append(call[-1]))
    logits = sides.peers(torch.from_numpy(sides.images))[range(len(targets)), targets]
    hook.remove()
    (gradients,) = torch.autograd.grad(logits.sum(), kept[0])
    return logits.detach(), kept[0].detach(), gradients


def by_formula(sides: Sides, formula: Maps) -> np.ndarray:
    _, activations, gradients = layer4_and_gradients(sides, TARGETS)
    return enlarged(torch.relu(formula(activations, gradients)))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("explainer", [GradCAM, HiResCAM, LayerCAM, XGradCAM])
def test_agrees_with_grad_cam(sides: Sides, explainer: type[GradCAM], layer: str) -> None:
    theirs = of_grad_cam(sides, explainer.__name__, layer)
    assert min(correlations(heatmaps(sides, explainer(layer=layer)), theirs)) > 0.9999


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("explainer", [GradCAM, LayerCAM, XGradCAM])
def test_agrees_with_torch_cam(sides: Sides, explainer: type[GradCAM], layer: str) -> None:
    theirs = of_torch_cam(sides, explainer.__name__, layer)
    assert min(correlations(heatmaps(sides, explainer(layer=layer)), theirs)) > 0.9999


def test_the_layers_tell_the_cams_apart(sides: Sides) -> None:
    """Otherwise the agreement above could be that of one formula under four names."""
    maps = [heatmaps(sides, kind(layer="layer3")) for kind in (GradCAM, HiResCAM, XGradCAM)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert max(correlations(maps[one], maps[other])) < 0.99


def plus_plus(constant: float) -> Maps:
    """Grad-CAM++ [Chattopadhay et al. 2018, eq. 19] with a constant added to the denominator."""

    def formula(a: Tensor, g: Tensor) -> Tensor:
        alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3 + constant)
        return ((alpha * g.clamp_min(0)).sum((2, 3), keepdim=True) * a).sum(1)

    return formula


def test_grad_cams_grad_cam_plus_plus_adds_a_constant_to_small_gradients(sides: Sides) -> None:
    ours, theirs = heatmaps(sides, GradCAMPlusPlus()), of_grad_cam(sides, "GradCAMPlusPlus")
    assert 0.999 < min(correlations(ours, theirs)) < 0.99999
    assert min(correlations(by_formula(sides, plus_plus(0)), ours)) > 0.999999
    assert min(correlations(by_formula(sides, plus_plus(1e-6)), theirs)) > 0.999999


def test_torch_cams_grad_cam_plus_plus_never_divides(sides: Sides) -> None:
    """It divides ``alpha[mask]`` in place, which is a copy, so alpha stays the square."""

    def undivided(a: Tensor, g: Tensor) -> Tensor:
        return ((g**2 * g.clamp_min(0)).sum((2, 3), keepdim=True) * a).sum(1)

    theirs = of_torch_cam(sides, "GradCAMpp")
    assert min(correlations(heatmaps(sides, GradCAMPlusPlus()), theirs)) < 0.99
    assert min(correlations(by_formula(sides, undivided), theirs)) > 0.999999


def test_grad_cams_eigen_cam_centres_the_activations(sides: Sides) -> None:
    """The paper projects the activations as they are [Muhammad & Yeasin 2020, section III]."""

    def projected(positions: Tensor) -> Tensor:
        return positions @ torch.from_numpy(np.linalg.svd(positions.numpy())[2][0])

    def as_they_are(a: Tensor, _: Tensor) -> Tensor:
        # Activations after a ReLU give a map of one sign, which the decomposition leaves open.
        maps = [projected(positions).abs() for positions in a.flatten(2).transpose(1, 2)]
        return torch.stack(maps).reshape(len(a), *a.shape[2:])

    def centred(a: Tensor, _: Tensor) -> Tensor:
        maps = [projected(p - p.mean(dim=0)) for p in a.flatten(2).transpose(1, 2)]
        return torch.stack(maps).reshape(len(a), *a.shape[2:])

    ours, theirs = heatmaps(sides, EigenCAM()), of_grad_cam(sides, "EigenCAM")
    assert max(correlations(ours, theirs)) < 0.99
    assert min(correlations(by_formula(sides, as_they_are), ours)) > 0.999999
    assert min(correlations(by_formula(sides, centred), theirs)) > 0.999999


def test_grad_cams_ablation_cam_is_upside_down_where_the_logit_is_negative(sides: Sides) -> None:
    """It divides the drop of the logit by the logit, sign and all.

    For each of 2048 channels it would run everything before the layer again, to no effect: it
    gets the layer's output as the image and what follows as the network.
    """
    targets = np.array([SORREL, DOG])
    logits, activations, gradients = layer4_and_gradients(sides, targets)
    assert logits[0] < 0 < logits[1]
    resnet = sides.peers.model
    parts = {"layer4": nn.Identity(), "pool": resnet.avgpool, "flat": nn.Flatten(), "fc": resnet.fc}
    head = nn.Sequential(OrderedDict(parts))
    coarse = grad_cam(head, head.layer4, activations, "AblationCAM", targets)
    theirs = enlarged(torch.from_numpy(coarse))
    ours = heatmaps(sides, AblationCAM(), targets)
    negative, positive = correlations(ours, theirs)
    assert positive > 0.9999
    assert negative < 0
    # The head is linear, so a channel's part of the logit is its activations x gradients.
    drops = (activations * gradients).sum((2, 3), keepdim=True)

    def divided_by(values: Tensor) -> np.ndarray:
        weights = drops / values.view(-1, 1, 1, 1)
        return enlarged(torch.relu((weights * activations).sum(dim=1)))

    assert min(correlations(divided_by(logits.abs()), ours)) > 0.9999
    assert min(correlations(divided_by(logits), theirs)) > 0.9999
