"""Superpixels: an image cut into parts of like colour."""

from __future__ import annotations

import numpy as np

from xai_core.arrays import Float32, Int64


def superpixels(image: Float32, *, segments: int, compactness: float) -> Int64:
    """Return the superpixel of every pixel by SLIC [Achanta 2012], ``[H, W]``, from 0 upwards.

    On noise, colour tears superpixels apart until SLIC merges them all into one; where it finds
    fewer than half of ``segments``, it is run again with ten times the compactness.

    Args:
        image: RGB in [0, 1], ``[3, H, W]``.
        segments: about how many.
        compactness: how much nearness counts against likeness of colour.
    """
    from skimage.segmentation import slic

    pixels = image.transpose(1, 2, 0).astype(np.float64)
    for factor in (1, 10, 100, 1000):
        labels = slic(pixels, n_segments=segments, compactness=compactness * factor, start_label=0)
        names, contiguous = np.unique(labels, return_inverse=True)
        if 2 * len(names) >= segments:
            break
    return contiguous.reshape(labels.shape).astype(np.int64)
