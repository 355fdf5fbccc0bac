"""Concepts in JSON, JUnit and the table, with pytest-xdist, and in Python tests."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from tiny_concepts import HEAD, HOW, table, write_concepts

from xai_core.classifier import load_classifier
from xai_core.concepts.features import FeatureStore
from xai_core.concepts.loading import load_concepts
from xai_core.concepts.result import TCAVResult
from xai_core.concepts.tcav import TCAV
from xai_core.imageset import load_imageset

if TYPE_CHECKING:
    from conftest import Project

MIXED = "\n".join(
    [
        "[explainers.gradcam]\n[gates.gradcam]\niou = { above = 0.9 }",
        table("red", "verdict = 'absent'", "tcav = { above = 0.2 }", of_class="classes = [0, 1]"),
        table("mist", "verdict = 'absent'"),
        table("dull", "verdict = 'not learnt'", "effect = { below = 0.5 }"),
    ]
)
TESTED = ("seconds", "passes")  # which differ from process to process


@pytest.fixture
def concepts(project: Project) -> Project:
    write_concepts(project.path / "concepts")
    return project


def direct(project: Project, concept: str, target: int, **parameters: Any) -> TCAVResult:
    """Return the test of a concept as the library makes it, without the plugin."""
    library = load_concepts(project.path / "concepts", size=(16, 16))
    classifier = load_classifier("tiny:build", size=(16, 16), normalization="none")
    images = load_imageset("tiny:images", size=(16, 16)).of_label(target)
    tcav = TCAV(layer="1", pooling="flatten", runs=5, null_sets=30, **parameters)
    store = FeatureStore(classifier)
    return tcav.test(store, library.concept(concept), library.random, images, target)


def builtin(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and builtin(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(builtin, value))
    return type(value) in (str, int, float, bool, type(None))


def test_xdist_changes_neither_verdicts_nor_reports(concepts: Project) -> None:
    concepts.thresholds(MIXED, head=HEAD)
    seen = []
    for mode in (["-p", "no:xdist"], ["-n2"]):
        files = ["--xai-json", "found.json", "--junitxml", "junit.xml"]
        result = concepts.run("--xai-model", "tiny", *mode, *files)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        found = json.loads((concepts.path / "found.json").read_text())
        for record in found["concepts"]:
            assert {name: record.pop(name) for name in TESTED}
        junit = {
            case.get("name"): [(one.get("name"), one.get("value")) for one in case.iter("property")]
            for case in ElementTree.parse(concepts.path / "junit.xml").iter("testcase")
        }
        text = result.stdout.str()
        shown = re.search(r"concept +verdict.*?\n(?=\?|testing concepts)", text, re.DOTALL)
        assert shown
        outcomes = {key: n for key, n in result.parseoutcomes().items() if key != "seconds"}
        reported = (found["models"], found["gates"], found["concept_gates"], found["concepts"])
        seen.append((outcomes, shown[0], junit, *reported))
    alone, two = seen
    assert two == alone
    assert len(alone[-1]) == 3
    assert len(alone[-2]) == 7


def test_json_has_every_field_of_a_result(concepts: Project) -> None:
    concepts.thresholds(table("red", "verdict = 'present'"), head=HEAD)
    found = concepts.json("--xai-model", "tiny")
    (record,) = found["concepts"]
    assert found["schema_version"] == 2
    assert builtin(record)
    expected = direct(concepts, "red", 0)
    named = {field.name: getattr(expected, field.name) for field in fields(expected)}
    for name in (*TESTED, "tcav", "names", "model"):
        named.pop(name)
    for name, key in (("null_scores", "null_score"), ("null_alignments", "null_alignment")):
        assert named.pop(name) == (record[f"{key}_mean"], record[f"{key}_deviation"])
    assert record["parameters"]["pooling"] == "flatten"
    assert [one["image"] for one in record["sensitivities"]] == list(expected.names)
    values = [one["value"] for one in record["sensitivities"]]
    assert values == named.pop("sensitivities").tolist()
    for name in [name for name in named if name.endswith("_interval")]:
        interval = named.pop(name)
        assert record[name] == {
            "low": interval.low,
            "high": interval.high,
            "confidence": interval.confidence,
        }
    assert {name: record[name] for name in named} == named
    assert (record["verdict"], record["learnt"]) == (expected.verdict, expected.learnt)
    assert all(name in record for name in TESTED)


def test_json_has_one_row_for_each_demand_in_the_order_of_the_file(concepts: Project) -> None:
    concepts.thresholds(MIXED, head=HEAD)
    rows = concepts.json("--xai-model", "tiny")["concept_gates"]
    assert builtin(rows)
    shown = [(row["concept"], row["gate"], row["wanted"], row["outcome"]) for row in rows]
    assert shown == [
        ("red", "verdict[0-1]", "absent", "fail"),
        ("red", "tcav[0-1]", "score >= 0.2", "pass"),
        ("red", "verdict[1-1]", "absent", "pass"),
        ("red", "tcav[1-1]", "score >= 0.2", "inconclusive"),
        ("mist", "verdict", "absent", "error"),
        ("dull", "verdict", "not learnt", "pass"),
        ("dull", "effect", "effect <= 0.5", "pass"),
    ]
    lines = (concepts.path / "thresholds" / "tiny.toml").read_text().splitlines()
    assert [lines[row["line"] - 1].split()[0] for row in rows] == [
        *("verdict", "tcav", "verdict", "tcav", "verdict", "verdict", "effect")
    ]


def test_junit_properties_say_what_was_found(concepts: Project) -> None:
    concepts.thresholds(table("red", "effect = { above = 1 }"), head=HEAD)
    concepts.run("--xai-model", "tiny", "--junitxml", "junit.xml")
    root = ElementTree.parse(concepts.path / "junit.xml")
    found = {item.get("name"): item.get("value") for item in root.iter("property")}
    expected = direct(concepts, "red", 0)
    assert found == {
        "xai_protocol": expected.tcav.protocol,
        "xai_outcome": "pass",
        "xai_verdict": "present",
        "xai_wanted": "effect >= 1",
        "xai_images": "2",
        "xai_p": str(expected.p),
        "xai_score": "1.0",
        "xai_score_ci_low": str(expected.score_interval.low),
        "xai_score_ci_high": "1.0",
        "xai_effect": str(expected.effect),
        "xai_effect_ci_low": str(expected.effect_interval.low),
        "xai_effect_ci_high": str(expected.effect_interval.high),
    }


def test_the_table_shows_each_test_once_and_each_demand(
    concepts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    concepts.thresholds(MIXED, head=HEAD)
    monkeypatch.setenv("COLUMNS", "80")
    result = concepts.run("--xai-model", "tiny")
    start = next(i for i, line in enumerate(result.outlines) if line.startswith("concept   "))
    shown = [re.sub(r"\s{2,}", "  ", line) for line in result.outlines[start:]]
    assert shown[0] == "concept  verdict  score  95% CI  effect  p  outcome"
    patterns = [
        r"red",
        r"  0, 1  present  1\.00  \d\.\d\d\.\.1\.00  \+1\.\d\d  <\.001",
        r"  wanted absent  fail",
        r"  wanted score >= 0\.2  pass",
        r"  1, 1  absent  \d\.\d\d  \d\.\d\d\.\.\d\.\d\d  [+-]0\.0\d  \d\.\d{3}",
        r"  wanted absent  pass",
        r"  wanted score >= 0\.2  pass\??",
        r"mist",
        r"  0, 1",
        r"  wanted absent  error",
        r"dull",
        r"  0, 1  not learnt  .*",
        r"  wanted not learnt  pass",
        r"  wanted effect <= 0\.5  pass",
    ]
    for pattern, line in zip(patterns, shown[1:], strict=False):
        assert re.fullmatch(pattern, line), (pattern, line)
    assert all(len(line) <= 80 for line in result.outlines[start : start + 14])
    result.stdout.fnmatch_lines(["6 images of tiny:images, top-1 accuracy 1.000"])


def test_images_go_through_the_model_once_for_all_tests(concepts: Project) -> None:
    concepts.thresholds(MIXED, head=HEAD)
    result = concepts.run("--xai-model", "tiny", "--xai-json", "found.json")
    rows = json.loads((concepts.path / "found.json").read_text())["costs"]
    spent = {
        row["name"]: (row["forwards"], row["gradients"])
        for row in rows
        if row["stage"] == "concept"
    }
    # Features of 24 and 60 images and the logits of 60; two images of each of two classes.
    assert spent == {"red": (24 + 60 + 60, 2 + 2), "dull": (24, 0)}
    assert "testing concepts: red 144 forwards + 4 gradients, dull 24 forwards" in (
        " ".join(result.stdout.str().split())
    )


def test_what_it_took_is_the_same_in_the_table_and_in_json(concepts: Project) -> None:
    """A part that several tests had a share in is added up for both, and once for each."""
    concepts.thresholds(table("red", "verdict = 'present'", of_class="classes = [0, 1]"), head=HEAD)
    for files in ([], ["--xai-json", "found.json"]):
        result = concepts.run("--xai-model", "tiny", *files)
        result.stdout.fnmatch_lines(["testing concepts: red 144 forwards + 4 gradients"])


CALLS = """
import pytest
from xai_core.concepts.tcav import corrected

HOW = {HOW!r}

def test_one(xai_tcav):
    found = xai_tcav("red", class_=0, **HOW)
    assert found.verdict == "present"
    assert (found.tests, found.p_corrected) == (1, found.p)
    assert found is xai_tcav("red", class_=0, **HOW)
    assert found is not xai_tcav("red", class_=0, **HOW | {{"seed": 4}})

def test_again(xai_tcav, xai_model):
    before = xai_model.passes.total
    xai_tcav("red", class_=0, **HOW)
    assert xai_model.passes.total == before

def test_against(xai_tcav):
    assert xai_tcav("red", class_=0, against="green", **HOW).against == "green"

def test_several(xai_tcav):
    found = corrected([xai_tcav(name, class_=1, **HOW) for name in ("red", "green")])
    assert [one.verdict for one in found] == ["absent", "present"]
"""
PARAMETERS = {"layer": "1", "pooling": "flatten", "runs": 5, "null_sets": 30}


def test_the_fixture_tests_against_the_library_of_the_run(concepts: Project) -> None:
    assert all(f"{key} = " in HOW for key in PARAMETERS)
    concepts.thresholds(table("dull", "verdict = 'not learnt'"), head=HEAD)
    concepts.pytester.makepyfile(test_it=CALLS.format(HOW=PARAMETERS))
    result = concepts.run("--xai-model", "tiny", "test_it.py", "--xai-json", "found.json")
    result.assert_outcomes(passed=4)
    found = json.loads((concepts.path / "found.json").read_text())
    keys = [
        (one["concept"], one["target"], one["against"], one["file"]) for one in found["concepts"]
    ]
    assert keys == [
        *[("red", 0, "random", "")] * 2,
        ("red", 0, "green", ""),
        ("red", 1, "random", ""),
        ("green", 1, "random", ""),
    ]
    seeded = found["concepts"][1]
    assert seeded["parameters"]["seed"] == 4
    expected = direct(concepts, "red", 0, seed=4)
    assert np.array_equal([one["value"] for one in seeded["sensitivities"]], expected.sensitivities)
    assert found["concept_gates"] == []
    assert [facts["name"] for facts in found["models"]] == ["tiny"]


@pytest.mark.parametrize(("given", "seed"), [("", 3), (", seed=5", 5)])
def test_the_fixture_has_the_seed_of_the_run(given: str, seed: int, concepts: Project) -> None:
    concepts.thresholds(table("dull", "verdict = 'not learnt'"), head=HEAD)
    call = f"xai_tcav('red', class_=0, **{PARAMETERS}{given})"
    text = f"def test_it(xai_tcav):\n    assert {call}.tcav.seed == {seed}"
    concepts.pytester.makepyfile(test_it=text)
    concepts.run("--xai-model", "tiny", "--xai-seed=3", "test_it.py").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("'rad', class_=0", "ConceptError: *no concept 'rad': did you mean 'red'*"),
        ("'red', class_='red'", "ConceptError: *has no names of classes; give the index of 'red'"),
        ("'red', class_=3", "ConceptError: no class 3; tiny has the classes 0 to 2"),
        ("'red', class_=0, layer='9'", "LayerError: *"),
        ("'red', class_=0, run=3", "ParameterError: *no parameter 'run': did you mean 'runs'*"),
        ("'red', class_=0, against='x'", "*no concept and no folder 'x': *"),
    ],
)
def test_a_wrong_call_is_shown_at_the_line_of_the_test(
    call: str, complaint: str, concepts: Project
) -> None:
    concepts.thresholds(table("dull", "verdict = 'not learnt'"), head=HEAD)
    concepts.pytester.makepyfile(test_it=f"def test_it(xai_tcav):\n    xai_tcav({call})")
    result = concepts.run("--xai-model", "tiny", "test_it.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">   *xai_tcav(*", f"E   *{complaint}", "test_it.py:2: *"])
    result.stdout.no_fnmatch_line("*fixtures.py*")
    result.stdout.no_fnmatch_line("*session.py*")
