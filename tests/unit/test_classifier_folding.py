"""Batch norm folded into convolutions changes the speed and nothing else."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.classifier.snapshot import fold_batch_norm, frozen_copy

CPU = torch.device("cpu")
IMAGES = torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 1, 2, 0])


class Net(nn.Module):
    """Convolution, batch norm, pooling, linear; subclasses vary how they are put together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(5)
        self.linear = nn.Linear(5, 3)
        generator = torch.Generator().manual_seed(2)
        for tensor in (*self.parameters(), self.bn.running_mean):
            tensor.data.normal_(generator=generator)
        self.bn.running_var.uniform_(0.5, 2, generator=generator)

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.relu(self.features(x)).mean(dim=(2, 3)))


class DataDependent(Net):
    """Cannot be traced: which way it goes is known only once there are numbers."""

    def features(self, x: Tensor) -> Tensor:
        if x.mean() > 0.45:
            return self.bn(self.conv(x))
        return self.conv(x)


class LyingTrace(Net):
    """Runs its batch norm only while it is traced."""

    def features(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y if isinstance(y, Tensor) else self.bn(y)


class WeightUsedTwice(Net):
    """Uses the convolution's weight once more, past the module."""

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + nn.functional.conv2d(x, self.conv.weight, padding=1)


class ReadsBatchNorm(Net):
    """Reads a weight of its batch norm, which an identity does not have."""

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.bn.weight.mean()


class OutputUsedTwice(Net):
    """Needs the convolution's own output too."""

    def features(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y


class RunTwice(Net):
    """Runs the same convolution and batch norm twice."""

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.bn(self.conv(x + 1))


class KeepsFeatures(Net):
    """Keeps a tensor of its forward pass, as home-made Grad-CAM code does."""

    def features(self, x: Tensor) -> Tensor:
        self.kept = self.bn(self.conv(x))
        return self.kept


class SpectralNorm(Net):
    """Computes the convolution's weight before every pass."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # deprecated, and still in use
            nn.utils.spectral_norm(self.conv)


class WithoutStatistics(Net):
    """Its batch norm has no running statistics: it normalises by the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(5, track_running_stats=False)


class Wrapped(Net):
    """A container that ends in the convolution, outside of which batch norm follows."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Identity(), self.conv)
        del self.conv

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.block(x))


def test_a_convolution_absorbs_the_batch_norm_that_follows_it() -> None:
    module = frozen_copy(Net(), CPU)
    folded, names = fold_batch_norm(module, IMAGES)
    assert names == {"conv"}
    assert isinstance(folded.get_submodule("bn"), nn.Identity)
    assert isinstance(module.get_submodule("bn"), nn.BatchNorm2d)
    torch.testing.assert_close(folded(IMAGES), module(IMAGES), rtol=1e-4, atol=1e-5)


def test_what_is_not_folded_shares_its_weights() -> None:
    module = frozen_copy(Net(), CPU)
    folded, _ = fold_batch_norm(module, IMAGES)
    assert folded.get_submodule("linear").weight is module.get_submodule("linear").weight


@pytest.mark.parametrize(
    "kind",
    [DataDependent, LyingTrace, WeightUsedTwice, ReadsBatchNorm, SpectralNorm],
)
def test_a_model_that_cannot_be_folded_is_run_as_it_is(kind: type[Net]) -> None:
    module = frozen_copy(kind(), CPU)
    assert fold_batch_norm(module, IMAGES) == (module, frozenset())


@pytest.mark.parametrize("kind", [OutputUsedTwice, RunTwice, WithoutStatistics])
def test_a_batch_norm_that_cannot_be_folded_stays(kind: type[Net]) -> None:
    folded, names = fold_batch_norm(frozen_copy(kind(), CPU), IMAGES)
    assert names == frozenset()
    assert isinstance(folded.get_submodule("bn"), nn.BatchNorm2d)


@pytest.mark.parametrize(
    "kind",
    [
        Net,
        DataDependent,
        LyingTrace,
        WeightUsedTwice,
        ReadsBatchNorm,
        OutputUsedTwice,
        RunTwice,
        KeepsFeatures,
        SpectralNorm,
        WithoutStatistics,
        Wrapped,
    ],
)
def test_scores_and_gradients_are_those_of_the_unfolded_model(kind: type[Net]) -> None:
    module = kind().eval()
    images = IMAGES.clone().requires_grad_()
    logits = module(images)
    (expected,) = torch.autograd.grad(logits[torch.arange(4), TARGETS].sum(), images)
    classifier = TorchClassifier(module, name="net", size=(10, 10))
    scores = torch.softmax(logits.detach(), dim=1)
    torch.testing.assert_close(classifier.scores(IMAGES), scores, rtol=1e-4, atol=1e-5)
    result = classifier.gradients(IMAGES, TARGETS)
    torch.testing.assert_close(result.gradients, expected, rtol=1e-3, atol=1e-5)


def test_a_module_that_was_run_with_autograd_before_can_be_explained() -> None:
    module = KeepsFeatures().eval()
    expected = module(IMAGES).detach()
    assert module.kept.grad_fn is not None
    classifier = TorchClassifier(module, name="net", size=(10, 10))
    torch.testing.assert_close(classifier.logits(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert module.kept.grad_fn is not None


def test_both_ways_through_a_model_that_depends_on_its_data_are_run() -> None:
    module = DataDependent().eval()
    classifier = TorchClassifier(module, name="net", size=(10, 10))
    for images in (IMAGES * 0.2, IMAGES * 0.2 + 0.8):
        with torch.no_grad():
            expected = module(images)
        torch.testing.assert_close(classifier.logits(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "at"), [(Net, "conv"), (Net, "bn"), (Wrapped, "block"), (Wrapped, "block.1")]
)
def test_a_layer_gives_what_it_gives_in_the_unfolded_model(kind: type[Net], at: str) -> None:
    module = kind().eval()
    kept = []
    module.get_submodule(at).register_forward_hook(lambda *call: kept.append(call[-1]))
    logits = module(IMAGES)
    (expected,) = torch.autograd.grad(logits[torch.arange(4), TARGETS].sum(), kept[0])
    result = TorchClassifier(kind(), name="net", size=(10, 10)).gradients(IMAGES, TARGETS, at)
    torch.testing.assert_close(result.activations, kept[0].detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.gradients, expected, rtol=1e-3, atol=1e-5)
