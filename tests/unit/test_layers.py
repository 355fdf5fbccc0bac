"""Layers: which one is looked at by default, how its output lies, what is refused."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.classifier.layers import (
    default_layer,
    find_layer,
    layers_with_gradient,
    replaced_by_leaf,
    to_channels_first,
)
from xai_core.classifier.snapshot import frozen_copy
from xai_core.errors import LayerError
from xai_core.torchvision_import import import_torchvision

META = torch.device("meta")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 2])

# On the meta device a network of any size is built and run in no time, without numbers.
FAMILIES = {
    "resnet18": (224, "layer4", (512, 7, 7)),
    "resnext50_32x4d": (224, "layer4", (2048, 7, 7)),
    "wide_resnet50_2": (224, "layer4", (2048, 7, 7)),
    "vgg11": (224, "features.19", (512, 14, 14)),
    "vgg11_bn": (224, "features.27", (512, 14, 14)),
    "alexnet": (224, "features.11", (256, 13, 13)),
    "squeezenet1_1": (224, "classifier.2", (1000, 13, 13)),
    "mobilenet_v2": (224, "features", (1280, 7, 7)),
    "mobilenet_v3_small": (224, "features", (576, 7, 7)),
    "efficientnet_b0": (224, "features", (1280, 7, 7)),
    "efficientnet_v2_s": (384, "features", (1280, 12, 12)),
    "regnet_y_400mf": (224, "trunk_output", (440, 7, 7)),
    "shufflenet_v2_x0_5": (224, "conv5", (1024, 7, 7)),
    "mnasnet0_5": (224, "layers", (1280, 7, 7)),
    "googlenet": (224, "inception5b", (1024, 7, 7)),
    "inception_v3": (299, "Mixed_7c", (2048, 8, 8)),
    "convnext_tiny": (224, "features", (768, 7, 7)),
    "maxvit_t": (224, "blocks.3", (512, 7, 7)),
    "vit_b_32": (224, "encoder.layers.encoder_layer_11.ln_1", (768, 7, 7)),
    "swin_t": (224, "features.7.1.norm2", (768, 7, 7)),
    "swin_v2_t": (256, "features.7.1.norm2", (768, 8, 8)),
}


def torchvision_model(name: str) -> nn.Module:
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False, "aux_logits": False}
    models = import_torchvision().models
    if name.startswith("regnet"):  # computes its widths with tensors that need numbers
        return models.get_model(name, weights=None)
    with META:
        return models.get_model(name, weights=None, **options)


def tiny_vit() -> nn.Module:
    """A torchvision ViT with a head that is not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = import_torchvision().models.VisionTransformer(
            image_size=32,
            patch_size=8,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=16,
            num_classes=3,
        )
        nn.init.normal_(vit.heads.head.weight)
    return vit.eval()


def tiny_swin() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return (
            import_torchvision()
            .models.SwinTransformer(
                patch_size=[4, 4],
                embed_dim=8,
                depths=[1, 2],
                num_heads=[1, 2],
                window_size=[2, 2],
                num_classes=3,
            )
            .eval()
        )


def classifier_of(module: nn.Module) -> TorchClassifier:
    return TorchClassifier(module, name="mine", size=(32, 32))


def by_hand(module: nn.Module, layer: str) -> tuple[Tensor, Tensor]:
    """A layer's output and the gradient there, by a plain hook."""
    kept = []
    handle = module.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[-1]))
    logits = module(IMAGES)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[torch.arange(2), TARGETS].sum(), kept[0])
    return kept[0].detach(), gradient


@pytest.mark.parametrize("name", FAMILIES)
def test_the_default_layer_of_a_torchvision_family(name: str) -> None:
    side, expected, shape = FAMILIES[name]
    module = frozen_copy(torchvision_model(name), META)
    images = torch.empty(2, 3, side, side, device=META)
    found = default_layer(module, images)
    assert found == expected
    layer = find_layer(module, found)
    with replaced_by_leaf(layer, found) as leaves:
        module(images)
    assert to_channels_first(leaves[0], layer, module, found).shape == (2, *shape)


def test_a_network_inside_another_module_has_the_same_default_layer() -> None:
    class Wrapper(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    images = torch.empty(2, 3, 224, 224, device=META)
    for name, expected in (("resnet18", "net.layer4"), ("swin_t", "net.features.7.1.norm2")):
        module = frozen_copy(Wrapper(torchvision_model(name)), META)
        assert default_layer(module, images) == expected


def test_a_pooled_map_and_a_single_position_are_no_default_layer() -> None:
    module = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3, padding=1),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            all=nn.Conv2d(4, 4, 16),
            flatten=nn.Flatten(),
        )
    )
    assert default_layer(module, IMAGES) == "relu"


def test_a_relu_that_is_shared_is_no_default_layer() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.two(self.relu(self.one(x)))).mean(dim=(2, 3))

    assert default_layer(Shared(), IMAGES) == "two"


def test_a_model_without_space_has_no_default_layer() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
    with pytest.raises(LayerError, match=r"no layer of this model has space .* name a layer"):
        default_layer(module, IMAGES)


def test_tokens_of_a_vit_become_a_map_without_the_class_token() -> None:
    activations, gradients = by_hand(tiny_vit(), "encoder.layers.encoder_layer_1.ln_1")
    classifier = classifier_of(tiny_vit())
    assert classifier.default_layer() == "encoder.layers.encoder_layer_1.ln_1"
    result = classifier.gradients(IMAGES, TARGETS, classifier.default_layer())
    assert result.activations.shape == (2, 8, 4, 4)
    for row in range(4):
        for column in range(4):
            token = 1 + row * 4 + column
            here = (slice(None), slice(None), row, column)
            torch.testing.assert_close(result.activations[here], activations[:, token])
            torch.testing.assert_close(result.gradients[here], gradients[:, token])


def test_a_swin_gives_its_channels_last_map_channels_first() -> None:
    activations, gradients = by_hand(tiny_swin(), "features.3.1.norm2")
    classifier = classifier_of(tiny_swin())
    assert classifier.default_layer() == "features.3.1.norm2"
    result = classifier.gradients(IMAGES, TARGETS, classifier.default_layer())
    assert result.activations.shape == (2, 16, 4, 4)
    for channel in range(16):
        torch.testing.assert_close(result.activations[:, channel], activations[..., channel])
        torch.testing.assert_close(result.gradients[:, channel], gradients[..., channel])


def test_square_tokens_without_a_class_token_become_a_map() -> None:
    tokens = torch.arange(2 * 9 * 5.0).reshape(2, 9, 5)
    layer = nn.Identity()
    spatial = to_channels_first(tokens, layer, nn.Sequential(layer), "0")
    assert spatial.shape == (2, 5, 3, 3)
    assert torch.equal(spatial[:, :, 2, 1], tokens[:, 7])


@pytest.mark.parametrize("shape", [(2, 5), (2, 7, 5), (2, 2, 5), (2, 3, 4, 5, 6)])
def test_an_output_without_space_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    layer = nn.Identity()
    with pytest.raises(LayerError, match=r"layer 'mine' gives an output of shape .* no space") as e:
        to_channels_first(torch.zeros(shape), layer, nn.Sequential(layer), "mine")
    assert str(shape) in str(e.value)


def test_the_gradient_at_a_layer_without_space_is_refused() -> None:
    with pytest.raises(LayerError, match=r"'heads.head' gives an output of shape \(2, 3\)"):
        classifier_of(tiny_vit()).gradients(IMAGES, TARGETS, "heads.head")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("layer5", "'layer4' or 'layer3'"),
        ("layer4.3", r"Known: layer4\.0, layer4\.1$"),
        ("layer4.1.con1", "'layer4.1.conv"),
        ("", "known: "),
    ],
)
def test_an_unknown_layer_is_refused_with_near_names(name: str, near: str) -> None:
    with pytest.raises(LayerError, match=f"no layer '{name}': .*{near}"):
        find_layer(torchvision_model("resnet18"), name)


def test_a_layer_without_any_gradient_is_refused_with_layers_that_work() -> None:
    classifier = classifier_of(tiny_vit())
    last = "encoder.layers.encoder_layer_1"  # only the class token goes on from here
    with pytest.raises(LayerError, match=f"'{last}' gets no gradient .* Layers that work: ") as e:
        classifier.gradients(IMAGES, TARGETS, last)
    listed = str(e.value).rpartition("Layers that work: ")[2].split(", ")
    assert f"{last}.ln_1" in listed
    assert last not in listed
    assert "encoder.ln" not in listed
    for name in listed:
        assert classifier.gradients(IMAGES, TARGETS, name).gradients.any()


def test_a_layer_whose_output_is_not_used_is_refused() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
            self.absent = nn.Conv2d(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.unused(x)
            return self.used(x).mean(dim=(2, 3))

    classifier = classifier_of(Unused())
    with pytest.raises(LayerError, match=r"'unused' gets no gradient .* Layers that work: used$"):
        classifier.gradients(IMAGES, TARGETS, "unused")
    with pytest.raises(LayerError, match="'absent' takes no part in the forward pass"):
        classifier.gradients(IMAGES, TARGETS, "absent")


def test_one_image_without_gradient_has_a_gradient_of_zero_whatever_its_batch() -> None:
    class Dead(nn.Module):
        """Its first layer is switched off by a dark image."""

        def __init__(self) -> None:
            super().__init__()
            self.light = nn.Identity()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(torch.relu(self.light(x) - 0.1).mean(dim=(2, 3)))

    classifier = classifier_of(Dead())
    images = torch.stack([IMAGES[0], torch.zeros(3, 32, 32)])
    together = classifier.gradients(images, TARGETS, "light").gradients
    alone = classifier.gradients(images[1:], TARGETS[1:], "light").gradients
    assert together[0].any()
    assert torch.equal(together[1:], alone)
    assert not alone.any()


def test_a_layer_that_runs_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x)).mean(dim=(2, 3))

    with pytest.raises(LayerError, match=r"'conv' runs more than once .* name the block around it"):
        classifier_of(Twice()).gradients(IMAGES, TARGETS, "conv")


def test_a_layer_that_gives_no_tensor_is_refused() -> None:
    attention = "encoder.layers.encoder_layer_0.self_attention"
    with pytest.raises(LayerError, match=f"'{attention}' gives a tuple, expected a tensor"):
        classifier_of(tiny_vit()).gradients(IMAGES, TARGETS, attention)


def test_no_hook_stays_behind_when_a_layer_is_refused() -> None:
    classifier = classifier_of(tiny_vit())
    before = classifier.scores(IMAGES)
    for name in ("encoder.layers.encoder_layer_1", "heads.head"):
        with pytest.raises(LayerError):
            classifier.gradients(IMAGES, TARGETS, name)
    assert not any(module._forward_hooks for module in classifier.private_module().modules())
    assert torch.equal(classifier.scores(IMAGES), before)


def test_layers_with_a_gradient_are_listed_in_the_order_they_finish() -> None:
    module = nn.Sequential(
        OrderedDict(
            block=nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU(inplace=True))),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(4, 3),
        )
    )
    assert layers_with_gradient(module, IMAGES) == ["block.conv", "block.relu", "block"]
    assert IMAGES.grad is None
    assert not IMAGES.requires_grad
