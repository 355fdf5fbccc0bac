"""The concepts of a threshold file as test items: concept, and each demand on a class and layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_xai.items import GateFailure, Subject, ThresholdItem

if TYPE_CHECKING:
    from pytest_xai.concept_gate import ConceptJudgement, Condition
    from pytest_xai.concept_thresholds import Case, ConceptSpec
    from pytest_xai.report.concept_rows import ConceptRow
    from pytest_xai.thresholds import ThresholdFile


class ConceptsNode(pytest.Collector):
    """All concepts of a threshold file."""

    subject: Subject
    plan: ThresholdFile

    @classmethod
    def build(cls, parent: pytest.Collector, subject: Subject, plan: ThresholdFile) -> ConceptsNode:
        """Return the collector of the concepts of ``plan``."""
        node: ConceptsNode = cls.from_parent(parent, name="concepts")
        node.subject, node.plan = subject, plan
        return node

    def collect(self) -> Iterable[pytest.Collector]:
        """Yield one collector for each concept, in the order of the file."""
        for index, spec in enumerate(self.plan.concepts):
            node: ConceptNode = ConceptNode.from_parent(self, name=spec.name)
            node.subject, node.plan, node.spec, node.index = self.subject, self.plan, spec, index
            yield node


class ConceptNode(pytest.Collector):
    """What is demanded of one concept."""

    subject: Subject
    plan: ThresholdFile
    spec: ConceptSpec
    index: int

    def collect(self) -> Iterable[ConceptItem]:
        """Yield each demand at each class and layer."""
        demands = [(case, condition) for case in self.spec.cases for condition in self.spec.demands]
        for number, (case, condition) in enumerate(demands):
            name = f"{condition}[{case.id}]" if case.id else condition
            item: ConceptItem = ConceptItem.from_parent(self, name=name)
            item.subject, item.plan = self.subject, self.plan
            item.line = self.spec.lines[condition]
            item.spec, item.case, item.condition = self.spec, case, condition
            item.place = (self.index, number)
            yield item


class ConceptItem(ThresholdItem):
    """One demand on one concept, class and layer."""

    spec: ConceptSpec
    case: Case
    condition: Condition
    place: tuple[int, int]
    row: ConceptRow | None = None

    def reported(self) -> Mapping[str, list[Any]]:
        """Return the demand's row with its place in the file."""
        return {"concept_gates": [(self.place, self.row)] if self.row else []}

    def unmeasured(self, error: str) -> Mapping[str, list[Any]]:
        """Return the row of a demand that could not be tested, with its place in the file."""
        return {"concept_gates": [(self.place, self._untested(error))]}

    def runtest(self) -> None:
        """Test and judge.

        Raises:
            GateFailure: the demand is not met.
        """
        from pytest_xai.concept_gate import ConceptJudgement
        from pytest_xai.report.concept_rows import decided
        from pytest_xai.session import session_of
        from xai_core.errors import XaiError

        session, subject = session_of(self.config), self.subject
        strict = session.settings.strict
        # Stands if something raises that is not ours.
        self.row = self._untested("stopped by an error")
        if len(subject.sets) > 1:
            self.user_properties.append(("xai_data", subject.data))
        try:
            result, class_name = session.concept_test(
                subject.model, self.plan, self.spec, self.case, subject.data
            )
        except XaiError as error:
            self.row["error"] = str(error)
            raise GateFailure(f"{self.title}: cannot be tested: {error}") from None
        demand = self.spec.demands[self.condition]
        judgement = ConceptJudgement(result, self.condition, demand)
        self.row = decided(self.row, judgement, class_name=class_name, strict=strict)
        self.user_properties += _properties(self.row)
        if not judgement.passes(strict=strict):
            text = failure_text(judgement, self.title, strict=strict, again=self.again())
            self.fail(text, level=self.spec.level)

    def _untested(self, error: str) -> ConceptRow:
        from pytest_xai.concept_gate import Bounds, wanted
        from pytest_xai.report.concept_rows import ConceptRow

        demand = self.spec.demands[self.condition]
        bounds = demand if isinstance(demand, Bounds) else None
        return ConceptRow(
            model=self.subject.model,
            data=self.subject.data,
            file=self.plan.shown,
            line=self.line,
            concept=self.spec.name,
            class_name=str(self.case.of_class),
            layer=self.case.layer or "",
            gate=self.name,
            condition=self.condition,
            protocol=self.spec.tcav.protocol,
            level=self.spec.level,
            wanted=wanted(self.condition, demand),
            above=bounds.above if bounds else None,
            below=bounds.below if bounds else None,
            passed=False,
            outcome="error",
            verdict=None,
            value=None,
            score=None,
            score_interval=None,
            effect=None,
            effect_interval=None,
            p=None,
            tests=None,
            images=0,
            error=error,
        )

    @property
    def title(self) -> str:
        """Concept, class, layer and subject, as messages name them."""
        row = self.row or self._untested("")
        where = ", ".join(filter(None, (row["class_name"], row["layer"])))
        return f"concept {row['concept']} [{where}] {self.subject}"


def failure_text(
    judgement: ConceptJudgement, title: str, *, strict: bool, again: str | None
) -> str:
    """Return the message of a demand that is not met.

    The first line says what was found and wanted, then what that means and what would settle it,
    the images that tell most, the sizes of the sets, and how to run it again.
    """
    result = judgement.result
    what = result.headline()
    if judgement.value is None:
        what = what.removeprefix(f"{result.verdict}: ")
    lines = [f"{title}: {judgement.decided_by(strict=strict)}: {what}", "", judgement.meaning()]
    lines += [f"  {advice}" for advice in judgement.advice()]
    lines += ["", "images with the largest sensitivity (of the class's logit, along the concept):"]
    lines += [f"  {value:>+#9.3g}  {name}" for name, value in judgement.telling_images()]
    lines += [
        "",
        f"sets: {result.concept_images} images of the concept, {result.counterexamples} of "
        f"{result.against}, {len(result.names)} of the class; {result.overlap}",
    ]
    if again:
        heading = "run just this test again (all of the file are tested, for the correction of p):"
        lines += ["", heading, f"  {again}"]
    return "\n".join(lines)


def _properties(row: ConceptRow) -> list[tuple[str, object]]:
    """Return what JUnit files and other reports show of a demand on a concept."""
    named: dict[str, object] = {
        "xai_protocol": row["protocol"],
        "xai_outcome": row["outcome"],
        "xai_verdict": row["verdict"],
        "xai_wanted": row["wanted"],
        "xai_images": row["images"],
        "xai_p": row["p"],
    }
    for name in ("score", "effect"):
        interval = row[f"{name}_interval"]  # type: ignore[literal-required]
        named[f"xai_{name}"] = row[name]
        if interval is not None:
            named[f"xai_{name}_ci_low"] = interval["low"]
            named[f"xai_{name}_ci_high"] = interval["high"]
    return [(name, value) for name, value in named.items() if value is not None]
