"""Do the heatmap's most relevant pixels, or most of its relevance, lie on the object?

No threshold of the map's values is chosen: everything here reads maxima, ranks or sums. Each
number has a chance level, what a map of noise would get; it grows with the object.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from xai_core.arrays import Bool, Float32, Float64, Int64
from xai_core.errors import UndefinedMeasurementError
from xai_core.metrics.declaration import metric
from xai_core.metrics.regions import Region, regions

Tolerance = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


@metric(version="zhang-2016", better="higher", range=(0, 1), source="Zhang 2016, Excitation BP")
def pointing_game(
    heatmaps: Float32, masks: Bool, *, tolerance: Tolerance = 15, region: Region = "mask"
) -> Float64:
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
        region: what is grown, the ``"mask"`` or its ``"box"``; see
            `xai_core.metrics.regions.regions`.
    """
    from scipy.ndimage import distance_transform_edt

    shares = np.empty(len(heatmaps))
    for index, (heatmap, mask) in enumerate(zip(heatmaps, regions(masks, region), strict=True)):
        distances = distance_transform_edt(~mask)
        shares[index] = np.mean(distances[heatmap == heatmap.max()] <= tolerance)
    return shares


@metric(version="wang-2020", better="higher", range=(0, 1), source="Wang 2020, Score-CAM")
def energy_pointing_game(heatmaps: Float32, masks: Bool, *, region: Region = "mask") -> Float64:
    """Share of the positive relevance that lies in the mask.

    Sum of max(h, 0) over the mask / sum of max(h, 0) over the map; chance level is the area
    share of the mask. The paper's own regions are boxes (``region="box"``); with masks it is
    the relevance mass accuracy of Arras 2022.

    >>> energy_pointing_game([[1.0, 3.0, -5.0]], [[0, 1, 1]])
    array([0.75])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        region: what counts as the mask, the ``"mask"`` or its ``"box"``; see
            `xai_core.metrics.regions.regions`.

    Raises:
        UndefinedMeasurementError: a heatmap without positive relevance.
    """
    return positive_share(heatmaps, regions(masks, region))


@metric(version="arras-2022", better="higher", range=(0, 1), source="Arras 2022, CLEVR-XAI")
def relevance_rank(heatmaps: Float32, masks: Bool, *, region: Region = "mask") -> Float64:
    """Share of the most relevant pixels, as many as the mask has, that lie in the mask.

    |top and M| / |M| with |top| = |M|; chance level is the area share of the mask. Where the last
    places fall among equal pixels, each of those is as likely to get one: the value is the mean
    over all their orders, so that no map gains from where its pixels stand. (The order that
    ``binarize="top=mask"`` takes is the reading order.)

    >>> relevance_rank([[9.0, 5.0, 5.0, 0.0]], [[1, 1, 0, 0]])
    array([0.75])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        region: what counts as M, the ``"mask"`` or its ``"box"``; see
            `xai_core.metrics.regions.regions`.
    """
    wanted = regions(masks, region)
    sizes = wanted.sum(axis=(1, 2))
    shares: Float64 = _expected_hits(heatmaps, wanted, sizes) / sizes
    return shares


@metric(better="higher", range=(0, 1), source="after Theiner 2021, TopK intersection")
def top_k_intersection(
    heatmaps: Float32, masks: Bool, *, share: Share = 0.02, region: Region = "mask"
) -> Float64:
    """Share of the k most relevant pixels that lie in the mask, of as many as it has room for.

    |top and M| / min(k, |M|), |top| = k = share H W, rounded and at least 1: divided by k alone, a
    mask smaller than k could never reach 1. Chance level is max(k, |M|) / (H W). Equal pixels count
    as in `relevance_rank`, which is the case k = |M|. The default is 1004 pixels of 224 x 224.

    >>> top_k_intersection([[9.0, 8.0, 7.0, 0.0]], [[0, 1, 1, 1]], share=0.5)
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        share: of the image's pixels that are taken, above 0, at most 1.
        region: what counts as M, the ``"mask"`` or its ``"box"``; see
            `xai_core.metrics.regions.regions`.
    """
    wanted = regions(masks, region)
    count = max(round(share * heatmaps[0].size), 1)
    hits = _expected_hits(heatmaps, wanted, np.full(len(wanted), count))
    shares: Float64 = hits / np.minimum(wanted.sum(axis=(1, 2)), count)
    return shares


@metric(better="higher", range=(0, 1), source="heatmap as a classifier of the mask's pixels")
def pixel_ap(heatmaps: Float32, masks: Bool, *, region: Region = "mask") -> Float64:
    """Average precision of the heatmap as a classifier of the mask's pixels.

    sum over n of (R_n - R_(n-1)) P_n, with precision P_n and recall R_n of the pixels at or
    above the n-th largest value of the map: no interpolation, equal pixels enter together.
    Chance level is the area share of the mask.

    >>> pixel_ap([[9.0, 8.0, 7.0, 0.0]], [[1, 0, 1, 0]])
    array([0.83333333])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        region: what counts as the mask, the ``"mask"`` or its ``"box"``; see
            `xai_core.metrics.regions.regions`.
    """
    return np.array(
        [
            _average_precision(heatmap.ravel(), mask.ravel())
            for heatmap, mask in zip(heatmaps, regions(masks, region), strict=True)
        ],
        dtype=np.float64,
    )


def positive_share(heatmaps: Float32, places: Bool) -> Float64:
    """Return the share of each map's positive relevance that lies in ``places``.

    Args:
        heatmaps: ``[N, H, W]``.
        places: ``[N, H, W]``.

    Raises:
        UndefinedMeasurementError: a heatmap without positive relevance.
    """
    positive = np.maximum(heatmaps, 0).astype(np.float64)
    everywhere = positive.sum(axis=(1, 2))
    if not everywhere.all():
        why = "the heatmap has no positive relevance"
        raise UndefinedMeasurementError({int(i): why for i in np.flatnonzero(everywhere == 0)})
    shares: Float64 = (positive * places).sum(axis=(1, 2)) / everywhere
    return shares


def _expected_hits(heatmaps: Float32, masks: Bool, counts: Int64) -> Float64:
    """Return how many of each map's ``counts`` most relevant pixels lie in its mask.

    The mean over all orders of equal pixels: what is left of the count when all that are more
    relevant have their places falls on the pixels that share the next value.
    """
    hits = np.empty(len(heatmaps))
    for index, (heatmap, mask, count) in enumerate(zip(heatmaps, masks, counts, strict=True)):
        lowest = np.partition(heatmap, -count, axis=None)[-count]
        above, tied = heatmap > lowest, heatmap == lowest
        hits[index] = (above & mask).sum() + (count - above.sum()) * mask[tied].mean()
    return hits


def _average_precision(relevance: Float32, wanted: Bool) -> float:
    order = np.argsort(-relevance, kind="stable")
    ordered = relevance[order]
    last_of_its_value = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    hits = np.cumsum(wanted[order])[last_of_its_value]
    precisions = hits / (last_of_its_value + 1)
    recalls = hits / hits[-1]
    return float(np.sum(np.diff(recalls, prepend=0.0) * precisions))
