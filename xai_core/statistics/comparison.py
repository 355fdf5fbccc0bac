"""Is this run no worse than an earlier one? Images paired, a margin, and three outcomes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xai_core.arrays import Float64
from xai_core.parameters import require
from xai_core.statistics.clusters import cluster_means, exact_mean
from xai_core.statistics.intervals import Evidence, Interval, mean_evidence
from xai_core.statistics.shares import tango
from xai_core.statistics.verdicts import Outcome, images_to_settle


@dataclass(frozen=True)
class Comparison:
    """What came of holding a run against an earlier one on the same images.

    Attributes:
        difference: mean over images of now minus earlier, turned so that larger is better.
        interval: confidence interval of ``difference``.
        margin: the loss that does not matter.
        images: number of pairs; several values of one image are one pair.
        p_loss: p-value for a loss of more than the margin, for `holm`; small speaks for "fail".
        p_kept: p-value for a loss of less than the margin; small speaks for "pass".
        settled_by: about how many images would settle an inconclusive outcome.
    """

    difference: float
    interval: Interval
    margin: float
    images: int
    p_loss: float
    p_kept: float
    settled_by: int | None

    @property
    def outcome(self) -> Outcome:
        """Pass if the loss is proven less than the margin, fail if proven more."""
        return _outcome(self.interval, self.margin)

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.interval}, n={self.images}, margin {self.margin:g})"


def compare_with_earlier(
    values: Float64,
    earlier: Float64,
    *,
    margin: float,
    better: Literal["higher", "lower"],
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    clusters: Sequence[Hashable] | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Comparison:
    """Return whether ``values`` are no worse than ``earlier`` by ``margin``, paired by image.

    A test of non-inferiority: both ends of the interval of the mean difference are held against
    minus the margin, each at the one-sided level (1 - confidence) / 2. Where both runs' values are
    all at one of two finite ``bounds`` the interval is that of paired shares (`tango`), else that
    of `mean_interval`.

    >>> earlier = np.array([0.50, 0.61, 0.43, 0.72, 0.55])
    >>> compare_with_earlier(earlier - 0.2, earlier, margin=0.05, better="higher").outcome
    'fail'

    Args:
        values: float64 ``[n]``, all finite.
        earlier: float64 ``[n]``, of the same images in the same order.
        margin: the largest loss of the mean that does not matter, above 0, in the metric's unit.
        better: which direction of the metric is better.
        confidence: of the interval.
        bounds: smallest and largest possible value of the metric.
        clusters: which image each pair is of, where images have several; see `mean_interval`.
        names: of the pairs, for messages; their row where none are given.
        seed: of the resampling.

    Raises:
        ParameterError: no pairs, another number of earlier values, a value that is not finite
            in either run, or a margin that is not above 0.
    """
    require(
        values.ndim == 1 and len(values) > 0 and values.shape == earlier.shape,
        f"a comparison needs pairs, one value per image in each run; got shapes {values.shape} "
        f"and {earlier.shape}: give the images that both runs have, in the same order",
    )
    require(0 < confidence < 1, f"`confidence` must be between 0 and 1, got {confidence}")
    require(
        math.isfinite(margin) and margin > 0,
        f"`margin` must be a number above 0, got {margin}: it is the largest loss that does not "
        "matter; without one, equal runs could never pass",
    )
    for run, numbers in (("this run", values), ("the earlier run", earlier)):
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if len(wrong):
            row = int(wrong[0])
            name = names[row] if names is not None else f"image {row}"
            require(
                False,
                f"{name}: the value of {run} is {numbers[row]}, expected a finite number; measure "
                f"it again or leave the image out of both runs ({len(wrong)} of {len(values)})",
            )
    sign = 1.0 if better == "higher" else -1.0
    if clusters is not None:
        values, earlier = cluster_means(values, clusters), cluster_means(earlier, clusters)
    gains: Float64 = sign * (values - earlier)
    span = bounds[1] - bounds[0]
    difference, pairs = exact_mean(gains), len(gains)
    of_shares = math.isfinite(span) and bool(np.isin([values, earlier], bounds).all())
    if of_shares and pairs > 1:
        wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
        evidence = _shares_evidence(wins, losses, pairs, span)
    else:
        evidence = mean_evidence(gains, bounds=(-span, span), seed=seed)
    interval = evidence.interval(confidence)
    settled = None
    if _outcome(interval, margin) == "inconclusive":
        settled = images_to_settle(interval, difference, -margin, pairs)
        if of_shares and settled is not None:
            settled = _pairs_to_settle(wins, losses, pairs, margin / span, confidence)
    return Comparison(
        difference=difference,
        interval=interval,
        margin=margin,
        images=pairs,
        p_loss=evidence.p_value(-margin, alternative="less"),
        p_kept=evidence.p_value(-margin, alternative="greater"),
        settled_by=settled,
    )


def _shares_evidence(wins: int, losses: int, pairs: int, span: float) -> Evidence:
    """Return what hits and misses of two runs on the same images say of their difference."""

    def ends(tail: float) -> tuple[float, float]:
        low, high = tango(wins, losses, pairs, confidence=1 - 2 * tail)
        return low * span, high * span

    return Evidence(ends, 1e-9)


def _pairs_to_settle(wins: int, losses: int, pairs: int, margin: float, confidence: float) -> int:
    """Return how many pairs with the same rates of wins and losses would settle it."""

    def settles(n: int) -> bool:
        more = n / pairs
        low, high = tango(wins * more, losses * more, n, confidence=confidence)
        return low > -margin or high < -margin

    short, enough = pairs, 2 * pairs
    while not settles(enough):
        short, enough = enough, 2 * enough
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if settles(middle) else (middle, enough)
    return enough


def _outcome(interval: Interval, margin: float) -> Outcome:
    if interval.low > -margin:
        return "pass"
    return "fail" if interval.high < -margin else "inconclusive"
