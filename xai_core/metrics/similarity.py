"""How alike two heatmaps are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from xai_core.arrays import Float32, Float64
from xai_core.errors import ShapeError
from xai_core.postprocess import MinMax

Similarity = Literal["spearman", "spearman_abs", "ssim", "hog"]
"""The similarities by name; all are 1 for equal maps and at least -1."""

_HOG_CELLS = 14


def ssim(first: Float32, second: Float32) -> Float64:
    """Return the structural similarity of maps in two dimensions, each scaled to [0, 1].

    scikit-image's defaults: a flat window of 7 px (the largest odd size that fits a smaller
    map), sample covariance, data range 1 [Wang 2004].

    Args:
        first: ``[N, H, W]``, no map constant.
        second: same shape.

    Raises:
        ShapeError: a side is below 3 px.
    """
    from skimage.metrics import structural_similarity

    side = _smallest_side(first, "SSIM")
    window = min(7, side - 1 + side % 2)
    pairs = zip(MinMax()(first), MinMax()(second), strict=True)
    return np.array(
        [
            structural_similarity(
                a.astype(np.float64), b.astype(np.float64), win_size=window, data_range=1.0
            )
            for a, b in pairs
        ],
        dtype=np.float64,
    )


def spearman(first: Float32, second: Float32) -> Float64:
    """Return the rank correlation of the pixels of maps, tied pixels with their average rank.

    Args:
        first: ``[N, H, W]``, no map constant.
        second: same shape.
    """
    return _correlations(_average_ranks, first, second)


def spearman_abs(first: Float32, second: Float32) -> Float64:
    """Return the rank correlation of the size of the pixels of maps, whatever their sign.

    `spearman` of |h| [Adebayo 2018]. For maps without negative values the two are one.

    Args:
        first: ``[N, H, W]``, no |h| constant.
        second: same shape.
    """
    return _correlations(lambda heatmap: _average_ranks(np.abs(heatmap)), first, second)


def hog(first: Float32, second: Float32) -> Float64:
    """Return the correlation (Pearson) of the maps' histograms of oriented gradients.

    Each map is scaled to [0, 1] [Adebayo 2018]. scikit-image's descriptor [Dalal & Triggs 2005]
    with 9 orientations and blocks of 3 x 3 cells; a cell is a square of a 14th of the shorter
    side, which is 16 px of 224. NaN where a map has no gradient: its descriptor is zero.

    Args:
        first: ``[N, H, W]``, no map constant.
        second: same shape.

    Raises:
        ShapeError: a side is below 3 px.
    """
    _smallest_side(first, "HOG")
    return _correlations(_gradient_histograms, MinMax()(first), MinMax()(second))


SIMILARITIES: dict[Similarity, Callable[[Float32, Float32], Float64]] = {
    "spearman": spearman,
    "spearman_abs": spearman_abs,
    "ssim": ssim,
    "hog": hog,
}
"""The functions by name."""


def _smallest_side(heatmaps: Float32, what: str) -> int:
    height, width = heatmaps.shape[-2:]
    if min(height, width) < 3:
        msg = f"heatmaps of {height} x {width}: {what} needs at least 3 x 3 pixels"
        raise ShapeError(msg)
    return int(min(height, width))


def _correlations(
    features: Callable[[Float32], Float64], first: Float32, second: Float32
) -> Float64:
    """Return the correlation of the features of every two maps; NaN where some are constant."""
    pairs = ((features(a), features(b)) for a, b in zip(first, second, strict=True))
    return np.array(
        [np.corrcoef(a, b)[0, 1] if np.ptp(a) > 0 and np.ptp(b) > 0 else np.nan for a, b in pairs],
        dtype=np.float64,
    )


def _average_ranks(values: Float32) -> Float64:
    # scipy.stats.rankdata does the same, but scipy.stats takes seconds to import.
    _, place, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    averages: Float64 = last - (counts - 1) / 2
    return averages[place]


def _gradient_histograms(heatmap: Float32) -> Float64:
    from skimage.feature import hog as descriptor

    cell = max(1, min(heatmap.shape) // _HOG_CELLS)
    histograms: Float64 = descriptor(heatmap.astype(np.float64), pixels_per_cell=(cell, cell))
    return histograms
