"""How sure a mean is after each value, however often one looks: confidence sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from xai_core.arrays import ArrayLike, Float64
from xai_core.parameters import require
from xai_core.statistics.intervals import Interval
from xai_core.statistics.verdicts import verdict

# Shares of the capital that are at risk on each value. Large ones settle what is far from the
# threshold within tens of images, small ones what is near within thousands.
_BETS = np.array([0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95])
_HALVINGS = 32
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ConfidenceSequence:
    """A confidence interval of a bounded mean that holds at every number of values at once.

    Hedged capital with a grid of bets [Waudby-Smith & Ramdas 2023]: for each candidate mean m two
    gamblers start with 1, one betting that the values lie above m and one below. Each splits its
    capital over fixed bets f; a value x multiplies such a part by ``1 + f (x / m - 1)``, on a
    scale of 0 to 1. Where m is the mean this is a fair game, and a gambler ever holds ``2 / (1 -
    confidence)`` with probability ``(1 - confidence) / 2`` at most [Ville 1939]. A mean on which
    one did is excluded for good, so one may look after each value and stop as soon as it is
    enough.

    Immutable: `after` returns the sequence with more values.

    >>> sequence = ConfidenceSequence(low=0.0, high=1.0)
    >>> sequence.after([0.9] * 12).settled(0.5, above=True)
    'pass'

    Args:
        low: smallest possible value.
        high: largest possible value.
        confidence: that the mean never leaves the interval, whenever one looks.
        population: where the values are drawn in random order and without replacement from a
            finite set whose mean is asked for: its size. The interval is narrower and closes on
            the mean when all have come. None: values are independent draws.
        values: that have come, in their order.

    Raises:
        ParameterError: a range without two finite ends, a confidence outside (0, 1), a value
            outside the range or NaN, or more values than the population has.
    """

    low: float
    high: float
    confidence: float = 0.95
    population: int | None = None
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high,
            f"a confidence sequence needs a metric of finite range, low < high; got {self.low} to "
            f"{self.high}: measure all images instead",
        )
        require(
            0 < self.confidence < 1, f"`confidence` must be between 0 and 1, got {self.confidence}"
        )
        values = np.array(self.values, dtype=np.float64)
        inside = (values >= self.low) & (values <= self.high)
        if not inside.all():
            place = int(np.argmin(inside))
            require(
                False,
                f"value {place} of the sequence is {values[place]}, expected {self.low} to "
                f"{self.high}: a metric's range is what it can reach, not what is usual",
            )
        require(
            self.population is None or self.population >= max(1, len(self.values)),
            f"{len(self.values)} values of a population of {self.population}: each image may come "
            "once",
        )

    def after(self, values: ArrayLike) -> ConfidenceSequence:
        """Return the sequence after one more value, or after a stream of them."""
        more = np.atleast_1d(np.asarray(values, dtype=np.float64)).tolist()
        return replace(self, values=(*self.values, *more))

    @cached_property
    def interval(self) -> Interval:
        """The mean lies here, by all values so far: the intersection over all times.

        Raises:
            ParameterError: no mean fits all values. By chance that happens at most as often as
                the interval may miss; else the values drift, as in an order that is not random.
        """
        if self.population == len(self.values):
            mean = math.fsum(self.values) / len(self.values)
            return Interval(mean, mean, self.confidence)
        shares, span = self._shares(), self.high - self.low
        low = _lower_end(shares, self._bar, self.population)
        high = 1 - _lower_end(1 - shares, self._bar, self.population)
        require(
            low <= high,
            f"no mean fits the {len(shares)} values: what came first excludes what came later, so "
            "they drift; feed the images in random order",
        )
        return Interval(self.low + low * span, self.low + high * span, self.confidence)

    def settled(self, threshold: float, *, above: bool) -> Literal["pass", "fail"] | None:
        """Return which side of ``threshold`` the mean is on; None where more values must say."""
        outcome = verdict(self.interval, threshold, above=above)
        return None if outcome == "inconclusive" else outcome

    def settled_at(self, threshold: float) -> int | None:
        """Return after how many of the values ``threshold`` was excluded; None where it is not.

        A gate that looked after each value would have stopped there; 0 where the threshold lies
        outside the range.
        """
        return self._excluded(threshold)[0]

    def side_of(self, threshold: float) -> Literal["above", "below"] | None:
        """Return the side of ``threshold`` that the mean is on; None where more values must say.

        Unlike `settled` it says what was excluded first, and so is the verdict of whoever looked
        after each value, whatever came after: it never goes back on a side. Each side is wrong
        with probability ``(1 - confidence) / 2`` at most.
        """
        return self._excluded(threshold)[1]

    def _excluded(self, threshold: float) -> tuple[int | None, Literal["above", "below"] | None]:
        """Return after how many values ``threshold`` was excluded, and where the mean is then."""
        mean = (threshold - self.low) / (self.high - self.low)
        if not 0 <= mean <= 1:
            require(not math.isnan(mean), "cannot compare NaN: the threshold must be a number")
            return 0, "above" if mean < 0 else "below"
        shares = self._shares()
        above = np.flatnonzero(_log_capital(shares, mean, self.population) >= self._bar)
        below = np.flatnonzero(_log_capital(1 - shares, 1 - mean, self.population) >= self._bar)
        if not len(above) and not len(below):
            return None, None
        if not len(below) or (len(above) and above[0] < below[0]):
            return int(above[0]) + 1, "above"
        return int(below[0]) + 1, "below"

    @property
    def _bar(self) -> float:
        """Logarithm of the capital that excludes a mean."""
        return math.log(2 / (1 - self.confidence))

    def _shares(self) -> Float64:
        """Return the values on a scale of 0 to 1."""
        values = np.array(self.values, dtype=np.float64)
        shares: Float64 = (values - self.low) / (self.high - self.low)
        return shares


def _lower_end(shares: Float64, bar: float, population: int | None) -> float:
    """Return the smallest mean in [0, 1] that betting on values above it never excluded.

    The capital falls as the mean rises, so the end is found by halving. Infinite where every
    mean that is possible is excluded.
    """

    def excluded(mean: float) -> bool:
        return bool((_log_capital(shares, mean, population) >= bar).any())

    low, high = 0.0, 1.0
    if population is not None:  # those that have not come yet lie between 0 and 1
        low = float(shares.sum()) / population
        high = low + (population - len(shares)) / population
    if not excluded(low):
        return low
    if excluded(high):
        return math.inf
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if excluded(middle):
            low = middle
        else:
            high = middle
    return low


def _log_capital(shares: Float64, mean: float, population: int | None) -> Float64:
    """Return the log capital after each value of who bets that values lie above ``mean``."""
    fair = np.full(len(shares), mean)
    if population is not None:  # what the mean of those still to come would have to be
        left = population * mean - np.cumsum(shares)
        fair = (left + shares) / (population - np.arange(len(shares)))
    # Nothing is above 0 where the mean is 0: a value that is refutes it, one that is 0 pays 1:1.
    zero = fair <= _ROUNDING
    ratio = np.where(zero, np.where(shares > _ROUNDING, math.inf, 1.0), shares)
    ratio = np.divide(ratio, fair, out=ratio, where=~zero)
    if population is not None:  # more has come than such a mean leaves
        ratio[left < -_ROUNDING] = math.inf
    parts = np.log1p(_BETS[:, None] * (ratio - 1)).cumsum(axis=1)
    capital: Float64 = np.logaddexp.reduce(parts, axis=0) - math.log(len(_BETS))
    return capital
