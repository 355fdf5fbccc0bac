"""The same images, maps and networks for our side and for Quantus's.

Quantus takes an ``nn.Module`` and arrays with a channel axis; ours takes a classifier around the
same module, without normalisation, and maps without that axis.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier

SIDE = 12
PIXELS = SIDE * SIDE
CLASSES = 3

logging.getLogger("quantus").setLevel(logging.ERROR)


def images(count: int = 4, side: int = SIDE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, side, side), dtype=np.float32)


def maps(count: int = 4, side: int = SIDE, seed: int = 1) -> np.ndarray:
    """No two pixels of a map are equal; all are positive."""
    rng = np.random.default_rng(seed)
    ranks = [rng.permutation(side * side).reshape(side, side) for _ in range(count)]
    return (np.stack(ranks) + 1).astype(np.float32) / (side * side)


def masks(count: int = 4, side: int = SIDE) -> np.ndarray:
    masks = np.zeros((count, side, side), dtype=bool)
    for index in range(count):
        masks[index, 1 : 4 + index, 2 : 7 + index] = True
    return masks


def targets(count: int = 4) -> np.ndarray:
    return np.arange(count) % CLASSES


def network(classes: int = CLASSES, seed: int = 0, padding: int = 0) -> nn.Module:
    """Convolution, ReLU, pooling, linear; every layer has ``reset_parameters``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=padding),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, classes),
        )
        with torch.no_grad():  # so that probabilities move with single pixels
            module[-1].weight.mul_(100.0)
    return module.eval()


class Linear(nn.Module):
    """The mean of the image times a weight map for each class; every answer is a sum."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights).float())
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return (x.double().flatten(1) @ self.weights.double().flatten(1).T).float()


def linear(seed: int = 2, *, centred: bool = False) -> Linear:
    """Centred weights do not care for brightness, so that no class wins all images."""
    weights = np.random.default_rng(seed).normal(size=(CLASSES, 3, SIDE, SIDE)) / SIDE
    return Linear(weights - centred * weights.mean(axis=(1, 2, 3), keepdims=True))


def classifier(module: nn.Module, side: int = SIDE) -> TorchClassifier:
    return TorchClassifier(module, name="both sides", size=(side, side), batch_size=64)


def quantus_scores(metric: Any, module: nn.Module | None = None, **given: Any) -> np.ndarray:
    """What a metric of Quantus gives; the heatmaps get a channel axis, the masks too."""
    for name in ("a_batch", "s_batch"):
        if name in given and given[name] is not None and given[name].ndim == 3:
            given[name] = given[name][:, None]
    arguments: dict[str, Any] = {"y_batch": targets(len(given["x_batch"])), "channel_first": True}
    found = metric(**{"model": module, "a_batch": None, **arguments, **given})
    return np.asarray(found)
