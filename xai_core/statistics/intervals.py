"""How sure a mean over images is: its interval, and the level at which it excludes a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xai_core.arrays import Float64
from xai_core.parameters import require
from xai_core.statistics.clusters import cluster_means
from xai_core.statistics.resampling import RESAMPLES, BootstrapMethod, bootstrap_mean
from xai_core.statistics.shares import share_interval

_LARGEST_TAIL = 0.499  # at 1/2 both ends are the middle


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval; each end is a one-sided bound at (1 + confidence) / 2."""

    low: float
    high: float
    confidence: float = 0.95

    def __str__(self) -> str:
        return f"{self.confidence:.0%} CI {self.low:.3f}..{self.high:.3f}"


def mean_interval(
    values: Float64,
    *,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    clusters: Sequence[Hashable] | None = None,
    method: BootstrapMethod = "bca",
    expand: bool = True,
    seed: int = 0,
) -> Interval:
    """Return the confidence interval of the mean of ``values``, one value per image.

    Values that are all at one of two finite ``bounds`` are a share: the exact interval where
    hits or misses are few, else Wilson's (`xai_core.statistics.shares`). Anything else: bootstrap
    over images, bias-corrected, accelerated and expanded for small n
    (`xai_core.statistics.resampling`). One value says nothing of its spread: the interval is
    ``bounds``. Equal values give an interval of no width. examples/power/README.md has what each
    choice covers.

    Args:
        values: float64 ``[n]``, n >= 1, all finite.
        confidence: between 0 and 1.
        bounds: smallest and largest possible value.
        clusters: which image each value is of, ``[n]``, where images have several (seeds, crops):
            each image then is one unit with the mean of its values. None: one value per image.
        method: of the bootstrap.
        expand: whether the bootstrap's tails are widened for small n.
        seed: of the resampling.

    Raises:
        ParameterError: no values, one that is not finite, clusters of another number, or a
            confidence outside (0, 1).
    """
    require(0 < confidence < 1, f"`confidence` must be between 0 and 1, got {confidence}")
    units = _units(values, clusters)
    evidence = mean_evidence(units, bounds=bounds, method=method, expand=expand, seed=seed)
    return evidence.interval(confidence)


def mean_p_value(
    values: Float64,
    threshold: float,
    *,
    alternative: Literal["greater", "less"],
    bounds: tuple[float, float] = (-math.inf, math.inf),
    clusters: Sequence[Hashable] | None = None,
    method: BootstrapMethod = "bca",
    expand: bool = True,
    seed: int = 0,
) -> float:
    """Return the smallest one-sided level at which `mean_interval` excludes ``threshold``.

    That is the p-value of "the mean is not ``alternative`` than the threshold", as `xai_core.
    statistics.holm` takes it; 1 where the threshold lies on the other side of the middle. A
    bootstrap cannot tell less than one in its number of resamples.

    Args:
        values: as the others, see `mean_interval`.
        threshold: what the mean is held against.
        alternative: which side of the threshold is to be proven.

    Raises:
        ParameterError: as `mean_interval`, and a threshold that is NaN.
    """
    require(not math.isnan(threshold), "cannot compare NaN: the threshold must be a number")
    units = _units(values, clusters)
    evidence = mean_evidence(units, bounds=bounds, method=method, expand=expand, seed=seed)
    return evidence.p_value(threshold, alternative=alternative)


@dataclass(frozen=True)
class Evidence:
    """Everything that units say of their mean: an interval of any confidence, any p-value.

    Args:
        ends: tail -> lower and upper end, each missed with that probability.
        least: the smallest tail that can be told.
    """

    ends: Callable[[float], tuple[float, float]]
    least: float

    def interval(self, confidence: float) -> Interval:
        """Return the interval at ``confidence``."""
        return Interval(*self.ends((1 - confidence) / 2), confidence)

    def p_value(self, threshold: float, *, alternative: Literal["greater", "less"]) -> float:
        """Return the smallest tail whose end excludes ``threshold``; see `mean_p_value`."""
        if not self._excludes(threshold, _LARGEST_TAIL, alternative):
            return 1.0
        if self._excludes(threshold, self.least, alternative):
            return self.least
        below, level = self.least, _LARGEST_TAIL
        while level - below > 1e-4 * level:
            middle = math.sqrt(below * level)
            if self._excludes(threshold, middle, alternative):
                level = middle
            else:
                below = middle
        return level

    def _excludes(self, threshold: float, tail: float, alternative: str) -> bool:
        low, high = self.ends(tail)
        return low > threshold if alternative == "greater" else high < threshold


def mean_evidence(
    units: Float64,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    method: BootstrapMethod = "bca",
    expand: bool = True,
    seed: int = 0,
) -> Evidence:
    """Return what ``units``, one finite value per image, say of their mean; see `mean_interval`."""
    low, high = bounds
    n = len(units)
    if n == 1:
        return Evidence(lambda _: (low, high), 1 / RESAMPLES)
    if math.isfinite(low) and math.isfinite(high) and bool(np.isin(units, bounds).all()):
        hits, span = int((units == high).sum()), high - low

        def of_share(tail: float) -> tuple[float, float]:
            ends = share_interval(hits, n, confidence=1 - 2 * tail)
            return low + ends[0] * span, low + ends[1] * span

        return Evidence(of_share, 1e-9)
    if bool((units == units[0]).all()):  # rounding would give their resampled means a width
        return Evidence(lambda _: (float(units[0]), float(units[0])), 1 / RESAMPLES)
    bootstrap = bootstrap_mean(units, seed=seed, method=method, expand=expand)
    return Evidence(bootstrap.ends, 1 / len(bootstrap.resampled))


def _units(values: Float64, clusters: Sequence[Hashable] | None) -> Float64:
    require(values.ndim == 1 and len(values) > 0, "an interval needs at least one value")
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite))
        require(False, f"an interval needs finite values, got {values[row]} at row {row}")
    return values if clusters is None else cluster_means(values, clusters)
