"""``--xai-advisory``: the same report, the same words, and no failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from tiny_concepts import HEAD as CONCEPTS
from tiny_concepts import table, write_concepts

if TYPE_CHECKING:
    from conftest import Project

GATES = """\
[explainers.gradcam]
[explainers.centre]
[explainers.mine]
kind = "tiny:Broken"
[gates.gradcam]
iou = { above = 0.9 }
recall = { above = 1.5 }
precision = { above = 1.5, level = "warn" }
completeness = { below = 0.1 }
dice = {}
[gates.mine]
iou = { above = 0.0 }
"""
ADVISORY = ("--xai-model", "tiny", "--xai-advisory")


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=" ".join)
def test_gates_that_would_fail_warn_and_are_counted(workers, project: Project) -> None:
    project.thresholds(GATES)
    result = project.run(*ADVISORY, *workers, "--xai-json=found.json", "--junitxml=junit.xml")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=6, warnings=5)
    result.stdout.fnmatch_lines(
        [
            "  iou * pass*",
            "  recall * fail",
            "  precision * warn",
            "  completeness * error",
            "  dice * new",
            "advisory: 4 gates would have failed",
        ]
    )
    # Warnings of workers come in the order in which they end.
    for line in (
        "*thresholds/tiny.toml:*: GateWarning: recall[[]gradcam[]] tiny: 1.000 < 1.500 *",
        "*GateWarning: completeness[[]gradcam[]] tiny: cannot be measured: *",
        "*GateWarning: thresholds/tiny.toml::mine::iou: cannot be measured: ZeroDivisionError: *",
        "*GateWarning: dice[[]gradcam[]] tiny: has no threshold yet; *",
    ):
        result.stdout.fnmatch_lines([line])
    rows = json.loads((project.path / "found.json").read_text())["gates"]
    assert [row["passed"] for row in rows] == [True, False, False, False, False, False]
    cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
    marked = [
        case.get("name")
        for case in cases
        if any(one.get("name") == "xai_advisory" for one in case.iter("property"))
    ]
    assert sorted(marked) == ["completeness", "dice", "iou", "recall"]


def test_nothing_is_said_where_all_pass(project: Project) -> None:
    project.gates(iou="above = 0.9")
    result = project.run(*ADVISORY)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("advisory:*")


def test_warnings_as_errors_do_not_make_it_fail(project: Project) -> None:
    project.gates(iou="above = 1.5", recall="above = 1.5, level = 'warn'")
    result = project.run(*ADVISORY, "-W", "error")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["advisory: 2 gates would have failed"])


def test_strict_decides_what_would_have_failed(project: Project) -> None:
    project.gates(iou="above = 0.9")  # six images of 1.0 do not prove it
    assert "advisory" not in project.run(*ADVISORY).stdout.str()
    result = project.run(*ADVISORY, "--xai-strict")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["  iou * fail[?]", "advisory: 1 gate would have failed"])


def test_concepts_warn_as_well(project: Project) -> None:
    write_concepts(project.path / "concepts")
    project.thresholds(table("red", "verdict = 'absent'"), head=CONCEPTS)
    result = project.run(*ADVISORY)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["*GateWarning: concept red *: present, wanted absent*", "advisory: 1 gate would *"]
    )


def test_a_wrong_file_still_fails(project: Project) -> None:
    project.gates(iuo="above = 0.5")
    assert project.run(*ADVISORY).ret == pytest.ExitCode.INTERRUPTED


def test_other_tests_still_fail(project: Project) -> None:
    project.gates(iou="above = 1.5")
    project.pytester.makepyfile(
        "from pytest_xai import assert_iou_above\n"
        "def test_it(xai_explain):\n    assert_iou_above(xai_explain('gradcam'), 1.5)\n"
    )
    result = project.run("--xai-advisory", "--xai-model=tiny", "thresholds/tiny.toml", ".")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1, warnings=1)
