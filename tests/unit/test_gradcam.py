"""Grad-CAM against CAM, against a plain re-implementation, and against Captum."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier, load_classifier
from xai_core.errors import LayerError, ParameterError
from xai_core.explainers import GradCAM
from xai_core.torchvision_import import import_torchvision

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
TARGETS = np.array([0, 1, 2, 3])


def images_of(height: int, width: int, count: int = 4) -> np.ndarray:
    return np.random.default_rng(5).random((count, 3, height, width), dtype=np.float32)


def normalised(images: np.ndarray, mean: Any = MEAN, std: Any = STD) -> Tensor:
    shape = (1, 3, 1, 1)
    return (torch.from_numpy(images) - torch.tensor(mean).view(shape)) / torch.tensor(std).view(
        shape
    )


def small_net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 6, 3, stride=2, padding=1),
                bn=nn.BatchNorm2d(6),
                relu=nn.ReLU(),
                last=nn.Conv2d(6, 8, 3, stride=2, padding=1),
                last_relu=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(2),
                flatten=nn.Flatten(),
                linear=nn.Linear(32, 4),
            )
        ).eval()


def enlarged(maps: Tensor, size: tuple[int, int]) -> np.ndarray:
    return nn.functional.interpolate(maps[:, None], size, mode="bilinear")[:, 0].numpy()


def class_activation_maps(activations: Tensor, weight: Tensor) -> Tensor:
    """ReLU(CAM) / (h w) [Zhou 2016]: the target's weights of the linear layer on the channels."""
    maps = [
        (weight[t][:, None, None] * a).sum(0) for t, a in zip(TARGETS, activations, strict=True)
    ]
    return torch.relu(torch.stack(maps)) / activations[0, 0].numel()


def plain_gradcam(module: nn.Module, layer: str, inputs: Tensor) -> Tensor:
    """Equations 1 and 2 of Selvaraju 2017, one image and one channel at a time."""
    maps = []
    for image, target in zip(inputs, TARGETS, strict=True):
        kept: list[Tensor] = []
        hook = module.get_submodule(layer).register_forward_hook(lambda *c, k=kept: k.append(c[-1]))
        logit = module(image[None])[0, target]
        hook.remove()
        (gradient,) = torch.autograd.grad(logit, kept[0])
        total = torch.zeros(kept[0].shape[-2:])
        for channel in range(kept[0].shape[1]):
            alpha = gradient[0, channel].mean()
            total += alpha * kept[0][0, channel].detach()
        maps.append(total.clamp_min(0))
    return torch.stack(maps)


def assert_maps_close(got: np.ndarray, expected: np.ndarray) -> None:
    assert expected.any()
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_on_the_demo_gradcam_is_cam() -> None:
    classifier = load_classifier("demo")
    module = classifier.private_module()
    net = module[1]
    images = images_of(64, 64)
    with torch.no_grad():
        features = net.features(net.body(net.stem(module[0](torch.from_numpy(images)))))
        expected = class_activation_maps(features, net.linear.weight)
    assert classifier.default_layer() == "features"
    explanation = GradCAM().explain(classifier, images, TARGETS)
    assert_maps_close(explanation.heatmaps, enlarged(expected, (64, 64)))
    assert explanation.attributions is None


def test_on_a_resnet_gradcam_is_cam() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        resnet = import_torchvision().models.resnet18(weights=None, num_classes=4).eval()
    images = images_of(64, 96)
    trunk = nn.Sequential(*list(resnet.children())[:-2])
    with torch.no_grad():
        expected = class_activation_maps(trunk(normalised(images)), resnet.fc.weight)
    classifier = TorchClassifier(resnet, name="resnet", size=(64, 96), mean=MEAN, std=STD)
    got = GradCAM().explain(classifier, images, TARGETS).heatmaps
    assert_maps_close(got, enlarged(expected, (64, 96)))


def test_on_a_densenet_gradcam_is_cam_after_the_last_relu_and_not_the_aliasing_mixture() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        densenet = import_torchvision().models.densenet121(weights=None, num_classes=4).eval()
        nn.init.normal_(densenet.features.norm5.bias)
        nn.init.uniform_(densenet.classifier.weight)  # positive, so that no map is all zero
    images = images_of(64, 64)
    before = densenet.features(normalised(images)).detach()
    after = torch.relu(before)
    expected = class_activation_maps(after, densenet.classifier.weight)
    # What a hook on `features` sees on the CPU: the activation changed in place by the ReLU, and
    # the gradient before it.
    leaf = before.clone().requires_grad_()
    logits = densenet.classifier(torch.relu(leaf).mean(dim=(2, 3)))
    (gradient,) = torch.autograd.grad(logits[range(4), TARGETS].sum(), leaf)
    mixture = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * after).sum(dim=1))
    classifier = TorchClassifier(densenet, name="densenet", size=(64, 64), mean=MEAN, std=STD)
    got = GradCAM().explain(classifier, images, TARGETS).heatmaps
    assert_maps_close(got, enlarged(expected.detach(), (64, 64)))
    off = np.abs(got - enlarged(mixture.detach(), (64, 64))).max(axis=(1, 2))
    assert (off > 0.05 * got.max(axis=(1, 2))).all()


@pytest.mark.parametrize("layer", ["conv", "relu", "last", "last_relu"])
def test_gradcam_equals_a_plain_reimplementation(layer: str) -> None:
    images = images_of(20, 28)
    expected = enlarged(plain_gradcam(small_net(), layer, normalised(images)), (20, 28))
    classifier = TorchClassifier(small_net(), name="small", size=(20, 28), mean=MEAN, std=STD)
    got = GradCAM(layer=layer).explain(classifier, images, TARGETS).heatmaps
    assert got.dtype == np.float32
    assert_maps_close(got, expected)


def test_gradcam_equals_captums() -> None:
    net, images = small_net(), images_of(20, 28)
    reference = captum.attr.LayerGradCam(net, net.last_relu)
    coarse = reference.attribute(
        normalised(images), torch.from_numpy(TARGETS), relu_attributions=True
    )
    expected = captum.attr.LayerAttribution.interpolate(coarse, (20, 28), "bilinear")
    classifier = TorchClassifier(small_net(), name="small", size=(20, 28), mean=MEAN, std=STD)
    got = GradCAM().explain(classifier, images, TARGETS).heatmaps
    assert_maps_close(got, expected[:, 0].detach().numpy())


def test_the_map_of_an_image_does_not_depend_on_its_batch() -> None:
    images = images_of(20, 28)
    classifier = TorchClassifier(small_net(), name="small", size=(20, 28), batch_size=3)
    together = GradCAM().explain(classifier, images, TARGETS).heatmaps
    backwards = GradCAM().explain(classifier, images[::-1].copy(), TARGETS[::-1].copy()).heatmaps
    alone = [
        GradCAM().explain(classifier, images[i : i + 1], TARGETS[i : i + 1]).heatmaps[0]
        for i in range(4)
    ]
    assert_maps_close(np.stack(alone), together)
    assert_maps_close(backwards[::-1], together)


def test_the_target_decides_the_map() -> None:
    classifier = TorchClassifier(small_net(), name="small", size=(20, 28))
    images = np.repeat(images_of(20, 28)[:1], 2, axis=0)
    maps = GradCAM().explain(classifier, images, np.array([0, 1])).heatmaps
    assert not np.allclose(maps[0], maps[1])


def test_gradcam_runs_each_image_once() -> None:
    classifier = TorchClassifier(small_net(), name="small", size=(20, 28), batch_size=3)
    classifier.default_layer()
    before = classifier.passes.forwards, classifier.passes.gradients
    GradCAM().explain(classifier, images_of(20, 28), TARGETS)
    after = classifier.passes.forwards, classifier.passes.gradients
    assert (after[0] - before[0], after[1] - before[1]) == (0, 4)


def test_an_unknown_layer_is_refused() -> None:
    classifier = TorchClassifier(small_net(), name="small", size=(20, 28))
    with pytest.raises(LayerError, match="no layer 'lastrelu': did you mean 'last_relu'"):
        GradCAM(layer="lastrelu").explain(classifier, images_of(20, 28), TARGETS)


def test_an_empty_layer_name_is_refused() -> None:
    with pytest.raises(ParameterError, match="`layer` must name a layer"):
        GradCAM(layer="")
