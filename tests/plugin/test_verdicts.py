"""What makes a gate pass, fail or warn, and what a failure says."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

ONE_BLANK = """\
[model]
spec = "tiny:build"
size = [16, 16]
normalization = "none"
[data]
path = "tiny:one_blank"
"""
# The centre's IoU differs from image to image, so its mean is known with an interval only.
CENTRE = "[explainers.centre]\n[gates.centre]\n"


@pytest.mark.parametrize(
    ("demand", "passes"),
    [
        ("above = 0.99", True),
        ("below = 0.99", False),
        ("below = 1.0", True),
        ("above = 1.01", False),
        ("above = 0.99, mostly = 1.0", True),
        ("above = 1.01, mostly = 0.1", False),
        ("beats = ['centre', 'random', 'sobel', 'inverted']", True),
        ("beats = 'random'", True),
        ("skill_above = 0.99", True),
        ("skill_above = 1.01", False),
        ("above = 0.99, skill_above = 1.01", False),
        ("above = 1.01, beats = 'centre'", False),
    ],
)
def test_a_gate_holds_the_metric_against_its_demands(
    demand: str, passes: bool, project: Project
) -> None:
    project.gates(iou=demand)
    result = project.run("--xai-model", "tiny")
    result.assert_outcomes(passed=passes, failed=not passes)
    assert result.ret == (pytest.ExitCode.OK if passes else pytest.ExitCode.TESTS_FAILED)


def test_a_null_map_does_not_beat_itself(project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {{ beats = 'centre' }}\n")
    result = project.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["iou[[]centre[]] tiny: * does not beat centre *"])


def test_strict_passes_only_what_is_proven(project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {{ above = 0.0 }}\n")
    (mean,) = [row["mean"] for row in project.json("--xai-model", "tiny")["gates"]]
    close = f"iou = {{ above = {mean - 0.001} }}"
    project.thresholds(f"{CENTRE}{close}\n")
    result = project.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["  iou * 6 *pass[?]", "[?] = not proven: *"])
    result = project.run("--xai-model", "tiny", "--xai-strict")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["iou[[]centre[]] tiny: * not proven, about * images would settle it", "  iou * 6 *fail[?]"]
    )


def test_a_gate_of_level_warn_warns(project: Project) -> None:
    project.gates(iou="above = 1.5, level = 'warn'")
    result = project.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*thresholds/tiny.toml:11: GateWarning: iou[[]gradcam[]] tiny: 1.000 < 1.500*", "*  warn"]
    )


def test_warnings_as_errors_make_it_fail_with_the_same_words(project: Project) -> None:
    project.gates(iou="above = 1.5, level = 'warn'")
    result = project.run("--xai-model", "tiny", "-W", "error")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["iou[[]gradcam[]] tiny: 1.000 < 1.500*"])
    result.stdout.no_fnmatch_line("*.py:*")


def test_warnings_of_pytest_as_errors_leave_it_a_warning(project: Project) -> None:
    project.gates(iou="above = 1.5, level = 'warn'")
    result = project.run("--xai-model", "tiny", "-W", "error::pytest.PytestWarning")
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(("allowed", "passes"), [(0, False), (1, True)])
def test_an_image_without_a_value_is_tolerated_only_if_the_file_says_so(
    allowed: int, passes: bool, project: Project
) -> None:
    gate = f"iou = {{ above = 0.99, undefined = {allowed} }}"
    project.thresholds(f"[explainers.gradcam]\n[gates.gradcam]\n{gate}\n", head=ONE_BLANK)
    result = project.run("--xai-model", "tiny")
    result.assert_outcomes(passed=passes, failed=not passes)
    result.stdout.fnmatch_lines([f"    undefined * 1  <= {allowed}"])
    if not passes:
        result.stdout.fnmatch_lines(
            [
                "iou[[]gradcam[]] tiny: 1 of 6 images undefined, 0 allowed "
                "(image-0: the heatmap is zero everywhere)",
                "worst images:",
                "  undefined  image-0  (the heatmap is zero everywhere)",
                "      1.000  image-1",
            ]
        )


def test_a_heatmap_that_is_not_a_number_fails(project: Project) -> None:
    project.thresholds(
        "[explainers.odd]\nkind = 'tiny:NotANumber'\n[gates.odd]\niou = { above = 0.0 }\n"
    )
    result = project.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["iou[[]odd[]] tiny: 1 of 6 images undefined, * not finite*"])


def test_a_failure_says_what_decided_and_shows_the_worst_images(project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {{ above = 0.9 }}\n")
    result = project.run("--xai-model", "tiny")
    start = result.outlines.index("worst images:")
    headline, of_class, empty = result.outlines[start - 3 : start]
    number = r"\d\.\d{3}"
    assert re.fullmatch(
        rf"iou\[centre\] tiny: {number} < 0\.900 "
        rf"\(95% CI {number}\.\.{number}, n=6, detects {number}\)",
        headline,
    )
    assert re.fullmatch(rf"worst class: \d {number}, n=2", of_class)
    assert not empty
    listed = [line.split() for line in result.outlines[start + 1 : start + 6]]
    values = [float(value) for value, _ in listed]
    assert values == sorted(values)
    # Its patch lies farthest from the centre.
    assert listed[0][1] == "image-0"
    result.stdout.fnmatch_lines(
        [
            "*_ gate thresholds/tiny.toml::centre::iou _*",
            "FAILED thresholds/tiny.toml::centre::iou - iou[[]centre[]]*",
        ]
    )


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (["--xai-model", "tiny"], ["--xai-model=tiny"]),
        (["thresholds/tiny.toml"], []),
        (["thresholds/tiny.toml", "test_other.py", "-v", "-k", "iou"], []),
        (
            ["--xai-model", "tiny", "--xai-limit", "4", "--xai-strict", "--xai-seed=3"],
            ["--xai-model=tiny", "--xai-limit=4", "--xai-seed=3", "--xai-strict"],
        ),
        (
            ["--xai-model", "tiny", "--xai-thresholds", "thresholds/tiny.toml"],
            ["--xai-model=tiny", "--xai-thresholds=thresholds/tiny.toml"],
        ),
        (
            ["--xai-model", "a", "--xai-model", "b", "--xai-thresholds=thresholds/tiny.toml"],
            ["--xai-model=a", "--xai-model=b", "--xai-thresholds=thresholds/tiny.toml"],
        ),
        (
            ["--xai-model", "tiny", "-o", "xai_limit=3", "-c", "tox.ini"],
            ["-c", "tox.ini", "-o", "xai_limit=3", "--xai-model=tiny"],
        ),
    ],
    ids=" ".join,
)
def test_the_command_in_a_failure_runs_just_that_gate(
    asked: list[str], kept: list[str], project: Project
) -> None:
    project.gates(precision="above = 0.3", iou="above = 1.5")
    project.pytester.makepyfile(test_other="def test_other(): pass")
    result = project.run(*asked)
    at = result.outlines.index("run just this gate again:")
    command = shlex.split(result.outlines[at + 1])
    model = "a::" if "a" in asked else ""
    assert command == ["pytest", *kept, f"thresholds/tiny.toml::{model}gradcam::iou"]
    again = project.run(*command[1:])
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines([f"FAILED thresholds/tiny.toml::{model}gradcam::iou - *"])


def test_the_command_is_right_where_pytest_was_started(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.gates(iou="above = 1.5")
    (project.path / "sub").mkdir()
    monkeypatch.chdir(project.path / "sub")
    result = project.run("--xai-model", "tiny")
    command = "pytest --xai-model=tiny ../thresholds/tiny.toml::gradcam::iou"
    result.stdout.fnmatch_lines([f"  {command}"])
    project.run(*command.split()[1:]).assert_outcomes(failed=1)


def test_an_unexpected_error_is_shown_briefly_from_our_code_on(project: Project) -> None:
    project.thresholds(
        "[explainers.mine]\nkind = 'tiny:Broken'\n[gates.mine]\niou = { above = 0.0 }\n"
    )
    result = project.run("--xai-model", "tiny")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["tiny.py:*: in explain", "E   ZeroDivisionError: the explainer's own mistake"]
    )
    result.stdout.no_fnmatch_line("*_pytest*")
    result.stdout.fnmatch_lines(["  iou * error"])
    assert len(result.outlines) < 60
    longer = project.run("--xai-model", "tiny", "--tb=long")
    assert len(longer.outlines) > 2 * len(result.outlines)
