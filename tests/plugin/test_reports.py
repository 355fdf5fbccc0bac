"""JUnit, JSON and the table: the same whether and how pytest-xdist runs the tests."""

from __future__ import annotations

import json
import math
import re
from itertools import takewhile
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from conftest import Project

HEAD = """\
[model]
spec = "tiny:build"
size = [16, 16]
normalization = "none"
[data]
path = "tiny:one_blank"
"""
PASSING = """\
[explainers.gradcam]
[explainers.smooth]
kind = "gradcam"
postprocess = ["gaussian(sigma=1)"]
[explainers.centre]
[gates.gradcam]
iou = { above = 0.9, beats = ["centre", "random"], undefined = 1 }
hits = { metric = "pointing_game", above = 0.9, tolerance = 2, mostly = 0.9, undefined = 1 }
[gates.smooth]
iou = { above = 0.1, beats = "centre", undefined = 1 }
precision = { above = 1.5, level = "warn", undefined = 1 }
[gates.centre]
faithfulness_gap = { above = -1, skill_above = -10 }
"""
FAILING = """\
iou = { above = 1.5 }
[explainers.untouched]
kind = "gradcam"
[gates.untouched]
recall = { above = 0.0 }
iou = { above = 0.0, undefined = 1 }
completeness = { below = 0.1 }
"""
NO_XDIST, ZERO, TWO = ("-p", "no:xdist"), ("-n0",), ("-n2",)


def records_of(found: dict) -> list[str]:
    return sorted(json.dumps(record, sort_keys=True) for record in found["measurements"])


def table_of(result: pytest.RunResult) -> list[str]:
    start = next(i for i, line in enumerate(result.outlines) if "= explanations of" in line)
    lines = result.outlines[start + 1 :]
    # What was spent stands below; two workers spend some of it twice.
    ends = ("===", "explaining:", "measuring:")
    return lines[: next(i for i, line in enumerate(lines) if line.startswith(ends))]


@pytest.mark.parametrize(
    ("gates", "status"),
    [
        pytest.param(PASSING, pytest.ExitCode.OK, id="pass and warn"),
        pytest.param(PASSING + FAILING, pytest.ExitCode.TESTS_FAILED, id="fail, undefined, error"),
    ],
)
def test_xdist_changes_neither_verdicts_nor_reports(
    gates: str, status: pytest.ExitCode, project: Project
) -> None:
    project.thresholds(gates, head=HEAD)
    seen = []
    for mode in (NO_XDIST, ZERO, TWO):
        (project.path / "found.json").write_text("from an earlier run")
        files = ["--xai-json", "found.json", "--junitxml", "junit.xml"]
        result = project.run("--xai-model", "tiny", *mode, *files)
        assert result.ret == status
        found = json.loads((project.path / "found.json").read_text())
        cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
        junit = {
            f"{case.get('classname')}::{case.get('name')}": [
                (item.get("name"), item.get("value")) for item in case.iter("property")
            ]
            for case in cases
        }
        outcomes = {key: n for key, n in result.parseoutcomes().items() if key != "seconds"}
        records = records_of(found)
        assert len(set(records)) == len(records)
        shown = (found["models"], found["gates"], records, junit)
        seen.append((outcomes, table_of(result), *shown))
    alone, zero, two = seen
    assert zero == alone
    assert two == alone
    assert len(alone[1]) >= len(found["gates"])


@pytest.fixture
def passing(project: Project) -> Project:
    project.thresholds(PASSING, head=HEAD)
    return project


def test_junit_properties_say_what_was_measured(passing: Project) -> None:
    passing.run("--xai-model", "tiny", "-k", "gradcam and iou", "--junitxml", "junit.xml")
    root = ElementTree.parse(passing.path / "junit.xml")
    properties = {item.get("name"): item.get("value") for item in root.iter("property")}
    assert properties == {
        "xai_protocol": "iou@v1",
        "xai_outcome": "inconclusive",  # five images of 1.0 do not prove .9
        "xai_images": "5",
        "xai_undefined": "1",
        "xai_value": "1.0",
        "xai_threshold": "0.9",
        "xai_ci_low": properties["xai_ci_low"],
        "xai_ci_high": "1.0",
    }
    assert 0 < float(properties["xai_ci_low"]) <= 1


def test_json_has_one_record_for_each_model_image_explainer_and_metric(passing: Project) -> None:
    found = passing.json("--xai-model", "tiny")
    assert found["schema_version"] == 2
    assert found["models"][0]["name"] == "tiny"
    assert found["models"][0]["images"] == 6
    assert [row["gate"] for row in found["gates"]] == [
        "iou",
        "hits",
        "iou",
        "precision",
        "faithfulness_gap",
    ]
    own = [r for r in found["measurements"] if r["method"] in ("gradcam", "smooth")]
    keys = [(r["model"], r["image"], r["method"], r["metric"]) for r in own]
    names = [f"image-{index}" for index in range(6)]
    expected = [
        ("tiny", name, method, metric)
        for method, metric in (
            ("gradcam", "iou"),
            ("gradcam", "pointing_game"),
            ("smooth", "iou"),
            ("smooth", "precision"),
        )
        for name in names
    ]
    assert sorted(keys) == sorted(expected)
    blank = next(r for r in own if r["image"] == "image-0")
    assert blank["value"] is None
    assert blank["undefined"] == "the heatmap is zero everywhere"
    hit = next(r for r in own if r["metric"] == "pointing_game" and r["image"] == "image-1")
    assert hit["value"] == 1.0
    assert hit["settings"] == {"tolerance": 2, "region": "mask"}
    assert hit["protocol"] == "pointing_game@zhang-2016(tolerance=2)"
    smooth = next(r for r in own if r["method"] == "smooth")
    assert smooth["explainer"] == "gradcam"
    assert smooth["postprocess"][0].startswith("gaussian(sigma=1")


def test_json_has_the_records_of_both_names_of_one_explainer(project: Project) -> None:
    twin = "[explainers.twin]\nkind = 'gradcam'\n[gates.twin]\niou = { above = 0.9 }\n"
    project.thresholds(f"[explainers.gradcam]\n[gates.gradcam]\niou = {{ above = 0.9 }}\n{twin}")
    found = project.json("--xai-model", "tiny")
    methods = [record["method"] for record in found["measurements"]]
    assert sorted(methods) == ["gradcam"] * 6 + ["twin"] * 6


def test_json_is_strict(passing: Project) -> None:
    def refuse(word: str) -> float:
        raise AssertionError(word)

    passing.run("--xai-model", "tiny", "--xai-json", "found.json")
    text = (passing.path / "found.json").read_text()
    assert json.loads(text, parse_constant=refuse)


def test_json_holds_what_python_tests_measured(passing: Project) -> None:
    passing.pytester.makepyfile(
        """
        from pytest_xai import assert_sparseness_above

        def test_it(xai_explain):
            assert_sparseness_above(xai_explain("centre"), 0.01)
        """
    )
    found = passing.json("--xai-model", "tiny", "test_json_holds_what_python_tests_measured.py")
    assert {(r["method"], r["metric"]) for r in found["measurements"]} == {("centre", "sparseness")}
    assert len(found["measurements"]) == 6
    assert found["gates"] == []


def test_json_that_cannot_be_written_at_the_end_fails_the_run(
    passing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    (passing.path / "found.json").write_text("from an earlier run")
    monkeypatch.setattr(json, "dumps", full)
    result = passing.run("--xai-model", "tiny", "-k", "hits", "--xai-json", "found.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--xai-json *found.json: not written: *No space left*"])
    assert [path.name for path in passing.path.glob("*found*")] == ["found.json"]
    assert (passing.path / "found.json").read_text() == "from an earlier run"


def test_json_makes_its_folder(passing: Project) -> None:
    passing.run("--xai-model", "tiny", "-k", "hits", "--xai-json", "out/deep/found.json")
    assert (passing.path / "out" / "deep" / "found.json").is_file()


def test_collecting_alone_leaves_an_earlier_json_alone(passing: Project) -> None:
    (passing.path / "found.json").write_text("from an earlier run")
    passing.run("--xai-model", "tiny", "--collect-only", "--xai-json", "found.json")
    assert (passing.path / "found.json").read_text() == "from an earlier run"


COSTLY = """\
[explainers.ig]
kind = "integrated_gradients"
steps = 4
[explainers.gradcam]
[gates.gradcam]
iou = { above = 0.0, undefined = 1 }
insertion = { above = 0.0, undefined = 1 }
stability = { above = 0.0, samples = 2, undefined = 1 }
[gates.ig]
completeness = { below = 0.5, undefined = 1 }
"""


@pytest.mark.parametrize("mode", [NO_XDIST, TWO])
def test_what_went_through_the_model_is_said_for_every_explainer_and_metric(
    mode: tuple[str, ...], project: Project
) -> None:
    project.thresholds(COSTLY, head=HEAD)
    result = project.run("--xai-model", "tiny", "--xai-json", "found.json", *mode)
    rows = json.loads((project.path / "found.json").read_text())["costs"]
    keys = [(row["model"], row["stage"], row["name"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(row["seconds"] > 0 for row in rows)
    spent = {row["name"]: (row["forwards"], row["gradients"]) for row in rows}
    assert spent["ig"] == (0, 6 * 4)
    # One of the six images is blank: its maps are zero, and nothing is measured of it.
    assert spent["gradcam"] == (0, 6)
    assert spent["insertion"] == (5 * 27, 0)  # 26 steps of 10 of 256 pixels, and the start
    assert spent["stability"] == (0, 5 * 2)
    assert spent["iou"] == (0, 0)
    assert spent["completeness"] == (2 * 6, 0)  # kept as it is measured without the blank one
    text = " ".join(result.stdout.str().split())
    assert "explaining: gradcam 6 gradients, ig 24 gradients measuring:" in text
    assert f"insertion {5 * 27} forwards" in text
    assert "iou 0" not in text


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("colour", ["no", "yes"])
def test_the_table_is_whole_at_any_width(
    columns: int, colour: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_name = "[explainers.integrated_gradients]\nsteps = 2\n[gates.integrated_gradients]\n"
    wide = "increase_in_confidence = { above = 0, beats = 'inverted' }\n"
    project.thresholds(PASSING + long_name + wide, head=HEAD)
    monkeypatch.setenv("COLUMNS", str(columns))
    result = project.run("--xai-model", "tiny", f"--color={colour}")
    text = re.sub(r"\x1b\[[\d;]*m", "", result.stdout.str())
    assert (text != result.stdout.str()) is (colour == "yes")
    table = text.partition("explanations of tiny")[2].splitlines()
    assert table[1] == "6 images of tiny:one_blank, top-1 accuracy 1.000"
    assert table[2].split() == [
        *("gate", "value", "demand", "95%", "CI", "n", "detects", "verdict")
    ]
    until_pytest_goes_on = takewhile(lambda line: not line.startswith("="), table[3:])
    rows = [line for line in until_pytest_goes_on if line.startswith("  ")]
    assert all(len(line) <= columns for line in rows)
    assert "  increase_in_confidence" in "\n".join(rows)
    first = next(line for line in rows if line.startswith("  iou "))
    assert re.fullmatch(
        r"  iou +1\.000  >= 0\.900 +0\.\d{3}\.\.1\.000 +5 +0\.\d{3}  pass\??", first.rstrip()
    )
    assert [line.split()[:3] for line in rows[1:4]] == [
        ["over", "centre", rows[1].split()[2]],
        ["over", "random", rows[2].split()[2]],
        ["undefined", "1", "<="],
    ]


@pytest.mark.parametrize(
    ("asked", "shown"), [([], True), (["-q"], True), (["-qq"], False), (["--no-summary"], False)]
)
def test_the_table_is_as_quiet_as_pytest(asked: list[str], shown: bool, passing: Project) -> None:
    result = passing.run("--xai-model", "tiny", "-k", "hits", *asked)
    assert ("explanations of tiny" in result.stdout.str()) is shown


def test_a_run_without_a_terminal_reporter_has_the_same_verdict(project: Project) -> None:
    project.gates(iou="above = 0.5")
    assert project.run("--xai-model", "tiny", "-p", "no:terminal").ret == pytest.ExitCode.OK
    project.gates(iou="above = 1.5")
    asked = ["--xai-model", "tiny", "-p", "no:terminal"]
    assert project.run(*asked).ret == pytest.ExitCode.TESTS_FAILED


def test_one_image_says_nothing_but_the_range_of_the_metric(project: Project) -> None:
    project.gates(iou="above = 0.5")
    asked = ["--xai-model", "tiny", "--xai-limit", "1", "--junitxml", "junit.xml"]
    result = project.run(*asked, "--xai-json", "found.json")
    result.stdout.fnmatch_lines(["  iou *1.000  >= 0.500  0.000..1.000  1 *pass[?]*"])
    (row,) = json.loads((project.path / "found.json").read_text())["gates"]
    assert (row["demands"][0]["low"], row["demands"][0]["high"]) == (0.0, 1.0)
    assert math.isclose(row["mean"], 1.0)
    assert "nan" not in (project.path / "junit.xml").read_text().lower()
