"""How sure a mean over images is, and what that says about a threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xai_core.arrays import Float64
from xai_core.parameters import require

Outcome = Literal["pass", "fail", "inconclusive"]

RESAMPLES = 9999
_RESAMPLES_AT_ONCE = 4_000_000  # values in memory


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
    seed: int = 0,
) -> Interval:
    """Return the confidence interval of the mean of ``values``, one value per image.

    Values that are all at one of two finite ``bounds`` are a share: Wilson's interval [Wilson
    1927]. Anything else: percentile bootstrap over images, seeded. One value says nothing of
    its spread: the interval is ``bounds``. Equal values give an interval of no width.

    Args:
        values: float64 ``[n]``, n >= 1, all finite.
        confidence: between 0 and 1.
        bounds: smallest and largest possible value.
        seed: of the resampling.

    Raises:
        ParameterError: no values, one that is not finite, or a confidence outside (0, 1).
    """
    require(values.ndim == 1 and len(values) > 0, "an interval needs at least one value")
    require(bool(np.isfinite(values).all()), "an interval needs finite values")
    require(0 < confidence < 1, f"`confidence` must be between 0 and 1, got {confidence}")
    if len(values) == 1:
        return Interval(*bounds, confidence)
    low, high = bounds
    if math.isfinite(low) and math.isfinite(high) and bool(np.isin(values, bounds).all()):
        share = float((values == high).mean())
        ends = wilson(share, len(values), confidence=confidence)
        return Interval(low + ends[0] * (high - low), low + ends[1] * (high - low), confidence)
    if bool((values == values[0]).all()):  # rounding would give their resampled means a width
        return Interval(float(values[0]), float(values[0]), confidence)
    return _percentiles(_resampled_means(values, seed=seed), confidence)


def exact_mean(values: Float64) -> float:
    """Return the mean; of equal values that value itself, which a sum may miss by rounding."""
    return float(values[0] if bool((values == values[0]).all()) else values.mean())


def skill_interval(
    values: Float64,
    null_values: Float64,
    *,
    perfect: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the confidence interval of `skill`, images resampled together with their nulls."""
    both = _resampled_means(np.stack([values, null_values], axis=1), seed=seed)
    possible = perfect - both[:, 1]
    skills = (both[:, 0] - both[:, 1])[possible != 0] / possible[possible != 0]
    require(len(skills) > 0, "the null map is perfect already: a skill score has no meaning")
    return _percentiles(skills, confidence)


def skill(value: float, null_value: float, *, perfect: float) -> float:
    """Return ``(value - null) / (perfect - null)``: 0 is the null map, 1 is perfect.

    >>> skill(0.75, 0.5, perfect=1.0)
    0.5

    Raises:
        ParameterError: the null map is perfect already.
    """
    require(perfect != null_value, "the null map is perfect already: a skill score has no meaning")
    require(math.isfinite(perfect), "a metric without a best possible value has no skill score")
    return (value - null_value) / (perfect - null_value)


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


def smallest_detectable_drop(values: Float64) -> float:
    """Return the drop of the mean that n images detect with power .8 at a one-sided level .05.

    ``(z_.95 + z_.80) * sd / sqrt(n)`` with z_.95 + z_.80 = 2.49; NaN for a single value.
    """
    if len(values) < 2:
        return math.nan
    return 2.49 * float(values.std(ddof=1)) / math.sqrt(len(values))


def images_to_settle(interval: Interval, mean: float, threshold: float, n: int) -> int | None:
    """Return about how many images would move the threshold out of the interval.

    The width of an interval falls with the square root of n. None where no number helps: the
    mean is the threshold, or one image has no interval.
    """
    gap = abs(mean - threshold)
    half = (interval.high - interval.low) / 2
    if gap == 0 or not math.isfinite(half) or n < 2:
        return None
    return max(n + 1, math.ceil(n * (half / gap) ** 2))


def wilson(share: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share of ``n`` [Wilson 1927]: its ends, in [0, 1].

    >>> [round(end, 3) for end in wilson(1.0, 10)]
    [0.722, 1.0]
    """
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Rounding may not push the ends past the share itself: none of n is an end of exactly 0.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in their order [Holm 1979].

    The smallest is multiplied by the number of tests, the next by one less, and so on; none
    falls below one before it, and none exceeds 1. Any dependence between the tests is covered.

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]

    Raises:
        ParameterError: a p-value outside [0, 1], NaN included.
    """
    require(all(0 <= p <= 1 for p in p_values), f"p-values lie in [0, 1], got {list(p_values)}")
    corrected = [1.0] * len(p_values)
    least = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = least
    return corrected


def _resampled_means(rows: Float64, *, seed: int) -> Float64:
    """Return ``[RESAMPLES, ...]`` means of rows drawn with replacement."""
    generator = np.random.default_rng(seed)
    n = len(rows)
    at_once = max(1, _RESAMPLES_AT_ONCE // n)
    parts = []
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        # How often each row is drawn is multinomial; a matrix product then takes the means.
        drawn = generator.multinomial(n, np.full(n, 1 / n), size=count)
        parts.append(drawn @ rows / n)
    means: Float64 = np.concatenate(parts)
    return means


def _percentiles(means: Float64, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high), confidence)
