"""What the tests reported, gathered from this process and from workers.

Loaded in every pytest run, so it imports pytest and the standard library only.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_xai.settings import is_worker, read_settings

if TYPE_CHECKING:
    from pytest_xai.report.calibration_rows import CalibrationRow
    from pytest_xai.report.concept_rows import ConceptRecord, ConceptRow
    from pytest_xai.report.rows import CostRow, GateRow, ModelFacts, Record, Subject
    from pytest_xai.runs.rows import ComparedRow
    from pytest_xai.session import XaiSession

    R = TypeVar("R", GateRow, CalibrationRow, ComparedRow)


class XaiReports:
    """Gathers what the tests report and shows it at the end; only the controller writes."""

    def __init__(self, config: pytest.Config) -> None:
        from pytest_xai.progress import remember_terminal

        self._config = config
        self._is_worker = is_worker(config)
        self._gates: list[GateRow] = []
        self._concept_gates: list[tuple[tuple[int, int], ConceptRow]] = []
        self._found: list[tuple[int, dict[str, Any]]] = []
        self._unwritten = ""
        self._models: dict[Subject, ModelFacts] = {}
        self._places: dict[Subject, tuple[str, int]] = {}
        self._calibration: list[CalibrationRow] = []
        self._compared: list[ComparedRow] = []
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
            found["place"] = item.session.items.index(item)
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
        self._found.append((found["place"], found))
        for facts in found["models"]:
            subject = (facts["name"], facts["data"])
            known = self._models.get(subject)
            # A sequential run classifies as many images as its gates need.
            if known is None or facts["classified"] >= known["classified"]:
                self._models[subject] = facts
        self._calibration += found.get("calibration", [])
        self._compared += found.get("compared", [])

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
                gates=self._in_order(self._gates),
                measurements=self._records(),
                concept_gates=self._concepts_in_order(),
                concepts=self._concepts(),
                costs=added_up(self._costs()),
                cache=cache_use(self._costs(), read_settings(self._config).cache),
                calibration=self._in_order(self._calibration),
                compared=self._in_order(self._compared),
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
        calibrating = read_settings(self._config).calibrate is not None
        if self._calibration and not self._is_worker and not quiet:
            from pytest_xai.report.calibration_table import write_calibration

            rows_of_gates = self._in_order(self._calibration)
            write_calibration(terminalreporter, rows_of_gates, self._subjects())
        shown = (self._gates or self._concept_gates) and not calibrating
        if shown and not self._is_worker and not quiet:
            from pytest_xai.report.comparison import compared_models, compared_sets
            from pytest_xai.report.rows import added_up
            from pytest_xai.report.terminal import write_comparisons, write_tables

            rows, costs = self._in_order(self._gates), added_up(self._costs())
            concepts = self._concepts_in_order()
            write_tables(terminalreporter, rows, concepts, self._subjects(), costs)
            write_comparisons(terminalreporter, [*compared_sets(rows), *compared_models(rows)])
        if self._costs() and not self._is_worker and not quiet:
            from pytest_xai.report.rows import cache_use
            from pytest_xai.report.terminal import write_cache_use

            write_cache_use(
                terminalreporter, cache_use(self._costs(), read_settings(self._config).cache)
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

    def _gathered(self, what: str) -> Iterator[Any]:
        """Yield what tests reported, in the order of the tests, whatever order workers finished in.

        Two workers may both have measured what two tests build upon, and report it twice.
        """
        for _, found in sorted(self._found, key=lambda one: one[0]):
            yield from found[what]

    def _records(self) -> list[Record]:
        """Return every measurement once."""
        from pytest_xai.report.rows import measured_of

        records: dict[str, Record] = {}
        for record in self._gathered("records"):
            records.setdefault(measured_of(record), record)
        return list(records.values())

    def _concepts(self) -> list[ConceptRecord]:
        """Return every concept test once."""
        from pytest_xai.report.concept_rows import key_of

        return list({key_of(record): record for record in self._gathered("concepts")}.values())

    def _costs(self) -> list[CostRow]:
        """Return what was spent, by whichever worker."""
        return list(self._gathered("costs"))

    def _in_order(self, rows: Iterable[R]) -> list[R]:
        """Return rows of gates in the order of the files, whatever order workers finished in."""
        subjects = list(self._subjects())
        return sorted(
            rows,
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
