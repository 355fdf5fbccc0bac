"""What a threshold file may say of concepts; every mistake names file, line and key."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

import pytest
from tiny_concepts import HEAD, table, write_concepts, write_images

from pytest_xai.concept_gate import Bounds
from pytest_xai.thresholds import read_thresholds
from pytest_xai.toml_source import ThresholdFileError
from xai_core.concepts.tcav import TCAV

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project

    from pytest_xai.concept_thresholds import ConceptSpec


def read(text: str, folder: Path, *, seed: int = 0) -> tuple[ConceptSpec, ...]:
    file = folder / "t.toml"
    file.write_text(text)
    return read_thresholds(file, shown="t.toml", seed=seed).concepts


START = "[concepts.mark]\nclass = 'a'\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("concepts = 3\n", "t.toml:1: concepts: expected a table", id="no table"),
        pytest.param(
            "[concepts]\nmark = 3\n", "t.toml:2: concepts.mark: expected a table, got 3", id="entry"
        ),
        pytest.param(
            f"{START}verdit = 'absent'\n",
            "t.toml:3: concepts.mark.verdit: unknown key: did you mean 'verdict'",
            id="key",
        ),
        pytest.param(
            f"{START}verdict = 'abscent'\n",
            "t.toml:3: concepts.mark.verdict: no verdict 'abscent': did you mean 'absent'",
            id="verdict",
        ),
        pytest.param(
            f"{START}verdict = ['absent', 'not-learnt']\n",
            "t.toml:3: concepts.mark.verdict: no verdict 'not-learnt': did you mean 'not learnt'",
            id="one of several verdicts",
        ),
        pytest.param(f"{START}verdict = []\n", "mark.verdict: accepts no verdict", id="none"),
        pytest.param(
            START, "t.toml:1: concepts.mark: nothing is asked of this concept", id="no demand"
        ),
        pytest.param(
            "[concepts.mark]\nverdict = 'absent'\n", "t.toml:1: concepts.mark: no class", id="class"
        ),
        pytest.param(
            "[concepts.mark]\nverdict = 'absent'\nclass = 1.5\n",
            "t.toml:3: concepts.mark.class: expected names or indices",
            id="type of class",
        ),
        pytest.param(
            "[concepts.mark]\nverdict = 'absent'\nclass = true\n",
            "t.toml:3: concepts.mark.class: expected names or indices",
            id="a bool is no index",
        ),
        pytest.param(
            "[concepts.mark]\nverdict = 'absent'\nclasses = []\n",
            "t.toml:3: concepts.mark.classes: expected names or indices",
            id="no classes",
        ),
        pytest.param(
            f"{START}classes = ['b']\nverdict = 'absent'\n",
            "t.toml:3: concepts.mark.classes: `class` and `classes` exclude each other",
            id="class twice",
        ),
        pytest.param(
            f"{START}layers = ['x', 'x']\nverdict = 'absent'\n",
            "t.toml:3: concepts.mark.layers: names one twice",
            id="layer twice",
        ),
        pytest.param(
            f"{START}layer = 3\nverdict = 'absent'\n",
            "t.toml:3: concepts.mark.layer: expected names, e.g.",
            id="type of layer",
        ),
        pytest.param(
            "[concepts.mark]\nclasses = ['a-b', 'a']\nlayers = ['c', 'b-c']\nverdict = 'absent'\n",
            "t.toml:1: concepts.mark: two of its tests would be called [a-b-c]",
            id="ids that are the same",
        ),
        pytest.param(
            f"{START}tcav = 0.8\n",
            "t.toml:3: concepts.mark.tcav: a threshold needs its direction: expected "
            "{ above = 0.8 } or { below = 0.8 }",
            id="no direction",
        ),
        pytest.param(
            f"{START}tcav = {{ abvoe = 0.8 }}\n",
            "t.toml:3: concepts.mark.tcav.abvoe: `tcav` has no parameter 'abvoe': did you mean "
            "'above'",
            id="key of a threshold",
        ),
        pytest.param(f"{START}tcav = {{}}\n", "`above` or `below`", id="no threshold"),
        pytest.param(f"{START}tcav = {{ above = 80 }}\n", "from 0 to 1, got 80", id="a share"),
        pytest.param(
            f"{START}effect = {{ above = 0.2, below = 0.1 }}\n",
            "t.toml:3: concepts.mark.effect: `effect`: nothing lies above 0.2 and below 0.1",
            id="nothing in between",
        ),
        pytest.param(f"{START}effect = {{ below = nan }}\n", "must be finite", id="NaN"),
        pytest.param(
            f"{START}verdict = 'absent'\nlevel = 0.01\n",
            "t.toml:4: concepts.mark.level: `level` must be 'fail' or 'warn', got 0.01; the level "
            "of the test is `significance`",
            id="level of the test",
        ),
        pytest.param(
            f"{START}verdict = 'absent'\n\nsignificance = 2\n",
            "t.toml:5: concepts.mark.significance: concept 'mark': `significance` must lie",
            id="significance",
        ),
        pytest.param(
            f"{START}verdict = 'absent'\nsignificance = 'low'\n",
            "t.toml:4: concepts.mark.significance: concept 'mark': Expected `float`",
            id="type of significance",
        ),
        pytest.param(
            f"{START}verdict = 'absent'\nruns = 1\n",
            "t.toml:4: concepts.mark.runs: concept 'mark': `runs` must be 2 or more",
            id="runs",
        ),
        pytest.param(
            f"{START}verdict = 'absent'\ncav = 'logistics'\n",
            "t.toml:4: concepts.mark.cav: concept 'mark': Invalid enum value 'logistics'",
            id="kind of CAV",
        ),
        pytest.param(
            f"{START}verdict = 'absent'\nimages = ''\n",
            "t.toml:4: concepts.mark.images: expected a name or a folder, got ''",
            id="images",
        ),
        pytest.param(
            f"{START}verdict = 'absent'\nagainst = 'mark'\n",
            "t.toml:4: concepts.mark.against: a concept cannot be held against itself",
            id="against itself",
        ),
        pytest.param(
            "[concepts.'a::b']\nclass = 1\nverdict = 'absent'\n",
            "the name of a concept goes into the ids of tests",
            id="name",
        ),
        pytest.param(
            "[concepts.random]\nclass = 1\nverdict = 'absent'\n", "not 'random'", id="random"
        ),
    ],
)
def test_a_wrong_table_names_file_line_and_key(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ThresholdFileError) as caught:
        read(text, tmp_path)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("t.toml:")
    assert "\n" not in str(caught.value)


def test_a_table_says_how_the_concept_is_tested(tmp_path: Path) -> None:
    text = (
        "[concepts.mark]\nimages = 'x/y'\nagainst = 'other'\nclasses = ['a', 3]\nlevel = 'warn'\n"
        "layers = ['l1', 'l2']\nverdict = ['absent', 'not learnt']\ntcav = { above = 0.25 }\n"
        "effect = { above = -0.1, below = 0.1 }\ncav = 'pattern'\nfeatures = 'gradcam'\n"
        "pooling = 'flatten'\nruns = 30\nset_size = 25\nnull_sets = 50\nmargin = 0.2\nseed = 7\n"
        "steps = 5\nstrength = 2.0\nsignificance = 0.01\n"
    )
    (spec,) = read(text, tmp_path, seed=3)
    assert (spec.name, spec.images, spec.against, spec.level) == ("mark", "x/y", "other", "warn")
    assert [case.id for case in spec.cases] == ["a-l1", "a-l2", "3-l1", "3-l2"]
    assert spec.demands == {
        "verdict": ("absent", "not learnt"),
        "tcav": Bounds(above=0.25),
        "effect": Bounds(above=-0.1, below=0.1),
    }
    assert spec.lines == {"verdict": 7, "tcav": 8, "effect": 9}
    assert spec.tcav == TCAV(
        cav="pattern",
        features="gradcam",
        pooling="flatten",
        steps=5,
        strength=2.0,
        runs=30,
        set_size=25,
        null_sets=50,
        level=0.01,
        margin=0.2,
        seed=7,
    )


def test_what_a_table_leaves_out_is_the_default(tmp_path: Path) -> None:
    (spec,) = read("[concepts.mark]\nclass = 3\nverdict = 'absent'\n", tmp_path, seed=3)
    assert spec.tcav == TCAV(seed=3)
    assert (spec.images, spec.against, spec.level) == (None, "random", "fail")
    assert [(case.of_class, case.layer, case.id) for case in spec.cases] == [(3, None, "")]


@pytest.fixture
def project_with_names(project: Project) -> Project:
    write_concepts(project.path / "concepts")
    write_images(project.path / "patches")
    return project


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        pytest.param(
            "class = 'red_pach'",
            "*red *red_pach, 1* tiny: cannot be tested: thresholds/tiny.toml:10: concepts.red.class: "
            "* has no class 'red_pach': did you mean 'red_patch'*",
            id="class",
        ),
        pytest.param(
            "classes = [7]",
            "* thresholds/tiny.toml:10: concepts.red.classes: no class 7; tiny has the classes 0 "
            "to 2",
            id="index",
        ),
        pytest.param(
            "classes = [0, 'red_patch']",
            "* thresholds/tiny.toml:10: concepts.red.classes: 'red_patch' and 0 are the same class*",
            id="one class by two names",
        ),
        pytest.param(
            "class = 0\nagainst = 'grean'",
            "* thresholds/tiny.toml:11: concepts.red.against: no concept and no folder 'grean': "
            "did you mean 'green'*",
            id="against",
        ),
        pytest.param(
            "class = 0\nimages = 'concepts/rad'",
            "* thresholds/tiny.toml:11: concepts.red.images: concepts/rad: no such folder *",
            id="folder",
        ),
        pytest.param(
            "class = 0\nset_size = 40",
            "* thresholds/tiny.toml:9: concepts.red: 'red' has 24 images; sets of 40*",
            id="set_size",
        ),
    ],
)
def test_what_shows_at_the_run_names_file_line_and_key_too(
    lines: str, complaint: str, project_with_names: Project
) -> None:
    head = HEAD.replace("tiny:images", "patches")
    text = table("red", "verdict = 'present'", of_class=lines)
    project_with_names.thresholds(text, head=head)
    result = project_with_names.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    shown = [line for line in result.outlines if "cannot be tested" in line]
    assert any(fnmatch.fnmatchcase(line, complaint.replace("[", "[[]")) for line in shown), shown
    result.stdout.no_fnmatch_line("*.py:[0-9]*")
    result.stdout.fnmatch_lines(["    wanted present * error"])


@pytest.mark.parametrize(
    ("concept", "layer", "complaint"),
    [
        (
            "raed",
            "1",
            "tiny.toml:9: concepts.raed: *concepts: no concept 'raed': did you mean 'red'*",
        ),
        ("red", "layer9", "tiny.toml:11: concepts.red.layer: *layer9*"),
    ],
)
def test_an_unknown_concept_and_layer_name_the_nearest(
    concept: str, layer: str, complaint: str, project_with_names: Project
) -> None:
    text = f"[concepts.{concept}]\nclass = 0\nlayer = '{layer}'\nverdict = 'present'\n"
    project_with_names.thresholds(text, head=HEAD)
    result = project_with_names.run("--xai-model", "tiny")
    result.stdout.fnmatch_lines([f"concept {concept} * cannot be tested: thresholds/{complaint}"])


def test_a_class_without_images_is_named(project_with_names: Project) -> None:
    project_with_names.thresholds(
        table("red", "verdict = 'absent'", of_class="class = 2"), head=HEAD
    )
    result = project_with_names.run("--xai-model", "tiny", "--xai-limit", "2")
    result.stdout.fnmatch_lines(
        [
            "concept red * thresholds/tiny.toml:10: concepts.red.class: *none of its 2 images has the "
            "label 2; labels there: 0 (1), 1 (1)"
        ]
    )


def test_without_concepts_a_test_says_how_to_give_them(project_with_names: Project) -> None:
    head = HEAD.replace('concepts = "concepts"\n', "")
    project_with_names.thresholds(table("red", "verdict = 'absent'"), head=head)
    result = project_with_names.run("--xai-model", "tiny")
    result.stdout.fnmatch_lines(
        ["concept red * no concepts: give a folder * --xai-concepts DIR, *"]
    )
