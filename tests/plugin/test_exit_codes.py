"""The exit code of a run says what came of it; README.md has the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

TINY = ("--xai-model", "tiny")


@pytest.mark.parametrize(
    ("gate", "options", "code"),
    [
        ("above = 0.9", [], 0),
        ("above = 1.5, level = 'warn'", [], 0),
        ("above = 1.5", ["--xai-advisory"], 0),
        ("above = 1.5", [], 1),
        ("above = 0.9", ["--xai-strict"], 1),  # not proven by six images
        ("", [], 1),  # no threshold yet
        ("", ["--xai-update"], 1),  # written, to be reviewed
        ("above = 0.01", ["--xai-update=all"], 0),
        ("above = 0.9", ["--xai-device=gpu"], 1),  # cannot be measured
        ("abvoe = 0.9", [], 2),
        ("above = 0.9", ["--xai-limit=none"], 4),
        ("above = 0.9", ["-k", "nothing"], 5),
    ],
)
def test_the_exit_code_says_what_came_of_a_gate(gate, options, code, project: Project) -> None:
    project.gates(iou=gate)
    assert project.run(*TINY, *options).ret == code


def test_a_new_file_to_review_is_1(project: Project) -> None:
    (project.path / "thresholds").mkdir()
    start = ["--xai-model=demo", "--xai-thresholds=thresholds", "--xai-limit=4"]
    assert project.run(*start, "--xai-update", "-k", "iou or energy").ret == 1
    assert project.run(*start).ret == 0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--xai-model", "densenet121"], id="no threshold file"),
        pytest.param(["--xai-model", "densenet112"], id="unknown model"),
        pytest.param(["--xai-thresholds", "thresholds"], id="no model"),
        pytest.param(["no/such.toml"], id="no such file"),
    ],
)
def test_what_cannot_be_asked_is_4(options: list[str], project: Project) -> None:
    assert project.run(*options).ret == 4


def test_an_interruption_is_2(project: Project) -> None:
    project.gates(iou="above = 0.9")
    project.pytester.makeconftest("def pytest_runtest_setup():\n    raise KeyboardInterrupt\n")
    assert project.pytester.runpytest_inprocess(*TINY, no_reraise_ctrlc=True).ret == 2


def test_a_mistake_of_pytest_or_a_plugin_is_3(project: Project) -> None:
    project.gates(iou="above = 0.9")
    project.pytester.makeconftest("def pytest_runtest_logreport():\n    raise ValueError\n")
    assert project.run(*TINY).ret == 3


def test_a_json_file_that_cannot_be_written_is_1(project: Project) -> None:
    project.gates(iou="above = 0.9")
    project.pytester.makeconftest(
        "from pathlib import Path\n"
        "def pytest_runtest_teardown():\n    Path('found').write_text('')\n"
    )
    result = project.run(*TINY, "--xai-json", "found/found.json")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
