"""Is the heatmap simple enough to read?

A map that was enlarged from a coarse grid is smooth between its nodes, and one that was smoothed
everywhere: these numbers reflect that, so compare explainers of one resolution. Those called
``native_`` measure the map on the grid on which its method made it, before both.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from xai_core.arrays import Float32, Float64
from xai_core.metrics.declaration import metric

Fraction = Annotated[float, msgspec.Meta(ge=0, lt=1)]


@metric(better="lower", range=(0, float("inf")), unit="nats", source="Bhatt 2020, eq. 7")
def complexity(heatmaps: Float32) -> Float64:
    """Entropy of the relevance as a distribution over pixels.

    -sum p ln p with p = |h| / sum |h|; at most ln(H W), by which `relative_complexity` divides.

    >>> complexity([[1.0, 1.0, 0.0, 0.0]])
    array([0.69314718])

    Args:
        heatmaps: ``[N, H, W]``.
    """
    relevance = _absolute(heatmaps)
    shares = relevance / relevance.sum(axis=1, keepdims=True)
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropies: Float64 = -(shares * logarithms).sum(axis=1)
    return np.maximum(entropies, 0.0)


@metric(better="lower", range=(0, 1), source="Bhatt 2020, eq. 7, over its largest value")
def relative_complexity(heatmaps: Float32) -> Float64:
    """Entropy of the relevance over the largest that a map of its size can have.

    `complexity` / ln(H W): 0 where one pixel has it all, 1 where all have the same, whatever the
    size of the map.

    >>> relative_complexity([[1.0, 1.0, 0.0, 0.0]])
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
    """
    relative: Float64 = complexity(heatmaps) / np.log(heatmaps[0].size)
    return np.clip(relative, 0.0, 1.0)


@metric(better="higher", range=(0, 1), source="Chalasani 2020, after Hurley 2009")
def sparseness(heatmaps: Float32) -> Float64:
    """Gini index of |h|: 0 where all pixels are equally relevant, near 1 where few are.

    sum over i of (2 i - n - 1) a_i / (n sum a), with a_1 <= ... <= a_n the sorted |h|.

    >>> sparseness([[0.0, 0.0, 0.0, -5.0]])
    array([0.75])

    Args:
        heatmaps: ``[N, H, W]``.
    """
    ascending = np.sort(_absolute(heatmaps), axis=1)
    count = ascending.shape[1]
    weights = 2.0 * np.arange(1, count + 1) - count - 1
    index: Float64 = (ascending * weights).sum(axis=1) / (count * ascending.sum(axis=1))
    return np.clip(index, 0.0, 1.0)


@metric(better="lower", range=(0, 1), source="counts as Quantus' EffectiveComplexity does")
def active_fraction(heatmaps: Float32, *, fraction: Fraction = 0.5) -> Float64:
    """Share of the pixels whose |h| is above ``fraction`` of the map's largest |h|.

    #{|h| > fraction x max |h|} / (H W). The sign does not count, as in `sparseness`.

    >>> active_fraction([[0.1, -4.0, 2.1, 2.0]])
    array([0.5])

    Args:
        heatmaps: ``[N, H, W]``.
        fraction: of the maximum, from 0 to below 1.
    """
    relevance = _absolute(heatmaps)
    active: Float64 = np.mean(relevance > fraction * relevance.max(axis=1, keepdims=True), axis=1)
    return active


@metric(better="higher", range=(0, 1), source="Chalasani 2020, at the method's own resolution")
def native_sparseness(native_heatmaps: Float32) -> Float64:
    """Gini index of |h| on the grid on which the method made the map.

    `sparseness` before the map was enlarged and post-processed; of the heatmap itself where the
    method works at the image's resolution.

    >>> native_sparseness([[0.0, 0.0, 0.0, -5.0]])
    array([0.75])

    Args:
        native_heatmaps: ``[N, h, w]``.
    """
    return sparseness(native_heatmaps)


@metric(better="lower", range=(0, 1), source="Bhatt 2020, eq. 7, at the method's own resolution")
def native_complexity(native_heatmaps: Float32) -> Float64:
    """Relative entropy of the relevance on the grid on which the method made the map.

    `relative_complexity` before the map was enlarged and post-processed; of the heatmap itself
    where the method works at the image's resolution.

    >>> native_complexity([[1.0, 1.0, 0.0, 0.0]])
    array([0.5])

    Args:
        native_heatmaps: ``[N, h, w]``.
    """
    return relative_complexity(native_heatmaps)


@metric(better="lower", range=(0, 1), source="as active_fraction, at the method's own resolution")
def native_active_fraction(native_heatmaps: Float32, *, fraction: Fraction = 0.5) -> Float64:
    """Share of the cells of the method's own grid that are above a ``fraction`` of the largest.

    `active_fraction` before the map was enlarged and post-processed; of the heatmap itself where
    the method works at the image's resolution.

    >>> native_active_fraction([[0.1, -4.0, 2.1, 2.0]])
    array([0.5])

    Args:
        native_heatmaps: ``[N, h, w]``.
        fraction: of the maximum, from 0 to below 1.
    """
    return active_fraction(native_heatmaps, fraction=fraction)


def _absolute(heatmaps: Float32) -> Float64:
    return np.abs(heatmaps.reshape(len(heatmaps), -1).astype(np.float64))
