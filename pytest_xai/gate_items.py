"""A gate as a test item: it measures, judges, reports its row, and says what a failure means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_xai.items import GateFailure, ThresholdItem

if TYPE_CHECKING:
    from pytest_xai.neighbour_thresholds import NeighbourSpec
    from pytest_xai.report.rows import GateRow
    from pytest_xai.session import XaiSession
    from pytest_xai.thresholds import GateSpec
    from xai_core.gate import Judgement


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


class GateItem(ThresholdItem):
    """One gate."""

    gate: GateSpec | NeighbourSpec
    row: GateRow | None = None

    def reported(self) -> Mapping[str, list[Any]]:
        """Return the gate's row."""
        return {"gates": [self.row] if self.row else []}

    def found(self, session: XaiSession) -> Found:
        """Measure and judge.

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
        from pytest_xai.report.rows import judged, masks_note, unmeasured
        from pytest_xai.session import session_of
        from xai_core.errors import XaiError

        session, gate = session_of(self.config), self.gate
        model, data = self.subject.model, self.subject.data
        strict = session.settings.strict
        # Stands if something raises that is not ours.
        self.row = unmeasured(
            model, gate, data=data, file=self.plan.shown, error="stopped by an error"
        )
        if len(self.subject.sets) > 1:
            self.user_properties.append(("xai_data", data))
        try:
            found = self.found(session)
            masks = masks_behind(gate.metric.metric, session.images(model, self.plan, data))
        except XaiError as error:
            self.row["error"] = str(error)
            subject = f"{gate.metric.metric.name}[{gate.method.name}] {self.subject}"
            msg = f"{subject}: cannot be measured: {error}"
            raise GateFailure(msg) from None
        self.row = judged(self.row, found.judgement, strict=strict)
        self.user_properties += _properties(self.row, masks)
        judgement = replace(found.judgement, model=str(self.subject))
        if judgement.passes(strict=strict):
            return
        notes = (masks_note(masks), *found.notes) if masks else found.notes
        message = failure_text(
            judgement, strict=strict, again=self.again(), notes=notes, beneath=found.beneath
        )
        self.fail(message, level=gate.level)


class ExplainerGateItem(GateItem):
    """One gate on an explainer."""

    gate: GateSpec

    def found(self, session: XaiSession) -> Found:
        """Measure the explainer and judge.

        Raises:
            XaiError: it cannot be measured.
        """
        return Found(session.judge(self.subject.model, self.plan, self.gate, self.subject.data))


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
        "xai_undefined": row["undefined"],
        "xai_masks_from": masks_from,
    }
    for demand in row["demands"][:1]:
        named["xai_value"] = demand["value"]
        named["xai_threshold"] = demand["threshold"]
        named["xai_ci_low"] = demand["low"]
        named["xai_ci_high"] = demand["high"]
    return [(name, value) for name, value in named.items() if value is not None]
