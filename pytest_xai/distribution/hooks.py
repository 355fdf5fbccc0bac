"""The hooks that give gates which share an explanation to one worker.

Loaded in every pytest run, so it imports pytest and the standard library only.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_xai.settings import read_settings


@pytest.hookimpl(wrapper=True, specname="pytest_cmdline_main")
def pytest_remember_dist(config: pytest.Config) -> Generator[None, object, object]:
    """Note whether a way of distributing was asked for, before ``-n 2`` is made ``--dist load``."""
    asked = config.getoption("dist", "no") != "no" or config.getoption("distload", False)
    config.stash[_DIST_ASKED] = bool(asked)
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what distributes a run that holds threshold files; None leaves it to pytest-xdist."""
    left_to_xdist = config.getoption("dist") == "load" and not config.stash[_DIST_ASKED]
    if not left_to_xdist or not _asks_for_gates(config):
        return None
    from pytest_xai.distribution.scheduling import GateScheduling

    return GateScheduling(config, log)


def _asks_for_gates(config: pytest.Config) -> bool:
    named = any(argument.partition("::")[0].endswith(".toml") for argument in config.args)
    return named or bool(read_settings(config).models)


_DIST_ASKED = pytest.StashKey[bool]()
