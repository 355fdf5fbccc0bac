"""Which of many predicted masks are segments: points of a grid, quality filters, suppression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xai_core.arrays import Bool, Float32, Float64
from xai_core.concepts.segmenter import distinct
from xai_core.parameters import require


@dataclass(frozen=True)
class MaskGeneration:
    """How all segments of an image are found; the defaults are Segment Anything's.

    Attributes:
        points: of the grid along each side.
        points_per_pass: points that are decoded at once.
        iou_above: the model's own estimate of a mask's quality must lie above.
        stability_above: a mask's stability must lie above; see `stability`.
        stability_offset: by which the mask's threshold of 0 is moved for it, in logits.
        overlap: intersection over union of two masks above which only the one of higher
            estimated quality stays. Of the masks themselves, where the authors' program takes
            their bounding boxes: crossing stripes have alike boxes and are different things.

    Raises:
        ParameterError: a value out of range.
    """

    points: int = 32
    points_per_pass: int = 64
    iou_above: float = 0.88
    stability_above: float = 0.95
    stability_offset: float = 1.0
    overlap: float = 0.7

    def __post_init__(self) -> None:
        for name in ("points", "points_per_pass"):
            value = getattr(self, name)
            require(value >= 1, f"`{name}` must be at least 1, got {value}")
        require(
            0 <= self.stability_above < 1,
            f"`stability_above` must be from 0 to below 1, got {self.stability_above}",
        )
        require(
            self.stability_offset > 0,
            f"`stability_offset` must be above 0, got {self.stability_offset}",
        )
        require(0 <= self.overlap <= 1, f"`overlap` must be from 0 to 1, got {self.overlap}")


def point_grid(points: int, *, height: int, width: int) -> Float64:
    """Return the x and y of the middles of ``points`` x ``points`` cells, ``[points ** 2, 2]``.

    >>> point_grid(2, height=4, width=8).tolist()
    [[2.0, 1.0], [6.0, 1.0], [2.0, 3.0], [6.0, 3.0]]

    Args:
        points: along each side.
        height: of the image in pixels.
        width: of the image in pixels.
    """
    middles = (np.arange(points) + 0.5) / points
    y, x = np.meshgrid(middles * height, middles * width, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def stability(logits: Float32, offset: float) -> Float64:
    """Return how little masks depend on their threshold, in [0, 1], float64 ``[M]``.

    The intersection over union of the masks ``logits > offset`` and ``logits > -offset``; 0
    where both are empty [Kirillov 2023].

    Args:
        logits: ``[M, H, W]``.
        offset: above 0.
    """
    inner = np.count_nonzero(logits > offset, axis=(1, 2))
    outer = np.count_nonzero(logits > -offset, axis=(1, 2))
    shares: Float64 = np.divide(inner, outer, out=np.zeros(len(logits)), where=outer > 0)
    return shares


def stable_masks(
    logits: Float32, qualities: Float64, generation: MaskGeneration
) -> tuple[list[Bool], list[float]]:
    """Return the masks that pass both filters and are not empty, with their qualities, in order.

    Args:
        logits: a mask is where they are above 0, ``[M, H, W]``.
        qualities: the model's estimates of the masks' IoU with what they show, ``[M]``.
        generation: the filters.
    """
    kept = qualities > generation.iou_above
    kept &= stability(logits, generation.stability_offset) > generation.stability_above
    masks = logits > 0
    kept &= masks.any(axis=(1, 2))
    return [masks[i] for i in np.flatnonzero(kept)], qualities[kept].tolist()


def suppressed(masks: list[Bool], qualities: list[float], *, overlap: float) -> list[Bool]:
    """Return the masks that no better one overlaps too much, the best first, ties in order."""
    order = np.argsort(-np.array(qualities), kind="stable").tolist()
    ranked = [masks[index] for index in order]
    return [ranked[index] for index in distinct(ranked, overlap=overlap)]
