"""What a classifier refuses, and what it says."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ClassifierError

IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Giving(nn.Module):
    """Gives what a function makes of the images."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def logits(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3))


def classifier_of(module: nn.Module) -> TorchClassifier:
    return TorchClassifier(module, name="mine", size=(8, 8))


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda x: x, r"got \(2, 3, 8, 8\)"),
        (lambda x: x.mean(), r"got \(\)"),
        (lambda x: logits(x)[:1], r"got \(1, 3\)"),
        (lambda x: (logits(x), x), "got tuple"),
        (lambda x: {"logits": logits(x)}, "got dict"),
    ],
)
def test_an_output_that_is_not_logits_is_refused(function: object, got: str) -> None:
    with pytest.raises(ClassifierError, match=rf"mine must map .* to logits \[N, K\], {got}"):
        classifier_of(Giving(function))


def test_a_single_output_is_refused_with_what_to_do() -> None:
    with pytest.raises(ClassifierError, match=r"gives 1 value .*\(wrap a single sigmoid output"):
        classifier_of(Giving(lambda x: logits(x)[:, :1]))


def test_a_forward_pass_that_fails_is_reported_with_the_size() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(ClassifierError, match=r"mine failed on images of 8 x 8: .*shapes"):
        classifier_of(module)


def test_a_module_that_cannot_be_copied_is_refused_with_what_to_do() -> None:
    module = Giving(logits)
    module.lock = threading.Lock()
    with pytest.raises(ClassifierError, match=r"Giving cannot be copied .* give a factory"):
        classifier_of(module)


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ClassifierError, match="batch_size must be at least 1, got 0"):
        TorchClassifier(Giving(logits), name="mine", size=(8, 8), batch_size=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_never_silent(bad: float) -> None:
    def broken(x: Tensor) -> Tensor:
        return torch.where(x.mean(dim=(1, 2, 3), keepdim=True)[..., 0, 0] > 0.9, bad, logits(x))

    classifier = classifier_of(Giving(broken))
    assert classifier.scores(IMAGES).shape == (3, 3)
    white = torch.cat([IMAGES, torch.ones(1, 3, 8, 8)])
    for use in (
        lambda: classifier.scores(white),
        lambda: classifier.logits(white),
        lambda: classifier.gradients(white, torch.zeros(4, dtype=torch.int64)),
    ):
        with pytest.raises(ClassifierError, match="mine gave logits that are not finite"):
            use()


def test_a_forward_pass_that_leaves_autograd_has_scores_and_no_gradients() -> None:
    classifier = classifier_of(Giving(lambda x: logits(x.detach())))
    assert classifier.scores(IMAGES).shape == (3, 3)
    with pytest.raises(ClassifierError, match="mine gives logits without a gradient"):
        classifier.gradients(IMAGES, torch.tensor([0, 1, 2]))


def test_gradients_without_targets_are_refused() -> None:
    with pytest.raises(ClassifierError, match="need targets, one class index for each image"):
        classifier_of(Giving(logits)).gradients(IMAGES, None)


@pytest.mark.parametrize("targets", [[0], [0, 1], [0, 1, 2, 0]])
def test_targets_of_another_number_than_images_are_refused(targets: list[int]) -> None:
    with pytest.raises(ClassifierError, match=f"got {len(targets)} targets for 3 images"):
        classifier_of(Giving(logits)).gradients(IMAGES, torch.tensor(targets))


@pytest.mark.parametrize("target", [-1, 3])
def test_a_target_that_the_classifier_has_no_class_for_is_refused(target: int) -> None:
    with pytest.raises(ClassifierError, match=f"target {target} .* 3 classes"):
        classifier_of(Giving(logits)).gradients(IMAGES, torch.tensor([0, target, 1]))
