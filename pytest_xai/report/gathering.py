"""What the tests reported, gathered from this process and from workers.

Loaded in every pytest run, so it imports pytest and the standard library only.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_xai.settings import read_settings

if TYPE_CHECKING:
    from pytest_xai.report.concept_rows import ConceptRecord, ConceptRow
    from pytest_xai.report.rows import CostRow, GateRow, ModelFacts, Record, Subject
    from pytest_xai.session import XaiSession


class XaiReports:
    """Gathers what the tests report and shows it at the end; only the controller writes."""

    def __init__(self, config: pytest.Config) -> None:
        from pytest_xai.progress import remember_terminal

        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        self._gates: list[GateRow] = []
        self._records: dict[str, Record] = {}
        self._concept_gates: list[tuple[tuple[int, int], ConceptRow]] = []
        self._concepts: dict[str, ConceptRecord] = {}
        self._unwritten = ""
        self._models: dict[Subject, ModelFacts] = {}
        self._places: dict[Subject, tuple[str, int]] = {}
        self._costs: list[CostRow] = []
        remember_terminal(config)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach what the test measured to its report."""
        report = yield
        session = self._session()
        if call.when == "call" and session is not None:
            from pytest_xai.items import ThresholdItem

            found = {"gates": [], "concept_gates": [], "sets": [], **session.report()}
            if isinstance(item, ThresholdItem):
                found |= item.reported()
                found["sets"] = list(item.subject.sets)
            report.xai = found  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test measured, from this process or a worker's."""
        found: dict[str, Any] | None = getattr(report, "xai", None)
        if found is None or self._is_worker:
            return
        self._gates += found["gates"]
        self._concept_gates += [(tuple(place), row) for place, row in found["concept_gates"]]
        for row in [*found["gates"], *(row for _, row in found["concept_gates"])]:
            for index, name in enumerate(found["sets"]):
                place = (row["file"], index)
                subject = (row["model"], name)
                self._places[subject] = min(place, self._places.get(subject, place))
        for record in found["records"]:
            # Two workers may both have measured what two gates build upon.
            self._records[repr(record)] = record
        if found["concepts"]:
            from pytest_xai.report.concept_rows import key_of

            self._concepts |= {key_of(record): record for record in found["concepts"]}
        for facts in found["models"]:
            self._models[facts["name"], facts["data"]] = facts
        self._costs += found["costs"]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the JSON file."""
        path = read_settings(self._config).json
        if path is None or self._is_worker or self._config.getoption("collectonly"):
            return
        from pytest_xai.report.json_file import write_json
        from pytest_xai.report.rows import added_up, cache_use

        try:
            write_json(
                path,
                models=[facts for facts in self._subjects().values() if facts],
                gates=self._in_order(),
                measurements=list(self._records.values()),
                concept_gates=self._concepts_in_order(),
                concepts=list(self._concepts.values()),
                costs=added_up(self._costs),
                cache=cache_use(self._costs, read_settings(self._config).cache),
            )
        except OSError as error:
            self._unwritten = f"--xai-json {path}: not written: {error}"
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the tables of gates."""
        if self._unwritten:
            terminalreporter.write_line(self._unwritten, red=True)
        option = self._config.getoption
        quiet = self._config.get_verbosity() < -1 or option("no_summary", default=False)
        shown = self._gates or self._concept_gates
        if shown and not self._is_worker and not quiet:
            from pytest_xai.report.comparison import compared_models, compared_sets
            from pytest_xai.report.rows import added_up
            from pytest_xai.report.terminal import write_comparisons, write_tables

            rows, costs = self._in_order(), added_up(self._costs)
            concepts = self._concepts_in_order()
            write_tables(terminalreporter, rows, concepts, self._subjects(), costs)
            write_comparisons(terminalreporter, [*compared_sets(rows), *compared_models(rows)])
        if self._costs and not self._is_worker and not quiet:
            from pytest_xai.report.rows import cache_use
            from pytest_xai.report.terminal import write_cache_use

            write_cache_use(
                terminalreporter, cache_use(self._costs, read_settings(self._config).cache)
            )

    def _subjects(self) -> dict[Subject, ModelFacts | None]:
        """Return every model on every image set, in the order in which they were asked for.

        With what is known of them; None where nothing was measured.
        """
        asked = read_settings(self._config).models
        known = {*self._places, *self._models}
        models = [*asked, *sorted({model for model, _ in known})]

        def place(subject: Subject) -> tuple[int, str, int, str]:
            model, data = subject
            return models.index(model), *self._places.get(subject, ("", 0)), data

        return {subject: self._models.get(subject) for subject in sorted(known, key=place)}

    def _in_order(self) -> list[GateRow]:
        """Return the gates in the order of the files, whatever order workers finished in."""
        subjects = list(self._subjects())
        return sorted(
            self._gates,
            key=lambda row: (
                subjects.index((row["model"], row["data"])),
                row["file"],
                row["line"],
            ),
        )

    def _concepts_in_order(self) -> list[ConceptRow]:
        """Return what was demanded of concepts, likewise."""
        subjects = list(self._subjects())
        found = sorted(
            self._concept_gates,
            key=lambda one: (
                subjects.index((one[1]["model"], one[1]["data"])),
                one[1]["file"],
                one[0],
            ),
        )
        return [row for _, row in found]

    def _session(self) -> XaiSession | None:
        """Return the run's session if anything was asked of it."""
        import sys

        if "pytest_xai.session" not in sys.modules:
            return None
        from pytest_xai.session import SESSION

        return self._config.stash.get(SESSION, None)
