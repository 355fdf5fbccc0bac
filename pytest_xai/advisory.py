"""``--xai-advisory``: everything is reported, and no gate fails."""

from __future__ import annotations

import warnings
from collections.abc import Generator

import pytest

from pytest_xai.items import GateFailure, GateWarning, ThresholdItem
from pytest_xai.settings import is_worker

_PROPERTY = ("xai_advisory", "would have failed")


class Advisory:
    """Turns the failures of gates into warnings, and counts them."""

    def __init__(self, config: pytest.Config) -> None:
        self._is_worker = is_worker(config)
        self._failing = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Warn where a gate would fail, or cannot be measured."""
        try:
            return (yield)
        except (GateFailure, GateWarning) as failure:
            message = str(failure)
        except Exception as error:
            if not isinstance(item, ThresholdItem):
                raise
            # A mistake in an explainer or a model of the user's.
            message = f"{item.nodeid}: cannot be measured: {type(error).__name__}: {error}"
        item.user_properties.append(_PROPERTY)  # which workers send on
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # under -W error it would fail after all
            item.warn(GateWarning(message))
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the gates that would have failed, in this process and in workers."""
        if report.when == "call" and _PROPERTY in map(tuple, report.user_properties):
            self._failing += 1

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many gates would have failed."""
        if self._failing and not self._is_worker:
            gates = "1 gate" if self._failing == 1 else f"{self._failing} gates"
            terminalreporter.write_line(f"advisory: {gates} would have failed", red=True)
