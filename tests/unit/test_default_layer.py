"""Where Grad-CAM looks in timm's models and in networks that call their ReLUs as functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.classifier.functional_relu import name_functional_relus
from xai_core.classifier.layers import to_channels_first
from xai_core.errors import LayerError
from xai_core.explainers import GradCAM
from xai_core.torchvision_import import import_torchvision

SIZE = (32, 32)
IMAGES = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 2])


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def classifier_of(module: nn.Module, size: tuple[int, int] = SIZE) -> TorchClassifier:
    return TorchClassifier(module, name="mine", size=size)


def timm_model(name: str, **options: Any) -> nn.Module:
    import_torchvision()
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        module: nn.Module = timm.create_model(name, num_classes=3, **options)
        for child in module.modules():
            if isinstance(child, nn.Linear) and child.out_features == 3:
                nn.init.normal_(child.weight)
    return module.eval()


VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
SWIN = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": (1, 2),
    "num_heads": (1, 2),
    "window_size": 2,
}
SMALL = {"depths": (1, 1, 1, 1), "dims": (4, 4, 8, 16)}
TIMM: dict[str, tuple[dict[str, Any], int, str, tuple[int, ...]]] = {
    "resnet10t": ({}, 64, "layer4", (512, 2, 2)),
    "densenet121": ({"growth_rate": 4, "block_config": (2, 2)}, 32, "features", (16, 4, 4)),
    "convnext_tiny": (SMALL, 64, "stages", (16, 2, 2)),
    "vit_tiny_patch16_224": (VIT, 32, "blocks.1.norm1", (16, 4, 4)),
    "vit_small_patch14_reg4_dinov2": (VIT, 32, "blocks.1.norm1", (16, 4, 4)),
    "deit_tiny_distilled_patch16_224": (VIT, 32, "blocks.1.norm1", (16, 4, 4)),
    "swin_tiny_patch4_window7_224": (SWIN, 32, "layers.1.blocks.1.norm2", (16, 4, 4)),
}


@pytest.mark.parametrize("name", TIMM)
def test_the_default_layer_of_a_timm_family(name: str) -> None:
    options, side, expected, shape = TIMM[name]
    classifier = classifier_of(timm_model(name, **options), (side, side))
    assert classifier.default_layer() == expected
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    result = classifier.gradients(images, TARGETS, expected)
    assert result.activations.shape == (2, *shape)
    assert result.gradients.any()


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("vit_tiny_patch16_224", 1),
        ("deit_tiny_distilled_patch16_224", 2),
        ("vit_small_patch14_reg4_dinov2", 5),
    ],
)
def test_every_token_that_is_no_patch_is_dropped(name: str, prefix: int) -> None:
    module = timm_model(name, **VIT)
    kept: list[Tensor] = []
    module.blocks[1].norm1.register_forward_hook(lambda *call: kept.append(call[-1].detach()))
    module(IMAGES)
    assert kept[0].shape == (2, prefix + 16, 16)
    spatial = classifier_of(module).activations(IMAGES, "blocks.1.norm1")
    for row in range(4):
        for column in range(4):
            token = kept[0][:, prefix + 4 * row + column]
            torch.testing.assert_close(spatial[:, :, row, column], token, rtol=1e-4, atol=1e-5)


def test_the_last_block_of_timm_s_vit_is_refused_with_layers_that_work() -> None:
    classifier = classifier_of(timm_model("vit_tiny_patch16_224", **VIT))
    with pytest.raises(LayerError, match=r"gets no gradient .* Layers that work: .*blocks\.1\.nor"):
        classifier.gradients(IMAGES, TARGETS, "blocks.1")


def swin() -> nn.Module:
    return import_torchvision().models.SwinTransformer(
        patch_size=[4, 4], embed_dim=8, depths=[1, 2], num_heads=[1, 2], window_size=[2, 2],
        num_classes=3,
    ).eval()  # fmt: skip


def test_swin_s_convolution_and_what_follows_its_turn_have_channels_first() -> None:
    module = swin()
    first, last = torch.zeros(2, 8, 6, 5), torch.zeros(2, 6, 5, 8)
    for name, output in (("features.0.0", first), ("features.0", last), ("permute", first)):
        layer = module.get_submodule(name)
        assert to_channels_first(output, layer, module, name).shape == (2, 8, 6, 5)


class Functional(nn.Module):
    """A network as tutorials write it: every ReLU is a function call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 5, 3)
        self.bn = nn.BatchNorm2d(5)
        self.fc1, self.fc2 = nn.Linear(5, 8), nn.Linear(8, 3)

    def relu(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.relu(self.bn(self.conv2(x)))
        x = self.relu(self.fc1(x.mean(dim=(2, 3))))
        return self.fc2(x)


class InPlace(Functional):
    def relu(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x, inplace=True)


class Method(Functional):
    def relu(self, x: Tensor) -> Tensor:
        return x.relu()


class Torch(Functional):
    def relu(self, x: Tensor) -> Tensor:
        return torch.relu(x)


@pytest.mark.parametrize("kind", [Functional, InPlace, Method, Torch])
def test_a_relu_that_is_a_function_call_is_a_layer_named_after_the_one_before(
    kind: type[Functional],
) -> None:
    module = kind().eval()
    nn.init.normal_(module.bn.bias)
    classifier = classifier_of(module)
    assert classifier.default_layer() == "bn_relu"
    assert [name for name, _ in module.named_modules()] == [
        "",
        "conv1",
        "conv2",
        "bn",
        "fc1",
        "fc2",
    ]
    torch.testing.assert_close(classifier.logits(IMAGES), module(IMAGES).detach())
    assert classifier.private_module()(IMAGES).shape == (2, 3)

    rectified = [module.bn(module.conv2(torch.relu(module.conv1(IMAGES)))).relu()]
    logits = module.fc2(module.fc1(rectified[0].mean(dim=(2, 3))).relu())
    (gradient,) = torch.autograd.grad(logits[range(2), TARGETS].sum(), rectified)
    result = classifier.gradients(IMAGES, TARGETS, "bn_relu")
    torch.testing.assert_close(result.activations, rectified[0].detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.gradients, gradient, rtol=1e-4, atol=1e-6)


def test_grad_cam_is_cam_where_a_functional_relu_pooling_and_a_linear_layer_follow() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(nn.functional.relu(self.conv(x)).mean(dim=(2, 3)))

    module = Net()
    got = GradCAM().explain(classifier_of(module), IMAGES.numpy(), TARGETS.numpy()).heatmaps
    with torch.no_grad():
        features = module.conv(IMAGES).relu()
        weights = module.fc.weight[TARGETS][:, :, None, None]
        cam = (weights * features).sum(1).relu() / (SIZE[0] * SIZE[1])
    np.testing.assert_allclose(got, cam.numpy(), rtol=1e-4, atol=1e-9)


def test_a_densenet_is_looked_at_after_its_relu_wherever_it_stands() -> None:
    densenet = import_torchvision().models.DenseNet(4, (2, 2), 8, num_classes=3).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    for module, expected in (
        (densenet, "features_relu"),
        (nn.Sequential(densenet), "0.features_relu"),
    ):
        classifier = classifier_of(module, (64, 64))
        assert classifier.default_layer() == expected
        found = classifier.activations(images, expected)
        with torch.no_grad():
            torch.testing.assert_close(found, densenet.features(images).relu())


class Lying(Functional):
    """Leaves the second convolution out while it is traced."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.conv2(x) if isinstance(x, Tensor) else torch.cat([x, x[:, :1]], dim=1)
        return self.fc2(self.fc1(x.mean(dim=(2, 3))))


class Branching(Functional):
    """Decides by numbers, so nobody can trace it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > -1e9 else -x)


class SharedInPlace(Functional):
    """Uses once more what its ReLU changes in place."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = nn.functional.relu_(x)
        return self.fc2(self.fc1(self.bn(self.conv2(x + y)).mean(dim=(2, 3))))


class Returned(Functional):
    """Returns what its ReLU gives, so that has its name."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.fc2(self.fc1(self.conv2(self.conv1(x)).mean(dim=(2, 3)))))


class Constant(Functional):
    """Makes a tensor while it runs, which a trace would keep in a place of its own."""

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.conv1(x)) * torch.tensor(2.0)
        return self.fc2(self.fc1(self.conv2(x).mean(dim=(2, 3))))


class Taken(Functional):
    """Has a layer of that name already."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1_relu = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.conv1(x))
        return self.fc2(self.fc1(self.conv2(x).mean(dim=(2, 3))))


@pytest.mark.parametrize("kind", [Lying, Branching, SharedInPlace, Returned, Constant, Taken])
def test_where_a_relu_cannot_be_named_the_model_runs_as_it_is(kind: type[Functional]) -> None:
    module = kind().eval()
    names = [name for name, _ in module.named_modules()]
    expected = module(IMAGES).detach()
    classifier = classifier_of(module)
    torch.testing.assert_close(classifier.logits(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert [name for name, _ in classifier.private_module()[-1].named_modules()] == names
    assert type(classifier.private_module()[-1]) is kind


def test_naming_relus_changes_no_weight_and_no_type() -> None:
    module = Functional().eval()
    weights = dict(module.state_dict())
    kind: Callable[..., object] = type(module)
    name_functional_relus(module, IMAGES)
    assert isinstance(module, Functional)
    assert type(module).__qualname__ == kind.__qualname__
    assert list(module.state_dict()) == list(weights)
    for key, value in module.state_dict().items():
        assert value is weights[key] or torch.equal(value, weights[key])


class Viewing(nn.Module):
    """Flattens a feature map with ``view``, which torch's channels-last layout does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * 900, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.bn(self.conv(x)))
        return self.linear(x.view(x.size(0), -1))


def test_a_model_that_calls_view_on_a_feature_map_works() -> None:
    module = Viewing().eval()
    classifier = classifier_of(module)
    assert classifier.default_layer() == "bn_relu"
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(IMAGES), module(IMAGES))
        private = classifier.private_module()
        channels_last = IMAGES.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(private(channels_last), module(IMAGES))
    for at in (None, "bn_relu", "conv"):
        assert classifier.gradients(IMAGES, TARGETS, at).gradients.any()
    own = classifier.activations(IMAGES[:1], "bn_relu")
    again = classifier.logits_from(IMAGES[:1], "bn_relu", [own.repeat(2, 1, 1, 1)])
    torch.testing.assert_close(again[1:], classifier.logits(IMAGES[:1]))
