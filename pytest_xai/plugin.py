"""The pytest plugin: options and hooks.

This module and whatever it imports at its top are loaded in every pytest run of an environment,
so they import pytest and the standard library, nothing else; the rest is imported when a model is
asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_xai.atomic_write import require_writable
from pytest_xai.distribution.hooks import pytest_remember_dist, pytest_xdist_make_scheduler
from pytest_xai.distribution.lost_workers import LostWorkers, is_distributed
from pytest_xai.fixtures import (
    xai_data,
    xai_explain,
    xai_explainer,
    xai_images,
    xai_model,
    xai_tcav,
)
from pytest_xai.report.gathering import XaiReports
from pytest_xai.run_modes import require_compatible
from pytest_xai.settings import add_options, is_worker, project_root, read_settings

if TYPE_CHECKING:
    from pytest_xai.collect import ThresholdModule
    from pytest_xai.updates.run import Updates

__all__ = [
    "pytest_remember_dist",
    "pytest_xdist_make_scheduler",
    "xai_data",
    "xai_explain",
    "xai_explainer",
    "xai_images",
    "xai_model",
    "xai_tcav",
]


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
    require_compatible(settings)
    config.pluginmanager.register(XaiReports(config), "xai-reports")
    if is_distributed(config):
        config.pluginmanager.register(LostWorkers(config), "xai-lost-workers")
    if settings.update:
        from pytest_xai.updates.run import Updates

        config.pluginmanager.register(Updates(config), "xai-updates")
    if settings.save is not None or settings.compare is not None:
        from pytest_xai.runs.plugin import Runs

        config.pluginmanager.register(Runs(config), "xai-runs")
    if settings.advisory:
        from pytest_xai.advisory import Advisory

        config.pluginmanager.register(Advisory(config), "xai-advisory")
    if settings.update or config.get_verbosity() > 0:
        from pytest_xai.report.ungated import Ungated

        config.pluginmanager.register(Ungated(config), "xai-ungated")
    if settings.json is not None:
        require_writable(settings.json, option="--xai-json")
    if settings.cache is not None:
        _require_folder(settings.cache)
    if settings.thresholds and not settings.fixture_models:
        msg = "--xai-thresholds needs --xai-model NAME, to say which model to hold against them"
        raise pytest.UsageError(msg)
    if settings.explainers:
        _require_explainers(settings.explainers)
    if not settings.models:
        return
    if not is_worker(config):
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
    """Run a test once for every model, image set and explainer, as its fixtures demand."""
    settings = read_settings(metafunc.config)
    asked, models = metafunc.fixturenames, settings.fixture_models
    if "xai_model" in asked and models:
        sets = _sets_of_models(metafunc.config) if "xai_data" in asked else {}
        if any(len(names) > 1 for names in sets.values()):
            pairs = [
                pytest.param(model, name, id=f"{model}-{name}" if len(names) > 1 else model)
                for model, names in sets.items()
                for name in names
            ]
            metafunc.parametrize(("xai_model", "xai_data"), pairs, indirect=True, scope="session")
        else:
            metafunc.parametrize("xai_model", models, indirect=True, scope="session")
    if "xai_explainer" in asked and settings.fixture_explainers:
        explainers = settings.fixture_explainers
        metafunc.parametrize("xai_explainer", explainers, indirect=True, scope="session")


def _sets_of_models(config: pytest.Config) -> dict[str, list[str | None]]:
    """Map each model that tests run on to the names of its image sets; None stands for one."""
    settings = read_settings(config)
    if settings.data:  # without a look at the threshold files
        names: list[str | None] = [source.name for source in settings.data]
        return dict.fromkeys(settings.fixture_models, names)
    from pytest_xai.session import session_of
    from xai_core.errors import XaiError

    session = session_of(config)
    sets: dict[str, list[str | None]] = {}
    for model in settings.fixture_models:
        try:
            sources = session.sources.image_sources(model, session.thresholds_of(model))
        except XaiError:  # which the fixtures say
            sources = ()
        sets[model] = [source.name for source in sources] or [None]
    return sets


def _files_of_models(config: pytest.Config) -> dict[Path, list[str]]:
    """Map each threshold file to the models that are held against it.

    Raises:
        UsageError: a model without a threshold file, where no path was given either.
    """
    if _FILES not in config.stash:
        from pytest_xai.threshold_files import expected_file, threshold_file_of

        settings = read_settings(config)
        files: dict[Path, list[str]] = {}
        given = config.args_source is pytest.Config.ArgsSource.ARGS
        for model in settings.models:
            path = threshold_file_of(model, settings, project_root(config))
            if path is not None:
                _prepare_update(config, path.absolute(), model)
                files.setdefault(path.absolute(), []).append(model)
            elif not given:
                missing = expected_file(model, settings)
                updates = _updates(config)
                for place in settings.thresholds:
                    if not Path(place).exists() and not (updates and Path(place) == missing):
                        msg = f"--xai-thresholds {place}: no such file or folder"
                        raise pytest.UsageError(msg)
                _require_known(model)
                if updates is None:
                    msg = (
                        f"no threshold file for --xai-model {model}: expected {missing}; write "
                        "it, have it measured with --xai-update, or give --xai-thresholds FILE"
                    )
                    raise pytest.UsageError(msg)
                root = Path() if settings.thresholds else project_root(config)
                path = (root / missing).absolute()
                updates.start(path, model)
                files[path] = [model]
        config.stash[_FILES] = files
    return config.stash[_FILES]


def _updates(config: pytest.Config) -> Updates | None:
    """Return what writes thresholds, in the process that does."""
    if is_worker(config):
        return None
    found: Updates | None = config.pluginmanager.get_plugin("xai-updates")
    return found


def _prepare_update(config: pytest.Config, path: Path, model: str) -> None:
    """Begin the gates of a threshold file that has none, if they are to be written.

    Raises:
        UsageError: it may not be written, or no images are known.
    """
    updates = _updates(config)
    if updates is not None:
        updates.require_writable(path)
        updates.start(path, model)


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


def _require_folder(path: Path) -> None:
    """Raise a usage error at the start if a cache cannot be in ``path``, which is not made yet."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        msg = (
            f"--xai-cache (ini xai_cache) {path}: cannot be written; expected a folder that can, "
            "or one that can be made, or off"
        )
        raise pytest.UsageError(msg)


_FILES = pytest.StashKey[dict[Path, list[str]]]()
