"""Concepts as gates: which tests there are, what they find, and what a failure says."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny_concepts import HEAD, read_folder, table, write_concepts, write_images, write_noise

from xai_core.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Project

RED, GREEN, DARK, DULL = (
    table(name, f"verdict = '{verdict}'")
    for name, verdict in (
        ("red", "present"),
        ("green", "absent"),
        ("dark", "opposed"),
        ("dull", "not learnt"),
    )
)
FOUR = "\n".join([RED, GREEN, DARK, DULL])


@pytest.fixture
def concepts(project: Project) -> Project:
    write_concepts(project.path / "concepts")
    return project


def test_each_demand_on_each_class_and_layer_is_a_test(concepts: Project) -> None:
    several = "\n".join(
        [
            "[concepts.green]\nclasses = [0, 1]\nlayers = ['0', '1']\nverdict = 'absent'",
            "[concepts.dull]\nclasses = ['a', 'b']\ntcav = { below = 0.5 }",
        ]
    )
    both = table("red", "verdict = 'present'", "tcav = { above = 0.8 }", "effect = { above = 0 }")
    gate = "[explainers.gradcam]\n[gates.gradcam]\niou = { above = 0.9 }"
    concepts.thresholds(f"{both}\n{several}\n{gate}\n", head=HEAD)
    ids = [
        "gradcam::iou",
        *(f"concepts::red::{condition}" for condition in ("verdict", "tcav", "effect")),
        *(f"concepts::green::verdict[{case}]" for case in ("0-0", "0-1", "1-0", "1-1")),
        *(f"concepts::dull::tcav[{case}]" for case in ("a", "b")),
    ]
    expected = [f"thresholds/tiny.toml::{id_}" for id_ in ids]
    asked = ["--xai-model", "tiny"]
    assert concepts.node_ids(*asked) == expected
    assert concepts.node_ids(*asked, expected[5]) == expected[5:6]
    assert concepts.node_ids(*asked, "thresholds/tiny.toml::concepts::red") == expected[1:4]
    assert concepts.node_ids(*asked, "thresholds/tiny.toml::concepts") == expected[1:]
    assert concepts.node_ids(*asked, "-k", "concepts and effect") == expected[3:4]
    assert concepts.node_ids(*asked, "-k", "green and 1-0") == expected[6:7]
    sets = ["--xai-data=whole=tiny:images", "--xai-data=faded=tiny:one_blank"]
    assert concepts.node_ids(*asked, *sets) == [
        id_.replace("toml::", f"toml::{name}::") for name in ("whole", "faded") for id_ in expected
    ]


def test_the_concept_that_a_class_is_made_of_is_present_and_others_are_not(
    concepts: Project,
) -> None:
    concepts.thresholds(FOUR, head=HEAD)
    found = concepts.json("--xai-model", "tiny")
    assert [(row["concept"], row["verdict"], row["passed"]) for row in found["concept_gates"]] == [
        ("red", "present", True),
        ("green", "absent", True),
        ("dark", "opposed", True),
        ("dull", "not learnt", True),
    ]


def test_the_change_of_the_logit_is_what_the_weights_say(concepts: Project) -> None:
    concepts.thresholds(FOUR, head=HEAD)
    records = {
        record["concept"]: record for record in concepts.json("--xai-model", "tiny")["concepts"]
    }

    def logit(name: str) -> float:
        red = read_folder(concepts.path / "concepts" / name)[..., 0]
        return float(40 * np.maximum(red - 0.5, 0).mean())

    for name in ("red", "green", "dark", "dull"):
        change = logit(name) - logit("random")
        assert records[name]["logit_change"] == pytest.approx(change, abs=1e-4)


@pytest.mark.parametrize("asked", [[], ["-k", "red"], ["-k", "dull or green"]])
def test_p_values_are_corrected_for_all_tests_of_the_file_whatever_is_selected(
    asked: list[str], concepts: Project
) -> None:
    concepts.thresholds(FOUR, head=HEAD)
    found = concepts.json("--xai-model", "tiny", *asked)["concepts"]
    assert [record["concept"] for record in found] == ["red", "green", "dark", "dull"]
    in_order = sorted(found, key=lambda record: record["p"])
    so_far = 0.0
    for left, record in zip((4, 3, 2, 1), in_order, strict=True):  # Holm's, step by step
        so_far = max(so_far, min(1.0, left * record["p"]))
        assert record["p_corrected"] == pytest.approx(so_far, rel=1e-12)
        assert record["tests"] == 4


def test_a_test_that_cannot_be_made_counts_and_spoils_no_other(concepts: Project) -> None:
    broken = table("mist", "verdict = 'absent'")
    concepts.thresholds(f"{broken}\n{RED}", head=HEAD)
    found = concepts.json("--xai-model", "tiny")
    (record,) = found["concepts"]
    assert record["p_corrected"] == 2 * record["p"]
    assert [(row["outcome"], row["passed"]) for row in found["concept_gates"]] == [
        ("error", False),
        ("pass", True),
    ]
    assert "no concept 'mist'" in found["concept_gates"][0]["error"]


def test_each_image_set_is_a_family_of_its_own(concepts: Project) -> None:
    concepts.thresholds(f"{RED}\n{GREEN}", head=HEAD)
    sets = ["--xai-data=whole=tiny:images", "--xai-data=bare=tiny:without_masks"]
    found = concepts.json("--xai-model", "tiny", *sets)["concepts"]
    assert [(record["data"], record["concept"], record["tests"]) for record in found] == [
        (name, concept, 2) for name in ("whole", "bare") for concept in ("red", "green")
    ]


def test_a_failure_says_what_was_found_what_it_means_and_how_to_go_on(concepts: Project) -> None:
    write_images(concepts.path / "patches")
    text = table("red", "verdict = ['absent', 'not learnt']", of_class="class = 'red_patch'")
    concepts.thresholds(f"{text}\n{GREEN}", head=HEAD.replace("tiny:images", "patches"))
    result = concepts.run("--xai-model", "tiny", "-k", "red")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if line.startswith("concept red ["))
    assert re.fullmatch(
        r"concept red \[red_patch, 1\] tiny: present, wanted absent or not learnt: score 1\.00 "
        r"\(\S+\.\.1\.00, random sets \S+ \+- \S+\), alignment \+0\.8\d\d .*, p = \S+ "
        r"\(2 tests, Holm\), effect \+1\.\d\d \(.*\), CAV accuracy 1\.00, n=2",
        lines[start],
    )
    assert lines[start + 2].startswith("present: the class's logit rises along the concept more")
    listed = lines.index(
        "images with the largest sensitivity (of the class's logit, along the concept):"
    )
    assert sorted(line.split()[1] for line in lines[listed + 1 : listed + 3]) == ["0.png", "3.png"]
    result.stdout.fnmatch_lines(
        [
            "sets: 24 images of the concept, 60 of random, 2 of the class; 5 counterparts of 20 "
            "out of 60 images: each image is in 1.7 of them on average",
            "run just this test again *",
            "  pytest --xai-model=tiny thresholds/tiny.toml::concepts::red::verdict",
        ]
    )
    result.stdout.no_fnmatch_line("*.py:[0-9]*")


@pytest.mark.parametrize(
    ("wanted", "outcome"), [("'absent'", "fail"), ("['absent', 'undecided']", "pass")]
)
def test_undecided_passes_only_where_it_is_listed_and_says_what_would_help(
    wanted: str, outcome: str, concepts: Project
) -> None:
    # The effect of "red" on class 1 is none, which two images cannot show within +-0.001.
    text = table("red", f"verdict = {wanted}", "margin = 0.001", of_class="class = 1")
    concepts.thresholds(text, head=HEAD)
    result = concepts.run("--xai-model", "tiny")
    result.assert_outcomes(**{f"{outcome}ed": 1})
    if outcome == "fail":
        result.stdout.fnmatch_lines(
            [
                "concept red [[]1, 1[]] tiny: undecided, wanted absent: *",
                "undecided: neither is proven: *",
                "  to prove that it counts: the alignment is 0.0* from that of random sets, which "
                "show 0.* with power 0.8 *",
                "  to prove that it does not: the *",
            ]
        )


def test_a_score_along_no_direction_meets_no_threshold(concepts: Project) -> None:
    text = table("dull", "tcav = { below = 1.0 }", "effect = { below = 0.1 }")
    concepts.thresholds(text, head=HEAD)
    result = concepts.run("--xai-model", "tiny")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "concept dull * not learnt, wanted score <= 1: *",
            "not learnt: the layer does not tell *",
        ]
    )


def test_a_concept_of_level_warn_warns(concepts: Project) -> None:
    concepts.thresholds(table("red", "verdict = 'absent'", "level = 'warn'"), head=HEAD)
    result = concepts.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, warnings=1)
    line = "*tiny.toml:11: GateWarning: concept red [[]0, 1[]] tiny: present, wanted absent: *"
    result.stdout.fnmatch_lines([line, "    wanted absent * warn"])


def test_a_mistake_in_the_model_is_shown_at_its_own_line(
    concepts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_options: Any) -> None:
        raise ZeroDivisionError("the model's own mistake")

    monkeypatch.setattr("xai_core.concepts.tcav.TCAV.test", broken)
    concepts.thresholds(RED, head=HEAD)
    result = concepts.run("--xai-model", "tiny")
    result.stdout.fnmatch_lines(["E   ZeroDivisionError: the model's own mistake"])
    result.stdout.fnmatch_lines(["    wanted present * error"])


class Recorder:
    """A `Progress` that keeps the titles of its tasks, and how many images each took."""

    def __init__(self) -> None:
        self.tasks: list[list[Any]] = []

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Any]:
        self.tasks.append([what, total, 0])

        def advance(images: int, /, note: str = "") -> None:
            self.tasks[-1][2] += images

        yield advance


def test_progress_says_which_test_is_under_way(
    concepts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr("pytest_xai.session.terminal_progress", lambda _: recorder)
    concepts.thresholds(f"{RED}\n{DULL}", head=HEAD)
    concepts.run("--xai-model", "tiny", "-k", "dull")
    assert [task for task in recorder.tasks if "concept" in task[0]] == [
        ["testing concept red (1 of 2)", 24 + 60 + 2, 24 + 60 + 2],
        ["testing concept dull (2 of 2)", 24 + 60 + 2, 24 + 60 + 2],
    ]


def shown_random(project: Project, *args: str) -> int:
    """Return how many counterexamples the library has that is used."""
    (record,) = project.json("--xai-model", "tiny", *args)["concepts"]
    return int(record["counterexamples"])


@pytest.mark.parametrize(
    ("command", "file", "ini", "expected"),
    [
        (["--xai-concepts=a"], 'concepts = "b"', "xai_concepts = c", 61),
        ([], 'concepts = "b"', "xai_concepts = c", 62),
        ([], "", "xai_concepts = c", 63),
    ],
)
def test_the_command_line_comes_before_the_file_and_the_file_before_the_ini(
    command: list[str], file: str, ini: str, expected: int, project: Project
) -> None:
    for name, count in (("a", 61), ("b", 62), ("c", 63)):
        write_concepts(project.path / name, random=count)
    project.ini(ini)
    project.thresholds(RED, head=HEAD.replace('concepts = "concepts"', file))
    assert shown_random(project, *command) == expected


def test_the_command_that_runs_a_test_again_names_the_concepts(project: Project) -> None:
    write_concepts(project.path / "a")
    project.thresholds(table("red", "verdict = 'absent'"), head=HEAD)
    result = project.run("--xai-model", "tiny", "--xai-concepts=a")
    again = (
        "  pytest --xai-model=tiny --xai-concepts=a thresholds/tiny.toml::concepts::red::verdict"
    )
    result.stdout.fnmatch_lines([again])


def test_a_folder_of_its_own_brings_the_counterexamples_beside_it(project: Project) -> None:
    write_concepts(project.path / "data" / "concepts")
    text = table("mark", "images = 'data/concepts/red'", "verdict = 'present'")
    project.thresholds(text, head=HEAD.replace('concepts = "concepts"\n', ""))
    project.run("--xai-model", "tiny").assert_outcomes(passed=1)
    assert shown_random(project) == 60


def test_a_folder_of_its_own_stands_for_that_of_the_library(concepts: Project) -> None:
    write_noise(concepts.path / "more" / "red", 25, np.random.default_rng(5), (25, 0, 0))
    own = table("red", "images = 'more/red'", "verdict = 'present'")
    concepts.thresholds(f"{own}\n{GREEN}", head=HEAD)
    found = concepts.json("--xai-model", "tiny")["concepts"]
    sizes = [(one["concept"], one["concept_images"], one["counterexamples"]) for one in found]
    assert sizes == [("red", 25, 60), ("green", 24, 60)]


@pytest.mark.parametrize("against", ["green", "verdant", "concepts/green"])
def test_a_concept_may_be_held_against_another_one(against: str, concepts: Project) -> None:
    other = table("verdant", "images = 'concepts/green'", "verdict = 'absent'")
    text = table("red", f"against = '{against}'", "verdict = 'present'", "effect = { above = 1 }")
    concepts.thresholds(f"{text}\n{other}", head=HEAD)
    (record, _) = concepts.json("--xai-model", "tiny")["concepts"]
    assert (record["against"], record["counterexamples"]) == (against.split("/")[-1], 24)
    assert record["verdict"] == "present"


def test_a_heatmap_is_held_against_the_map_of_a_concept(concepts: Project) -> None:
    assert "concept_maps_of" in METRICS["concept_energy"].needs
    gate = (
        "[explainers.gradcam]\n[gates.gradcam]\n"
        "concept_energy = { above = 0.0, concept = 'red', layer = '1', undefined = 6 }\n"
    )
    concepts.thresholds(gate, head=HEAD)
    (row,) = concepts.json("--xai-model", "tiny")["gates"]
    assert row["error"] is None
    assert row["images"] == 2  # "red" is nowhere in images of green and blue
    concepts.thresholds(gate, head=HEAD.replace('concepts = "concepts"\n', ""))
    (row,) = concepts.json("--xai-model", "tiny")["gates"]
    assert "--xai-concepts DIR" in row["error"]


def test_the_demo_is_made_of_its_textures_and_the_shortcut_of_the_watermark(
    project: Project,
) -> None:
    asked = ["--xai-model", "demo", "--xai-model", "demo-shortcut", "-k", "concepts"]
    project.run(*asked, "--xai-json", "found.json").assert_outcomes(passed=4, failed=4)
    rows = json.loads((project.path / "found.json").read_text())["concept_gates"]
    textures, watermarks = (
        ("striped", "dotted"),
        ("watermark_striped_disc", "watermark_dotted_disc"),
    )
    verdicts = {(row["model"], row["concept"]): row["verdict"] for row in rows}
    assert {verdicts["demo", name] for name in textures} == {"present"}
    assert {verdicts["demo", name] for name in watermarks} == {"absent"}
    assert {verdicts["demo-shortcut", name] for name in textures} == {"absent"}
    assert {verdicts["demo-shortcut", name] for name in watermarks} == {"present"}


@pytest.mark.parametrize(("line", "expected"), [("", 3), ("seed = 5", 5)])
def test_the_seed_is_the_run_s_where_the_table_sets_none(
    line: str, expected: int, concepts: Project
) -> None:
    concepts.thresholds(table("red", "verdict = 'present'", line), head=HEAD)
    (record,) = concepts.json("--xai-model", "tiny", "--xai-seed", "3")["concepts"]
    assert record["parameters"]["seed"] == expected
