"""What a run records of a classifier: its weights whatever stands around them, and what it divides by."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier, normalisation_text, weights_digest


class Swapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.flip(1))


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def classifier(module: nn.Module, **given) -> TorchClassifier:
    return TorchClassifier(module, name="net", size=(16, 16), **given)


def test_a_digest_of_the_weights_stays_where_only_what_is_around_them_changes() -> None:
    base, expected = network(), weights_digest(classifier(network()))
    assert expected is not None
    for same in (
        classifier(base, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
        classifier(Swapped(base)),
        classifier(nn.Sequential(*base[:3], nn.AdaptiveMaxPool2d(1), *base[4:])),
        classifier(base, batch_size=1),
        dict(classifier(base).twins())["its batch norm not folded"],
    ):
        assert weights_digest(same) == expected
    # The fingerprint tells all but the last two from it.
    assert classifier(Swapped(base)).fingerprint != classifier(base).fingerprint


def test_a_digest_of_the_weights_follows_each_of_them() -> None:
    base = network()
    expected = weights_digest(classifier(base))
    for name, tensor in base.state_dict().items():
        changed = copy.deepcopy(base)
        own = changed.state_dict()[name]
        own += torch.ones_like(tensor)
        assert weights_digest(classifier(changed)) != expected, name
    assert weights_digest(classifier(base.half().float())) != expected
    without_bias = copy.deepcopy(network())
    without_bias[5].bias = None
    assert weights_digest(classifier(without_bias)) != expected


def test_the_same_numbers_in_another_shape_are_other_weights() -> None:
    convolution, linear = nn.Conv2d(3, 4, 1, bias=False), nn.Linear(3, 4, bias=False)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight[:, :, 0, 0])
    before = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    after = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    assert weights_digest(classifier(before)) != weights_digest(classifier(after))


def test_a_model_without_weights_is_its_code_and_has_no_digest_of_them() -> None:
    bare = classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert weights_digest(bare) is None
    assert weights_digest(SimpleNamespace(fingerprint="f")) is None


def test_what_is_subtracted_and_divided_by_is_said() -> None:
    given = classifier(network(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert normalisation_text(given) == "mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
    assert normalisation_text(classifier(network())) == "mean 0 0 0, std 1 1 1"
    assert normalisation_text(SimpleNamespace(mean=(0.5, 0.5, 0.5))) == "mean 0.5 0.5 0.5"
