"""What is left of heatmaps after a change of the classifier, one policy for all who ask.

A map that is constant after the change shows nothing of the original any more: its similarity is
0. One with values not finite is undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from xai_core.arrays import Bool, Float32, Float64, as_heatmaps
from xai_core.errors import ShapeError, UndefinedMeasurementError
from xai_core.metrics.declaration import ExplainedBy
from xai_core.metrics.similarity import SIMILARITIES, Similarity

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


def maps_under(
    explained_by: ExplainedBy,
    classifier: Classifier,
    shape: tuple[int, ...],
    change: Callable[[Float32], Float32] | None = None,
) -> Float32:
    """Return the heatmaps under another classifier.

    Raises:
        ShapeError: they are not of ``shape``.
    """
    return of_shape(explained_by(classifier, change), shape, "explained_by")


def of_shape(maps: object, shape: tuple[int, ...], source: str) -> Float32:
    """Return the heatmaps that ``source`` gave.

    Raises:
        ShapeError: they are not of ``shape``.
    """
    found = as_heatmaps(maps)
    if found.shape != shape:
        msg = f"{source}: expected heatmaps of shape {shape}, got {found.shape}"
        raise ShapeError(msg)
    return found


def mean_similarity(
    heatmaps: Float32,
    changes: Iterable[tuple[str, Float32]],
    similarity: Similarity,
    reasons: dict[int, str] | None = None,
) -> Float64:
    """Return how alike the heatmaps are to their changed selves, ``[N]``, mean over the changes.

    The original itself is none of them.

    Args:
        heatmaps: the original ones, ``[N, H, W]``.
        changes: what was changed, and the heatmaps after it.
        similarity: how alike.
        reasons: index -> why there is no value, known before.

    Raises:
        UndefinedMeasurementError: a changed map has values not finite; the original has no
            contrast in what is compared; or there are ``reasons``.
    """
    reasons = dict(reasons or {})
    values = [_similarities(heatmaps, maps, similarity, what, reasons) for what, maps in changes]
    return defined(np.mean(values, axis=0), reasons)


def all_finite(maps: Float32) -> Bool:
    """Return for each map whether all its values are finite, ``[N]``."""
    return np.asarray(np.isfinite(maps).all(axis=(1, 2)))


def defined(values: Float64, reasons: dict[int, str]) -> Float64:
    """Return the values if there is no reason against any.

    Raises:
        UndefinedMeasurementError: there is; it carries the other images' values.
    """
    if reasons:
        raise UndefinedMeasurementError(reasons, values)
    return values


def _similarities(
    heatmaps: Float32,
    changed: Float32,
    similarity: Similarity,
    what: str,
    reasons: dict[int, str],
) -> Float64:
    """Return the similarity of each map to what became of it, and add why one has none."""
    measure = SIMILARITIES[similarity]
    finite = all_finite(changed)
    for index in np.flatnonzero(~finite):
        reasons.setdefault(int(index), f"{what}, the heatmap has values not finite")
    contrast = changed.max(axis=(1, 2)) > changed.min(axis=(1, 2))
    left = [row for row in np.flatnonzero(finite & contrast).tolist() if row not in reasons]
    values = np.zeros(len(heatmaps))
    values[left] = measure(heatmaps[left], changed[left])
    for row in np.flatnonzero(np.isnan(values)).tolist():
        # One of the two has no contrast in what is compared; the original must have some.
        own = heatmaps[row : row + 1]
        values[row] = 0.0
        if np.isnan(measure(own, own)[0]):
            reasons[row] = f"the heatmap has no contrast in what {similarity!r} compares"
    return values
