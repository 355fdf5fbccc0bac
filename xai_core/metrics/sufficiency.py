"""Do images with the same explanation get the same class?"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from xai_core.arrays import Bool, Float32, Float64
from xai_core.errors import ShapeError
from xai_core.metrics.changed_maps import defined
from xai_core.metrics.declaration import WholeSet, metric, unusable_heatmaps
from xai_core.metrics.ranking import most_relevant

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Overlap = Annotated[float, msgspec.Meta(gt=0, le=1)]

_ROWS_PER_PRODUCT = 256  # bounds what is held as numbers at once


@metric(
    version="dasgupta-2022",
    better="higher",
    range=(0, 1),
    source="Dasgupta 2022, local sufficiency; discretised by the most relevant pixels",
)
def sufficiency(
    heatmaps: Float32, whole_set: WholeSet, *, share: Share = 0.2, overlap: Overlap = 0.5
) -> Float64:
    """Share of the set's other images with nearly the same heatmap that get the same class.

    Over the images j != i with |B_i and B_j| / |B_i or B_j| >= ``overlap``, B the ``share`` of a
    map's pixels that are most relevant (tied ones in or out together): the share of them whose
    predicted class is that of i. The paper's explanations are discrete, so that an image has the
    same one or has not; B makes a heatmap so, and the overlap of random maps is share / (2 -
    share), far from enough. A map that is the same for all images has the share of its class in
    the set: compare with ``centre``. What it says is where, so classes that differ in what is
    there, not where, look insufficient; and images with a map of their own have no value. (Quantus
    takes a Euclidean distance, each pixel in units of its deviation, of at most 0.6 of the largest
    in the batch, so that neighbours change with the batch; without one it gives 0.)

    >>> maps = [[[9.0, 8.0, 0.0, 1.0]], [[8.0, 9.0, 1.0, 0.0]], [[7.0, 9.0, 0.0, 0.0]]]
    >>> sufficiency(maps, WholeSet(maps, [0, 0, 1], rows=[0, 1, 2]), share=0.5)
    array([0.5, 0.5, 0. ])

    Args:
        heatmaps: ``[N, H, W]``.
        whole_set: the heatmaps and predicted classes of all images among which neighbours are
            sought; those whose map is constant or not finite are none.
        share: of the pixels that count as the explanation.
        overlap: from which on two explanations are nearly the same, as an IoU.

    Raises:
        UndefinedMeasurementError: no other image has nearly the same heatmap, or more than that
            share of a map's pixels are its maximum.
        ShapeError: ``whole_set`` is of maps of another size, or measures another number of images.
    """
    if len(whole_set.rows) != len(heatmaps) or whole_set.heatmaps.shape[1:] != heatmaps.shape[1:]:
        msg = (
            f"whole_set: expected the places of {len(heatmaps)} images among maps of "
            f"{heatmaps.shape[1]} x {heatmaps.shape[2]}, got {len(whole_set.rows)} among maps of "
            f"{whole_set.heatmaps.shape[1]} x {whole_set.heatmaps.shape[2]}"
        )
        raise ShapeError(msg)
    own, all_of_set = (most_relevant(maps, share) for maps in (heatmaps, whole_set.heatmaps))
    all_of_set[list(unusable_heatmaps(whole_set.heatmaps))] = False
    near = _overlaps(own, all_of_set) >= overlap
    near[np.arange(len(near)), whole_set.rows] = False
    classes = whole_set.predictions
    alike = near & (classes[whole_set.rows, None] == classes)
    found = near.sum(axis=1)
    reasons: dict[int, str] = {}
    for index in np.flatnonzero(found == 0).tolist():
        reasons[index] = (
            f"no other image of the set has nearly the same heatmap (overlap >= {overlap:g} of "
            f"the {share:.0%} most relevant pixels)"
            if own[index].any()
            else f"more than {share:.0%} of the pixels share the heatmap's maximum"
        )
    return defined(alike.sum(axis=1) / np.maximum(found, 1), reasons)


def _overlaps(first: Bool, second: Bool) -> Float64:
    """Return the IoU of every two regions, ``[N, M]``; 0 where one is empty."""
    many, of = second.reshape(len(second), -1), first.reshape(len(first), -1)
    sizes = of.sum(axis=1)[:, None] + many.sum(axis=1)
    both, numbers = np.zeros(sizes.shape), of.astype(np.float32)
    for start in range(0, len(many), _ROWS_PER_PRODUCT):
        part = slice(start, start + _ROWS_PER_PRODUCT)
        # float32 counts exactly up to 2^24, more pixels than a map has.
        both[:, part] = numbers @ many[part].astype(np.float32).T
    overlaps: Float64 = both / np.maximum(sizes - both, 1)
    return overlaps
