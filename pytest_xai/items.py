"""What all test items of a threshold file share: subject, failure, the command to run it again."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

if TYPE_CHECKING:
    from pytest_xai.runs.rows import DeclaredRow
    from pytest_xai.thresholds import ThresholdFile


class GateFailure(Exception):  # noqa: N818 - shown to users as the kind of failure it is
    """A gate that failed; the message is complete as it is."""


class GateWarning(UserWarning):
    """A gate of ``level = "warn"`` that did not pass.

    Not a PytestWarning: projects that make those errors mean misuse of pytest.
    """


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


class ThresholdItem(pytest.Item):
    """One demand of a threshold file, which stands there in ``line``."""

    subject: Subject
    plan: ThresholdFile
    line: int
    calibrates: ClassVar[bool] = False

    def setup(self) -> None:
        """Skip what ``--xai-calibrate`` cannot measure with several seeds."""
        from pytest_xai.settings import read_settings

        if read_settings(self.config).calibrate is not None and not self.calibrates:
            pytest.skip("--xai-calibrate measures gates on explainers that have a threshold")

    def reported(self) -> Mapping[str, list[Any]]:
        """Return the rows that the item adds to the run's report."""
        raise NotImplementedError

    def unmeasured(self, error: str) -> Mapping[str, list[Any]]:
        """Return the rows of an item that could not be measured; see `reported`."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """What messages call the item."""
        raise NotImplementedError

    def declared(self) -> list[DeclaredRow]:
        """Return what the file demands of the subject, where the run is saved or compared."""
        from pytest_xai.settings import read_settings

        settings, plan = read_settings(self.config), self.plan
        if settings.save is None and settings.compare is None:
            return []
        gates = [*plan.gates_in_order, *([plan.neighbours] if plan.neighbours else [])]
        listed = [[gate.method.name, gate.name, gate.metric.protocol] for gate in gates]
        model, data, sets = self.subject.model, self.subject.data, list(self.subject.sets)
        return [{"model": model, "data": data, "sets": sets, "gates": listed}]

    def fail(self, message: str, *, level: str) -> None:
        """Fail with a message, or warn where that is all that ``level`` asks for.

        Raises:
            GateFailure: ``level`` is ``fail``.
        """
        if level != "warn":
            raise GateFailure(message)
        self.warn(GateWarning(message))

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any
    ) -> Any:
        """Return the message alone for a gate that failed, a short traceback for anything else."""
        if isinstance(excinfo.value, GateFailure | GateWarning):  # a warning under -W error
            return str(excinfo.value)
        if self.config.getoption("tbstyle") != "auto" or self.config.getoption("fulltrace"):
            return super().repr_failure(excinfo, *args, **kwargs)
        return excinfo.getrepr(style="short", tbfilter=self._from_our_code_on)

    def _from_our_code_on(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
        """Return the frames from the item on, without those of the evaluation between."""
        from xai_core import evaluation

        found = excinfo.traceback.cut(path=inspect.getfile(type(self)))
        plumbing, last = Path(evaluation.__file__), found[-1]
        return found.filter(lambda entry: entry is last or Path(entry.path) != plumbing)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the demand stands, and the heading of its failure."""
        # Not the id alone: pytest takes that for Python's dotted name, and writes `tiny::toml`.
        return self.path, self.line - 1, f"gate {self.nodeid}"

    def again(self) -> str:
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
