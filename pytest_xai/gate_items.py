"""A gate as a test item: it measures, judges, reports its row, and says what a failure means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_xai.items import GateFailure, ThresholdItem

if TYPE_CHECKING:
    from pytest_xai.neighbour_thresholds import NeighbourSpec
    from pytest_xai.report.calibration_rows import CalibrationRow
    from pytest_xai.report.rows import GateRow
    from pytest_xai.runs.rows import ComparedRow
    from pytest_xai.session import XaiSession
    from pytest_xai.thresholds import GateSpec, NewGate
    from pytest_xai.updates.proposing import Proposal
    from xai_core.gate import Judgement
    from xai_core.measurement import Measurement


@dataclass(frozen=True)
class Found:
    """What a gate found.

    Attributes:
        judgement: what came of it.
        notes: lines of a failure's message, below the first.
        beneath: name of an image -> the line below it in a failure's message.
    """

    judgement: Judgement
    notes: tuple[str, ...] = ()
    beneath: Mapping[str, str] = field(default_factory=dict)


class MetricItem(ThresholdItem):
    """One metric that a threshold file names, with or without a threshold."""

    gate: GateSpec | NewGate | NeighbourSpec
    row: GateRow | None = None
    proposal: Proposal | None = None

    @property
    def keys(self) -> list[str]:
        """Where it stands in its threshold file."""
        return ["gates", self.gate.method.name, self.gate.name]

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.gate.metric.metric.name}[{self.gate.method.name}] {self.subject}"

    def reported(self) -> Mapping[str, list[Any]]:
        """Return its row, and the threshold that it proposes if that is asked for."""
        return {
            "gates": [self.row] if self.row else [],
            "proposals": [self.proposal] if self.proposal else [],
            "declared": self.declared(),
        }

    def unmeasured(self, error: str) -> Mapping[str, list[Any]]:
        """Return its row if it could not be measured."""
        from pytest_xai.report.rows import unmeasured

        model, data = self.subject.model, self.subject.data
        row = unmeasured(model, self.gate, data=data, file=self.plan.shown, error=error)
        return {"gates": [row]}


class GateItem(MetricItem):
    """One gate."""

    gate: GateSpec | NeighbourSpec
    calibration: Sequence[CalibrationRow] = ()
    compared: ComparedRow | None = None

    def reported(self) -> Mapping[str, list[Any]]:
        """Return its row, and what else was asked for."""
        return {
            **super().reported(),
            "calibration": [*self.calibration],
            "compared": [self.compared] if self.compared else [],
        }

    def found(self, session: XaiSession) -> Found:
        """Measure and judge.

        Raises:
            XaiError: it cannot be measured.
        """
        raise NotImplementedError

    def measured(self, session: XaiSession) -> Measurement:
        """Measure.

        Raises:
            XaiError: it cannot be measured.
        """
        return self.found(session).judgement.measurement

    def calibrate(self, session: XaiSession, judgement: Judgement) -> None:
        """Measure with other seeds too, and report how far that goes.

        Raises:
            XaiError: it cannot be measured.
        """
        raise NotImplementedError

    def runtest(self) -> None:
        """Measure, judge and report.

        Raises:
            GateFailure: the gate does not pass.
        """
        from pytest_xai.predicted_masks import masks_behind
        from pytest_xai.report.rows import judged, masks_note
        from pytest_xai.session import session_of
        from xai_core.errors import XaiError

        session, gate = session_of(self.config), self.gate
        model, data = self.subject.model, self.subject.data
        strict = session.settings.strict
        # Stands if something raises that is not ours.
        [self.row] = self.unmeasured("stopped by an error")["gates"]
        if len(self.subject.sets) > 1:
            self.user_properties.append(("xai_data", data))
        try:
            found = self.found(session)
            if session.settings.calibrate is not None:
                self.calibrate(session, found.judgement)
                return
            masks = masks_behind(gate.metric.metric, session.images(model, self.plan, data))
        except XaiError as error:
            self.row["error"] = str(error)
            msg = f"{self.title}: cannot be measured: {error}"
            raise GateFailure(msg) from None
        self.row = judged(self.row, found.judgement, strict=strict)
        if session.settings.compare is not None:
            found = self._held_against_earlier(found)
            self.row = judged(self.row, found.judgement, strict=strict)
        self.user_properties += _properties(self.row, masks)
        if session.settings.update:
            from pytest_xai.updates.proposing import proposal_of

            self.proposal = proposal_of(self, session, found.judgement, fresh=False)
        judgement = replace(found.judgement, model=str(self.subject))
        if judgement.passes(strict=strict):
            return
        notes = (masks_note(masks), *found.notes) if masks else found.notes
        message = failure_text(
            judgement, strict=strict, again=self.again(), notes=notes, beneath=found.beneath
        )
        self.fail(message, level=gate.level)

    def _held_against_earlier(self, found: Found) -> Found:
        """Return what the gate found with what an earlier run says.

        Raises:
            GateFailure: it has a margin, and cannot be compared.
        """
        from pytest_xai.runs.comparing import COMPARING

        held = self.config.stash[COMPARING].hold(self, found.judgement)
        if held is None or self.row is None:
            return found
        self.compared = held.row
        if held.error:
            self.row["passed"], self.row["outcome"] = False, "error"
            self.row["error"] = held.error
            msg = f"{self.title}: {held.error}"
            raise GateFailure(msg)
        return replace(found, judgement=held.judgement, notes=(*held.notes, *found.notes))


class ExplainerGateItem(GateItem):
    """One gate on an explainer."""

    gate: GateSpec
    calibrates = True

    def found(self, session: XaiSession) -> Found:
        """Measure the explainer and judge.

        Raises:
            XaiError: it cannot be measured.
        """
        return Found(session.judge(self.subject.model, self.plan, self.gate, self.subject.data))

    def measured(self, session: XaiSession) -> Measurement:
        """Measure, and no null map.

        Raises:
            XaiError: it cannot be measured.
        """
        evaluation = session.evaluation(self.subject.model, self.plan, self.subject.data)
        return evaluation.measure(self.gate.method, self.gate.metric)

    def calibrate(self, session: XaiSession, judgement: Judgement) -> None:
        """Measure with other seeds too, and report how far that goes.

        Raises:
            GateFailure: it is random without a seed, which is a defect.
            XaiError: it cannot be measured.
        """
        from pytest_xai.calibration import NotDeterministicError, calibrate
        from pytest_xai.report.calibration_rows import calibration_rows
        from pytest_xai.report.rows import judged

        if self.row is None:
            return
        try:
            found = calibrate(session, self.subject, self.path, self.plan, self.gate, judgement)
        except NotDeterministicError as error:
            self.row["error"] = str(error)
            msg = f"{self.title}: {error}"
            raise GateFailure(msg) from None
        self.row = judged(self.row, judgement, strict=False)
        rate = session.settings.calibrate_rate
        self.calibration = calibration_rows(self.row, found, rate=rate)


def failure_text(
    judgement: Judgement,
    *,
    strict: bool,
    again: str | None,
    notes: Sequence[str] = (),
    beneath: Mapping[str, str] | None = None,
) -> str:
    """Return the message of a failed gate: what decided, the worst images, how to run it again.

    Args:
        judgement: what came of the gate.
        strict: whether only what is proven passes.
        again: the command that runs it again.
        notes: lines below the first.
        beneath: name of an image -> the line below it.
    """
    worst = judgement.worst_class()
    if worst is not None:
        n = judgement.counted(worst.images)
        notes = [f"worst class: {worst.name} {worst.mean:.3f}, n={n}", *notes]
    lines = [judgement.headline(strict=strict), *notes, "", "worst images:"]
    for name, value, remark in judgement.worst_images():
        shown = "undefined" if value is None else f"{value:.3f}"
        lines.append(f"  {shown:>9}  {name}" + (f"  ({remark})" if remark else ""))
        if beneath and name in beneath:
            lines.append(f"{'':13}{beneath[name]}")
    if again:
        lines += ["", "run just this gate again:", f"  {again}"]
    return "\n".join(lines)


def _properties(row: GateRow, masks_from: str | None) -> list[tuple[str, object]]:
    """Return what JUnit files and other reports show of a gate."""
    named: dict[str, object] = {
        "xai_protocol": row["protocol"],
        "xai_outcome": row["outcome"],
        "xai_images": row["images"],
        "xai_groups": row["groups"],
        "xai_undefined": row["undefined"],
        "xai_masks_from": masks_from,
    }
    for demand in row["demands"][:1]:
        named["xai_value"] = demand["value"]
        named["xai_threshold"] = demand["threshold"]
        named["xai_ci_low"] = demand["low"]
        named["xai_ci_high"] = demand["high"]
    return [(name, value) for name, value in named.items() if value is not None]
