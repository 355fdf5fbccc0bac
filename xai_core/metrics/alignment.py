"""Does the heatmap look where a concept is?

A concept map says where in the image a layer sees an idea that is given by example images
(stripes, fur, a watermark), whatever the class; it takes the place that a mask has in
localization. Each number has a chance level, what a map that never looked would get, so compare
with the null maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from xai_core.arrays import Bool, Float32, Float64
from xai_core.errors import UndefinedMeasurementError
from xai_core.metrics.changed_maps import of_shape
from xai_core.metrics.declaration import metric, unusable_heatmaps
from xai_core.metrics.localization import Binarization, binarize
from xai_core.metrics.pointing import positive_share
from xai_core.metrics.similarity import spearman

ConceptName = Annotated[
    str, msgspec.Meta(min_length=1, description="the name of a concept, e.g. 'striped'")
]
"""The name of a concept; required."""

Extent = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(otsu|fraction=(0?\.\d*[1-9]\d*|1(\.0*)?))$",
        description="'otsu' or 'fraction=f' with 0 < f <= 1, e.g. 'fraction=0.5'",
    ),
]
"""Where the concept is: ``"otsu"`` or ``"fraction=f"`` of its map; see
`xai_core.metrics.localization.binarize`."""

_binarized = binarize  # the metric's setting has the same name


@metric(better="higher", range=(0, 1), source="Jaccard 1912; heatmap against concept map")
def concept_iou(
    heatmaps: Float32,
    concept_maps_of: Callable[[str, str], Float32],
    *,
    concept: ConceptName = "",
    layer: str = "",
    binarize: Binarization = "otsu",
    extent: Extent = "otsu",
) -> Float64:
    """Share of the union of binarised heatmap B and concept region C that both cover.

    |B and C| / |B or C|, as `xai_core.metrics.iou` with the concept's region for the mask;
    ``"top=mask"`` takes as many pixels as the region has. ``concept`` has no default.

    >>> concept_iou([[0.0, 1.0, 9.0, 8.0]], lambda *_: [[0.0, 0.0, 0.1, 0.9]], concept="striped")
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
        concept_maps_of: the names of a concept and a layer to its maps of the same images,
            ``[N, H, W]``.
        concept: the concept's name.
        layer: the layer's name; ``""`` = the classifier's default one.
        binarize: what counts as relevant; see `xai_core.metrics.localization.binarize`.
        extent: which part of the concept map counts as C.

    Raises:
        ParameterError: no ``concept``.
        UndefinedMeasurementError: the concept map is zero everywhere, constant or not finite, or
            C is the whole image.
        ShapeError: ``concept_maps_of`` gives maps of another shape.
    """
    places = _regions(concept_maps_of, concept, layer, extent, heatmaps.shape)
    relevant = _binarized(heatmaps, binarize, places)
    shares: Float64 = (relevant & places).sum(axis=(1, 2)) / (relevant | places).sum(axis=(1, 2))
    return shares


@metric(better="higher", range=(-1, 1), source="Spearman 1904; heatmap against concept map")
def concept_correlation(
    heatmaps: Float32,
    concept_maps_of: Callable[[str, str], Float32],
    *,
    concept: ConceptName = "",
    layer: str = "",
) -> Float64:
    """Rank correlation of the pixels of the heatmap and of the concept map.

    Spearman's, tied pixels with their average rank; chance level is 0. ``concept`` has no default.

    >>> import numpy as np
    >>> concept_correlation(np.eye(3), lambda *_: 1 - np.eye(3), concept="striped").round(6)
    array([-1.])

    Args:
        heatmaps: ``[N, H, W]``.
        concept_maps_of: the names of a concept and a layer to its maps of the same images,
            ``[N, H, W]``.
        concept: the concept's name.
        layer: the layer's name; ``""`` = the classifier's default one.

    Raises:
        ParameterError: no ``concept``.
        UndefinedMeasurementError: the concept map is zero everywhere, constant or not finite.
        ShapeError: ``concept_maps_of`` gives maps of another shape.
    """
    return spearman(heatmaps, _usable(concept_maps_of, concept, layer, heatmaps.shape))


@metric(
    better="higher", range=(0, 1), source="energy pointing game (Wang 2020) of a concept's region"
)
def concept_energy(
    heatmaps: Float32,
    concept_maps_of: Callable[[str, str], Float32],
    *,
    concept: ConceptName = "",
    layer: str = "",
    extent: Extent = "otsu",
) -> Float64:
    """Share of the positive relevance that lies in the concept's region.

    Sum of max(h, 0) over C / sum of max(h, 0) over the map; chance level is C's area share.
    ``concept`` has no default.

    >>> concept_energy([[1.0, 3.0, -5.0]], lambda *_: [[0.0, 0.9, 0.8]], concept="striped")
    array([0.75])

    Args:
        heatmaps: ``[N, H, W]``.
        concept_maps_of: the names of a concept and a layer to its maps of the same images,
            ``[N, H, W]``.
        concept: the concept's name.
        layer: the layer's name; ``""`` = the classifier's default one.
        extent: which part of the concept map counts as C.

    Raises:
        ParameterError: no ``concept``.
        UndefinedMeasurementError: a heatmap without positive relevance; or the concept map is
            zero everywhere, constant or not finite, or C is the whole image.
        ShapeError: ``concept_maps_of`` gives maps of another shape.
    """
    return positive_share(
        heatmaps, _regions(concept_maps_of, concept, layer, extent, heatmaps.shape)
    )


def _usable(
    concept_maps_of: Callable[[str, str], Float32],
    concept: str,
    layer: str,
    shape: tuple[int, ...],
) -> Float32:
    """Return the concept maps, none of them constant or with values not finite."""
    maps = of_shape(concept_maps_of(concept, layer), shape, f"concept_maps_of {concept!r}")
    reasons = unusable_heatmaps(maps, named=f"map of the concept {concept!r}")
    if reasons:
        raise UndefinedMeasurementError(reasons)
    return maps


def _regions(
    concept_maps_of: Callable[[str, str], Float32],
    concept: str,
    layer: str,
    extent: str,
    shape: tuple[int, ...],
) -> Bool:
    """Return the pixels where the concept is, neither none nor all of an image."""
    places = binarize(_usable(concept_maps_of, concept, layer, shape), extent)
    reasons = {}
    for index, place in enumerate(places):
        if not place.any():
            reasons[index] = f"no pixel belongs to the concept {concept!r} by {extent!r}"
        elif place.all():
            reasons[index] = f"the concept {concept!r} covers the whole image by {extent!r}"
    if reasons:
        raise UndefinedMeasurementError(reasons)
    return places
