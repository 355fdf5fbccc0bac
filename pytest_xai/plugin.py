"""The pytest plugin: options and hooks.

This module and whatever it imports at its top are loaded in every pytest run of an environment,
so they import pytest and the standard library, nothing else; the rest is imported when a model is
asked for.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_xai.fixtures import xai_explain, xai_explainer, xai_images, xai_model
from pytest_xai.settings import add_options, project_root, read_settings

if TYPE_CHECKING:
    from pytest_xai.collect import ThresholdModule
    from pytest_xai.report.rows import CostRow, GateRow, ModelFacts, Record
    from pytest_xai.session import XaiSession

__all__ = ["xai_explain", "xai_explainer", "xai_images", "xai_model"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_cmdline_main(config: pytest.Config) -> pytest.ExitCode | None:
    """Answer ``--xai-explainers`` and ``--xai-metrics`` instead of running tests."""
    asked = [name for name in ("explainers", "metrics") if config.getoption(f"--xai-{name}")]
    if not asked:
        return None
    from pytest_xai.catalogue import LISTS

    print("\n\n".join(LISTS[name]() for name in asked))
    return pytest.ExitCode.OK


def pytest_configure(config: pytest.Config) -> None:
    """Turn ``--xai-model NAME`` without paths into the threshold files to collect."""
    settings = read_settings(config)
    config.pluginmanager.register(XaiReports(config), "xai-reports")
    if settings.json is not None:
        _require_writable(settings.json)
    if settings.thresholds and not settings.fixture_models:
        msg = "--xai-thresholds needs --xai-model NAME, to say which model to hold against them"
        raise pytest.UsageError(msg)
    if settings.explainers:
        _require_explainers(settings.explainers)
    if not settings.models:
        return
    _warn_of_unread_ini(config)
    files = _files_of_models(config)
    given = config.args_source is pytest.Config.ArgsSource.ARGS
    if not given:
        config.args = [str(path) for path in files]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ThresholdModule | None:
    """Collect a threshold file that was named, or that belongs to a model asked for."""
    if file_path.suffix != ".toml":
        return None
    config = parent.config
    models = read_settings(config).models
    if models:
        wanted = tuple(
            model
            for path, names in _files_of_models(config).items()
            for model in names
            if path == file_path
        )
        if not wanted and parent.session.isinitpath(file_path):
            wanted = models
    else:
        wanted = (file_path.stem,) if parent.session.isinitpath(file_path) else ()
    if not wanted:
        return None
    from pytest_xai.collect import ThresholdModule

    return ThresholdModule.build(parent, file_path, wanted)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for every model and every explainer asked for, as its fixtures demand."""
    settings = read_settings(metafunc.config)
    for name, values in (
        ("xai_model", settings.fixture_models),
        ("xai_explainer", settings.fixture_explainers),
    ):
        if name in metafunc.fixturenames and values:
            metafunc.parametrize(name, values, indirect=True, scope="session")


def _files_of_models(config: pytest.Config) -> dict[Path, list[str]]:
    """Map each threshold file to the models that are held against it.

    Raises:
        UsageError: a model without a threshold file, where no path was given either.
    """
    if _FILES not in config.stash:
        from pytest_xai.session import threshold_file_of, threshold_stem

        settings = read_settings(config)
        files: dict[Path, list[str]] = {}
        given = config.args_source is pytest.Config.ArgsSource.ARGS
        for model in settings.models:
            path = threshold_file_of(model, settings, project_root(config))
            if path is not None:
                files.setdefault(path.absolute(), []).append(model)
            elif not given:
                for place in settings.thresholds:
                    if not Path(place).exists():
                        msg = f"--xai-thresholds {place}: no such file or folder"
                        raise pytest.UsageError(msg)
                _require_known(model)
                where = settings.thresholds or (settings.ini_thresholds,)
                msg = (
                    f"no threshold file for --xai-model {model}: expected "
                    f"{where[0]}/{threshold_stem(model)}.toml; write it, or give "
                    "--xai-thresholds FILE"
                )
                raise pytest.UsageError(msg)
        config.stash[_FILES] = files
    return config.stash[_FILES]


def _require_known(model: str) -> None:
    """Raise a usage error with the nearest name if ``model`` can be nothing at all."""
    from xai_core.classifier import preset_of
    from xai_core.errors import XaiError

    if ":" in model and not model.startswith("timm:"):
        return
    try:
        preset_of(model)
    except XaiError as error:
        raise pytest.UsageError(str(error)) from None


def _require_explainers(texts: Sequence[str]) -> None:
    """Raise a usage error with the nearest name if one of ``texts`` names no explainer."""
    from xai_core.errors import XaiError
    from xai_core.explainers import parse_explainer

    for text in texts:
        try:
            parse_explainer(text)
        except XaiError as error:
            msg = f"--xai-explainer {text}: {error} (pytest --xai-explainers lists all)"
            raise pytest.UsageError(msg) from None


def _warn_of_unread_ini(config: pytest.Config) -> None:
    """Warn if pytest looked for its ini file in the wrong place; see `project_root`."""
    started_in = config.invocation_params.dir
    if project_root(config) == config.rootpath:
        return
    for folder in (started_in, *started_in.parents):
        for name in ("pytest.toml", "pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg"):
            if (folder / name).is_file():
                msg = (
                    f"pytest took the value of an option for the path of a test and did not read "
                    f"{folder / name}; write --xai-data=PATH, with an equals sign"
                )
                config.issue_config_time_warning(UserWarning(msg), stacklevel=2)
                return


def _require_writable(path: Path) -> None:
    """Raise a usage error now, rather than lose the measurements at the end of a long run."""
    there = next(folder for folder in path.parents if folder.exists())
    if path.is_dir() or not there.is_dir() or not os.access(there, os.W_OK):
        msg = f"--xai-json {path}: cannot be written; expected a file in a folder that can"
        raise pytest.UsageError(msg)


_FILES = pytest.StashKey[dict[Path, list[str]]]()


class XaiReports:
    """Gathers what the tests report and shows it at the end; only the controller writes."""

    def __init__(self, config: pytest.Config) -> None:
        from pytest_xai.progress import remember_terminal

        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        self._gates: list[GateRow] = []
        self._records: dict[str, Record] = {}
        self._unwritten = ""
        self._models: dict[str, ModelFacts] = {}
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
            from pytest_xai.collect import GateItem

            rows = [item.row] if isinstance(item, GateItem) and item.row else []
            report.xai = session.report_of(rows)  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test measured, from this process or a worker's."""
        found: dict[str, Any] | None = getattr(report, "xai", None)
        if found is None or self._is_worker:
            return
        self._gates += found["gates"]
        for record in found["records"]:
            # Two workers may both have measured what two gates build upon.
            self._records[repr(record)] = record
        for facts in found["models"]:
            self._models[facts["name"]] = facts
        self._costs += found["costs"]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the JSON file."""
        path = read_settings(self._config).json
        if path is None or self._is_worker or self._config.getoption("collectonly"):
            return
        from pytest_xai.report.json_file import write_json
        from pytest_xai.report.rows import added_up

        try:
            write_json(
                path,
                models=list(self._models.values()),
                gates=self._in_order(),
                measurements=list(self._records.values()),
                costs=added_up(self._costs),
            )
        except OSError as error:
            self._unwritten = f"--xai-json {path}: not written: {error}"
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table of gates."""
        if self._unwritten:
            terminalreporter.write_line(self._unwritten, red=True)
        option = self._config.getoption
        quiet = self._config.get_verbosity() < -1 or option("no_summary", default=False)
        if self._gates and not self._is_worker and not quiet:
            from pytest_xai.report.rows import added_up
            from pytest_xai.report.terminal import write_table

            costs = added_up(self._costs)
            write_table(terminalreporter, self._in_order(), self._models, costs)

    def _in_order(self) -> list[GateRow]:
        """Return the gates in the order of the files, whatever order workers finished in."""
        models = list(dict.fromkeys(row["model"] for row in self._gates))
        models.sort(key=[*read_settings(self._config).models, *sorted(models)].index)
        return sorted(
            self._gates, key=lambda row: (models.index(row["model"]), row["file"], row["line"])
        )

    def _session(self) -> XaiSession | None:
        """Return the run's session if anything was asked of it."""
        import sys

        if "pytest_xai.session" not in sys.modules:
            return None
        from pytest_xai.session import SESSION

        return self._config.stash.get(SESSION, None)
