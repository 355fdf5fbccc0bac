"""On which part of the background does relevance lie that is not on the object?

A mask tells two kinds of background apart without further annotation: what is near the object and
what is far from it, and the frame of the image, where vignettes, stamps and the padding of
convolutions leave their traces. Relevance that lies on neither the object nor the far background
(1 - `energy_pointing_game` - `far_background`) is on the object's surroundings. An image set may
annotate what its background shows: grass, sky, a watermark, a person.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from xai_core.arrays import Bool, Float32, Float64
from xai_core.errors import UndefinedMeasurementError
from xai_core.imageset.background import Background
from xai_core.metrics.declaration import metric
from xai_core.metrics.pointing import positive_share

Farthest = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Width = Annotated[float, msgspec.Meta(gt=0, lt=0.5)]
ClassName = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        description="the name of a class of background that the images annotate, e.g. 'watermark'",
    ),
]


@metric(better="lower", range=(0, 1), source="energy pointing game (Wang 2020) of the background")
def far_background(heatmaps: Float32, masks: Bool, *, farthest: Farthest = 0.5) -> Float64:
    """Share of the positive relevance that lies on the background far from the object.

    Sum of max(h, 0) over F / sum of max(h, 0) over the map; F are the pixels outside the mask that
    are farther from it (Euclidean distance) than all of the nearest 1 - ``farthest`` of them,
    rounded. So F is at most that share of the background, however large the object is; chance
    level is F's area share.

    >>> far_background([[6.0, 1.0, 1.0, 0.0, 2.0]], [[1, 0, 0, 0, 0]])
    array([0.2])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        farthest: share of the background that counts as far, between 0 and 1.

    Raises:
        UndefinedMeasurementError: a heatmap without positive relevance, or a background too
            much of which is equally far from the mask.
    """
    from scipy.ndimage import distance_transform_edt

    far = np.zeros_like(masks)
    for index, mask in enumerate(masks):
        distances = distance_transform_edt(~mask)
        of_background = np.sort(distances[~mask])
        near = max(round((1 - farthest) * len(of_background)), 1)
        far[index] = distances > of_background[near - 1]
    why = "too much of the background is equally far from the mask to call a part of it far"
    return _share_of(far, heatmaps, why)


@metric(better="lower", range=(0, 1), source="energy pointing game (Wang 2020) of the frame")
def border_background(heatmaps: Float32, masks: Bool, *, width: Width = 0.05) -> Float64:
    """Share of the positive relevance that lies on the background in the frame of the image.

    Sum of max(h, 0) over F / sum of max(h, 0) over the map; F are the pixels outside the mask in
    the outer rows and columns of each side, ``width`` of the height and of the width, rounded and
    at least 1. Chance level is F's area share, a fifth of the image at the default where no object
    reaches the frame.

    >>> border_background([[1, 0, 0], [0, 2, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0], [0, 0, 1]])
    array([0.25])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        width: of the frame on each side, as a share of the image's, above 0, below 0.5.

    Raises:
        UndefinedMeasurementError: a heatmap without positive relevance, or a mask that covers the
            whole frame.
    """
    sides = masks.shape[-2:]
    inside = tuple(slice(max(round(width * n), 1), n - max(round(width * n), 1)) for n in sides)
    frame = np.ones(sides, dtype=bool)
    frame[inside] = False
    return _share_of(frame & ~masks, heatmaps, "the mask covers the whole frame of the image")


@metric(better="lower", range=(0, 1), source="energy pointing game (Wang 2020) of annotated pixels")
def background_class(
    heatmaps: Float32, masks: Bool, background: Background, *, on: ClassName = ""
) -> Float64:
    """Share of the positive relevance that lies on one annotated class of the background.

    Sum of max(h, 0) over C / sum of max(h, 0) over the map; C are the pixels outside the mask that
    are annotated as ``on``: the watermark, the grass, the person beside. Chance level is C's area
    share. The shares of all classes, of what is not annotated and of the object add up to 1.
    ``on`` has no default.

    >>> import numpy as np
    >>> from xai_core.imageset import Background
    >>> grass = Background(np.array([[0, 1, 1, 0]]), {1: "grass"})
    >>> background_class([[5.0, 2.0, 2.0, 1.0]], [[1, 1, 0, 0]], grass, on="grass")
    array([0.2])

    Args:
        heatmaps: ``[N, H, W]``.
        masks: ``[N, H, W]``.
        background: `xai_core.imageset.Background` of ``[N, H, W]``.
        on: the name of the class.

    Raises:
        ParameterError: there is no such class.
        UndefinedMeasurementError: a heatmap without positive relevance, or an image without a
            pixel of the class outside the mask.
    """
    why = f"no pixel outside the mask is annotated as {on!r}"
    return _share_of(background.of(on) & ~masks, heatmaps, why)


def _share_of(places: Bool, heatmaps: Float32, why_none: str) -> Float64:
    empty = np.flatnonzero(~places.any(axis=(1, 2)))
    if len(empty):
        raise UndefinedMeasurementError({int(index): why_none for index in empty})
    return positive_share(heatmaps, places)
