"""What does the classifier say of some of an image's superpixels alone?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xai_core.arrays import Float32, Float64, Int64
from xai_core.explainers.removal import Removal
from xai_core.parameters import require
from xai_core.superpixels import superpixels

Coalitions: TypeAlias = npt.NDArray[np.bool_]
"""Which superpixels are left, a row for each variant of the image, ``[S, superpixels]``."""


def check_superpixels(segments: int, compactness: float) -> None:
    """Raise unless the parameters of `xai_core.superpixels` are in range.

    Raises:
        ParameterError: they are not.
    """
    require(segments >= 2, f"`segments` must be at least 2, got {segments}")
    require(compactness > 0, f"`compactness` must be above 0, got {compactness}")


@dataclass(frozen=True)
class Segmented:
    """Images cut into superpixels.

    Attributes:
        labels: the superpixel of every pixel, ``[N, H, W]``.
        counts: how many superpixels each image has.
    """

    labels: Int64
    counts: tuple[int, ...]

    @classmethod
    def of(cls, images: Float32, *, segments: int, compactness: float) -> Segmented:
        """Cut every image; see `superpixels`."""
        labels = np.stack(
            [superpixels(image, segments=segments, compactness=compactness) for image in images]
        )
        return cls(labels, tuple(int(one.max()) + 1 for one in labels))

    def outputs(self, removal: Removal, coalitions: list[Coalitions]) -> list[Float64]:
        """Return, image by image, the target's output with each coalition of superpixels left.

        Args:
            removal: of the same images.
            coalitions: of every image, ``[S, its superpixels]``.
        """
        lengths = [len(rows) for rows in coalitions]
        left = torch.zeros(sum(lengths), max(self.counts), dtype=torch.bool)
        start = 0
        for rows in coalitions:
            left[start : start + len(rows), : rows.shape[1]] = torch.from_numpy(rows)
            start += len(rows)
        owners = torch.arange(len(coalitions)).repeat_interleave(torch.tensor(lengths))
        flat = torch.from_numpy(self.labels).flatten(1)

        def keep(index: Tensor) -> Tensor:
            return left[index].gather(1, flat[owners[index]]).reshape(-1, *self.labels.shape[1:])

        outputs = removal.outputs(owners, keep)
        return np.split(outputs, np.cumsum(lengths)[:-1])

    def paint(self, values: list[Float64]) -> Float32:
        """Return maps in which every pixel has its superpixel's value, float32 ``[N, H, W]``."""
        painted = [one[labels] for one, labels in zip(values, self.labels, strict=True)]
        return np.stack(painted).astype(np.float32)

    def sizes(self) -> list[Int64]:
        """Return, image by image, how many pixels each superpixel has."""
        return [np.bincount(one.ravel()) for one in self.labels]
