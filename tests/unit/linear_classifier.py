"""A classifier whose every answer can be worked out by hand: linear in a grid of 4 x 4 cells."""

from __future__ import annotations

import numpy as np
import torch
from forward_only import ForwardOnly
from torch import Tensor

CLASSES = 3


class LinearClassifier(ForwardOnly):
    """Logits = means of the cells of each channel, times weights, ``[48, 3]``."""

    num_classes = CLASSES

    def __init__(self, weights: np.ndarray | None = None, *, batch: int = 7) -> None:
        drawn = 2 * np.random.default_rng(1).normal(size=(48, CLASSES))
        self.weights = torch.from_numpy(drawn if weights is None else weights)
        super().__init__(self._of_cells, batch=batch)

    def _of_cells(self, images: Tensor) -> Tensor:
        cells = torch.nn.functional.adaptive_avg_pool2d(images.double(), 4)
        return cells.flatten(1) @ self.weights

    def logit(self, image: np.ndarray, target: int) -> float:
        """The target's logit on one image, without a batch."""
        return float(self._of_cells(torch.from_numpy(image)[None].float())[0, target])

    def probability(self, image: np.ndarray, target: int) -> float:
        logits = self._of_cells(torch.from_numpy(image)[None].float())[0]
        return float(torch.softmax(logits, dim=0)[target])


def looks_at_the_first_cell(strength: float = 8.0) -> LinearClassifier:
    """Class 1 grows with the brightness of the top left cell, and with nothing else."""
    weights = np.zeros((48, CLASSES))
    weights[0::16, 1] = strength
    return LinearClassifier(weights)


def some(count: int = 3, size: int = 16, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Images, heatmaps without ties, targets."""
    rng = np.random.default_rng(seed)
    heatmaps = np.stack([rng.permutation(size * size).reshape(size, size) for _ in range(count)])
    images = rng.random((count, 3, size, size)).astype(np.float32)
    return images, heatmaps.astype(np.float32), rng.integers(0, CLASSES, count)
