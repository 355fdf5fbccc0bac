"""A classifier leaves the user's module, and torch's random state, as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.torchvision_import import import_torchvision

IMAGES = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 1, 2])


class Counting(nn.Module):
    """A user's module: batch norm, dropout, and a buffer that its forward pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.relu(self.bn(self.conv(x)))
        return self.linear(self.dropout(x.mean(dim=(2, 3))))


def snapshot(module: nn.Module) -> list[Any]:
    """Everything of a module that a careless explainer changes."""
    hooks = [name for name in vars(module) if name.endswith("hooks")]
    return [
        [type(child) for child in module.modules()],
        [child.training for child in module.modules()],
        [[len(getattr(child, name)) for name in hooks] for child in module.modules()],
        [parameter.requires_grad for parameter in module.parameters()],
        [None if p.grad is None else p.grad.tolist() for p in module.parameters()],
        [id(tensor) for tensor in (*module.parameters(), *module.buffers())],
        {key: (value.tolist(), value.stride()) for key, value in module.state_dict().items()},
    ]


USES: dict[str, Callable[[TorchClassifier], object]] = {
    "scores": lambda classifier: classifier.scores(IMAGES),
    "logits": lambda classifier: classifier.logits(IMAGES),
    "gradients": lambda classifier: classifier.gradients(IMAGES, TARGETS),
    "gradients-at-a-layer": lambda classifier: classifier.gradients(IMAGES, TARGETS, "relu"),
    "gradients-at-a-folded-layer": lambda c: c.gradients(IMAGES, TARGETS, "conv"),
    "default-layer": lambda classifier: classifier.default_layer(),
    "fingerprint": lambda classifier: classifier.fingerprint,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("state", ["training", "eval", "frozen", "half-trained"])
def test_the_users_module_stays_as_it_was(use: str, state: str) -> None:
    module = Counting().train(state in ("training", "half-trained"))
    module.linear.register_forward_hook(lambda *_call: None)
    if state == "frozen":
        module.requires_grad_(False)
    if state == "half-trained":
        module(IMAGES).sum().backward()
        module.bn.eval()
    before = snapshot(module)
    USES[use](TorchClassifier(module, name="counting", size=(12, 12)))
    assert snapshot(module) == before


def test_a_module_in_training_mode_is_explained_in_evaluation_mode() -> None:
    module = Counting().train()
    with torch.no_grad():
        module(IMAGES)  # gives batch norm running statistics
        expected = torch.softmax(module.eval()(IMAGES), dim=1)
    classifier = TorchClassifier(module.train(), name="counting", size=(12, 12))
    torch.testing.assert_close(classifier.scores(IMAGES), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(classifier.scores(IMAGES), classifier.scores(IMAGES))


def test_a_later_change_of_the_users_module_does_not_reach_the_classifier() -> None:
    module = Counting()
    classifier = TorchClassifier(module, name="counting", size=(12, 12))
    before = classifier.scores(IMAGES)
    nn.init.zeros_(module.linear.weight)
    assert torch.equal(classifier.scores(IMAGES), before)


def test_a_densenet_of_the_user_keeps_its_class_and_layers() -> None:
    module = import_torchvision().models.DenseNet(8, (1, 1), 8, num_classes=3)
    kind, names = type(module), [name for name, _ in module.named_modules()]
    classifier = TorchClassifier(module, name="densenet", size=(32, 32))
    assert classifier.default_layer() == "features_relu"
    assert type(module) is kind
    assert [name for name, _ in module.named_modules()] == names


def test_torchs_random_state_stays_as_it_was() -> None:
    module = Counting()
    state = torch.random.get_rng_state()
    classifier = TorchClassifier(module, name="counting", size=(12, 12))
    for use in USES.values():
        use(classifier)
    assert torch.equal(torch.random.get_rng_state(), state)
