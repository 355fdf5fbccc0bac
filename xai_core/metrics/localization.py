"""Does the heatmap lie on the object?"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import numpy as np

from xai_core.arrays import ArrayLike, Bool, Float32, Float64, as_heatmaps, as_masks
from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.metrics.declaration import metric
from xai_core.metrics.ranking import descending_ranks

_BINARIZATION = r"^(otsu|top=mask|fraction=(0?\.\d*[1-9]\d*|1(\.0*)?))$"
_BINARIZATIONS = "'otsu', 'top=mask' or 'fraction=f' with 0 < f <= 1, e.g. 'fraction=0.5'"

Binarization = Annotated[str, msgspec.Meta(pattern=_BINARIZATION, description=_BINARIZATIONS)]
"""``"otsu"``, ``"top=mask"`` or ``"fraction=f"``."""

Tolerance = Annotated[int, msgspec.Meta(ge=0)]


@metric(better="higher", range=(0, 1), source="Jaccard 1912; heatmap against mask")
def iou(heatmaps: Float32, masks: Bool, *, binarize: Binarization = "otsu") -> Float64:
    """Share of the union of binarised heatmap B and mask M that both cover.

    |B and M| / |B or M|; an empty B gives 0.

    >>> iou([[0.0, 1.0, 9.0, 8.0]], [[0, 0, 0, 1]])
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        binarize: see `xai_core.metrics.localization.binarize`.
    """
    binary = _binarized(heatmaps, binarize, masks)
    return _count(binary & masks) / _count(binary | masks)


@metric(better="higher", range=(0, 1), source="heatmap as a detector of the mask's pixels")
def precision(heatmaps: Float32, masks: Bool, *, binarize: Binarization = "otsu") -> Float64:
    """Share of the binarised heatmap B that lies in the mask M.

    |B and M| / |B|; an empty B gives 0.

    >>> precision([[0.0, 1.0, 9.0, 8.0]], [[0, 0, 0, 1]])
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        binarize: see `xai_core.metrics.localization.binarize`.
    """
    binary = _binarized(heatmaps, binarize, masks)
    return _count(binary & masks) / np.maximum(_count(binary), 1)


@metric(better="higher", range=(0, 1), source="heatmap as a detector of the mask's pixels")
def recall(heatmaps: Float32, masks: Bool, *, binarize: Binarization = "otsu") -> Float64:
    """Share of the mask M that the binarised heatmap B covers.

    |B and M| / |M|; an empty B gives 0.

    >>> recall([[0.0, 1.0, 9.0, 8.0]], [[0, 0, 0, 1]])
    array([1.])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        binarize: see `xai_core.metrics.localization.binarize`.
    """
    binary = _binarized(heatmaps, binarize, masks)
    return _count(binary & masks) / _count(masks)


@metric(version="zhang-2016", better="higher", range=(0, 1), source="Zhang 2016, Excitation BP")
def pointing_game(heatmaps: Float32, masks: Bool, *, tolerance: Tolerance = 15) -> Float64:
    """1 if the maximum lies within the mask grown by ``tolerance`` pixels, else 0.

    Grown means at a Euclidean distance <= tolerance from a pixel of the mask: the disc of that
    radius around the maximum meets the mask. (TorchRay asks for a distance < tolerance.) Where
    several pixels share the maximum, the value is the share of them that hit. The tolerance is
    in pixels of the map given: 15 px are 7% of a side of 224 px, but 23% of one of 64 px.

    >>> pointing_game([[0.0, 0.0, 9.0, 0.0]], [[1, 0, 0, 0]], tolerance=1)
    array([0.])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        tolerance: pixels.
    """
    from scipy.ndimage import distance_transform_edt

    shares = np.empty(len(heatmaps))
    for index, (heatmap, mask) in enumerate(zip(heatmaps, masks, strict=True)):
        distances = distance_transform_edt(~mask)
        shares[index] = np.mean(distances[heatmap == heatmap.max()] <= tolerance)
    return shares


@metric(version="wang-2020", better="higher", range=(0, 1), source="Wang 2020, Score-CAM")
def energy_pointing_game(heatmaps: Float32, masks: Bool) -> Float64:
    """Share of the positive relevance that lies in the mask.

    Sum of max(h, 0) over the mask / sum of max(h, 0) over the map; chance level is the area
    share of the mask.

    >>> energy_pointing_game([[1.0, 3.0, -5.0]], [[0, 1, 1]])
    array([0.75])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.

    Raises:
        UndefinedMeasurementError: a heatmap without positive relevance.
    """
    positive = np.maximum(heatmaps, 0).astype(np.float64)
    everywhere = positive.sum(axis=(1, 2))
    if not everywhere.all():
        why = "the heatmap has no positive relevance"
        raise UndefinedMeasurementError({int(i): why for i in np.flatnonzero(everywhere == 0)})
    shares: Float64 = (positive * masks).sum(axis=(1, 2)) / everywhere
    return shares


def binarize(heatmaps: ArrayLike, method: str = "otsu", masks: ArrayLike | None = None) -> Bool:
    """Return the pixels ``[N, H, W]`` that count as relevant.

    ``"otsu"``: above Otsu's threshold of the map's own values, 256 bins, no scaling before; a
    constant map has none. ``"fraction=f"``: at least f x the map's maximum; a map whose maximum
    is not positive has none. ``"top=mask"``: exactly as many as the mask has, the most relevant
    first, equal ones in reading order.

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
