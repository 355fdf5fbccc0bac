"""How sure a share is, of n images so many hits; and the change of a share on the same images."""

from __future__ import annotations

import math
from statistics import NormalDist

from xai_core.parameters import require

FEW = 10
"""With fewer hits or fewer misses than this a share gets `clopper_pearson`, else `wilson`."""


def wilson(share: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share of ``n`` [Wilson 1927]: its ends, in [0, 1].

    The narrower one, right on average over shares; but with few hits or few misses one end
    misses up to seven times as often as it says, see `clopper_pearson`.

    >>> [round(end, 3) for end in wilson(1.0, 10)]
    [0.722, 1.0]
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Rounding may not push the ends past the share itself: none of n is an end of exactly 0.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def clopper_pearson(hits: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of ``hits`` of ``n`` [Clopper & Pearson 1934], in [0, 1].

    Neither end ever misses more often than it says, whatever the share and however small n; the
    price is width, an eighth more than Wilson's at n = 20, a twentieth at 200.

    >>> [round(end, 3) for end in clopper_pearson(10, 10)]
    [0.692, 1.0]

    Raises:
        ParameterError: not 0 <= hits <= n with n >= 1, or a confidence outside (0, 1).
    """
    from scipy.special import betaincinv

    require(n >= 1 and 0 <= hits <= n, f"hits of n images: 0 <= hits <= n, got {hits} of {n}")
    require(0 < confidence < 1, f"`confidence` must be between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def share_interval(hits: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the ends that gates use: exact with fewer than ten hits or misses, else Wilson's.

    Small n always has few of either; a large n with few misses needs the exact ends as much.
    """
    if min(hits, n - hits) < FEW:
        return clopper_pearson(hits, n, confidence=confidence)
    return wilson(hits / n, n, confidence=confidence)


def tango(wins: float, losses: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Tango's interval of the change of a share on the same ``n`` images [Tango 1998].

    ``wins`` images became hits and ``losses`` ceased to be; the change is (wins - losses) / n, and
    the interval holds every change that a score test does not reject. With no image changed it
    still has a width, as it must: a bootstrap of ``n`` zeros has none.

    >>> [round(end, 3) for end in tango(0, 0, 50)]
    [-0.071, 0.071]

    Raises:
        ParameterError: wins or losses below 0 or together above n, or a confidence outside (0, 1).
    """
    require(
        n > 0 and min(wins, losses) >= 0 and wins + losses <= n * (1 + 1e-9),
        f"wins and losses are some of n images, got {wins} and {losses} of {n}",
    )
    require(0 < confidence < 1, f"`confidence` must be between 0 and 1, got {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return -_highest_change(losses, wins, n, z), _highest_change(wins, losses, n, z)


def _highest_change(wins: float, losses: float, n: float, z: float) -> float:
    """Return the largest change that the score test does not reject."""
    kept, rejected = (wins - losses) / n, 1.0
    for _ in range(50):
        middle = (kept + rejected) / 2
        # The loss rate that is most likely if the change were this one.
        b = -wins - losses + (2 * n - wins + losses) * middle
        c = -losses * middle * (1 - middle)
        rate = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        spread = math.sqrt(max(0.0, n * (2 * rate + middle * (1 - middle))))
        if n * middle - (wins - losses) > z * spread:
            rejected = middle
        else:
            kept = middle
    return rejected
