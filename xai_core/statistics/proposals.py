"""How often a threshold cries wolf on another draw of images, and which one does so at a rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal

import numpy as np

from xai_core.arrays import Float64
from xai_core.parameters import require
from xai_core.seeding import generator_of
from xai_core.statistics.clusters import exact_mean
from xai_core.statistics.resampling import RESAMPLES

_ROUNDING = 1e-12
_VALUES_AT_ONCE = 1_000_000  # drawn, in memory


def proposed_threshold(
    values: Float64 | Sequence[Float64],
    *,
    better: Literal["higher", "lower"],
    rate: float = 0.01,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    seed: int = 0,
) -> float:
    """Return the threshold that another draw of images, all else equal, misses at ``rate``.

    What another draw gives is told as in `false_alarm_rate_of`. The threshold is rounded to the
    looser side, by at most a tenth of its distance from the mean, and never leaves ``bounds``.
    Equal values that are no share, and a single one, say nothing of their spread: the proposal is
    the value itself, rounded to the looser side at its third digit.

    >>> proposed_threshold(np.linspace(0.4, 0.6, 41), better="higher", bounds=(0, 1))
    0.468

    Args:
        values: one finite value per image, float64 ``[n]``; or one such row for each seed.
        better: on which side of the threshold the mean must be: "higher", at least the threshold.
        rate: between 0 and 1.
        bounds: smallest and largest possible value.
        seed: of the resampling.

    Raises:
        ParameterError: no values, one that is not finite, or a rate outside (0, 1).
    """
    require(0 < rate < 1, f"`rate` must be between 0 and 1, got {rate}")
    rows = _rows(values)
    sign = 1.0 if better == "higher" else -1.0
    draws = _other_draws(rows, bounds=bounds, seed=seed)
    threshold = sign * draws.lowest_end(rate, sign=sign)
    middle = exact_mean(np.array([exact_mean(row) for row in rows]))
    rounded = _rounded(threshold, gap=abs(middle - threshold), better=better)
    return min(max(rounded, bounds[0]), bounds[1])


def false_alarm_rate_of(
    values: Float64 | Sequence[Float64],
    threshold: float,
    *,
    better: Literal["higher", "lower"],
    bounds: tuple[float, float] = (-math.inf, math.inf),
    seed: int = 0,
) -> float:
    """Return how probably the mean of another draw of as many images is on the wrong side.

    ``values`` are a draw themselves, so their own mean is uncertain too: a resample is resampled
    again, and tails are widened for small n as `xai_core.statistics.mean_interval` does. Values
    that are all at one of two finite ``bounds`` are a share, and another draw of it follows the
    beta-binomial distribution (Jeffreys' prior), so that 20 hits of 20 do not promise 20 of the
    next 20. With several seeds, another draw takes one of them at random.

    >>> false_alarm_rate_of(np.linspace(0.4, 0.6, 41), 0.5, better="higher") > 0.4
    True

    Args:
        values: as for `proposed_threshold`.
        threshold: what the mean is held against.
        better: "higher": a mean below the threshold is on the wrong side.
        bounds: smallest and largest possible value.
        seed: of the resampling.

    Returns:
        0 or 1 for equal values; NaN for a single one that is no share, of whose spread nothing is
        known.

    Raises:
        ParameterError: no values, one that is not finite, or a threshold that is NaN.
    """
    require(not math.isnan(threshold), "cannot compare NaN: the threshold must be a number")
    rows = _rows(values)
    if max(len(row) for row in rows) == 1 and not _is_share(rows, bounds):
        return math.nan
    sign = 1.0 if better == "higher" else -1.0
    return _other_draws(rows, bounds=bounds, seed=seed).share_below(sign * threshold, sign=sign)


@dataclass(frozen=True)
class _Draws:
    """Means of other draws with their probabilities; tails of fewer than ``n`` are widened."""

    means: Float64
    weights: Float64
    n: int | None

    def share_below(self, end: float, *, sign: float) -> float:
        below = sign * self.means < end - _slack(self.means)
        return self._widened(min(1.0, math.fsum(self.weights[below])))

    def lowest_end(self, rate: float, *, sign: float) -> float:
        """Return the largest mean, times ``sign``, that at most ``rate`` of the draws are below."""
        order = np.argsort(sign * self.means, kind="stable")
        below = np.concatenate([[0.0], np.cumsum(self.weights[order])[:-1]])
        allowed = np.flatnonzero(below <= self._narrowed(rate) + _ROUNDING)
        return float(sign * self.means[order[allowed[-1]]])

    def _narrowed(self, rate: float) -> float:
        from scipy.special import ndtr, stdtrit

        if self.n is None:
            return rate
        return float(ndtr(stdtrit(self.n - 1, rate) * math.sqrt(self.n / (self.n - 1))))

    def _widened(self, share: float) -> float:
        from scipy.special import ndtri, stdtr

        if self.n is None or not 0 < share < 1:
            return share
        return float(stdtr(self.n - 1, ndtri(share) / math.sqrt(self.n / (self.n - 1))))


def _other_draws(rows: list[Float64], *, bounds: tuple[float, float], seed: int) -> _Draws:
    if _is_share(rows, bounds):
        parts = [_share_draws(row, bounds) for row in rows]
        weights = np.concatenate([weights for _, weights in parts]) / len(rows)
        return _Draws(np.concatenate([means for means, _ in parts]), weights, None)
    if all(bool((row == row[0]).all()) for row in rows):
        means = np.array([row[0] for row in rows])
        return _Draws(means, np.full(len(rows), 1 / len(rows)), None)
    each = math.ceil(RESAMPLES / len(rows))
    redrawn = [_redrawn_means(row, each, seed=seed, place=k) for k, row in enumerate(rows)]
    count = each * len(rows)
    return _Draws(np.concatenate(redrawn), np.full(count, 1 / count), max(2, min(map(len, rows))))


def _redrawn_means(row: Float64, count: int, *, seed: int, place: int) -> Float64:
    """Return means of resamples of resamples, ``[count]``."""
    n = len(row)
    if bool((row == row[0]).all()):
        return np.full(count, row[0])
    generator = generator_of(seed, "another draw", place)
    at_once = max(1, _VALUES_AT_ONCE // n)
    parts = []
    for start in range(0, count, at_once):
        shape = (min(at_once, count - start), n)
        first = generator.integers(n, size=shape, dtype=np.int32)
        second = generator.integers(n, size=shape, dtype=np.int32)
        parts.append(row[np.take_along_axis(first, second, axis=1)].mean(axis=1))
    means: Float64 = np.concatenate(parts)
    return means


def _share_draws(row: Float64, bounds: tuple[float, float]) -> tuple[Float64, Float64]:
    """Return every possible mean of n hits or misses, and its probability after these."""
    from scipy.special import betaln, gammaln

    low, high = bounds
    n, hits = len(row), int((row == high).sum())
    counts = np.arange(n + 1)
    a, b = hits + 0.5, n - hits + 0.5
    choose = gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1)
    weights = np.exp(choose + betaln(counts + a, n - counts + b) - betaln(a, b))
    means = (low * (n - counts) + high * counts) / n  # exact where the bounds are whole numbers
    return means, weights / weights.sum()


def _is_share(rows: list[Float64], bounds: tuple[float, float]) -> bool:
    return all(map(math.isfinite, bounds)) and all(np.isin(row, bounds).all() for row in rows)


def _rounded(threshold: float, *, gap: float, better: str) -> float:
    """Return ``threshold`` with few digits, on its looser side."""
    scale = gap if gap > _ROUNDING * abs(threshold) else abs(threshold) / 10
    if scale == 0:
        return 0.0
    step = Decimal(1).scaleb(math.floor(math.log10(scale)) - 1)
    rounding = ROUND_FLOOR if better == "higher" else ROUND_CEILING
    return float(Decimal(repr(threshold)).quantize(step, rounding=rounding)) + 0.0


def _slack(means: Float64) -> float:
    return _ROUNDING * max(1e-300, float(np.abs(means).max()))


def _rows(values: Float64 | Sequence[Float64]) -> list[Float64]:
    several = not isinstance(values, np.ndarray) or values.ndim == 2
    rows = [np.asarray(row, dtype=np.float64) for row in (values if several else [values])]
    require(
        bool(rows) and all(row.ndim == 1 and len(row) for row in rows),
        "a threshold needs at least one value, one per image",
    )
    require(all(np.isfinite(row).all() for row in rows), "a threshold needs finite values")
    return rows
