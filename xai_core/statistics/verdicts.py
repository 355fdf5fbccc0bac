"""What an interval says about a threshold, and how many images would say more."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

from xai_core.parameters import require
from xai_core.statistics.intervals import Interval

Outcome = Literal["pass", "fail", "inconclusive"]


def verdict(interval: Interval, threshold: float, *, above: bool) -> Outcome:
    """Return whether the interval proves that the mean is on the right side of ``threshold``.

    Raises:
        ParameterError: an end of the interval or the threshold is NaN: no comparison with NaN
            may ever look like a pass.
    """
    ends = (interval.low, interval.high, threshold)
    require(not any(math.isnan(end) for end in ends), f"cannot compare NaN: {ends}")
    if above:
        if interval.low >= threshold:
            return "pass"
        return "fail" if interval.high < threshold else "inconclusive"
    if interval.high <= threshold:
        return "pass"
    return "fail" if interval.low > threshold else "inconclusive"


def smallest_detectable_drop(interval: Interval) -> float:
    """Return the drop of the mean that so many images would prove in four of five runs.

    Half the interval is what one end needs, and z_.80 standard errors more are what four of five
    draws need: ``half * (1 + z_.80 / z_.975)``, 2.80 standard errors, at confidence .95. NaN where
    the interval is not finite, as of a single image of an unbounded metric.
    """
    half = (interval.high - interval.low) / 2
    if not math.isfinite(half):
        return math.nan
    normal = NormalDist()
    return half * (1 + normal.inv_cdf(0.8) / normal.inv_cdf((1 + interval.confidence) / 2))


def images_to_settle(interval: Interval, mean: float, threshold: float, n: int) -> int | None:
    """Return about how many images would move the threshold out of the interval.

    The width of an interval falls with the square root of n. None where no number helps: the
    mean is the threshold but for rounding, or one image has no interval.
    """
    gap = abs(mean - threshold)
    half = (interval.high - interval.low) / 2
    if not math.isfinite(half) or n < 2 or gap <= 1e-4 * half:
        return None
    return max(n + 1, math.ceil(n * (half / gap) ** 2))
