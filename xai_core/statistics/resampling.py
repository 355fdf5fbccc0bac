"""The bootstrap: means of resampled images, and the ends of an interval that they give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from xai_core.arrays import Float64
from xai_core.seeding import generator_of

BootstrapMethod = Literal["percentile", "bca"]

RESAMPLES = 9999
_VALUES_AT_ONCE = 1_000_000  # drawn, in memory


@dataclass(frozen=True)
class Bootstrap:
    """A statistic of n images, and what it is on resampled ones; gives ends for any tail.

    ``bca`` corrects the percentiles for the median bias of the resampled statistic and for its
    skewness [Efron 1987]: each end then errs by order 1/n, where the plain
    percentile errs by 1/sqrt(n). ``expand`` widens the tails as Student's t does the normal's,
    and by sqrt(n / (n - 1)), because resampled images spread less than new ones [Hesterberg
    2015]: what makes n = 5 to 20 usable.

    Args:
        resampled: the statistic of each resample, float64 ``[R]``, sorted.
        observed: the statistic of the images themselves.
        without: the statistic without each image in turn, float64 ``[n]``.
        method: percentile or bias-corrected and accelerated.
        expand: whether tails are widened for small n.
    """

    resampled: Float64
    observed: float
    without: Float64
    method: BootstrapMethod = "bca"
    expand: bool = True

    def ends(self, tail: float) -> tuple[float, float]:
        """Return the lower and the upper end, each missed with probability ``tail`` <= 1/2.

        The observed value always lies between them.
        """
        from scipy.special import ndtr, ndtri, stdtrit

        n = len(self.without)
        z = float(ndtri(tail))
        if self.expand:
            z = float(stdtrit(n - 1, tail)) * math.sqrt(n / (n - 1))
        shares = [z, -z]
        if self.method == "bca":
            shares = [_corrected(z, self._bias, self._acceleration) for z in shares]
        low, high = (self._quantile(float(ndtr(share))) for share in shares)
        return min(low, self.observed), max(high, self.observed)

    def _quantile(self, share: float) -> float:
        place = share * (len(self.resampled) - 1)
        below = min(int(place), len(self.resampled) - 2)
        low, high = self.resampled[below : below + 2].tolist()
        return float(low + (place - below) * (high - low))

    @cached_property
    def _bias(self) -> float:
        from scipy.special import ndtri

        rounding = 1e-12 * max(1e-300, float(np.abs(self.resampled).max()))
        below, upto = np.searchsorted(
            self.resampled, [self.observed - rounding, self.observed + rounding]
        )
        count = len(self.resampled)
        share = (below + upto) / (2 * count)  # ties count half
        return float(ndtri(min(max(share, 0.5 / count), 1 - 0.5 / count)))

    @cached_property
    def _acceleration(self) -> float:
        pulls = self.without.mean() - self.without
        largest = float(np.abs(pulls).max())
        if largest == 0:
            return 0.0
        pulls = pulls / largest  # their cubes may be too small to hold
        return float((pulls**3).sum()) / (6 * math.sqrt(float((pulls**2).sum())) ** 3)


def bootstrap_mean(
    values: Float64,
    *,
    seed: int,
    method: BootstrapMethod = "bca",
    expand: bool = True,
    resamples: int | None = None,
) -> Bootstrap:
    """Return the bootstrap of the mean of ``values``, float64 ``[n]``, n >= 2."""
    n = len(values)
    return Bootstrap(
        np.sort(resampled_means(values, seed=seed, resamples=resamples)),
        float(values.mean()),
        (values.sum() - values) / (n - 1),
        method,
        expand,
    )


def resampled_means(rows: Float64, *, seed: int, resamples: int | None = None) -> Float64:
    """Return means of rows drawn with replacement, ``[resamples, ...]`` of ``[n, ...]``.

    ``resamples`` are `RESAMPLES` where nothing else is said.
    """
    generator = generator_of(seed, "bootstrap")
    count, n = RESAMPLES if resamples is None else resamples, len(rows)
    at_once = max(1, _VALUES_AT_ONCE // n)
    parts = []
    for start in range(0, count, at_once):
        drawn = generator.integers(n, size=(min(at_once, count - start), n), dtype=np.int32)
        parts.append(rows.take(drawn, axis=0).mean(axis=1))
    means: Float64 = np.concatenate(parts)
    return means


def _corrected(z: float, bias: float, acceleration: float) -> float:
    shifted = bias + z
    shrink = 1 - acceleration * shifted
    # So far out that the correction has a pole: the very end of what was resampled.
    return bias + (shifted / shrink if shrink > 0 else math.copysign(math.inf, shifted))
