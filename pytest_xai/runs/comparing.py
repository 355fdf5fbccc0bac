"""A gate with a margin held against an earlier run, and the proof of a loss corrected."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from pytest_xai.runs.folder import EarlierRun
from pytest_xai.runs.measured import (
    Counterpart,
    as_measured,
    counterpart,
    images_of,
    measured_by,
    rests_on_what_is_saved,
)
from pytest_xai.runs.pairing import Pairs, pair
from pytest_xai.runs.rows import ComparedRow
from pytest_xai.runs.saved_run import SavedImage, SavedSubject, printable
from pytest_xai.runs.saving import versions
from pytest_xai.session import session_of
from xai_core.classifier import normalisation_text, weights_digest
from xai_core.gate import Conditions, Judgement, compare_gate, loss_finding
from xai_core.measurement import Measurement
from xai_core.statistics import (
    Comparison,
    Reproduction,
    holm,
    reproduction,
)

if TYPE_CHECKING:
    from pytest_xai.gate_items import GateItem
    from pytest_xai.session import XaiSession


@dataclass(frozen=True)
class Held:
    """What came of holding a gate against an earlier run.

    Attributes:
        judgement: the gate's, with one more finding where it was compared.
        row: for reports.
        notes: lines of a failure's message.
        error: why it cannot be compared, where that fails the gate.
    """

    judgement: Judgement
    row: ComparedRow
    notes: tuple[str, ...] = ()
    error: str = ""


class Comparing:
    """Holds the gates of a run against an earlier one; each is compared once."""

    def __init__(self, earlier: EarlierRun) -> None:
        self.earlier = earlier
        self._p_losses: dict[str, float] = {}
        self._counterparts: dict[str, Counterpart] = {}
        self._versions = versions()

    def hold(self, item: GateItem, judgement: Judgement) -> Held | None:
        """Return what came of a gate; None where it has no margin.

        Args:
            item: the gate.
            judgement: what came of its other conditions.
        """
        margin, confidence = judgement.conditions.not_worse_by, judgement.conditions.confidence
        if margin is None:
            return None
        session, earlier = session_of(item.config), self.earlier
        strict = session.settings.strict
        found = self._counterpart(item)
        row = self._row(item, margin, confidence)
        if found.measurement is None or found.subject is None:
            row["status"], row["why"] = "incomparable" if found.known else "new", found.why
            if found.known and strict:
                return self._error(judgement, row, f"it measured something else: {found.why}")
            return Held(judgement, row)
        if not judgement.images:  # which fails without a comparison
            row["status"], row["why"] = "error", "no image has a value"
            return Held(judgement, row)
        pairs = _pairs(item, judgement.measurement, found)
        complaints, row["left_out"] = pairs.complaints(), "; ".join(pairs.left_out())
        complaints += [
            f"another {what}, {before} -> {after}"
            for what, before, after in _preprocessing(item, session, found.subject)
        ]
        if not len(pairs.values):
            why = "; ".join(complaints) or "no image has a value in both runs"
            return self._error(judgement, row, f"no image is in both runs with a value: {why}")
        if strict and complaints:
            return self._error(judgement, row, "; ".join(complaints))
        comparison = _compare(pairs, judgement.measurement, judgement.conditions, margin, session)
        self._p_losses[item.nodeid] = comparison.p_loss
        lost = self._loss_is_proven(item, comparison.p_loss, row["level"])
        finding = loss_finding(comparison, earlier=earlier.name, loss_is_proven=lost)
        row["difference"], row["images"] = comparison.difference, comparison.images
        row["low"] = _finite(comparison.interval.low)
        row["high"] = _finite(comparison.interval.high)
        row["p_loss"], row["loss_is_proven"] = comparison.p_loss, lost
        again = self._reproduction(item, pairs, found)
        if again is not None:
            row["moved"], row["moved_of"] = again.moved, again.images
        judgement = replace(
            judgement,
            findings=(*judgement.findings, finding),
            against=earlier.name,
            reproduction=again,
        )
        notes: tuple[str, ...] = ()
        if again is not None and not again.holds:
            notes = (_what_moved(item, session, found.subject),)
        if notes or not (finding.outcome == "pass" if strict else finding.holds):
            notes += self._notes(judgement, pairs)
        return Held(judgement, row, notes)

    def _reproduction(
        self, item: GateItem, pairs: Pairs, found: Counterpart
    ) -> Reproduction | None:
        """Return how a gate's values lie beside those of then; None where they may differ.

        They may not where the weights, the images, what is measured, its seeds, the versions of
        libraries and the device are those of then, whatever else a model's maker changed.
        """
        session, run, then = session_of(item.config), self.earlier.run, found.subject
        if then is None or then.weights is None or not item.gate.conditions.reproducible:
            return None
        classifier = session.evaluation(item.subject.model, item.plan, item.subject.data).classifier
        alike = (
            weights_digest(classifier) == then.weights
            and classifier.device == then.device
            and run.seed == session.sources.seed
            and run.versions == self._versions
            and found.measurement is not None
            and as_measured(found.measurement) == measured_by(item.gate)
            and rests_on_what_is_saved(item.gate)
            and bool(pairs.unchanged.any())
        )
        if not alike:
            return None
        return reproduction(
            pairs.values[pairs.unchanged],
            pairs.earlier[pairs.unchanged],
            bounds=item.gate.metric.metric.range,
            scale=item.gate.metric.metric.scale,
        )

    def family(self, item: GateItem) -> list[GateItem]:
        """Return the selected gates of a model on an image set that are compared."""
        from pytest_xai.gate_items import GateItem

        return [
            other
            for other in item.session.items
            if isinstance(other, GateItem)
            and other.subject == item.subject
            and other.gate.conditions.not_worse_by is not None
            and self._counterpart(other).measurement is not None
        ]

    def _loss_is_proven(self, item: GateItem, p_loss: float, level: float) -> bool:
        """Return whether a loss is proven, corrected for all gates of the family [Holm 1979].

        Its corrected p-value lies between ``p_loss`` and as many times that as the family has
        members; only where ``level`` lies between the two are the others measured now. One that
        cannot be counts as one that proves nothing.
        """
        family = self.family(item)
        if p_loss > level:
            return False
        if p_loss * len(family) <= level:
            return True
        own = next(place for place, other in enumerate(family) if other is item)
        return holm([self._p_loss(other) for other in family])[own] <= level

    def _p_loss(self, item: GateItem) -> float:
        """Return the p-value of a loss of a gate; 1 where it cannot be compared."""
        if item.nodeid not in self._p_losses:
            self._p_losses[item.nodeid] = self._measured_p_loss(item)
        return self._p_losses[item.nodeid]

    def _measured_p_loss(self, item: GateItem) -> float:
        session, conditions = session_of(item.config), item.gate.conditions
        margin, found = conditions.not_worse_by, self._counterpart(item)
        if margin is None or found.measurement is None:
            return 1.0
        try:
            measurement = item.measured(session)
            pairs = _pairs(item, measurement, found)
            if not len(pairs.values):
                return 1.0
            return _compare(pairs, measurement, conditions, margin, session).p_loss
        except Exception:  # of whatever kind, it is for that gate's own test to say
            return 1.0

    def _counterpart(self, item: GateItem) -> Counterpart:
        if item.nodeid not in self._counterparts:
            model, data = item.subject.model, item.subject.data
            self._counterparts[item.nodeid] = counterpart(item.gate, self.earlier, model, data)
        return self._counterparts[item.nodeid]

    def _row(self, item: GateItem, margin: float, confidence: float) -> ComparedRow:
        return ComparedRow(
            model=item.subject.model,
            data=item.subject.data,
            file=item.plan.shown,
            line=item.line,
            method=item.gate.method.name,
            gate=item.gate.name,
            metric=item.gate.metric.metric.name,
            against=self.earlier.name,
            status="compared",
            why="",
            margin=margin,
            difference=None,
            low=None,
            high=None,
            images=0,
            left_out="",
            moved=None,
            moved_of=None,
            p_loss=None,
            loss_is_proven=False,
            family=len(self.family(item)),
            level=_level(confidence),
        )

    def _error(self, judgement: Judgement, row: ComparedRow, why: str) -> Held:
        row["status"], row["why"] = "error", printable(why)
        error = f"cannot be compared with {self.earlier.name}: {row['why']}"
        return Held(judgement, row, error=error)

    def _notes(self, judgement: Judgement, pairs: Pairs) -> tuple[str, ...]:
        """Return the lines that say which images lost or moved most, and which have no pair."""
        higher = judgement.measurement.metric.metric.better == "higher"
        moved = judgement.reproduction is not None and not judgement.reproduction.holds
        what = "moves" if moved else "losses"
        found = pairs.largest_moves() if moved else pairs.largest_losses(higher_is_better=higher)
        largest = [f"{name} {then:.3f} -> {now:.3f}" for name, then, now in found]
        return tuple(
            printable(f"{title}: {', '.join(parts)}")
            for title, parts in (
                (f"largest {what} since {self.earlier.name}", largest),
                ("not compared", pairs.not_compared()),
            )
            if parts
        )


COMPARING = pytest.StashKey[Comparing]()
"""What a run with ``--xai-compare`` holds its gates against."""


def _pairs(item: GateItem, measurement: Measurement, found: Counterpart) -> Pairs:
    session, subject = session_of(item.config), found.subject
    images = images_of(session.evaluation(item.subject.model, item.plan, item.subject.data))
    values = [_finite(value) for value in measurement.values.tolist()]
    there: Sequence[SavedImage] = () if subject is None else subject.images
    before = {} if found.measurement is None else found.measurement.values
    return pair(images, dict(zip(measurement.names, values, strict=True)), there, before)


def _compare(
    pairs: Pairs,
    measurement: Measurement,
    conditions: Conditions,
    margin: float,
    session: XaiSession,
) -> Comparison:
    groups = measurement.groups
    group_of = dict(zip(measurement.names, groups or measurement.names, strict=True))
    return compare_gate(
        pairs.values,
        pairs.earlier,
        measurement.metric.metric,
        conditions,
        margin=margin,
        groups=None if groups is None else [group_of[name] for name in pairs.names],
        names=pairs.names,
        seed=session.sources.seed,
    )


def _preprocessing(
    item: GateItem, session: XaiSession, then: SavedSubject
) -> Iterator[tuple[str, str, str]]:
    """Yield what of it is otherwise than then, with what it was and what it is."""
    evaluation = session.evaluation(item.subject.model, item.plan, item.subject.data)
    transform = str(evaluation.images.transform)
    normalisation = normalisation_text(evaluation.classifier)
    if then.transform != transform:
        yield "preprocessing", then.transform, transform
    if then.normalisation not in (None, normalisation):
        yield "normalisation", str(then.normalisation), normalisation


def _what_moved(item: GateItem, session: XaiSession, then: SavedSubject) -> str:
    """Return what may have moved the values of the same weights on the same images."""
    recorded = [
        f"another {what}, {before} -> {after}"
        for what, before, after in _preprocessing(item, session, then)
    ]
    unrecorded = "the code of the model or the explainer, or what is done to images on their way in"
    return f"what changed: {'; '.join(recorded) or unrecorded}; if that is meant, save the run anew"


def _level(confidence: float) -> float:
    """Return the one-sided level of each end of an interval."""
    return (1 - confidence) / 2


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
