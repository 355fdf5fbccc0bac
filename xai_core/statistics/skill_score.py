"""How far a mean is on the way from a null map to perfect, and how sure that is."""

from __future__ import annotations

import math

import numpy as np

from xai_core.arrays import Float64
from xai_core.parameters import require
from xai_core.statistics.intervals import Interval
from xai_core.statistics.resampling import Bootstrap, resampled_means

_PERFECT = "the null map is perfect already: a skill score has no meaning"


def skill(value: float, null_value: float, *, perfect: float) -> float:
    """Return ``(value - null) / (perfect - null)``: 0 is the null map, 1 is perfect.

    >>> skill(0.75, 0.5, perfect=1.0)
    0.5

    Raises:
        ParameterError: the null map is perfect already.
    """
    require(perfect != null_value, _PERFECT)
    require(math.isfinite(perfect), "a metric without a best possible value has no skill score")
    return (value - null_value) / (perfect - null_value)


def skill_interval(
    values: Float64,
    null_values: Float64,
    *,
    perfect: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the confidence interval of `skill`, images resampled together with their nulls.

    One image says nothing of the spread: its interval has no finite end.

    Args:
        values: of the method, float64 ``[n]``.
        null_values: of the null map on the same images, float64 ``[n]``.
        perfect: the best possible value.
        confidence: between 0 and 1.
        seed: of the resampling.

    Raises:
        ParameterError: the null map is perfect already.
    """
    both = np.stack([values, null_values], axis=1)
    observed = skill(float(values.mean()), float(null_values.mean()), perfect=perfect)
    n = len(both)
    if n == 1:
        return Interval(-math.inf, math.inf, confidence)
    resampled = np.sort(_defined(resampled_means(both, seed=seed), perfect))
    without = _defined((both.sum(axis=0) - both) / (n - 1), perfect)
    require(len(resampled) > 0 and len(without) > 1, _PERFECT)
    ends = Bootstrap(resampled, observed, without).ends((1 - confidence) / 2)
    return Interval(*ends, confidence)


def _defined(means: Float64, perfect: float) -> Float64:
    """Return the skill of each row ``(value, null)`` whose null leaves something to gain."""
    possible = perfect - means[:, 1]
    skills: Float64 = (means[:, 0] - means[:, 1])[possible != 0] / possible[possible != 0]
    return skills
