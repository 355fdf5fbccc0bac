"""A run with ``--xai-save`` or ``--xai-compare``: what it reads at first and says at last."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_xai.atomic_write import require_writable, write_at_once
from pytest_xai.runs.comparing import COMPARING, Comparing
from pytest_xai.runs.differences import Remark, remarks
from pytest_xai.runs.folder import EarlierRun, find_run, run_file
from pytest_xai.runs.gathered import Gathered
from pytest_xai.runs.saved_run import RunFileError, as_text, printable
from pytest_xai.runs.saving import saved_run, versions
from pytest_xai.settings import chosen, is_worker, project_root, read_settings

_SHOWN = 3
_LOST = "???"  # the `when` of a test whose worker died


class Runs:
    """Reads the earlier run, gathers what tests report, saves, and says what is otherwise.

    Every process reads the earlier run; only the controller gathers and writes.

    Raises:
        UsageError: the earlier run cannot be read, or the run could not be saved.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._settings = read_settings(config)
        self._is_worker = is_worker(config)
        self._gathered = Gathered()
        self._lost: list[str] = []
        self._uncollected = False
        self._earlier: EarlierRun | None = None
        self._file: Path | None = None
        self._remarks: list[Remark] = []
        self._outcome: tuple[str, bool] | None = None
        self._read()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember that something was not collected."""
        self._uncollected = self._uncollected or report.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test measured, from this process or a worker's."""
        if self._is_worker:
            return
        if report.failed and str(report.when) == _LOST:
            self._lost.append(report.nodeid)
        found: dict[str, Any] | None = getattr(report, "xai", None)
        if found is not None:
            self._gathered.take(found)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Save the run, and fail it where the comparison lacks what strictness asks for."""
        if self._is_worker or self._config.getoption("collectonly"):
            return
        seed = chosen(self._settings.seed, self._settings.ini_seed) or 0
        if self._earlier is not None:
            self._remarks = remarks(self._earlier, self._gathered, seed=seed, versions=versions())
            missing = any(remark.weight == "missing" for remark in self._remarks)
            if missing and self._settings.strict and not self._settings.advisory:
                self._fail(session)
        if self._file is not None:
            self._outcome = self._saved(session, self._file, seed)
            if not self._outcome[1]:
                self._fail(session)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is otherwise than in the earlier run, and where this one is."""
        option = self._config.getoption
        quiet = self._config.get_verbosity() < -1 or option("no_summary", default=False)
        strict = self._settings.strict
        shown = [one for one in self._remarks if not quiet or (strict and one.weight == "missing")]
        if self._earlier is not None and shown:
            terminalreporter.write_sep("=", f"the last release: {self._earlier.name}")
            for remark in shown:
                text = printable(remark.text)
                red = strict and remark.weight == "missing"
                text += ": --xai-strict does not pass that" if red else ""
                yellow = remark.weight != "plain" and not red
                terminalreporter.write_line(text, red=red, yellow=yellow)
        if self._outcome is not None:
            text, good = self._outcome
            terminalreporter.write_line(text, red=not good)

    def _read(self) -> None:
        """Read the earlier run and check that this one can be saved, before anything is measured.

        Raises:
            UsageError: neither.
        """
        root, settings = project_root(self._config), self._settings
        folder, shown = root / settings.ini_runs, settings.ini_runs
        if settings.save is not None:
            try:
                self._file = run_file(folder, settings.save)
            except RunFileError as error:
                msg = f"--xai-save {settings.save}: {error}"
                raise pytest.UsageError(msg) from None
            if not self._is_worker:
                require_writable(self._file, option="--xai-save")
        if settings.compare is not None:
            try:
                self._earlier = find_run(settings.compare, folder, shown=shown)
            except RunFileError as error:
                msg = f"--xai-compare {settings.compare}: {error}"
                raise pytest.UsageError(msg) from None
            self._config.stash[COMPARING] = Comparing(self._earlier)

    def _saved(self, session: pytest.Session, file: Path, seed: int) -> tuple[str, bool]:
        """Save the run and return the line that says so; or why it is not, and False."""
        name = f"--xai-save {self._settings.save}"
        obstacle = self._obstacle(session)
        if obstacle:
            return f"{name}: not saved: {obstacle}", False
        run = saved_run(self._gathered, seed=seed, now=datetime.now(UTC))
        root = project_root(self._config)
        shown = file.relative_to(root) if file.is_relative_to(root) else file
        there = file.exists()
        try:
            write_at_once(file, as_text(run))
        except (OSError, ValueError) as error:
            return f"{name}: not saved: {error}", False
        left = sum(len(one.not_measured) for one in run.subjects)
        held = sum(len(one.gates) for one in run.subjects)
        counted = f"{held} of {held + left} gates" if left else _gates(held)
        replaced = ", in place of the one that was there" if there else ""
        return f"saved as {shown}: {counted}{replaced}", True

    def _obstacle(self, session: pytest.Session) -> str:
        """Return why a run may not stand for a release; empty if it may."""
        codes = pytest.ExitCode
        if session.exitstatus == codes.NO_TESTS_COLLECTED:
            return "nothing was measured"
        ended = session.exitstatus in (codes.OK, codes.TESTS_FAILED)
        if not ended or session.shouldfail or session.shouldstop:
            return "the run did not come to its end"
        if self._uncollected:
            return "something was not collected"
        if self._lost:
            return f"a worker died in {self._lost[0]}"
        if self._gathered.errors:
            listed = ", ".join(self._gathered.errors[:_SHOWN])
            more = ", ..." if len(self._gathered.errors) > _SHOWN else ""
            return f"{_gates(len(self._gathered.errors))} ended in an error: {listed}{more}"
        if not self._gathered.records:
            return "nothing was measured"
        return ""

    def _fail(self, session: pytest.Session) -> None:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _gates(count: int) -> str:
    return "1 gate" if count == 1 else f"{count} gates"
