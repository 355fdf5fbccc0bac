"""What the report says of a gate whose worker died while it ran.

Loaded in every pytest run, so it imports pytest and the standard library only.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_xai.settings import is_worker


def is_distributed(config: pytest.Config) -> bool:
    """Return whether this process is a worker of pytest-xdist, or the controller of some."""
    return is_worker(config) or config.getoption("dist", "no") != "no"


class LostWorkers:
    """Has workers say beforehand what to report of a gate, should they not live to report it."""

    def __init__(self, config: pytest.Config) -> None:
        self._is_worker = is_worker(config)
        self._running: dict[str, pytest.TestReport] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send the row of a gate that could not be measured with the report of its setup."""
        report = yield
        if call.when == "setup" and self._is_worker:
            from pytest_xai.items import ThresholdItem

            if isinstance(item, ThresholdItem):
                report.xai_if_lost = {  # type: ignore[attr-defined]
                    "place": item.session.items.index(item),
                    "sets": list(item.subject.sets),
                    "title": item.title,
                    "again": item.again(),
                    "rows": dict(item.unmeasured("")),
                }
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep it until the gate is done."""
        if hasattr(report, "xai_if_lost") and not self._is_worker:
            self._running[report.nodeid] = report
        elif report.when == "call":
            self._running.pop(report.nodeid, None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Report the gate that a worker was running when it died."""
        setup = self._running.pop(crashitem, None)
        if setup is None:
            return
        lost: dict[str, Any] = setup.xai_if_lost
        worker = report.node.gateway.id
        error = f"worker {worker} died while it ran; out of memory, or a fault in native code"
        rows = {"gates": [], "concept_gates": [], **lost["rows"]}
        for row in [*rows["gates"], *(row for _, row in rows["concept_gates"])]:
            row["error"] = error
        report.xai = {  # type: ignore[attr-defined]
            **dict.fromkeys(("records", "models", "concepts", "costs"), ()),
            **rows,
            "place": lost["place"],
            "sets": lost["sets"],
        }
        report.location = setup.location
        report.longrepr = "\n".join(
            [
                f"{lost['title']}: cannot be measured: {error}",
                "",
                "run just this gate again, in pytest's own process:",
                f"  {lost['again']} -n0",
            ]
        )
