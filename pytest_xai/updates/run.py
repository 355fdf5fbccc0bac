"""A run with ``--xai-update``: gathers what gates propose, and writes it at the end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_xai.settings import is_worker, project_root, read_settings

if TYPE_CHECKING:
    from pytest_xai.report.rows import GateRow, ModelFacts
    from pytest_xai.updates.choosing import Change
    from pytest_xai.updates.proposing import Proposal
    from pytest_xai.updates.starting import StartingFile

_CONCEPTS = "concepts: a verdict is no number to be fitted; --xai-update leaves [concepts] alone"
_BY_HAND = """\
what the command line cannot say belongs into {}, and the same command adds the gates:
  [model]
  normalization = "imagenet"     # or "none", or {{ mean = [...], std = [...] }}
  size = [224, 224]"""
_MOSTLY_WRONG = 0.5


class Updates:
    """Gathers proposals from this process and from workers; only the controller writes."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_worker = is_worker(config)
        self._proposals: list[Proposal] = []
        self._errors: list[GateRow] = []
        self._models: dict[tuple[str, str], ModelFacts] = {}
        self._with_concepts = False
        self._starting: dict[Path, StartingFile] = {}
        self._diffs: list[list[str]] = []
        self._remarks: list[str] = []
        self._complaints: list[str] = []

    def start(self, path: Path, model: str) -> None:
        """Begin the gates of a model whose threshold file has none, or is not there.

        Raises:
            UsageError: it cannot be written, or no images are known.
        """
        from pytest_xai.updates.starting import StartingFile

        settings, root = read_settings(self._config), project_root(self._config)
        if path in self._starting:  # several models share it
            return
        starting = StartingFile.of(path, self._shown(path), model, settings, root)
        if starting is None:
            return
        known = settings.data or settings.ini_data is not None or model in _demo_models()
        if not known and not starting.names_images:
            lacking = "threshold file" if starting.before is None else f"gates in {starting.shown}"
            msg = (
                f"--xai-update: no {lacking} for {model}, and no images to start with: "
                "give --xai-data PATH"
            )
            raise pytest.UsageError(msg)
        try:
            starting.create()
        except OSError as error:
            msg = f"--xai-update: {path} cannot be written: {error.strerror}"
            raise pytest.UsageError(msg) from None
        self._starting[path] = starting
        self._config.add_cleanup(starting.discard)  # whatever ends the run before it is measured

    def require_writable(self, path: Path) -> None:
        """Check at the start, rather than measure in vain.

        Raises:
            UsageError: the file may not be replaced.
        """
        from pytest_xai.updates.writing import why_not_writable

        if (obstacle := why_not_writable(path)) is not None:
            msg = f"--xai-update: {self._shown(path)} {obstacle}"
            raise pytest.UsageError(msg)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test proposes, from this process or a worker's."""
        found: dict[str, Any] | None = getattr(report, "xai", None)
        if found is None or self._is_worker:
            return
        self._proposals += found.get("proposals", [])
        self._errors += [row for row in found["gates"] if row["error"] is not None]
        self._models |= {(facts["name"], facts["data"]): facts for facts in found["models"]}
        self._with_concepts = self._with_concepts or bool(found["concept_gates"])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files."""
        if self._is_worker or self._config.getoption("collectonly"):
            return
        if session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self._remarks.append("the run did not come to its end: nothing written")
            return
        self._write_all()
        if self._complaints:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what was written, and what was not."""
        if self._is_worker or self._config.getoption("collectonly"):
            return
        if self._with_concepts:
            self._remarks.append(_CONCEPTS)
        terminalreporter.write_sep("=", "threshold updates")
        for lines in self._diffs:
            for line in lines:
                added, removed = line.startswith("+"), line.startswith("-")
                terminalreporter.write_line(line, green=added, red=removed)
        if not self._diffs:
            terminalreporter.write_line("nothing written")
        for line in self._remarks:
            terminalreporter.write_line(line)
        for line in self._complaints:
            terminalreporter.write_line(line, red=True)

    def _write_all(self) -> None:
        from xai_core.errors import XaiError

        self._remarks += [
            f"{row['gate']}[{row['method']}] {row['model']}: cannot be measured: not written"
            for row in self._errors
        ]
        by_file: dict[str, list[Proposal]] = {str(path): [] for path in self._starting}
        for proposal in sorted(self._proposals, key=_place):
            by_file.setdefault(proposal["file"], []).append(proposal)
        for file, proposals in by_file.items():
            path = Path(file)
            try:
                if path in self._starting:
                    self._finish(self._starting[path], proposals)
                else:
                    self._update(path, proposals)
            except (XaiError, OSError) as error:
                self._complaints.append(str(error))

    def _update(self, path: Path, proposals: list[Proposal]) -> None:
        """Write what may be written of the proposals for one file.

        Raises:
            ThresholdFileError: the file was changed since it was read, or may not be replaced.
            OSError: the disk is full, or the like.
        """
        from pytest_xai.toml_source import ThresholdFileError
        from pytest_xai.updates.editing import difference, with_changes
        from pytest_xai.updates.writing import replace_text

        shown, digests = proposals[0]["shown"], {one["digest"] for one in proposals}
        changes = self._chosen(proposals)
        if not changes:
            return
        if len(digests) > 1:
            msg = f"{shown}: not written: it was changed on disk during the run; run again"
            raise ThresholdFileError(msg)
        old = path.read_bytes().decode("utf-8")
        new = with_changes(old, changes, shown=shown)
        replace_text(path, new, digest=digests.pop(), shown=shown)
        self._diffs.append(difference(old, new, shown=shown))

    def _finish(self, starting: StartingFile, proposals: list[Proposal]) -> None:
        """Write the first thresholds of a model, of the gates that could be measured.

        Raises:
            ThresholdFileError: the file was changed since it was begun.
            OSError: the disk is full, or the like.
        """
        from pytest_xai.updates.editing import difference

        shown = starting.shown
        numbers = {
            (change.keys[1], change.keys[2]): f"{change.key} = {change.value!r}"
            for change in self._chosen(one for one in proposals if one["fresh"])
        }
        held = [one for one in proposals if not one["fresh"]]
        failing = [one for one in held if not one["passed"]]
        self._remarks += [
            f"{one['gate']}: {text}: left out"
            for one in failing
            for text in one["unfitted"] or ["what it is to ask from the start is not met"]
        ]
        kept = {_gate_key(one) for one in held} - {_gate_key(one) for one in failing}
        self._remarks += self._doubts(starting.model)
        if not numbers:
            first = self._errors[0]["error"] if self._errors else "no gate was measured"
            self._complaints.append(f"{shown}: not written: {first}")
            if not starting.describes_model:
                self._remarks.append(_BY_HAND.format(shown))
            starting.discard()
            return
        new = starting.finish(kept | set(numbers), numbers)
        self._diffs.append(difference(starting.before or "", new, shown=shown))
        what = "is new" if starting.before is None else "has its first gates"
        self._complaints.append(f"{shown} {what}: review and commit it")

    def _doubts(self, model: str) -> list[str]:
        """Return what asks whether the first thresholds are of the model that its user means."""
        return [
            f"{name} is right about {facts['accuracy']:.3f} of the labels of {data}: are [model] "
            "normalization and size, the weights and the labels as in its training? What is "
            "measured where they are not is no threshold"
            for (name, data), facts in self._models.items()
            if name == model
            if facts["accuracy"] is not None and facts["accuracy"] < _MOSTLY_WRONG
        ]

    def _chosen(self, proposals: Iterable[Proposal]) -> tuple[Change, ...]:
        from pytest_xai.updates.choosing import choose

        settings = read_settings(self._config)
        choice = choose(proposals, settings.update or "new", allow_loosen=settings.allow_loosen)
        self._remarks += choice.remarks
        return choice.changes

    def _shown(self, path: Path) -> str:
        root = project_root(self._config)
        return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _demo_models() -> tuple[str, ...]:
    from pytest_xai.threshold_files import DEMO_MODELS

    return DEMO_MODELS


def _place(proposal: Proposal) -> tuple[int, int]:
    """Return what sorts proposals as their file does, whatever order workers finished in."""
    return proposal["line"], proposal["subjects"].index(proposal["subject"])


def _gate_key(proposal: Proposal) -> tuple[str, str]:
    return proposal["keys"][1], proposal["keys"][2]
