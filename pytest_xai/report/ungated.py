"""What was measured of a model that gates are held on, and no gate holds."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_xai.settings import is_worker

_Key = tuple[str, str, str, str, str]
"""Model, image set, method, metric and protocol."""


class Ungated:
    """Gathers what was measured and what is held; says what is not at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._is_worker = is_worker(config)
        self._measured: set[_Key] = set()
        self._held: set[_Key] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test measured, from this process or a worker's."""
        found: dict[str, Any] | None = getattr(report, "xai", None)
        if found is None or self._is_worker:
            return
        self._measured |= {_key(record) for record in found["records"]}
        self._held |= {_key(row) for row in found["gates"]}

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List what no gate holds, of models and image sets that gates are held on."""
        subjects = sorted({key[:2] for key in self._held})
        for subject in subjects:
            free = sorted(self._free(subject))
            on = f" of {' on '.join(subject)}" if len(subjects) > 1 else ""
            if free:
                terminalreporter.write_line(
                    f"measured{on}, but no gate holds it: {', '.join(free)}"
                )

    def _free(self, subject: tuple[str, str]) -> list[str]:
        """Return what was measured of a subject and is not held; null maps are measured for gates.

        As a metric's protocol, with the method after its name.
        """
        from xai_core.explainers import NULL_MAPS

        explained = {key[2] for key in self._held}
        return [
            key[4].replace("@", f"[{key[2]}]@", 1)
            for key in self._measured - self._held
            if key[:2] == subject and (key[2] not in NULL_MAPS or key[2] in explained)
        ]


def _key(one: dict[str, Any]) -> _Key:
    return one["model"], one["data"], one["method"], one["metric"], one["protocol"]
