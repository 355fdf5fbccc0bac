"""What is a part of an image: what cuts an image into segments, and which of them are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from xai_core.arrays import Bool, Float32
from xai_core.parameters import identity, require
from xai_core.superpixels import superpixels


@runtime_checkable
class Segmenter(Protocol):
    """Cuts an image into segments, which may overlap and need not cover it."""

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    def __call__(self, image: Float32) -> list[Bool]:
        """Return the segments of one image, bool ``[H, W]`` each, in a fixed order.

        Args:
            image: RGB in [0, 1], ``[3, H, W]``.
        """
        ...


@dataclass(frozen=True)
class SlicSegmenter:
    """Superpixels of several sizes by SLIC [Achanta 2012], as ACE cuts its images.

    Attributes:
        resolutions: about how many superpixels, for each time that the image is cut.
        compactness: how much nearness counts against likeness of colour.

    Raises:
        ParameterError: no resolution, one below 2, or a compactness that is not above 0.
    """

    resolutions: tuple[int, ...] = (15, 50, 80)
    compactness: float = 20.0

    def __post_init__(self) -> None:
        require(len(self.resolutions) > 0, "`resolutions` must name at least one")
        for segments in self.resolutions:
            require(segments >= 2, f"`resolutions` must each be at least 2, got {segments}")
        require(self.compactness > 0, f"`compactness` must be above 0, got {self.compactness}")

    @property
    def name(self) -> str:
        """``slic`` with its parameters."""
        return identity("slic", self)

    def __call__(self, image: Float32) -> list[Bool]:
        """Return the superpixels, those of the first resolution first."""
        segments: list[Bool] = []
        for number in self.resolutions:
            labels = superpixels(image, segments=number, compactness=self.compactness)
            segments += [labels == label for label in range(int(labels.max()) + 1)]
        return segments


def distinct(masks: Sequence[Bool], *, overlap: float) -> list[int]:
    """Return the indices of the masks that are like none before them, in order.

    Greedy: a mask goes where its intersection over union with one that stays is more than
    ``overlap``. With masks sorted by a score that is non-maximum suppression.

    Args:
        masks: bool, all of one shape.
        overlap: from 0, at which masks that touch are alike, to 1, at which none are.
    """
    kept: list[int] = []
    if not masks:
        return kept
    # Bits instead of bytes: a set of masks is compared with thousands of others.
    bits = np.stack([np.packbits(mask) for mask in masks])
    sizes = np.array([np.count_nonzero(mask) for mask in masks])
    for index, size in enumerate(sizes):
        shared = np.bitwise_count(bits[kept] & bits[index]).sum(axis=1, dtype=np.int64)
        union = sizes[kept] + size - shared
        if not (shared > overlap * union).any():
            kept.append(index)
    return kept
