"""What a condition claims of the mean of bounded values, and what images in random order prove."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from xai_core.arrays import Float64
from xai_core.statistics import ConfidenceSequence, Interval, Outcome

Side = Literal["above", "below"]

_HALVINGS = 20
_ROUNDING = 1e-6
"""Metrics of float32 maps miss the ends of their range by less than this share of it."""


@dataclass(frozen=True)
class Draw:
    """How images come.

    Attributes:
        images: number of images of the set, or of photographs where several are of one.
        finite: whether the claim is about the mean of this very set, whose images come without
            replacement; else about that of the population that the set was drawn from.
    """

    images: int
    finite: bool = True

    def sequence(
        self, values: Float64, low: float, high: float, confidence: float
    ) -> ConfidenceSequence:
        """Return the confidence sequence of values that have come, from ``low`` to ``high``."""
        slack = _ROUNDING * (high - low)
        inside = np.where((values < low) & (values >= low - slack), low, values)
        inside = np.where((inside > high) & (inside <= high + slack), high, inside)
        population = self.images if self.finite else None
        return ConfidenceSequence(low, high, confidence, population, tuple(inside.tolist()))


class Claim(Protocol):
    """That a number which images estimate lies on one side of a threshold."""

    @property
    def threshold(self) -> float:
        """What the number is held against."""
        ...

    @property
    def above(self) -> bool:
        """Whether it must be at least (else at most) the threshold."""
        ...

    def candidate(self, place: float) -> float:
        """Return a value that the number may have; it rises with ``place``, from 0 to 1."""
        ...

    def side(self, candidate: float, draw: Draw, confidence: float) -> Side | None:
        """Return the side of ``candidate`` that the number is proven to be on."""
        ...


@dataclass(frozen=True)
class MeanClaim:
    """That the mean of the values that exist is on one side of a threshold.

    A value that does not exist stands in the sequence as whatever the mean is held against: the
    mean of all images is then on the same side as that of the images that have one, so that
    neither bets on the other.

    Args:
        values: one per image, in the order in which they came; NaN where it has none.
        low: smallest possible value.
        high: largest possible value.
        threshold: for their mean.
        above: whether it must be at least (else at most) the threshold.
    """

    values: Float64
    low: float
    high: float
    threshold: float
    above: bool

    def candidate(self, place: float) -> float:
        """Return a value that the mean may have; it rises with ``place``, from 0 to 1."""
        return self.low + place * (self.high - self.low)

    def side(self, candidate: float, draw: Draw, confidence: float) -> Side | None:
        """Return the side of ``candidate`` that the mean is proven to be on."""
        if candidate < self.low or candidate > self.high:
            return "above" if candidate < self.low else "below"
        values = np.where(np.isnan(self.values), candidate, self.values)
        return draw.sequence(values, self.low, self.high, confidence).side_of(candidate)


@dataclass(frozen=True)
class SkillClaim:
    """That the skill score over one null map is at least a threshold.

    A skill of s or more says that the loss is at most (1 - s) times that of the null map, which is
    a bounded mean: that of ``(1 - s) null_losses - losses`` is 0 or more.

    Args:
        losses: how far each image is from perfect, in the order in which they came; NaN where
            either has no value, which counts neither way.
        null_losses: the same of the null map.
        span: largest possible loss.
        threshold: for the skill score.
    """

    losses: Float64
    null_losses: Float64
    span: float
    threshold: float
    above: bool = True

    def candidate(self, place: float) -> float:
        """Return a skill; it rises with ``place``, from minus infinity to 1."""
        return -math.inf if place <= 0 else 2 - 1 / place

    def side(self, candidate: float, draw: Draw, confidence: float) -> Side | None:
        """Return the side of ``candidate`` that the skill score is proven to be on."""
        share = 1 - candidate
        # On a scale on which the range does not grow with the share.
        scale = self.span * (1 + abs(share))
        values = (share * self.null_losses - self.losses) / scale
        low = (min(share, 0.0) - 1) * self.span / scale
        high = max(share, 0.0) * self.span / scale
        values = np.where(np.isnan(values), 0.0, values)
        return draw.sequence(values, low, high, confidence).side_of(0.0)


def is_certain(claim: Claim) -> bool:
    """Return whether a claim holds whatever the values are."""
    if isinstance(claim, SkillClaim):
        return False
    end = claim.candidate(0.0 if claim.above else 1.0)
    return claim.threshold <= end if claim.above else claim.threshold >= end


def outcome_of(
    claims: Sequence[Claim], draw: Draw, *, confidence: float, of_claims: int
) -> Outcome:
    """Return whether claims are all proven right, or one is proven wrong.

    Proven right where each is at (1 + confidence) / 2, an intersection-union test, which needs no
    correction; proven wrong where one is after Bonferroni's correction for the claims of the gate.

    Args:
        claims: of one condition.
        draw: how the images come.
        confidence: of the gate.
        of_claims: how many claims the gate has.
    """
    corrected = 1 - (1 - confidence) / of_claims
    right = []
    for claim in claims:
        good: Side = "above" if claim.above else "below"
        proven = is_certain(claim) or claim.side(claim.threshold, draw, confidence) == good
        right.append(proven)
        if not proven and claim.side(claim.threshold, draw, corrected) not in (good, None):
            return "fail"
    return "pass" if all(right) else "inconclusive"


def interval_of(claims: Sequence[Claim], draw: Draw, *, confidence: float) -> Interval:
    """Return where the worst of several numbers is, at whatever time one looks.

    Of a single one it is the interval of its sequence: what neither side excluded. Of several,
    each of which must be at least a threshold, the smallest is at least the smallest of the lower
    ends, and at most the smallest of the upper ends after Bonferroni's correction.
    """
    corrected = 1 - (1 - confidence) / len(claims)
    low = min(_end(claim, draw, confidence, "above") for claim in claims)
    high = min(_end(claim, draw, corrected, "below") for claim in claims)
    return Interval(low, high, confidence)


def _end(claim: Claim, draw: Draw, confidence: float, side: Side) -> float:
    """Return the last candidate that the number is proven to be on one side of."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        excluded = claim.side(claim.candidate(middle), draw, confidence) == side
        if excluded == (side == "above"):
            low = middle
        else:
            high = middle
    return claim.candidate(low if side == "above" else high)
