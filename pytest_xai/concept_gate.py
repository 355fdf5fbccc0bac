"""What a threshold file demands of a concept, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from xai_core.concepts.result import TCAVResult, Verdict
from xai_core.parameters import require
from xai_core.statistics import Interval, Outcome, images_to_settle, verdict

Condition = Literal["verdict", "tcav", "effect"]
"""The verdict of the test, its score, or its effect."""

SHOWN = 5

_MEANINGS: dict[Verdict, str] = {
    "present": (
        "the class's logit rises along the concept more than along random sets of images "
        "(corrected p below {level:g})"
    ),
    "opposed": (
        "the class's logit falls along the concept more than along random sets of images "
        "(corrected p below {level:g})"
    ),
    "absent": (
        "the concept does no more for the class than random sets of images do, and its effect is "
        "proven to lie within +-{margin:g}"
    ),
    "undecided": (
        "neither is proven: not that the class rests on the concept more than on random sets, and "
        "not that the effect lies within +-{margin:g}"
    ),
    "not learnt": (
        "the layer does not tell the concept from its counterexamples (CAV accuracy "
        "{accuracy:.2f}, no better than chance), so nothing follows for the class"
    ),
}


@dataclass(frozen=True)
class Bounds:
    """Where a number must lie.

    Args:
        above: it must be at least this.
        below: it must be at most this.
    """

    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.above, self.below) if value is not None]
        require(bool(given), "a threshold needs its direction: `above` or `below`")
        require(all(map(math.isfinite, given)), "`above` and `below` must be finite numbers")
        require(given == sorted(given), f"nothing lies above {given[0]:g} and below {given[-1]:g}")

    def __str__(self) -> str:
        return " and ".join(
            f"{sign} {value:g}"
            for sign, value in ((">=", self.above), ("<=", self.below))
            if value is not None
        )


Demand: TypeAlias = tuple[Verdict, ...] | Bounds
"""Verdicts, one of which must be the test's; or where its score or its effect must lie."""


def wanted(condition: Condition, demand: Demand) -> str:
    """Return a demand as a person reads it.

    >>> wanted("verdict", ("absent", "not learnt"))
    'absent or not learnt'
    >>> wanted("tcav", Bounds(above=0.8))
    'score >= 0.8'
    """
    if isinstance(demand, Bounds):
        return f"{_what(condition)} {demand}"
    return " or ".join(demand)


def _what(condition: Condition) -> str:
    return "score" if condition == "tcav" else condition


@dataclass(frozen=True)
class ConceptJudgement:
    """One condition of one concept, class and layer, decided.

    Attributes:
        result: what the test found.
        condition: what of it is asked.
        demand: what it must be.
    """

    result: TCAVResult
    condition: Condition
    demand: Demand

    @property
    def wanted(self) -> str:
        """The demand as a person reads it."""
        return wanted(self.condition, self.demand)

    @property
    def value(self) -> float | None:
        """The score or the effect; None for a verdict."""
        return {"tcav": self.result.score, "effect": self.result.effect}.get(self.condition)

    @property
    def outcome(self) -> Outcome:
        """What is proven: a verdict itself, a number by its interval."""
        if not isinstance(self.demand, Bounds):
            return "pass" if self.result.verdict in self.demand else "fail"
        if self._is_meaningless:
            return "fail"
        outcomes = [verdict(self._interval, edge, above=above) for edge, above in self._edges]
        if "fail" in outcomes:
            return "fail"
        return "inconclusive" if "inconclusive" in outcomes else "pass"

    def passes(self, *, strict: bool = False) -> bool:
        """Return whether the value is on the right side; ``strict``: whether that is proven."""
        if not isinstance(self.demand, Bounds) or self._is_meaningless or strict:
            return self.outcome == "pass"
        return all(self._holds(edge, above=above) for edge, above in self._edges)

    def decided_by(self, *, strict: bool = False) -> str:
        """Return the comparison that decided: the first that fails, or all; else the verdict."""
        result, value = self.result, self.value
        if value is None or self._is_meaningless:
            return f"{result.verdict}, wanted {self.wanted}"
        failing = [
            (edge, above)
            for edge, above in self._edges
            if not (
                verdict(self._interval, edge, above=above) == "pass"
                if strict
                else self._holds(edge, above=above)
            )
        ]
        parts = []
        for edge, above in failing[:1] or self._edges:
            holds = self._holds(edge, above=above)
            sign = (">=" if holds else "<") if above else ("<=" if holds else ">")
            parts.append(f"{value:.3f} {sign} {edge:.3f}")
        evidence = f"({self._interval}, n={len(result.names)})"
        text = f"{_what(self.condition)} {' and '.join(parts)} {evidence}"
        if strict and failing and self._holds(failing[0][0], above=failing[0][1]):
            text += ": not proven"
        return text

    def meaning(self) -> str:
        """Return the line that says what the verdict means."""
        result, tcav = self.result, self.result.tcav
        meaning = _MEANINGS[result.verdict].format(
            level=tcav.level, margin=tcav.margin, accuracy=result.accuracy
        )
        return f"{result.verdict}: {meaning}"

    def advice(self) -> list[str]:
        """Return lines that say what would settle an undecided verdict; none for another one."""
        result = self.result
        if result.verdict != "undecided":
            return []
        tcav, interval, n = result.tcav, result.effect_interval, len(result.names)
        apart = abs(result.alignment - result.null_alignments[0])
        lines = [
            f"to prove that it counts: the alignment is {apart:.3f} from that of random sets, "
            f"which show {result.detectable:.3f} with power 0.8 (less after correction); more, and "
            "more varied, images of the concept and random ones make random sets differ less"
        ]
        if abs(result.effect) >= tcav.margin:
            lines.append(
                f"to prove that it does not: the effect itself, {result.effect:+.2f}, lies outside "
                f"+-{tcav.margin:g}, which no number of images changes; a wider `margin` would"
            )
            return lines
        edge = math.copysign(tcav.margin, result.effect)
        needed = images_to_settle(interval, result.effect, edge, n)
        more = "more" if needed is None else f"about {needed}"
        lines.append(
            f"to prove that it does not: the interval of the effect, {interval.low:+.2f}.."
            f"{interval.high:+.2f}, must lie within +-{tcav.margin:g}; it takes {more} images of "
            f"the class, which has {n}, and as many times more of the concept and random ones"
        )
        return lines

    def telling_images(self) -> list[tuple[str, float]]:
        """Return name and sensitivity of the class's images with the largest sensitivity."""
        sensitivities = self.result.sensitivities
        order = np.argsort(-np.abs(sensitivities), kind="stable")[:SHOWN]
        return [(self.result.names[index], float(sensitivities[index])) for index in order]

    @property
    def _is_meaningless(self) -> bool:
        """Whether there is no direction that a score could be along."""
        return self.condition == "tcav" and not self.result.learnt

    @property
    def _interval(self) -> Interval:
        result = self.result
        return result.score_interval if self.condition == "tcav" else result.effect_interval

    @property
    def _edges(self) -> list[tuple[float, bool]]:
        if not isinstance(self.demand, Bounds):
            return []
        edges = ((self.demand.above, True), (self.demand.below, False))
        return [(edge, above) for edge, above in edges if edge is not None]

    def _holds(self, edge: float, *, above: bool) -> bool:
        value = math.nan if self.value is None else self.value
        return value >= edge if above else value <= edge
