"""Which numbers a gate's measurement would put into its threshold file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from xai_core.calibration import threshold_for
from xai_core.gate import Conditions, Finding, Judgement

if TYPE_CHECKING:
    from pytest_xai.gate_items import MetricItem
    from pytest_xai.session import XaiSession

RATE = 0.01
"""How often an unchanged model would miss a proposed threshold on another draw of images."""


class Number(TypedDict):
    """One number of a gate: what stands under ``key`` and what was measured.

    ``above`` says whether a larger number demands more, ``holds`` whether the gate meets the one
    that stands. ``new`` is None where nothing can be proposed, and ``why`` then says why not.
    """

    key: str
    above: bool
    old: float | None
    new: float | None
    why: str
    holds: bool


class Proposal(TypedDict):
    """The numbers of one gate on one model and image set; travels on a test's report.

    Attributes:
        file: the threshold file, and ``shown`` how messages call it.
        digest: of its content as the gate was read from it.
        line: where the gate stands in it.
        keys: of the gate's table.
        gate: how messages call the gate.
        subject: the model and, where there are several, the image set.
        subjects: all that the file is held on in this run.
        fresh: whether the gate has no threshold yet.
        passed: whether the gate passes with the numbers that stand.
        obstacle: why none of its numbers may be written; empty if they may.
        unfitted: the demands without a number that the gate does not meet.
    """

    file: str
    shown: str
    digest: str
    line: int
    keys: list[str]
    gate: str
    subject: str
    subjects: list[str]
    fresh: bool
    passed: bool
    obstacle: str
    numbers: list[Number]
    unfitted: list[str]


def proposal_of(
    item: MetricItem, session: XaiSession, judgement: Judgement, *, fresh: bool
) -> Proposal:
    """Return what a judged gate proposes.

    Args:
        item: the gate's test, whose row says whether it passes.
        session: the run's.
        judgement: what came of the gate; of one without a threshold, with the proposed one.
        fresh: whether it has no threshold yet.
    """
    gate = item.gate
    keys = _keys(judgement.conditions)
    pairs = list(zip(keys, judgement.findings, strict=False))
    others = [found for key, found in pairs if key is None] + list(judgement.findings[len(keys) :])
    return Proposal(
        file=str(item.path),
        shown=item.plan.shown,
        digest=item.plan.digest,
        line=item.line,
        keys=item.keys,
        gate=f"{gate.name}[{gate.method.name}]",
        subject=str(item.subject),
        subjects=_subjects(item, session),
        fresh=fresh,
        passed=item.row is not None and item.row["passed"],
        obstacle=_obstacle(judgement, fresh=fresh),
        numbers=[
            _number(key, found, fresh=fresh, seed=session.sources.seed)
            for key, found in pairs
            if key is not None
        ],
        unfitted=[found.text for found in others if not found.holds],
    )


def _keys(conditions: Conditions) -> list[str | None]:
    """Return what the number of each finding stands under; None where it has none."""
    keys: list[str | None] = []
    if conditions.above is not None or conditions.below is not None:
        edge = "above" if conditions.above is not None else "below"
        of_images = [
            key for key in ("mostly", "max_failures") if getattr(conditions, key) is not None
        ]
        keys.append(of_images[0] if of_images else edge)
    keys += [None] * len(conditions.beats)
    if conditions.skill_above is not None:
        keys.append("skill_above")
    return keys


def _number(key: str, found: Finding, *, fresh: bool, seed: int) -> Number:
    """Return a number; none is proposed that anything would meet."""
    new = threshold_for([found], rate=RATE, seed=seed)
    if key == "max_failures":
        new = float(math.ceil(new))
    why = ""
    if new == found.bounds[0 if found.above else 1]:
        why = f"the proposed {key} = {new:g} is the worst that there is"
    return Number(
        key=key,
        above=found.above,
        old=None if fresh else float(found.threshold),
        new=None if why else float(new),
        why=why,
        holds=found.holds,
    )


def _obstacle(judgement: Judgement, *, fresh: bool) -> str:
    if judgement.too_many_undefined:
        return judgement.too_many_undefined
    if judgement.units < 2:
        return f"one {'group' if judgement.in_groups else 'image'} says nothing of the spread"
    if judgement.outcome == "inconclusive" and not fresh:
        return "inconclusive, the interval holds the threshold"
    return ""


def _subjects(item: MetricItem, session: XaiSession) -> list[str]:
    """Return every model and image set that the item's file is held on in this run."""
    from pytest_xai.collect import ThresholdModule
    from pytest_xai.items import Subject

    module = item.getparent(ThresholdModule)
    models: Sequence[str] = module.models if module else (item.subject.model,)
    found = []
    for model in models:
        sources = session.sources.image_sources(model, item.plan)
        sets = tuple(source.name for source in sources) or ("",)
        found += [str(Subject(model, name, sets)) for name in sets]
    return found
