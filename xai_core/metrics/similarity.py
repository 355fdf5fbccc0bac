"""How alike two heatmaps are."""

from __future__ import annotations

import numpy as np

from xai_core.arrays import Float32, Float64
from xai_core.errors import ShapeError
from xai_core.postprocess import MinMax


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

    side = min(first.shape[-2:])
    if side < 3:
        msg = f"heatmaps of {first.shape[-2]} x {first.shape[-1]}: SSIM needs at least 3 x 3 pixels"
        raise ShapeError(msg)
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
    pairs = zip(first, second, strict=True)
    return np.array(
        [np.corrcoef(_average_ranks(a), _average_ranks(b))[0, 1] for a, b in pairs],
        dtype=np.float64,
    )


def _average_ranks(values: Float32) -> Float64:
    # scipy.stats.rankdata does the same, but scipy.stats takes seconds to import.
    _, place, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    averages: Float64 = last - (counts - 1) / 2
    return averages[place]
