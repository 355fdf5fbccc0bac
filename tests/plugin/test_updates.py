"""Thresholds that ``--xai-update`` measures and writes, and those that it must leave alone."""

from __future__ import annotations

import json
import stat
import tomllib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny_concepts import HEAD as CONCEPTS
from tiny_concepts import table, write_concepts

from xai_core.statistics import proposed_threshold

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project

CENTRE = "[explainers.centre]\n[gates.centre]\n"
MODEL = '[model]\nspec = "tiny:build"\nsize = [16, 16]\nnormalization = "none"\n'
ONE_BLANK = f'{MODEL}[data]\npath = "tiny:one_blank"\n'
TWO_SETS = f'{MODEL}[data]\npaths = {{ some = "tiny:images", blank = "tiny:one_blank" }}\n'
UPDATE = ("--xai-model", "tiny", "--xai-update")


def gates_of(file: Path) -> dict:
    return tomllib.loads(file.read_text())["gates"]


def values_of(project: Project, metric: str, method: str = "centre") -> np.ndarray:
    found = json.loads((project.path / "found.json").read_text())
    own = [r for r in found["measurements"] if (r["metric"], r["method"]) == (metric, method)]
    return np.array([record["value"] for record in own])


# A gate without a threshold


def test_a_gate_without_a_threshold_fails_unmeasured(project: Project) -> None:
    file = project.thresholds(
        "[explainers.mine]\nkind = 'tiny:Counting'\n[gates.mine]\niou = {}\nprecision = { above = 0 }\n"
    )
    text = file.read_text()
    result = project.run("--xai-model", "tiny", "-k", "iou")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "iou[[]mine[]] tiny: has no threshold yet; --xai-update measures it and writes one",
            "  iou * new",
        ]
    )
    assert not (project.path / "calls.txt").exists()
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("gate", "complaint"),
    [
        ("{ undefined = -1 }", "`undefined` is a number of images"),
        ("{ confidence = 2 }", "`confidence` must lie between 0 and 1"),
        ("{ mostly = 0.9 }", "a gate needs a threshold with its direction"),
        ("{ tolerance = 3 }", "unknown key 'tolerance'"),
    ],
)
def test_what_stands_beside_no_threshold_is_checked_too(gate, complaint, project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {gate}\n")
    result = project.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"thresholds/tiny.toml:*gates.centre.iou: *{complaint}*"])


def test_an_update_measures_it_fails_once_and_then_passes(project: Project) -> None:
    file = project.thresholds(
        f"# Mine.\n{CENTRE}iou = {{}}  # the object\nactive_fraction = {{ fraction = 0.6 }}\n"
        "recall = { above = 0.99 }\n"
    )
    before = file.read_text()
    result = project.run(*UPDATE, "--xai-json", "found.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    iou = proposed_threshold(values_of(project, "iou"), better="higher", bounds=(0, 1))
    spread = proposed_threshold(
        values_of(project, "active_fraction"), better="lower", bounds=(0, 1)
    )
    assert file.read_text() == before.replace("{}", f"{{ above = {iou} }}").replace(
        "{ fraction = 0.6 }", f"{{ fraction = 0.6, below = {spread} }}"
    )
    assert 0 < iou < values_of(project, "iou").mean()
    result.stdout.fnmatch_lines(
        [
            f"iou[[]centre[]] tiny: no threshold yet: measured 0.*, n=6), proposed above = {iou}",
            "*= threshold updates =*",
            "--- thresholds/tiny.toml",
            "-iou = {}  # the object",
            f"+iou = {{ above = {iou} }}  # the object",
        ]
    )
    again = project.run("--xai-model", "tiny")
    again.assert_outcomes(passed=2, failed=1)  # what failed before still does
    still = project.run(*UPDATE)
    still.stdout.fnmatch_lines(["nothing written"])


@pytest.mark.parametrize("key", ["per_class = true", "undefined = 3", "confidence = 0.9"])
def test_a_new_threshold_stands_beside_what_was_there(key: str, project: Project) -> None:
    file = project.thresholds(f"{CENTRE}iou = {{ {key} }}\n")
    project.run(*UPDATE)
    (gate,) = gates_of(file)["centre"].values()
    name = key.partition(" ")[0]
    assert list(gate) == [name, "above"]
    assert project.run("--xai-model", "tiny").ret == pytest.ExitCode.OK


def test_a_threshold_that_anything_meets_is_not_written(project: Project) -> None:
    project.pytester.makepyfile(
        worst="""
        from dataclasses import dataclass
        from typing import ClassVar

        import numpy as np

        from xai_core.explainers import Explanation

        @dataclass(frozen=True)
        class Corner:
            kind: ClassVar[str] = "corner"

            def explain(self, classifier, images, targets):
                heatmaps = np.zeros((len(images), 16, 16), np.float32)
                heatmaps[:, 15, 15] = 1
                return Explanation(heatmaps)
        """
    )
    file = project.thresholds(
        "[explainers.corner]\nkind = 'worst:Corner'\n[gates.corner]\niou = {}\n"
    )
    text = file.read_text()
    result = project.run(*UPDATE)
    assert file.read_text() == text
    result.stdout.fnmatch_lines(
        ["iou[[]corner[]]: the proposed above = 0 is the worst that there is: not written"]
    )


# Gates that have one


def test_new_leaves_a_gate_that_fails_alone(project: Project) -> None:
    file = project.gates(iou="above = 1.5")
    text = file.read_text()
    result = project.run(*UPDATE, "--xai-allow-loosen")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert file.read_text() == text


def test_nothing_is_loosened_unless_that_is_allowed(project: Project) -> None:
    file = project.thresholds(f"{CENTRE}iou = {{ above = 0.9 }}\nrecall = {{ above = 0.01 }}\n")
    text = file.read_text()
    kept = project.run("--xai-model", "tiny", "--xai-update=failing")
    assert kept.ret == pytest.ExitCode.TESTS_FAILED
    assert file.read_text() == text
    line = "iou[[]centre[]] would be loosened 0.9 -> 0.*: not written; --xai-allow-loosen"
    kept.stdout.fnmatch_lines(["nothing written", line])
    written = project.run(
        "--xai-model", "tiny", "--xai-update=failing", "--xai-allow-loosen", "--xai-json=found.json"
    )
    assert written.ret == pytest.ExitCode.TESTS_FAILED
    written.stdout.no_fnmatch_line("*would be loosened*")
    iou = proposed_threshold(values_of(project, "iou"), better="higher", bounds=(0, 1))
    assert gates_of(file) == {"centre": {"iou": {"above": iou}, "recall": {"above": 0.01}}}
    assert project.run("--xai-model", "tiny").ret == pytest.ExitCode.OK


def test_all_makes_every_gate_as_demanding_as_it_can_be(project: Project) -> None:
    file = project.thresholds(
        f"{CENTRE}iou = {{ above = 0.01 }}\n"
        "active_fraction = { below = 0.9 }\n"
        "each = { metric = 'recall', above = 0.01, mostly = 0.1 }\n"
        "few = { metric = 'recall', above = 0.01, max_failures = 5 }\n"
        "precision = { skill_above = -5 }\n"
    )
    result = project.run("--xai-model", "tiny", "--xai-update=all", "--xai-json", "found.json")
    assert result.ret == pytest.ExitCode.OK
    found = gates_of(file)["centre"]
    assert found["iou"]["above"] == proposed_threshold(
        values_of(project, "iou"), better="higher", bounds=(0, 1)
    )
    assert found["active_fraction"]["below"] == proposed_threshold(
        values_of(project, "active_fraction"), better="lower", bounds=(0, 1)
    )
    share = proposed_threshold(np.ones(6), better="higher", bounds=(0, 1))
    assert found["each"] == {"metric": "recall", "above": 0.01, "mostly": share}
    assert 0.1 < share < 1
    assert found["few"]["max_failures"] == round(6 * (1 - share))
    (skill,) = [
        demand["value"]
        for row in json.loads((project.path / "found.json").read_text())["gates"]
        for demand in row["demands"]
        if demand["of"] == "skill"
    ]
    assert -5 < found["precision"]["skill_above"] < skill
    assert project.run("--xai-model", "tiny").ret == pytest.ExitCode.OK
    settled = project.run("--xai-model", "tiny", "--xai-update=all")
    settled.stdout.no_fnmatch_line("*would be loosened*")


def test_all_does_not_loosen_a_gate_that_passes(project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {{ above = 0.0 }}\n")
    (row,) = project.json("--xai-model", "tiny")["gates"]
    low = row["demands"][0]["low"]
    file = project.thresholds(f"{CENTRE}iou = {{ above = {low} }}\n")
    result = project.run("--xai-model", "tiny", "--xai-update=all")
    assert result.ret == pytest.ExitCode.OK
    assert gates_of(file)["centre"]["iou"]["above"] == low
    result.stdout.fnmatch_lines(["iou[[]centre[]] would be loosened 0.* -> 0.*: not written; *"])


def test_a_gate_that_proves_nothing_is_not_written(project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {{ above = 0.0 }}\n")
    (row,) = project.json("--xai-model", "tiny")["gates"]
    for above, mode in ((row["mean"] + 0.001, "failing"), (row["mean"] - 0.001, "all")):
        file = project.thresholds(f"{CENTRE}iou = {{ above = {above} }}\n")
        text = file.read_text()
        result = project.run("--xai-model=tiny", f"--xai-update={mode}", "--xai-allow-loosen")
        assert file.read_text() == text
        result.stdout.fnmatch_lines(
            ["iou[[]centre[]]: inconclusive, the interval holds the threshold: not written"]
        )


@pytest.mark.parametrize("gate", ["{}", "{ above = 1.5 }"])
def test_a_gate_with_too_many_undefined_values_is_not_written(gate, project: Project) -> None:
    file = project.thresholds(
        f"[explainers.gradcam]\n[gates.gradcam]\niou = {gate}\n", head=ONE_BLANK
    )
    text = file.read_text()
    result = project.run("--xai-model=tiny", "--xai-update=all", "--xai-allow-loosen")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert file.read_text() == text
    result.stdout.fnmatch_lines(
        ["iou[[]gradcam[]]: 1 of 6 images undefined, 0 allowed (*): not written"]
    )


@pytest.mark.parametrize("gate", ["{}", "{ below = 0.1 }"])
def test_a_gate_that_cannot_be_measured_is_not_written_and_fails(gate, project: Project) -> None:
    file = project.thresholds(f"[explainers.gradcam]\n[gates.gradcam]\ncompleteness = {gate}\n")
    text = file.read_text()
    result = project.run("--xai-model=tiny", "--xai-update=all", "--xai-allow-loosen")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert file.read_text() == text
    result.stdout.fnmatch_lines(["completeness[[]gradcam[]] tiny: cannot be measured: not written"])


def test_one_image_says_too_little(project: Project) -> None:
    file = project.gates(iou="")
    text = file.read_text()
    result = project.run(*UPDATE, "--xai-limit=1")
    assert file.read_text() == text
    result.stdout.fnmatch_lines(
        ["iou[[]gradcam[]]: one image says nothing of the spread: not written"]
    )


def test_a_null_map_that_is_not_beaten_has_no_number(project: Project) -> None:
    file = project.thresholds(f"{CENTRE}iou = {{ above = 0.9, beats = 'centre' }}\n")
    result = project.run("--xai-model=tiny", "--xai-update=failing", "--xai-allow-loosen")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert gates_of(file)["centre"]["iou"]["beats"] == "centre"
    result.stdout.fnmatch_lines(["iou[[]centre[]]: 0.* does not beat centre *: no number to write"])


def test_a_pinned_protocol_that_differs_stays_an_error(project: Project) -> None:
    file = project.gates(iou="protocol = 'iou@v0'")
    text = file.read_text()
    result = project.run(*UPDATE)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*this version measures 'iou@v1', the file pins 'iou@v0'", "the run did not come to its*"]
    )
    assert file.read_text() == text


def test_neighbours_have_a_number_too(project: Project) -> None:
    table = '[neighbours]\nreference = "tiny:images"\nk = 1\n'
    file = project.thresholds(f"{table}above = 0.01\n")
    result = project.run("--xai-model", "tiny", "--xai-update=all")
    assert result.ret == pytest.ExitCode.OK
    written = tomllib.loads(file.read_text())["neighbours"]
    assert 0.01 < written["above"] < 1
    assert project.run("--xai-model", "tiny").ret == pytest.ExitCode.OK


# One file for several models or image sets


def test_a_file_of_several_sets_gets_what_all_meet(project: Project) -> None:
    file = project.thresholds(
        f"{CENTRE}active_fraction = {{}}\niou = {{}}\n", head=TWO_SETS.replace("one_blank", "few")
    )
    with (project.path / "tiny.py").open("a") as tiny:
        tiny.write("\n\ndef few():\n    return list(images())[:3]\n")
    result = project.run(*UPDATE, "--xai-json", "found.json")
    found = json.loads((project.path / "found.json").read_text())["measurements"]
    by_set = {
        name: np.array([r["value"] for r in found if (r["data"], r["metric"]) == (name, "iou")])
        for name in ("some", "blank")
    }
    each = [proposed_threshold(v, better="higher", bounds=(0, 1)) for v in by_set.values()]
    assert each[0] != each[1]
    assert gates_of(file)["centre"]["iou"]["above"] == min(each)
    result.stdout.fnmatch_lines(
        [
            f"iou[[]centre[]]: above = {min(each)} is what all meet: {each[0]} of tiny on some, "
            f"{each[1]} of tiny on blank"
        ]
    )
    assert project.run("--xai-model", "tiny").ret == pytest.ExitCode.OK


def test_a_set_that_was_not_measured_keeps_a_gate_from_being_written(project: Project) -> None:
    file = project.thresholds(f"{CENTRE}iou = {{}}\n", head=TWO_SETS)
    text = file.read_text()
    result = project.run(*UPDATE, "-k", "some")
    assert file.read_text() == text
    result.stdout.fnmatch_lines(["iou[[]centre[]]: not measured on tiny on blank: not written"])


def test_several_models_share_a_file(project: Project) -> None:
    file = project.gates(iou="")
    result = project.run(
        "--xai-model=a", "--xai-model=b", "--xai-thresholds=thresholds/tiny.toml", "--xai-update"
    )
    result.assert_outcomes(failed=2)
    assert gates_of(file)["gradcam"]["iou"]["above"] == 0.5
    result.stdout.fnmatch_lines(
        ["iou[[]gradcam[]]: above = 0.5 is what all meet: 0.5 of a, 0.5 of b"]
    )


# The write


@pytest.mark.parametrize("workers", [(), ("-n0",), ("-n2",)], ids=" ".join)
def test_xdist_writes_the_same_once(workers: tuple[str, ...], project: Project) -> None:
    gates = "iou = {}\nrecall = {}\nprecision = {}\n"
    file = project.thresholds(f"{CENTRE}{gates}")
    result = project.run(*UPDATE, *workers)
    result.assert_outcomes(failed=3)
    written = gates_of(file)["centre"]
    assert [list(gate) for gate in written.values()] == [["above"]] * 3
    start = result.outlines.index("--- thresholds/tiny.toml")
    added = [line for line in result.outlines[start + 2 :] if line.startswith("+")]
    assert added == [f"+{name} = {{ above = {gate['above']} }}" for name, gate in written.items()]
    assert sum(line == "--- thresholds/tiny.toml" for line in result.outlines) == 1
    assert [path.name for path in file.parent.iterdir()] == ["tiny.toml"]


def test_a_file_that_changed_meanwhile_is_left_as_it_is(project: Project) -> None:
    file = project.gates(iou="")
    project.pytester.makeconftest(
        "def pytest_runtest_teardown():\n"
        "    with open('thresholds/tiny.toml', 'a') as file:\n"
        "        file.write('# edited\\n')\n"
    )
    text = file.read_text()
    result = project.run(*UPDATE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert file.read_text() == f"{text}# edited\n"
    result.stdout.fnmatch_lines(
        ["thresholds/tiny.toml: not written: it was changed on disk since it was read; run again"]
    )
    assert [path.name for path in file.parent.iterdir()] == ["tiny.toml"]


def test_a_failed_write_fails_a_run_whose_gates_pass(project: Project) -> None:
    file = project.thresholds(f"{CENTRE}iou = {{ above = 0.01 }}\n")
    project.pytester.makeconftest(
        "import os\ndef pytest_runtest_teardown():\n    os.remove('thresholds/tiny.toml')\n"
    )
    result = project.run("--xai-model", "tiny", "--xai-update=all")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not file.exists()


def test_a_read_only_file_is_refused_at_the_start(project: Project) -> None:
    file = project.gates(iou="")
    file.chmod(0o444)
    result = project.run(*UPDATE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --xai-update: thresholds/tiny.toml is read-only; *"])


def test_a_read_only_file_that_was_named_itself_is_refused_at_the_end(project: Project) -> None:
    file = project.gates(iou="")
    file.chmod(0o444)
    text = file.read_text()
    result = project.run(file, "--xai-update")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert file.read_text() == text
    result.stdout.fnmatch_lines(["thresholds/tiny.toml: not written: it is read-only; *"])


def test_the_file_of_the_installed_package_is_refused(project: Project) -> None:
    result = project.run("--xai-model", "demo", "--xai-update=all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --xai-update: *demo.toml belongs to the installed package*"]
    )


def test_mode_and_links_stay(project: Project) -> None:
    real = project.thresholds(f"{CENTRE}iou = {{}}\n", path="elsewhere/shared.toml")
    real.chmod(0o640)
    link = project.path / "thresholds" / "tiny.toml"
    link.parent.mkdir()
    link.symlink_to(real)
    project.run(*UPDATE)
    assert link.is_symlink()
    assert "above" in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_run_that_is_interrupted_writes_nothing(project: Project) -> None:
    file = project.gates(iou="", recall="")
    project.pytester.makeconftest(
        "def pytest_runtest_logreport(report):\n"
        "    if report.when == 'teardown':\n"
        "        raise KeyboardInterrupt\n"
    )
    text = file.read_text()
    result = project.pytester.runpytest_inprocess(*UPDATE, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["the run did not come to its end: nothing written"])
    assert file.read_text() == text


def test_collecting_alone_writes_nothing(project: Project) -> None:
    file = project.gates(iou="")
    text = file.read_text()
    result = project.run(*UPDATE, "--collect-only")
    assert result.ret == pytest.ExitCode.OK
    assert file.read_text() == text


# What is said besides


def test_concepts_are_left_alone_and_that_is_said(project: Project) -> None:
    write_concepts(project.path / "concepts")
    concept = table("red", "verdict = 'absent'", "tcav = { below = 0.1 }")
    file = project.thresholds(concept, head=CONCEPTS)
    text = file.read_text()
    result = project.run("--xai-model", "tiny", "--xai-update=all", "--xai-allow-loosen")
    result.assert_outcomes(failed=2)
    assert file.read_text() == text
    result.stdout.fnmatch_lines(
        ["nothing written", "concepts: a verdict is no number to be fitted; *"]
    )


@pytest.mark.parametrize("option", ["-v", "--xai-update=new", ""])
def test_what_no_gate_holds_is_listed_where_it_is_asked_for(option: str, project: Project) -> None:
    project.thresholds(f"{CENTRE}faithfulness_gap = {{ above = -1, beats = 'random' }}\n")
    project.pytester.makepyfile(
        "from pytest_xai import assert_iou_above\n"
        "def test_it(xai_explain):\n    assert_iou_above(xai_explain('gradcam'), 0.5)\n"
    )
    asked = ["--xai-model", "tiny", *filter(None, [option])]
    result = project.run(*asked, "thresholds/tiny.toml", ".")
    result.assert_outcomes(passed=2)
    line = "measured, but no gate holds it: deletion[[]centre[]]*, insertion[[]centre[]]*, iou[[]gradcam[]]@v1"
    if option:
        result.stdout.fnmatch_lines([line])
        result.stdout.no_fnmatch_line("measured, but*[[]random[]]*")
    else:
        result.stdout.no_fnmatch_line("measured, but*")


# The options


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (
            ["--xai-update", "thresholds/tiny.toml"],
            "*argument --xai-update: invalid choice: 'thresholds/tiny.toml'*new*failing*all*",
        ),
        (["--xai-allow-loosen"], "*--xai-allow-loosen says what --xai-update may write*"),
        (["--xai-update", "--xai-advisory"], "*--xai-update and --xai-advisory exclude each*"),
    ],
)
def test_options_that_cannot_be_are_usage_errors(asked, complaint, project: Project) -> None:
    file = project.gates(iou="")
    text = file.read_text()
    result = project.run(*asked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([complaint])
    assert file.read_text() == text
