"""Are all the objects found, where an image shows several?"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from xai_core.arrays import Bool, Float32, Float64
from xai_core.metrics.declaration import metric
from xai_core.metrics.localization import Binarization
from xai_core.metrics.localization import binarize as binarized
from xai_core.metrics.regions import connected_parts

Overlap = Annotated[float, msgspec.Meta(gt=0, le=1)]
Pixels = Annotated[int, msgspec.Meta(ge=1)]


@metric(better="higher", range=(0, 1), source="recall of objects; heatmap against mask")
def objects_found(
    heatmaps: Float32,
    masks: Bool,
    *,
    binarize: Binarization = "otsu",
    overlap: Overlap = 0.5,
    min_size: Pixels = 16,
) -> Float64:
    """Share of the mask's objects that the binarised heatmap covers well enough.

    #{O : |B and O| / |O| >= overlap} / #{O}. The objects O are the connected parts of the mask
    (pixels that share a side or a corner) of at least ``min_size`` pixels; where none is that
    large, the largest ones. A map that covers the whole image finds everything: read `precision`
    beside it. Objects that touch are one, because a mask does not tell them apart.

    >>> objects_found([[9.0, 8.0, 0.0, 1.0]], [[1, 1, 0, 1]], min_size=1)
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        binarize: see `xai_core.metrics.localization.binarize`.
        overlap: share of an object that must be covered, above 0, at most 1.
        min_size: pixels; smaller parts of the mask are specks, not objects.
    """
    shares = np.empty(len(masks))
    covered = binarized(heatmaps, binarize, masks)
    for index, (binary, mask) in enumerate(zip(covered, masks, strict=True)):
        parts = connected_parts(mask)
        sizes = np.bincount(parts.ravel())[1:]
        reached = np.bincount(parts[binary], minlength=len(sizes) + 1)[1:]
        counted = sizes >= min(min_size, sizes.max())
        shares[index] = np.mean(reached[counted] / sizes[counted] >= overlap)
    return shares
