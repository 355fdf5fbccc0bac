"""A gate without a threshold as a test item: it fails, and ``--xai-update`` gives it one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pytest_xai.gate_items import MetricItem

if TYPE_CHECKING:
    from pytest_xai.session import XaiSession
    from pytest_xai.thresholds import NewGate
    from xai_core.gate import Judgement


class NewGateItem(MetricItem):
    """One gate that has no threshold yet."""

    gate: NewGate

    def runtest(self) -> None:
        """Fail; where thresholds are to be written, measure first.

        Raises:
            GateFailure: always, unless the gate only warns.
        """
        from pytest_xai.report.rows import judged
        from pytest_xai.session import session_of
        from pytest_xai.updates.proposing import proposal_of
        from xai_core.errors import XaiError

        session, gate, title = session_of(self.config), self.gate, self.title
        # Stands if something raises that is not ours.
        [row] = self.unmeasured("stopped by an error")["gates"]
        self.row = row
        if session.settings.update is None:
            row["outcome"], row["error"] = "new", None
            msg = f"{title}: has no threshold yet; --xai-update measures it and writes one"
            self.fail(msg, level=gate.level)
            return
        try:
            judgement = self._judged(session)
        except XaiError as error:
            row["error"] = str(error)
            self.fail(f"{title}: cannot be measured: {error}", level="fail")
            return
        self.row = judged(row, judgement, strict=False)
        self.row["passed"] = False
        self.proposal = proposal_of(self, session, judgement, fresh=True)
        if judgement.too_many_undefined:
            self.fail(f"{title}: {judgement.too_many_undefined}", level=gate.level)
            return
        self.row["outcome"] = "new"
        found, [number] = judgement.findings[0], self.proposal["numbers"]
        proposed = number["why"] or f"proposed {number['key']} = {number['new']:g}"
        self.fail(
            f"{title}: no threshold yet: measured {found.value:.3f} ({found.interval}, "
            f"n={judgement.counted(judgement.units)}), {proposed}",
            level=gate.level,
        )

    def _judged(self, session: XaiSession) -> Judgement:
        """Return what comes of the gate if it gets the threshold that its values propose."""
        from pytest_xai.updates.proposing import RATE
        from xai_core.calibration import threshold_for

        judgement = self._judged_at(0.0, session)
        if not judgement.findings:  # no image has a value
            return judgement
        return self._judged_at(
            threshold_for([judgement.findings[0]], rate=RATE, seed=session.sources.seed),
            session,
        )

    def _judged_at(self, edge: float, session: XaiSession) -> Judgement:
        """Return what comes of the gate with a threshold."""
        from pytest_xai.thresholds import GateSpec
        from xai_core.gate import Conditions

        gate, subject = self.gate, self.subject
        above = gate.metric.metric.better == "higher"
        conditions = Conditions(
            above=edge if above else None,
            below=None if above else edge,
            **dataclasses.asdict(gate.conditions),
        )
        spec = GateSpec(gate.name, gate.method, gate.metric, conditions, gate.level, gate.line)
        return session.judge(subject.model, self.plan, spec, subject.data)
