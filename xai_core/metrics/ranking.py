"""Which pixels come first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xai_core.arrays import Bool, Float32


def descending_ranks(heatmaps: Float32) -> npt.NDArray[np.int32]:
    """Return every pixel's place in its map, 0 = most relevant; equal pixels in reading order.

    >>> descending_ranks(np.float32([[[1, 9], [9, 3]]])).tolist()
    [[[3, 0], [1, 2]]]

    Args:
        heatmaps: ``[N, H, W]``.
    """
    flat = heatmaps.reshape(len(heatmaps), -1)
    order = np.argsort(-flat, axis=1, kind="stable")
    ranks = np.empty(flat.shape, dtype=np.int32)
    places = np.broadcast_to(np.arange(flat.shape[1], dtype=np.int32), flat.shape)
    np.put_along_axis(ranks, order, places, axis=1)
    return ranks.reshape(heatmaps.shape)


def most_relevant(heatmaps: Float32, share: float) -> Bool:
    """Return which pixels are among the ``share`` of the most relevant ones of their map.

    Above the first value that is not among them, so that tied pixels are in or out together; none
    where more than that share are a map's maximum.

    >>> most_relevant(np.float32([[[1, 9], [9, 3]]]), 0.25).any()
    np.False_

    Args:
        heatmaps: ``[N, H, W]``.
        share: above 0 and below 1; it makes at least one pixel, and never all.
    """
    flat = heatmaps.reshape(len(heatmaps), -1)
    count = min(max(1, round(share * flat.shape[1])), flat.shape[1] - 1)
    first_left_out = np.partition(flat, -count - 1, axis=1)[:, -count - 1]
    relevant: Bool = heatmaps > first_left_out[:, None, None]
    return relevant
