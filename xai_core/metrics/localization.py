"""Does the part of the heatmap that counts as relevant cover the object?

Every metric here makes the heatmap binary first; those that do not are in
`xai_core.metrics.pointing`.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import numpy as np

from xai_core.arrays import ArrayLike, Bool, Float32, Float64, as_heatmaps, as_masks
from xai_core.errors import ParameterError, ShapeError
from xai_core.metrics.declaration import metric
from xai_core.metrics.ranking import descending_ranks
from xai_core.metrics.regions import Region, regions

_BINARIZATION = r"^(otsu|top=mask|fraction=(0?\.\d*[1-9]\d*|1(\.0*)?))$"
_BINARIZATIONS = "'otsu', 'top=mask' or 'fraction=f' with 0 < f <= 1, e.g. 'fraction=0.5'"

Binarization = Annotated[str, msgspec.Meta(pattern=_BINARIZATION, description=_BINARIZATIONS)]
"""``"otsu"``, ``"top=mask"`` or ``"fraction=f"``."""


@metric(better="higher", range=(0, 1), source="Jaccard 1912; heatmap against mask")
def iou(
    heatmaps: Float32, masks: Bool, *, binarize: Binarization = "otsu", region: Region = "mask"
) -> Float64:
    """Share of the union of binarised heatmap B and mask M that both cover.

    |B and M| / |B or M|; an empty B gives 0.

    >>> iou([[0.0, 1.0, 9.0, 8.0]], [[0, 0, 0, 1]])
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        binarize: see `xai_core.metrics.localization.binarize`.
        region: what counts as M, the ``"mask"`` or its ``"box"``; see
            `xai_core.metrics.regions.regions`.
    """
    binary, masks = _pair(heatmaps, masks, binarize, region)
    return _count(binary & masks) / _count(binary | masks)


@metric(better="higher", range=(0, 1), source="Dice 1945; heatmap against mask")
def dice(
    heatmaps: Float32, masks: Bool, *, binarize: Binarization = "otsu", region: Region = "mask"
) -> Float64:
    """Twice what binarised heatmap B and mask M share, over the sum of their sizes.

    2 |B and M| / (|B| + |M|), which is the harmonic mean of precision and recall; an empty B
    gives 0.

    >>> dice([[0.0, 1.0, 9.0, 8.0]], [[0, 1, 1, 0]])
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        binarize: see `xai_core.metrics.localization.binarize`.
        region: what counts as M, the ``"mask"`` or its ``"box"``; see
            `xai_core.metrics.regions.regions`.
    """
    binary, masks = _pair(heatmaps, masks, binarize, region)
    return 2 * _count(binary & masks) / (_count(binary) + _count(masks))


@metric(better="higher", range=(0, 1), source="heatmap as a detector of the mask's pixels")
def precision(
    heatmaps: Float32, masks: Bool, *, binarize: Binarization = "otsu", region: Region = "mask"
) -> Float64:
    """Share of the binarised heatmap B that lies in the mask M.

    |B and M| / |B|; an empty B gives 0.

    >>> precision([[0.0, 1.0, 9.0, 8.0]], [[0, 0, 0, 1]])
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        binarize: see `xai_core.metrics.localization.binarize`.
        region: what counts as M, the ``"mask"`` or its ``"box"``; see
            `xai_core.metrics.regions.regions`.
    """
    binary, masks = _pair(heatmaps, masks, binarize, region)
    return _count(binary & masks) / np.maximum(_count(binary), 1)


@metric(better="higher", range=(0, 1), source="heatmap as a detector of the mask's pixels")
def recall(
    heatmaps: Float32, masks: Bool, *, binarize: Binarization = "otsu", region: Region = "mask"
) -> Float64:
    """Share of the mask M that the binarised heatmap B covers.

    |B and M| / |M|; an empty B gives 0.

    >>> recall([[0.0, 1.0, 9.0, 8.0]], [[0, 0, 0, 1]])
    array([1.])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        binarize: see `xai_core.metrics.localization.binarize`.
        region: what counts as M, the ``"mask"`` or its ``"box"``; see
            `xai_core.metrics.regions.regions`.
    """
    binary, masks = _pair(heatmaps, masks, binarize, region)
    return _count(binary & masks) / _count(masks)


def binarize(heatmaps: ArrayLike, method: str = "otsu", masks: ArrayLike | None = None) -> Bool:
    """Return the pixels ``[N, H, W]`` that count as relevant.

    ``"otsu"``: above Otsu's threshold of the map's own values, 256 bins, no scaling before; a
    constant map has none. ``"fraction=f"``: at least f x the map's maximum; a map whose maximum
    is not positive has none. ``"top=mask"``: exactly as many as the mask (or box) has, the most
    relevant first, equal ones in reading order.

    >>> binarize([[0.0, 2.0, 1.0, -3.0]], "fraction=0.5").tolist()
    [[[False, True, True, False]]]

    Args:
        heatmaps: ``[N, H, W]`` or ``[H, W]``.
        method: as above.
        masks: same shape, for ``"top=mask"``.

    Raises:
        ParameterError: another method, or ``"top=mask"`` without masks.
        ShapeError: values not finite, or masks of another shape.
    """
    heatmaps = as_heatmaps(heatmaps)
    if not np.isfinite(heatmaps).all():
        msg = "heatmaps: expected finite values, got NaN or infinity"
        raise ShapeError(msg)
    if not re.fullmatch(_BINARIZATION, method):
        msg = f"binarize: expected {_BINARIZATIONS}, got {method!r}"
        raise ParameterError(msg)
    if method == "otsu":
        return _above_otsu(heatmaps)
    if method == "top=mask":
        if masks is None:
            msg = "binarize: 'top=mask' needs the masks, got None"
            raise ParameterError(msg)
        masks = as_masks(masks)
        if masks.shape != heatmaps.shape:
            msg = f"masks: expected the heatmaps' shape {heatmaps.shape}, got {masks.shape}"
            raise ShapeError(msg)
        ranked: Bool = descending_ranks(heatmaps) < masks.sum(axis=(1, 2), keepdims=True)
        return ranked
    maxima = heatmaps.max(axis=(1, 2), keepdims=True).astype(np.float64)
    share = float(method.removeprefix("fraction="))
    reached: Bool = (heatmaps >= share * maxima) & (maxima > 0)
    return reached


_binarized = binarize  # the metrics' setting has the same name


def _pair(heatmaps: Float32, masks: Bool, binarize: str, region: Region) -> tuple[Bool, Bool]:
    """Return the binarised heatmaps and what they are held against."""
    wanted = regions(masks, region)
    return _binarized(heatmaps, binarize, wanted), wanted


def _above_otsu(heatmaps: Float32) -> Bool:
    from skimage.filters import threshold_otsu

    # In float64: 256 bins do not fit between two neighbouring float32 values.
    precise = heatmaps.astype(np.float64)
    thresholds = [threshold_otsu(heatmap) for heatmap in precise]
    above: Bool = precise > np.array(thresholds)[:, None, None]
    return above


def _count(pixels: Bool) -> Float64:
    counts: Float64 = pixels.sum(axis=(1, 2), dtype=np.float64)
    return counts
