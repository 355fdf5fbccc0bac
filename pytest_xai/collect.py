"""A threshold file as test items: file, explainer, gate."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_xai.report.rows import GateRow
    from pytest_xai.thresholds import GateSpec, ThresholdFile
    from xai_core.gate import Judgement


class GateFailure(Exception):  # noqa: N818 - shown to users as the kind of failure it is
    """A gate that failed; the message is complete as it is."""


class GateWarning(UserWarning):
    """A gate of ``level = "warn"`` that did not pass.

    Not a PytestWarning: projects that make those errors mean misuse of pytest.
    """


class ThresholdModule(pytest.File):
    """The collector of one threshold file for one or several models."""

    models: tuple[str, ...]

    @classmethod
    def build(
        cls, parent: pytest.Collector, path: Path, models: tuple[str, ...]
    ) -> ThresholdModule:
        """Return the collector of ``path`` for ``models``."""
        options: dict[str, Any] = {"path": path}
        if not path.is_relative_to(parent.config.rootpath):
            options["nodeid"] = path.name  # a file that travels in a package
        node: ThresholdModule = cls.from_parent(parent, **options)
        node.models = models
        return node

    def collect(self) -> Iterable[pytest.Collector]:
        """Read the file and yield one collector for each explainer (or model or set, if several).

        Raises:
            CollectError: the file is wrong; the message names file, line and key.
        """
        from pytest_xai.session import session_of
        from xai_core.errors import XaiError

        session = session_of(self.config)
        try:
            plan = session.thresholds(self.path)
        except XaiError as error:
            raise self.CollectError(str(error)) from None
        if len(self.models) == 1:
            yield from nodes_of_model(self, self.models[0], plan)
        else:
            for model in self.models:
                yield ModelNode.build(self, model, plan)


class ModelNode(pytest.Collector):
    """The gates of one model, where several models share a threshold file."""

    plan: ThresholdFile

    @classmethod
    def build(cls, parent: pytest.Collector, model: str, plan: ThresholdFile) -> ModelNode:
        """Return the collector of the gates of ``model``."""
        node: ModelNode = cls.from_parent(parent, name=model)
        node.plan = plan
        return node

    def collect(self) -> Iterable[pytest.Collector]:
        """Yield one collector for each explainer (or image set, if several)."""
        yield from nodes_of_model(self, self.name, self.plan)


@dataclass(frozen=True)
class Subject:
    """What gates are held on.

    Attributes:
        model: its name.
        data: the image set.
        sets: all image sets that the model is held on, ``data`` among them.
    """

    model: str
    data: str
    sets: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model} on {self.data}" if len(self.sets) > 1 else self.model


def nodes_of_model(
    parent: pytest.Collector, model: str, plan: ThresholdFile
) -> Iterator[pytest.Collector]:
    """Yield one collector for each explainer (or image set, if several)."""
    from pytest_xai.session import session_of

    sources = session_of(parent.config).image_sources(model, plan)
    sets = tuple(source.name for source in sources) or ("",)
    if len(sets) == 1:
        yield from explainer_nodes(parent, Subject(model, sets[0], sets), plan)
        return
    for name in sets:
        node: SetNode = SetNode.from_parent(parent, name=name)
        node.subject, node.plan = Subject(model, name, sets), plan
        yield node


class SetNode(pytest.Collector):
    """The gates of one model on one image set, where there are several."""

    subject: Subject
    plan: ThresholdFile

    def collect(self) -> Iterable[pytest.Collector]:
        """Yield one collector for each explainer."""
        yield from explainer_nodes(self, self.subject, self.plan)


def explainer_nodes(
    parent: pytest.Collector, subject: Subject, plan: ThresholdFile
) -> Iterator[ExplainerNode]:
    """Yield one collector for each explainer that has gates, in the order of the file."""
    for name in dict.fromkeys(gate.method.name for gate in plan.gates):
        node: ExplainerNode = ExplainerNode.from_parent(parent, name=name)
        node.subject, node.plan = subject, plan
        yield node


class ExplainerNode(pytest.Collector):
    """The gates of one explainer."""

    subject: Subject
    plan: ThresholdFile

    def collect(self) -> Iterable[GateItem]:
        """Yield the gates in the order of the file."""
        for gate in self.plan.gates:
            if gate.method.name == self.name:
                item: GateItem = GateItem.from_parent(self, name=gate.name)
                item.gate, item.subject, item.plan = gate, self.subject, self.plan
                yield item


class GateItem(pytest.Item):
    """One gate."""

    gate: GateSpec
    subject: Subject
    plan: ThresholdFile
    row: GateRow | None = None

    def runtest(self) -> None:
        """Measure and judge.

        Raises:
            GateFailure: the gate does not pass.
        """
        from pytest_xai.report.rows import judged, unmeasured
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
            judgement = session.judge(model, self.plan, gate, data)
        except XaiError as error:
            self.row["error"] = str(error)
            subject = f"{gate.metric.metric.name}[{gate.method.name}] {self.subject}"
            msg = f"{subject}: cannot be measured: {error}"
            raise GateFailure(msg) from None
        self.row = judged(self.row, judgement, strict=strict)
        self.user_properties += _properties(self.row)
        judgement = replace(judgement, model=str(self.subject))
        if judgement.passes(strict=strict):
            return
        message = failure_text(judgement, strict=strict, again=self._again())
        if gate.level == "warn":
            self.warn(GateWarning(message))
        else:
            raise GateFailure(message)

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any
    ) -> Any:
        """Return the message alone for a gate that failed, a short traceback for anything else."""
        if isinstance(excinfo.value, GateFailure | GateWarning):  # a warning under -W error
            return str(excinfo.value)
        if self.config.getoption("tbstyle") != "auto" or self.config.getoption("fulltrace"):
            return super().repr_failure(excinfo, *args, **kwargs)
        return excinfo.getrepr(
            style="short", tbfilter=lambda found: found.traceback.cut(path=__file__)
        )

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the gate stands, and the heading of its failure."""
        # Not the id alone: pytest takes that for Python's dotted name, and writes `tiny::toml`.
        return self.path, self.gate.line - 1, f"gate {self.nodeid}"

    def _again(self) -> str:
        """Return the command that runs just this gate again."""
        from pytest_xai.settings import project_root, read_settings

        config = self.config
        option = config.getoption
        elsewhere = [
            text
            for name, value in (("-c", option("inifilename")), ("--rootdir", option("rootdir")))
            for text in ((name, str(value)) if value else ())
        ]
        # pytest also lists what the ini file's own `addopts` stand for; those hold again anyway.
        asked = [str(part) for part in config.invocation_params.args]
        overrides = [value for value in option("override_ini") or () if value in " ".join(asked)]
        elsewhere += [text for value in overrides for text in ("-o", value)]
        _, _, inside = self.nodeid.partition("::")
        path = os.fspath(self.path)
        if self.path.is_relative_to(project_root(config)):
            path = os.path.relpath(path, config.invocation_params.dir)
        wanted = read_settings(config).as_options()
        return shlex.join(["pytest", *elsewhere, *wanted, f"{path}::{inside}"])


def _properties(row: GateRow) -> list[tuple[str, object]]:
    """Return what JUnit files and other reports show of a gate."""
    named: dict[str, object] = {
        "xai_protocol": row["protocol"],
        "xai_outcome": row["outcome"],
        "xai_images": row["images"],
        "xai_undefined": row["undefined"],
    }
    for demand in row["demands"][:1]:
        named["xai_value"] = demand["value"]
        named["xai_threshold"] = demand["threshold"]
        named["xai_ci_low"] = demand["low"]
        named["xai_ci_high"] = demand["high"]
    return [(name, value) for name, value in named.items() if value is not None]


def failure_text(judgement: Judgement, *, strict: bool, again: str | None) -> str:
    """Return the message of a failed gate: what decided, the worst images, how to run it again."""
    lines = [judgement.headline(strict=strict), "", "worst images:"]
    for name, value, remark in judgement.worst_images():
        shown = "undefined" if value is None else f"{value:.3f}"
        lines.append(f"  {shown:>9}  {name}" + (f"  ({remark})" if remark else ""))
    if again:
        lines += ["", "run just this gate again:", f"  {again}"]
    return "\n".join(lines)
