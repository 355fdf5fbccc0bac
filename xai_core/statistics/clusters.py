"""Several values of one image (seeds, crops) are one unit: what that unit's value is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from xai_core.arrays import Float64
from xai_core.parameters import require


def exact_mean(values: Float64) -> float:
    """Return the mean; of equal values that value itself, which a sum may miss by rounding."""
    return float(values[0] if bool((values == values[0]).all()) else values.mean())


def defined_cluster_means(values: Float64, clusters: Sequence[Hashable] | None) -> Float64:
    """Return the mean of each cluster's values that exist; NaN where none of them does.

    Args:
        values: float64 ``[n]``, NaN where one does not exist.
        clusters: as for `cluster_means`; None gives ``values`` themselves.

    Raises:
        ParameterError: not one cluster for each value.
    """
    if clusters is None:
        return values
    there = ~np.isnan(values)
    means = np.full(len(set(clusters)), np.nan)
    places = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    known = [cluster for cluster, exists in zip(clusters, there, strict=True) if exists]
    rows = [places[cluster] for cluster in dict.fromkeys(known)]
    means[rows] = cluster_means(values[there], known)
    return means


def cluster_means(values: Float64, clusters: Sequence[Hashable]) -> Float64:
    """Return the mean of each cluster's values, float64 ``[number of clusters]``.

    Clusters come in the order of their first value. Each counts once, however many values it
    has: the mean of what is returned is a mean over images, and resampling it resamples images.

    >>> cluster_means(np.array([0.2, 0.4, 0.9]), ["a.png", "a.png", "b.png"]).round(3).tolist()
    [0.3, 0.9]

    Args:
        values: float64 ``[n]``.
        clusters: which image each value is of, ``[n]``.

    Raises:
        ParameterError: not one cluster for each value.
    """
    require(
        values.ndim == 1 and len(values) == len(clusters),
        f"`clusters` names the image of each value: {len(clusters)} names, values of shape "
        f"{values.shape}",
    )
    rows: dict[Hashable, list[int]] = {}
    for row, cluster in enumerate(clusters):
        rows.setdefault(cluster, []).append(row)
    return np.array([exact_mean(values[members]) for members in rows.values()], dtype=np.float64)
