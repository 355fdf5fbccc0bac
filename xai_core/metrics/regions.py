"""Which pixels count as the object: its mask, or the boxes around the mask's parts."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from xai_core.arrays import Bool
from xai_core.errors import UndefinedMeasurementError

Region = Literal["mask", "box"]
"""See `regions`."""


def regions(masks: Bool, region: Region) -> Bool:
    """Return the pixels ``[N, H, W]`` that count as the object.

    ``"mask"``: the mask itself. ``"box"``: the upright bounding boxes of its connected parts
    (pixels that share a side or a corner), all of them together.

    >>> regions(np.array([[[1, 1, 0], [0, 1, 0]]], dtype=bool), "box")[0].astype(int).tolist()
    [[1, 1, 0], [1, 1, 0]]

    Args:
        masks: ``[N, H, W]``, none empty.
        region: as above.

    Raises:
        UndefinedMeasurementError: boxes that cover the whole image.
    """
    if region == "mask":
        return masks
    from scipy.ndimage import find_objects

    boxes = np.zeros_like(masks)
    for box, mask in zip(boxes, masks, strict=True):
        for slices in find_objects(connected_parts(mask)):
            box[slices] = True
    reasons = {
        int(index): "the boxes around the mask cover the whole image, so any heatmap lies on them"
        for index in np.flatnonzero(boxes.all(axis=(1, 2)))
    }
    if reasons:
        raise UndefinedMeasurementError(reasons)
    return boxes


def connected_parts(mask: Bool) -> npt.NDArray[np.int32]:
    """Return for every pixel of a mask ``[H, W]`` the number of its part, from 1; 0 outside.

    Pixels that share a side or a corner belong to one part.
    """
    from scipy.ndimage import label

    parts: npt.NDArray[np.int32] = label(mask, structure=np.ones((3, 3)))[0]
    return parts
