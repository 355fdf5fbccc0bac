"""What every class activation map keeps to: batches, passes, traces, layers, transformers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import LayerError
from xai_core.explainers import (
    AblationCAM,
    EigenCAM,
    Explainer,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    IntegratedGradCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
    parse_explainer,
)
from xai_core.torchvision_import import import_torchvision

SIZE = (32, 32)
TARGETS = np.array([0, 1, 2, 1, 0])
IMAGES = np.random.default_rng(5).random((5, 3, *SIZE), dtype=np.float32)
GRADIENT = [GradCAM(), GradCAMPlusPlus(), HiResCAM(), LayerCAM(), XGradCAM()]
FAMILY: list[Explainer] = [
    *GRADIENT,
    ScoreCAM(score="logit"),
    AblationCAM(),
    EigenCAM(),
    IntegratedGradCAM(steps=3),
]


def kind(explainer: Explainer) -> str:
    return explainer.kind


class Seen:
    """How many images each pass held; shared by the module and every copy of it."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __deepcopy__(self, memo: dict[int, object]) -> Seen:
        return self


class Watch(nn.Module):
    """Passes its input on, and notes it."""

    __module__ = "torch.nn.watch"  # torch.fx does not look into what torch owns

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        self.seen.batches.append(len(x))
        return x


def net(below: Seen | None = None, above: Seen | None = None) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            OrderedDict(
                below=Watch(below or Seen()),
                conv=nn.Conv2d(3, 6, 3, stride=2, padding=1),
                bn=nn.BatchNorm2d(6),
                relu=nn.ReLU(inplace=True),
                last=nn.Conv2d(6, 7, 3, stride=2, padding=1),
                last_relu=nn.ReLU(inplace=True),
                pool=nn.AdaptiveAvgPool2d(2),
                flatten=nn.Flatten(),
                above=Watch(above or Seen()),
                linear=nn.Linear(28, 3),
            )
        ).eval()


def classifier_of(module: nn.Module, **options: Any) -> TorchClassifier:
    return TorchClassifier(
        module, name="small", size=SIZE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), **options
    )


@pytest.mark.parametrize("explainer", FAMILY, ids=kind)
def test_the_map_of_an_image_does_not_depend_on_its_batch(explainer: Explainer) -> None:
    whole = explainer.explain(classifier_of(net()), IMAGES, TARGETS)
    assert whole.attributions is None
    assert whole.heatmaps.shape == (5, *SIZE)
    assert whole.heatmaps.dtype == np.float32
    assert whole.heatmaps.any()
    assert whole.heatmaps.min() >= 0
    for batch_size in (1, 2):
        classifier = classifier_of(net(), batch_size=batch_size)
        parts = [
            explainer.explain(classifier, IMAGES[some], TARGETS[some]).heatmaps
            for some in ([3, 0], [4], [2, 1])
        ]
        together = np.concatenate(parts)[[1, 4, 3, 0, 2]]
        scale = whole.heatmaps.max()
        np.testing.assert_allclose(together, whole.heatmaps, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("explainer", FAMILY, ids=kind)
def test_the_same_call_gives_the_same_map(explainer: Explainer) -> None:
    classifier = classifier_of(net())
    one, other = (explainer.explain(classifier, IMAGES, TARGETS).heatmaps for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("explainer", FAMILY, ids=kind)
def test_no_pass_holds_more_images_than_the_batch_size(explainer: Explainer) -> None:
    below, above = Seen(), Seen()
    classifier = classifier_of(net(below, above), batch_size=2)
    explainer.explain(classifier, IMAGES[:1], TARGETS[:1])  # proves its shortcuts once
    below.batches.clear()
    above.batches.clear()
    before = copy.copy(classifier.passes)
    explainer.explain(classifier, IMAGES, TARGETS)
    assert max(below.batches) <= 2
    assert max(above.batches) <= 2
    forwards = classifier.passes.forwards - before.forwards
    gradients = classifier.passes.gradients - before.gradients
    assert sum(above.batches) == forwards + gradients


@pytest.mark.parametrize("explainer", GRADIENT, ids=kind)
def test_one_gradient_an_image_is_all_that_it_takes(explainer: Explainer) -> None:
    classifier = classifier_of(net(), batch_size=2)
    explainer.explain(classifier, IMAGES, TARGETS)
    assert classifier.passes.gradients == 5
    assert classifier.passes.forwards == 0


@pytest.mark.parametrize("explainer", FAMILY, ids=kind)
def test_no_images_give_no_maps(explainer: Explainer) -> None:
    got = explainer.explain(classifier_of(net()), IMAGES[:0], TARGETS[:0])
    assert got.heatmaps.shape == (0, *SIZE)


@pytest.mark.parametrize("explainer", FAMILY, ids=kind)
def test_nothing_stays_behind(explainer: Explainer) -> None:
    module = net().train()
    module.conv.weight.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    images = IMAGES.copy()
    classifier = classifier_of(module)
    scores = classifier.scores(torch.from_numpy(IMAGES))
    explainer.explain(classifier, images, TARGETS)
    assert np.array_equal(images, IMAGES)
    assert torch.equal(classifier.scores(torch.from_numpy(IMAGES)), scores)
    assert all(child.training for child in module.modules())
    assert not module.conv.weight.requires_grad
    assert module.last.weight.requires_grad
    for tree in (module, classifier.private_module()):
        assert all(parameter.grad is None for parameter in tree.parameters())
        for child in tree.modules():
            assert not child._forward_hooks
            assert not child._forward_pre_hooks
            assert not child._backward_hooks
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("explainer", FAMILY, ids=kind)
def test_a_wrong_layer_is_refused_with_near_names(explainer: Explainer) -> None:
    wrong = parse_explainer(f"{explainer.kind}(layer='last_rellu')")
    with pytest.raises(LayerError, match="no layer 'last_rellu': did you mean 'last_relu'"):
        wrong.explain(classifier_of(net()), IMAGES, TARGETS)
    with pytest.raises(LayerError, match=r"'linear' gives an output of shape .* no space"):
        parse_explainer(f"{explainer.kind}(layer='linear')").explain(
            classifier_of(net()), IMAGES, TARGETS
        )


@pytest.mark.parametrize("explainer", FAMILY, ids=kind)
def test_a_layer_that_is_changed_in_place_afterwards_is_seen_as_it_was(
    explainer: Explainer,
) -> None:
    in_place, beside = net(), net()
    beside.last_relu = nn.ReLU()
    at = {"layer": "last", **({"score": "logit"} if explainer.kind == "score_cam" else {})}
    one, other = (
        type(explainer)(**at).explain(classifier_of(module), IMAGES, TARGETS).heatmaps
        for module in (in_place, beside)
    )
    assert one.any()
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * one.max())


@pytest.mark.parametrize("explainer", FAMILY, ids=kind)
def test_densenet_is_explained_after_its_relu(explainer: Explainer) -> None:
    """Its last ReLU is a function call that works in place; only what leaves it is pooled."""

    class After(nn.Module):
        """The same network with that ReLU as a module."""

        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.features, self.classifier, self.relu = net.features, net.classifier, nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(self.relu(self.features(x)).mean(dim=(2, 3)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        densenet = import_torchvision().models.DenseNet(
            growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=3
        )
    size = (64, 64)
    images = np.random.default_rng(1).random((2, 3, *size), dtype=np.float32)
    maps = []
    for module, layer in ((densenet, "features_relu"), (After(densenet), "relu")):
        classifier = TorchClassifier(module.eval(), name="densenet", size=size)
        assert classifier.default_layer() == layer
        maps.append(explainer.explain(classifier, images, TARGETS[:2]).heatmaps)
    assert maps[0].any()
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-3, atol=1e-4 * maps[1].max())


def vit() -> nn.Module:
    module = import_torchvision().models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16,
        num_classes=3,
    )  # fmt: skip
    nn.init.normal_(module.heads.head.weight)
    return module


def swin() -> nn.Module:
    return import_torchvision().models.SwinTransformer(
        patch_size=[4, 4], embed_dim=8, depths=[1, 2], num_heads=[1, 2], window_size=[2, 2],
        num_classes=3,
    )  # fmt: skip


def convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=3)


@pytest.mark.parametrize("make", [vit, swin, convnext])
@pytest.mark.parametrize("explainer", FAMILY, ids=kind)
def test_the_family_works_on_transformers_and_convnext(explainer: Explainer, make: Any) -> None:
    import_torchvision()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make().eval()
    classifier = classifier_of(module)
    images = np.random.default_rng(2).random((6, 3, *SIZE), dtype=np.float32)
    maps = explainer.explain(classifier, images, np.array([0, 1, 2, 0, 1, 2])).heatmaps
    assert maps.shape == (6, *SIZE)
    assert np.isfinite(maps).all()
    assert sum(heatmap.std() > 0 for heatmap in maps) >= 3


@pytest.mark.parametrize("explainer", [*GRADIENT, IntegratedGradCAM(steps=2)], ids=kind)
def test_the_last_block_of_a_vit_is_refused_with_layers_that_work(explainer: Explainer) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = classifier_of(vit().eval())
    for layer in ("encoder.layers.encoder_layer_1", "encoder.ln"):
        at = parse_explainer(f"{explainer.kind}(layer={layer!r})")
        with pytest.raises(LayerError, match=r"gets no gradient .* Layers that work: .*ln_1"):
            at.explain(classifier, IMAGES, TARGETS)
