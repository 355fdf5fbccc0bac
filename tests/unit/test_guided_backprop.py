"""Guided backpropagation against its definition by hand and Captum."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from forward_only import ForwardOnly
from torch import Tensor, nn

from xai_core.arrays import Float32
from xai_core.classifier import TorchClassifier
from xai_core.errors import ClassifierError
from xai_core.explainers import GuidedBackprop
from xai_core.torchvision_import import import_torchvision

IMAGES = np.random.default_rng(1).random((3, 3, 8, 8), dtype=np.float32)
TARGETS = np.array([1, 0, 1])
CALLS = {
    "modules": lambda values: nn.ReLU()(values),
    "modules in place": lambda values: nn.ReLU(inplace=True)(values),
    "torch.relu": torch.relu,
    "tensor.relu": lambda values: values.relu(),
    "F.relu in place": lambda values: F.relu(values, True),
    "in place, result ignored": lambda values: (values.relu_(), values)[1],
}


class Net(nn.Module):
    """Two convolutions, each followed by a ReLU however it is called."""

    def __init__(self, call: str) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(6)
            self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)
            self.head = nn.Linear(6 * 4 * 4, 2)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        relu = CALLS[self.call]
        return self.head(relu(self.second(relu(self.first(x)))).flatten(1))  # type: ignore[no-any-return]


def classifier_of(module: nn.Module, batch_size: int = 2, side: int = 8) -> TorchClassifier:
    return TorchClassifier(
        module.eval(),
        name="mine",
        size=(side, side),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
        batch_size=batch_size,
    )


def guided(classifier: TorchClassifier, images: Float32 = IMAGES) -> Float32:
    found = GuidedBackprop().explain(classifier, images, TARGETS).attributions
    assert found is not None
    return found


def by_hand() -> Tensor:
    """Every layer's backward pass written out, with both conditions at each ReLU."""
    net = Net("torch.relu")
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    images = (torch.from_numpy(IMAGES) - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        first = net.first(images)
        second = net.second(first.clamp(min=0))
        back = net.head.weight[TARGETS].view(second.shape)
        back = torch.where((second > 0) & (back > 0), back, 0.0)
        back = F.conv_transpose2d(back, net.second.weight)
        back = torch.where((first > 0) & (back > 0), back, 0.0)
        return F.conv_transpose2d(back, net.first.weight) / std.view(3, 1, 1)


@pytest.mark.parametrize("call", CALLS)
def test_it_is_its_definition_however_the_relu_is_called(call: str) -> None:
    found = guided(classifier_of(Net(call)))
    np.testing.assert_allclose(found, by_hand().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_it_agrees_with_captum_where_captum_sees_every_relu(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = getattr(import_torchvision().models, name)(weights=None, num_classes=3)
    images = np.random.default_rng(2).random((2, 3, 32, 32), dtype=np.float32)
    classifier = classifier_of(module, side=32)
    theirs = captum.attr.GuidedBackprop(classifier.private_module()).attribute(
        torch.from_numpy(images).requires_grad_(), target=torch.tensor([1, 0])
    )
    ours = GuidedBackprop().explain(classifier, images, TARGETS[:2]).attributions
    assert ours is not None
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-5 * np.abs(ours).max())


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([nn.SiLU()], "has SiLU"),
        ([nn.ReLU(), nn.ReLU6(), nn.GELU()], "has GELU, ReLU6"),
        ([nn.Identity()], "no ReLU"),
    ],
)
def test_networks_of_other_activations_are_refused(layers: list[nn.Module], reason: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), *layers, nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(ClassifierError, match=reason):
        guided(classifier_of(net))


def test_a_classifier_without_a_module_is_refused() -> None:
    forward_only = ForwardOnly(lambda images: images.mean(dim=(2, 3))[:, :2])
    with pytest.raises(ClassifierError, match="works inside a torch module"):
        GuidedBackprop().explain(forward_only, IMAGES, TARGETS)  # type: ignore[arg-type]


def test_batches_are_full_every_gradient_is_counted_and_the_batch_makes_no_difference() -> None:
    sizes: list[int] = []

    class Watched(Net):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super().forward(x)

    classifier = classifier_of(Watched("torch.relu"))
    sizes.clear()
    together = guided(classifier)
    assert sizes == [2, 1]
    assert (classifier.passes.gradients, classifier.passes.forwards) == (3, 0)
    alone = guided(classifier_of(Net("torch.relu"), batch_size=1))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_afterwards_the_classifier_gives_plain_gradients_again() -> None:
    classifier = classifier_of(Net("modules in place"))
    images, targets = torch.from_numpy(IMAGES), torch.from_numpy(TARGETS)
    before = classifier.gradients(images, targets).gradients
    guided(classifier)
    assert torch.equal(classifier.gradients(images, targets).gradients, before)
