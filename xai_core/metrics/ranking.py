"""Which pixels come first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xai_core.arrays import Float32


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
