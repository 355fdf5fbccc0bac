"""What the benchmarks share: the model, and how two things are timed fairly."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier, load_classifier
from xai_core.classifier.weights import read_state_dict
from xai_core.torchvision_import import import_torchvision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WEIGHTS = Path(__file__).parents[3] / "shared/data/weights/resnet50.safetensors"


class Normalised(nn.Module):
    """The user's own ResNet-50 with its normalisation before it, as a peer library takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = import_torchvision().models.resnet50(weights=None).eval()
        if _WEIGHTS.is_file():
            self.model.load_state_dict(
                {key: value.float() for key, value in read_state_dict(_WEIGHTS).items()}
            )
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.std)


def resnet50() -> tuple[Normalised, TorchClassifier]:
    """Return a plain ResNet-50 and our classifier around the same weights."""
    plain = Normalised()
    classifier = load_classifier(plain.model, normalization="imagenet", name="resnet50")
    assert isinstance(classifier, TorchClassifier)
    return plain, classifier


def integrated_in_float64(
    plain: nn.Module, image: NDArray[np.float32], target: int, steps: int = 50
) -> NDArray[np.float64]:
    """Return integrated gradients from black, Gauss-Legendre, in a plain loop in float64."""
    model = copy.deepcopy(plain).double().requires_grad_(False)
    end = torch.from_numpy(image).double()
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    total = torch.zeros_like(end)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = (node * end).requires_grad_()
        (gradient,) = torch.autograd.grad(model(point)[:, target].sum(), point)
        total += weight * gradient
    return (total * end).numpy()


def relative(found: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Return the L2 distance to the reference, relative to the reference's own length."""
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def interleaved(one: Callable[[], object], other: Callable[[], object], rounds: int) -> list[float]:
    """Return the ratios time(one) / time(other) of rounds that run both, in turn."""
    ratios = []
    for _ in range(rounds):
        started = time.perf_counter()
        one()
        between = time.perf_counter()
        other()
        ratios.append((between - started) / (time.perf_counter() - between))
    return ratios


def middle(ratios: list[float]) -> float:
    """Return the median."""
    return median(ratios)
