"""Reading a layer's output, and running the model on from another one."""

from __future__ import annotations

import logging
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import LayerError
from xai_core.torchvision_import import import_torchvision

SIZE = (16, 16)
IMAGES = torch.rand(5, 3, *SIZE, generator=torch.Generator().manual_seed(1))


class Below:
    """What ran below the layer; shared by the module and every copy of it."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __deepcopy__(self, memo: dict[int, object]) -> Below:
        return self


class Watch(nn.Module):
    """Passes its input on and notes how many images it holds; torch.fx does not look into it."""

    __module__ = "torch.nn.watch"

    def __init__(self, below: Below) -> None:
        super().__init__()
        self.below = below

    def forward(self, x: Tensor) -> Tensor:
        self.below.batches.append(len(x))
        return x


def net(below: Below | None = None) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            OrderedDict(
                watch=Watch(below or Below()),
                conv=nn.Conv2d(3, 4, 3, stride=2, padding=1),
                bn=nn.BatchNorm2d(4),
                relu=nn.ReLU(inplace=True),
                flatten=nn.Flatten(),
                linear=nn.Linear(4 * 64, 3),
            )
        ).eval()


def classifier_of(module: nn.Module, **options: int) -> TorchClassifier:
    return TorchClassifier(
        module, name="mine", size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3, **options
    )


def by_hand(module: nn.Module, layer: str, images: Tensor) -> Tensor:
    kept: list[Tensor] = []
    hook = module.get_submodule(layer).register_forward_hook(
        lambda *call: kept.append(call[-1].clone())
    )
    with torch.no_grad():
        module((images - 0.5) / 0.5)
    hook.remove()
    return kept[0]


@pytest.mark.parametrize("layer", ["conv", "bn", "relu"])
def test_activations_are_the_layer_s_output(layer: str) -> None:
    classifier = classifier_of(net(), batch_size=2)
    got = classifier.activations(IMAGES, layer)
    torch.testing.assert_close(got, by_hand(net(), layer, IMAGES), rtol=1e-4, atol=1e-5)
    assert not got.requires_grad
    assert classifier.passes.forwards == 5
    assert classifier.passes.gradients == 0


def test_activations_come_in_batches() -> None:
    below = Below()
    classifier = classifier_of(net(below), batch_size=2)
    below.batches.clear()
    classifier.activations(IMAGES, "relu")
    assert below.batches == [2, 2, 1]


@pytest.mark.parametrize("layer", ["conv", "bn", "relu"])
def test_logits_from_a_layer_are_those_of_the_model_with_its_output_replaced(layer: str) -> None:
    module, classifier = net(), classifier_of(net())
    other = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    hook = module.get_submodule(layer).register_forward_hook(lambda *_: other.clone())
    with torch.no_grad():
        expected = module((IMAGES[:1].expand(3, -1, -1, -1) - 0.5) / 0.5)
    hook.remove()
    got = classifier.logits_from(IMAGES[:1], layer, iter([other[:2], other[2:]]))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_only_what_follows_the_layer_runs_again() -> None:
    below = Below()
    classifier = classifier_of(net(below))
    own = classifier.activations(IMAGES[:1], "relu")
    classifier.logits_from(IMAGES[:1], "relu", [own])
    below.batches.clear()
    before = classifier.passes.forwards
    classifier.logits_from(IMAGES[:1], "relu", (own.repeat(4, 1, 1, 1) for _ in range(3)))
    assert below.batches == [1]
    assert classifier.passes.forwards - before == 1 + 12


def test_a_model_that_cannot_be_traced_runs_as_a_whole(caplog: pytest.LogCaptureFixture) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x) if x.sum() > -1e9 else x
            return self.linear(x.mean(dim=(2, 3)))

    module = Branching()
    classifier = classifier_of(module)
    other = torch.randn(3, 4, 14, 14, generator=torch.Generator().manual_seed(2))
    with caplog.at_level(logging.DEBUG, "xai_core"):
        got = classifier.logits_from(IMAGES[:1], "conv", [other])
    assert "the whole model runs for each output of conv" in caplog.text
    torch.testing.assert_close(got, module.linear(other.mean(dim=(2, 3))).detach())
    assert not any(m._forward_hooks for m in classifier.private_module().modules())


def test_what_bypasses_the_layer_is_the_image_s_own() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.side = nn.Conv2d(3, 2, 3), nn.Conv2d(2, 2, 1)
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            stem = self.stem(x)
            return self.linear(torch.cat([stem, self.side(stem)], dim=1).mean(dim=(2, 3)))

    module = Skip()
    other = torch.randn(3, 2, 14, 14, generator=torch.Generator().manual_seed(2))
    got = classifier_of(module).logits_from(IMAGES[:1], "side", [other])
    with torch.no_grad():
        stem = module.stem((IMAGES[:1] - 0.5) / 0.5).expand(3, -1, -1, -1)
        expected = module.linear(torch.cat([stem, other], dim=1).mean(dim=(2, 3)))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_tokens_are_put_back_where_they_came_from_and_the_class_token_stays() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = import_torchvision().models.VisionTransformer(
            image_size=16,
            patch_size=4,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=16,
            num_classes=3,
        )
        nn.init.normal_(vit.heads.head.weight)
    classifier = classifier_of(vit)
    layer = classifier.default_layer()
    own = classifier.activations(IMAGES[:1], layer)
    assert own.shape == (1, 8, 4, 4)
    same = classifier.logits_from(IMAGES[:1], layer, [own])
    torch.testing.assert_close(same, classifier.logits(IMAGES[:1]), rtol=1e-4, atol=1e-5)
    other = classifier.logits_from(IMAGES[:1], layer, [-own])
    assert (other - same).abs().max() > 1e-4


def test_a_layer_that_cannot_be_read_is_refused() -> None:
    classifier = classifier_of(net())
    with pytest.raises(LayerError, match="no layer 'rellu': did you mean 'relu'"):
        classifier.activations(IMAGES, "rellu")
    with pytest.raises(LayerError, match="has no space"):
        classifier.activations(IMAGES, "linear")
