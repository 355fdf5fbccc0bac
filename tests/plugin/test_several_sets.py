"""The same gates and tests on several image sets, and on several models, in one run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pytest_xai.thresholds import read_thresholds
from pytest_xai.toml_source import ThresholdFileError

if TYPE_CHECKING:
    from conftest import Project

MODEL = "[model]\nspec = 'tiny:build'\nsize = [16, 16]\nnormalization = 'none'\n"
GATES = """
[explainers.gradcam]
[explainers.centre]
[gates.gradcam]
iou = { above = 0.9, undefined = 1 }
sparseness = { above = 0.0, undefined = 1 }
[gates.centre]
iou = { above = 0.9, level = "warn" }
"""
SETS = ["--xai-data=whole=tiny:images", "--xai-data=faded=tiny:one_blank"]
IDS = [
    f"thresholds/tiny.toml::{name}::{gate}"
    for name in ("whole", "faded")
    for gate in ("gradcam::iou", "gradcam::sparseness", "centre::iou")
]
NO_XDIST, TWO = ("-p", "no:xdist"), ("-n2",)


@pytest.fixture
def gates(project: Project) -> Project:
    project.thresholds(GATES, head=f"{MODEL}[data]\npath = 'tiny:images'\n")
    return project


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (SETS, IDS),
        ([SETS[0]], [id_.replace("whole::", "") for id_ in IDS[:3]]),
        ([SETS[0], SETS[0]], [id_.replace("whole::", "") for id_ in IDS[:3]]),
        ([*SETS, IDS[4]], IDS[4:5]),
        ([*SETS, "thresholds/tiny.toml::faded"], IDS[3:]),
        ([*SETS, "-k", "whole and centre"], IDS[2:3]),
        (
            ["--xai-data=tiny:images", "--xai-data=x=tiny:one_blank", "-k", "centre"],
            [f"thresholds/tiny.toml::{name}::centre::iou" for name in ("tiny:images", "x")],
        ),
    ],
)
def test_every_set_has_its_own_gates(asked: list[str], expected: list[str], gates: Project) -> None:
    assert gates.node_ids("--xai-model", "tiny", *asked) == expected


def test_models_and_sets_are_levels_of_their_own(gates: Project) -> None:
    asked = ["--xai-model", "a", "--xai-model", "b", "--xai-thresholds", "thresholds/tiny.toml"]
    expected = [id_.replace("toml::", f"toml::{model}::") for model in "ab" for id_ in IDS]
    assert gates.node_ids(*asked, *SETS) == expected
    assert gates.node_ids(*asked, *SETS, expected[7]) == expected[7:8]


def test_a_threshold_file_may_name_several_sets(gates: Project) -> None:
    paths = "[data]\npaths = { whole = 'tiny:images', faded = 'tiny:one_blank' }\n"
    gates.thresholds(GATES, head=f"{MODEL}{paths}")
    assert gates.node_ids("--xai-model", "tiny") == IDS
    assert gates.node_ids("thresholds/tiny.toml") == IDS
    one = [id_.replace("whole::", "") for id_ in IDS[:3]]
    assert gates.node_ids("--xai-model", "tiny", "--xai-data=tiny:images") == one
    table = "[data.paths]\nwhole = 'tiny:images'\n"
    gates.thresholds(GATES, head=f"{MODEL}{table}")
    assert gates.node_ids("--xai-model", "tiny") == one


def write_folder(folder: Path, *, images: int) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(images):
        pixels = np.full((16, 16, 3), 25, np.uint8)
        pixels[4:10, 4:10, index % 3] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        Image.fromarray(np.uint8(pixels.max(axis=2) > 99) * 255).save(
            folder / "masks" / f"{index}.png"
        )
    labels = "".join(f"{index}.png,{index % 3}\n" for index in range(images))
    (folder / "labels.csv").write_text(f"image,label\n{labels}")


def test_a_set_is_called_after_its_folder(gates: Project) -> None:
    write_folder(gates.path / "data" / "photos", images=2)
    write_folder(gates.path / "data" / "sketches", images=3)
    asked = ["--xai-model", "tiny", "--xai-data=data/photos", "--xai-data=data/sketches/"]
    found = gates.json(*asked, "-k", "gradcam and iou")
    assert [(facts["data"], facts["images"]) for facts in found["models"]] == [
        ("photos", 2),
        ("sketches", 3),
    ]
    alone = gates.json("--xai-model", "tiny", "--xai-data=data/photos", "-k", "gradcam and iou")
    assert [facts["data"] for facts in alone["models"]] == ["photos"]


def test_photographs_of_a_coco_file_are_not_asked_of_a_folder_beside_it(gates: Project) -> None:
    write_folder(gates.path / "photos", images=2)
    (gates.path / "coco.json").write_text("{}")
    data = "[data]\npaths = { photos = 'photos', coco = 'coco.json' }\nimages = 'photos'\n"
    gates.thresholds(GATES, head=f"{MODEL}{data}")
    found = {row["data"]: row["error"] for row in gates.json("--xai-model", "tiny")["gates"]}
    assert found["photos"] is None
    assert "coco.json" in found["coco"]
    gates.thresholds(GATES, head=f"{MODEL}[data]\npath = 'coco.json'\nimages = 'photos'\n")
    (row, *_) = gates.json("--xai-model", "tiny", "--xai-data=photos")["gates"]
    assert row["error"] is None
    data = "[data]\npaths = { photos = 'photos' }\nimages = 'photos'\n"
    gates.thresholds(GATES, head=f"{MODEL}{data}")
    (row, *_) = gates.json("--xai-model", "tiny")["gates"]
    assert "belong to a COCO .json file" in row["error"]


def tables_of(result: pytest.RunResult) -> dict[str, list[str]]:
    """Return the lines of each table by its heading, without what was spent."""
    tables: dict[str, list[str]] = {}
    title = None
    for line in result.outlines:
        if heading := re.fullmatch(r"=+ (explanations .*?) =+", line):
            title = tables.setdefault(heading[1], [])
        elif line.startswith("="):
            title = None
        elif title is not None and not line.startswith(("explaining:", "measuring:")):
            title.append(line)
    return tables


def test_xdist_changes_nothing_of_several_sets_and_models(gates: Project) -> None:
    seen = []
    gates.pytester.makepyfile(
        test_mine="""
        from pytest_xai import assert_sparseness_above

        def test_it(xai_explain):
            assert_sparseness_above(xai_explain("centre"), 0.01)
        """
    )
    models = ["--xai-model", "b", "--xai-model", "a"]
    asked = [*models, "--xai-thresholds=thresholds/tiny.toml", *SETS, "thresholds", "test_mine.py"]
    for mode in (NO_XDIST, TWO):
        files = ["--xai-json", "found.json", "--junitxml", "junit.xml"]
        result = gates.run(*asked, *mode, *files)
        assert result.ret == pytest.ExitCode.OK
        found = json.loads((gates.path / "found.json").read_text())
        records = sorted(json.dumps(record) for record in found["measurements"])
        assert len(records) == 2 * 2 * (3 + 1) * 6
        junit = {
            f"{case.get('classname')}::{case.get('name')}": [
                (item.get("name"), item.get("value")) for item in case.iter("property")
            ]
            for case in ElementTree.parse(gates.path / "junit.xml").iter("testcase")
        }
        seen.append((tables_of(result), found["models"], found["gates"], records, junit))
    alone, two = seen
    assert two == alone
    tables, models, rows, _, junit = alone
    order = [("b", "whole"), ("b", "faded"), ("a", "whole"), ("a", "faded")]
    assert [(facts["name"], facts["data"]) for facts in models] == order
    assert [(row["model"], row["data"]) for row in rows[::3]] == order
    assert list(tables) == [
        *(f"explanations of {model} on {name}" for model, name in order),
        "explanations of b across image sets",
        "explanations of a across image sets",
        "explanations across models on whole",
        "explanations across models on faded",
    ]
    named = [dict(found)["xai_data"] for case, found in junit.items() if "tiny.toml" in case]
    assert sorted(named) == ["faded"] * 6 + ["whole"] * 6


def test_json_says_of_everything_which_set_it_is_of(gates: Project) -> None:
    found = gates.json("--xai-model", "tiny", *SETS)
    assert found["schema_version"] == 2
    names = ["whole", "faded"]
    assert [facts["data"] for facts in found["models"]] == names
    assert [row["data"] for row in found["gates"]] == [name for name in names for _ in range(3)]
    assert {row["explainer"].partition("(")[0] for row in found["gates"]} == {"gradcam", "centre"}
    for name, undefined in (("whole", 0), ("faded", 1)):
        own = [r for r in found["measurements"] if (r["data"], r["method"]) == (name, "gradcam")]
        assert len(own) == 2 * 6
        assert sum(r["value"] is None for r in own) == 2 * undefined
        spent = {r["name"]: r["gradients"] for r in found["costs"] if r["data"] == name}
        assert spent["gradcam"] == 6


def test_one_set_is_named_in_json_and_nowhere_else(gates: Project) -> None:
    asked = ["--xai-model", "tiny", "--xai-data=whole=tiny:images", "--junitxml", "junit.xml"]
    result = gates.run(*asked, "--xai-json", "found.json")
    found = json.loads((gates.path / "found.json").read_text())
    assert {
        row["data"] for key in ("models", "gates", "measurements", "costs") for row in found[key]
    } == {"whole"}
    assert list(tables_of(result)) == ["explanations of tiny"]
    assert tables_of(result)["explanations of tiny"][0].startswith("6 images of whole, ")
    assert "xai_data" not in (gates.path / "junit.xml").read_text()


def test_a_table_shows_how_each_gate_changes_between_sets(gates: Project) -> None:
    result = gates.run("--xai-model", "tiny", *SETS)
    found = gates.json("--xai-model", "tiny", *SETS)["gates"]
    means = {(row["data"], row["method"], row["gate"]): row["mean"] for row in found}
    header, *lines = tables_of(result)["explanations of tiny across image sets"]
    assert header.split() == ["gate", "whole", "faded", "largest", "difference"]
    assert [line.split()[0] for line in lines] == ["gradcam", "iou", "sparseness", "centre", "iou"]
    expected = []
    for method, gate in (("gradcam", "iou"), ("gradcam", "sparseness"), ("centre", "iou")):
        pair = [means[name, method, gate] for name in ("whole", "faded")]
        expected.append([gate, *(f"{v:.3f}" for v in [*pair, abs(pair[0] - pair[1])])])
    assert [line.split() for line in lines if line.startswith("  ")] == expected
    assert len({tuple(line[1:3]) for line in expected}) > 1


def test_a_set_that_cannot_be_loaded_fails_its_own_gates_alone(gates: Project) -> None:
    asked = ["--xai-model", "tiny", SETS[0], "--xai-data=gone=no/such", "-k", "gradcam"]
    result = gates.run(*asked)
    result.assert_outcomes(passed=2, failed=2)
    message = "iou[[]gradcam[]] tiny on gone: cannot be measured: no/such: no such image set*"
    result.stdout.fnmatch_lines([message])
    header, _, iou, _ = tables_of(result)["explanations of tiny across image sets"]
    assert header.split() == ["gate", "whole", "gone", "largest", "difference"]
    assert iou.split() == ["iou", "1.000", "error"]


@pytest.mark.parametrize("from_file", [False, True])
def test_the_command_of_a_failure_runs_just_that_gate_of_that_set(
    from_file: bool, gates: Project
) -> None:
    failing = GATES.replace("above = 0.9, undefined", "above = 1.5, undefined")
    paths = "[data]\npaths = { whole = 'tiny:images', faded = 'tiny:one_blank' }\n"
    gates.thresholds(failing, head=f"{MODEL}{paths if from_file else ''}")
    asked = ["--xai-model=tiny", *([] if from_file else SETS)]
    result = gates.run(*asked)
    failures = [line for line in result.outlines if line.startswith("iou[gradcam] tiny on ")]
    assert [line.split()[3] for line in failures] == ["whole:", "faded:"]
    commands = [line.split() for line in result.outlines if line.startswith("  pytest ")]
    assert commands[1] == ["pytest", *asked, "thresholds/tiny.toml::faded::gradcam::iou"]
    again = gates.run(*commands[1][1:])
    again.assert_outcomes(failed=1)
    assert list(tables_of(again)) == ["explanations of tiny on faded"]


OTHER = GATES.replace("[explainers.gradcam]", "[explainers.gradcam]\nlayer = '0'")


def test_models_are_compared_on_the_gates_that_they_share(gates: Project) -> None:
    head = f"{MODEL}[data]\npath = 'tiny:images'\n"
    # The other model's Grad-CAM is of another layer, so that only the centre is the same gate.
    gates.thresholds(OTHER, head=head, path="thresholds/other.toml")
    result = gates.run("--xai-model", "tiny", "--xai-model", "other", "--xai-json", "found.json")
    tables = tables_of(result)
    assert list(tables) == [
        "explanations of tiny",
        "explanations of other",
        "explanations across models on tiny:images",
    ]
    header, method, line = tables["explanations across models on tiny:images"]
    assert header.split() == ["gate", "tiny", "other", "largest", "difference"]
    (mean,) = {
        f"{row['mean']:.3f}"
        for row in json.loads((gates.path / "found.json").read_text())["gates"]
        if row["method"] == "centre"
    }
    assert (method, line.split()) == ("centre", ["iou", mean, mean, "0.000"])


def test_models_on_different_images_are_not_compared(gates: Project) -> None:
    head = f"{MODEL}[data]\npath = 'tiny:one_blank'\n"
    gates.thresholds(GATES, head=head, path="thresholds/other.toml")
    result = gates.run("--xai-model", "tiny", "--xai-model", "other")
    assert list(tables_of(result)) == ["explanations of tiny", "explanations of other"]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_comparison_keeps_its_numbers_whole(
    columns: int, gates: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    names = ["photographs_of_animals", "sketches_of_animals", "paintings"]
    asked = [f"--xai-data={name}=tiny:images" for name in names]
    title = "explanations of tiny across image sets"
    lines = tables_of(gates.run("--xai-model", "tiny", *asked))[title]
    assert all(len(line) <= columns for line in lines)
    assert lines[-1].split() == ["iou", *[lines[-1].split()[1]] * 3, "0.000"]
    asked = [f"--xai-data={name}{i}=tiny:images" for name in names for i in range(5)]
    lines = tables_of(gates.run("--xai-model", "tiny", *asked))[title]
    assert lines[-1].split() == ["iou", *[lines[-1].split()[1]] * 15, "0.000"]


PYTHON = """
from pytest_xai import assert_iou_above

def test_images(xai_images, xai_data):
    print("set", xai_data, xai_images.name)

def test_map(xai_explain, xai_explainer):
    print("maps of", xai_explain(xai_explainer).evaluation.images.name)

def test_model(xai_model):
    pass
"""


@pytest.mark.parametrize("from_file", [False, True])
def test_a_test_runs_once_for_every_set(from_file: bool, gates: Project) -> None:
    paths = "[data]\npaths = { whole = 'tiny:images', faded = 'tiny:one_blank' }\n"
    gates.thresholds(GATES, head=f"{MODEL}{paths if from_file else ''}")
    gates.pytester.makepyfile(test_mine=PYTHON)
    asked = ["--xai-model=tiny", "--xai-explainer=centre", *([] if from_file else SETS)]
    assert sorted(gates.node_ids(*asked, "test_mine.py")) == [
        "test_mine.py::test_images[tiny-faded]",
        "test_mine.py::test_images[tiny-whole]",
        "test_mine.py::test_map[tiny-faded-centre]",
        "test_mine.py::test_map[tiny-whole-centre]",
        "test_mine.py::test_model[tiny]",
    ]
    result = gates.run(*asked, "-rP", "test_mine.py")
    result.assert_outcomes(passed=5)
    printed = {line for line in result.outlines if line.startswith(("set", "maps"))}
    assert printed == {
        "set whole tiny:images",
        "set faded tiny:one_blank",
        "maps of tiny:images",
        "maps of tiny:one_blank",
    }


def test_a_model_with_one_set_among_others_with_several_keeps_its_id(gates: Project) -> None:
    paths = "[data]\npaths = { whole = 'tiny:images', faded = 'tiny:one_blank' }\n"
    gates.thresholds(GATES, head=f"{MODEL}{paths}", path="thresholds/many.toml")
    gates.pytester.makepyfile(test_mine="def test_it(xai_images): pass")
    asked = ["--xai-model", "tiny", "--xai-model", "many", "test_mine.py"]
    ids = [f"test_mine.py::test_it[{name}]" for name in ("tiny", "many-whole", "many-faded")]
    assert gates.node_ids(*asked) == ids
    gates.run(*asked).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (
            ["a/photos", "b/photos"],
            "--xai-data: two image sets are called 'photos' (a/photos and b/photos); name them, "
            "--xai-data NAME=PATH",
        ),
        (["x=a", "x=b"], "--xai-data: two image sets are called 'x' (a and b); name them, *"),
        (["my set=a"], "--xai-data 'my set=a': no such path, and as NAME=PATH it needs a path, *"),
        (["x="], "--xai-data 'x=': no such path, and as NAME=PATH it needs a path, and a name *"),
        (["a[1]", "b"], "--xai-data a[1]: 'a[1]' cannot stand in the ids of tests; name it, *"),
    ],
)
def test_a_set_without_a_name_of_its_own_is_a_usage_error(
    asked: list[str], complaint: str, gates: Project
) -> None:
    result = gates.run("--xai-model", "tiny", *(f"--xai-data={text}" for text in asked))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.re_match_lines([f"ERROR: {re.escape(complaint.removesuffix('*'))}.*"])


def test_a_path_with_an_equals_sign_is_a_path_where_there_is_one(gates: Project) -> None:
    write_folder(gates.path / "a=b", images=1)
    found = gates.json("--xai-model", "tiny", "--xai-data=a=b", "-k", "centre")
    assert [facts["data"] for facts in found["models"]] == ["a=b"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("paths = {}\n", "t.toml:2: data.paths: [data]: `paths` names no image set; give { "),
        ("path = 'a'\npaths = { b = 'c' }\n", "t.toml:3: data.paths: [data]: `paths` and `path`"),
        (
            "\npaths = { 'b::c' = 'd' }\n",
            "t.toml:3: data.paths: [data]: `paths`: the name of an image set has letters, digits,",
        ),
        ("paths = { b = 3 }\n", "t.toml:2: data.paths: [data]: Expected `str`, got `int`"),
        ("paths = 'b'\n", "t.toml:2: data.paths: [data]: Expected `object | null`, got `str`"),
        ("pats = { a = 'b' }\n", "t.toml:2: data.pats: [data] has no parameter 'pats': did you"),
    ],
)
def test_wrong_paths_name_file_line_and_key(data: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(f"[data]\n{data}")
    with pytest.raises(ThresholdFileError) as caught:
        read_thresholds(file, shown="t.toml", seed=0)
    assert str(caught.value).startswith(complaint)
