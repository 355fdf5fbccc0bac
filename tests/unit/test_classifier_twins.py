"""Other forms of one network: the same function, and really another form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from xai_core.checks import SmallCNN, TinyTransformer
from xai_core.classifier import TorchClassifier
from xai_core.classifier.twins import with_channels_reordered
from xai_core.torchvision_import import import_torchvision

IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
UNFOLDED, REORDERED = "its batch norm not folded", "its channels in another order"


def of_torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(import_torchvision().models, name)(weights=None, num_classes=5)


def trained(module: nn.Module) -> nn.Module:
    """The module with batch norm that treats every channel in its own way."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return module.eval()


def model_of(classifier: TorchClassifier, *, folded: bool = False) -> nn.Module:
    return classifier.private_module(folded=folded).get_submodule("model")


@pytest.mark.parametrize(
    ("make", "forms", "moved"),
    [
        (SmallCNN().module, [UNFOLDED, REORDERED], ["0", "1", "4"]),
        (
            of_torchvision("resnet18"),
            [UNFOLDED, REORDERED],
            ["layer1.0.conv1", "layer1.0.bn1", "layer1.0.conv2"],
        ),
        (of_torchvision("mobilenet_v2"), [UNFOLDED, REORDERED], ["features.2.conv.1.0"]),
        (
            lambda: import_torchvision().models.SwinTransformer([4, 4], 16, [2], [2], [4, 4], num_classes=3),
            [REORDERED],
            ["features.1.1.mlp.0", "features.1.1.mlp.3"],
        ),
    ],
    ids=["small", "resnet18", "mobilenet_v2", "swin"],
)  # fmt: skip
def test_twins_are_the_same_function_in_another_form(
    make: Callable[[], nn.Module], forms: list[str], moved: list[str]
) -> None:
    module = trained(make())
    classifier = TorchClassifier(module, name="net", size=(64, 64), mean=(0.3, 0.4, 0.5))
    twins = dict(classifier.twins())
    assert list(twins) == forms
    with torch.no_grad():
        expected = module(IMAGES - torch.tensor([0.3, 0.4, 0.5]).view(3, 1, 1))
    for twin in twins.values():
        torch.testing.assert_close(twin.logits(IMAGES), expected, rtol=1e-3, atol=1e-4)
        assert twin.passes is classifier.passes
    reordered = model_of(twins[REORDERED])
    for name in moved:
        here, there = module.get_submodule(name).weight, reordered.get_submodule(name).weight
        assert not torch.equal(here, there), name
        assert torch.equal(here.flatten().sort().values, there.flatten().sort().values), name
    if UNFOLDED in forms:
        # To compute with batch norm itself gives other roundings than to compute without.
        assert not torch.equal(twins[UNFOLDED].logits(IMAGES), classifier.logits(IMAGES))
        assert any(
            isinstance(m, nn.BatchNorm2d) for m in model_of(twins[UNFOLDED], folded=True).modules()
        )


def test_channels_lie_in_the_opposite_order_and_what_the_image_gives_and_gets_does_not() -> None:
    module = SmallCNN().module()
    classifier = SmallCNN().classifier()
    twin = model_of(dict(classifier.twins())[REORDERED])
    first, second = twin.get_submodule("0"), twin.get_submodule("4")
    torch.testing.assert_close(first.weight, module[0].weight.flip(0))
    torch.testing.assert_close(first.bias, module[0].bias.flip(0))
    torch.testing.assert_close(twin.get_submodule("1").running_var, module[1].running_var.flip(0))
    torch.testing.assert_close(second.weight, module[4].weight.flip(1))
    torch.testing.assert_close(second.bias, module[4].bias)  # pooling and flattening follow
    torch.testing.assert_close(twin.get_submodule("9").weight, module[9].weight)


class Branching(nn.Module):
    """Channels that are also taken up elsewhere, and a branch that stops the tracer."""

    def __init__(self, *, traceable: bool, beside: bool) -> None:
        super().__init__()
        self.traceable, self.beside = traceable, beside
        self.block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.one, self.two = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.traceable and bool(x.sum() > torch.inf):
            return x.mean(dim=(2, 3))
        x = self.block(x)
        y = self.one(x)
        z = self.two(y)
        return (z + y[:, :3] if self.beside else z).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("traceable", "beside", "chains"),
    [
        (True, False, {"block.0", "block.2", "one", "two"}),
        (True, True, {"block.0", "block.2", "one"}),
        (False, True, {"block.0", "block.2"}),
    ],
)
def test_only_channels_that_one_layer_takes_up_are_reordered(
    traceable: bool, beside: bool, chains: set[str]
) -> None:
    module = Branching(traceable=traceable, beside=beside).eval()
    twin = with_channels_reordered(module, IMAGES)
    assert twin is not None
    changed = {
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d)
        and not torch.equal(layer.weight, twin.get_submodule(name).weight)
    }
    assert changed == chains


def test_a_network_whose_weights_are_tied_has_no_reordered_twin() -> None:
    conv, again = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    again.weight = conv.weight
    module = nn.Sequential(conv, nn.ReLU(), again, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert with_channels_reordered(module, IMAGES) is None
    classifier = TorchClassifier(module, name="tied", size=(64, 64))
    assert list(classifier.twins()) == []


def test_a_layer_that_runs_twice_is_left_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
            self.again, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.again(self.again(self.two(self.one(x)))).mean(dim=(2, 3)))

    module = Twice().eval()
    twin = with_channels_reordered(module, IMAGES)
    assert twin is not None
    torch.testing.assert_close(twin.get_submodule("one").weight, module.one.weight.flip(0))
    torch.testing.assert_close(twin.get_submodule("two").weight, module.two.weight.flip(1))
    torch.testing.assert_close(twin.get_submodule("again").weight, module.again.weight)


def test_the_original_is_untouched() -> None:
    classifier = SmallCNN().classifier()
    before, scores = classifier.fingerprint, classifier.scores(IMAGES)
    list(classifier.twins())
    classifier.absorbing(0.5)
    del classifier.__dict__["fingerprint"]
    assert classifier.fingerprint == before
    assert torch.equal(classifier.scores(IMAGES), scores)


@pytest.mark.parametrize("shift", [-1.0, 0.25])
def test_a_constant_is_absorbed_by_the_mean_that_is_subtracted(shift: float) -> None:
    classifier = TinyTransformer().classifier()
    images, own = IMAGES[..., :32, :32], classifier.fingerprint
    absorbing = classifier.absorbing(shift)
    assert absorbing.mean == tuple(value + shift for value in classifier.mean)
    torch.testing.assert_close(absorbing.logits(images + shift), classifier.logits(images))
    layer = classifier.default_layer()
    targets = torch.tensor([0, 1, 2])
    for at in (None, layer):
        torch.testing.assert_close(
            absorbing.gradients(images + shift, targets, at=at).gradients,
            classifier.gradients(images, targets, at=at).gradients,
            rtol=1e-3, atol=1e-5,
        )  # fmt: skip
    assert not torch.allclose(absorbing.logits(images), classifier.logits(images))
    assert absorbing.fingerprint != own
    assert absorbing.passes is classifier.passes
    runs = absorbing.logits_from(
        (images + shift)[:1], layer, [absorbing.activations(images[:1] + shift, layer)]
    )
    torch.testing.assert_close(runs, classifier.logits(images[:1]))
