"""The gate on neighbours: which share has the image's class, and what a failure says."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import HEAD
from PIL import Image

from xai_core.classifier import load_classifier
from xai_core.concepts.neighbours import neighbour_agreement
from xai_core.imageset import load_imageset
from xai_core.statistics import mean_interval

if TYPE_CHECKING:
    from conftest import Project

# Not imported: in this process only inner runs may know a module of that name.
tiny_images = runpy.run_path(str(Path(__file__).with_name("tiny.py")), run_name="outer")["images"]

NAMES = ("reddish", "greenish", "bluish")
# One image that is blue is called reddish. The last one is the nearest to all the tiny images by
# euclidean distance (they and it are dim), the farthest by cosine.
COLOURS = {
    "a0": ((255, 0, 0), 0),
    "a1": ((255, 153, 0), 0),
    "b0": ((0, 255, 0), 1),
    "b1": ((0, 255, 153), 1),
    "c0": ((0, 0, 255), 2),
    "c1": ((0, 153, 255), 0),
    "c2": ((230, 0, 204), 2),
    "d0": ((140, 140, 140), 2),
}
ASKED = ("--xai-model", "tiny")
ID = "thresholds/tiny.toml::neighbours::agreement"


def write_reference(folder: Path, *, labelled: bool = True, only: str = "abcd") -> Path:
    (folder / "images").mkdir(parents=True)
    rows = ["image,label,class"]
    for name, (colour, label) in COLOURS.items():
        if name[0] in only:
            Image.new("RGB", (16, 16), colour).save(folder / "images" / f"{name}.png")
            rows.append(f"{name}.png,{label},{NAMES[label]}")
    if labelled:
        (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def reference(project: Project) -> Project:
    write_reference(project.path / "data" / "reference")
    return project


def table(*lines: str, reference: str = "data/reference", k: int = 2, layer: str = "1") -> str:
    named = [f"reference = '{reference}'", f"k = {k}", f"layer = '{layer}'", *lines]
    return "\n".join(["[neighbours]", *named]) + "\n"


def embedded(image: np.ndarray) -> np.ndarray:
    """The tiny model's layer 1 by hand: ReLU(colour - 0.5), averaged over the pixels [C, H, W]."""
    return np.maximum(image.astype(np.float64) - 0.5, 0).mean(axis=(1, 2))


def shares_by_hand(k: int, distance: str) -> list[float]:
    there = [(np.maximum(np.array(c) / 255 - 0.5, 0), label) for c, label in COLOURS.values()]
    shares = []
    for _, image, _, target in tiny_images():
        here = embedded(image)
        apart = []
        for order, (other, label) in enumerate(there):
            cosine = here @ other / np.sqrt(here @ here) / np.sqrt(other @ other)
            far = 1 - cosine if distance == "cosine" else np.sqrt(((here - other) ** 2).sum())
            apart.append((far, order, label))
        shares.append(sum(label == target for _, _, label in sorted(apart)[:k]) / k)
    return shares


def test_the_gate_is_one_test_after_those_of_explainers_and_concepts(reference: Project) -> None:
    gate = "[explainers.gradcam]\n[gates.gradcam]\niou = { above = 0.9 }\n"
    concept = "[concepts.red]\nclass = 0\nverdict = 'present'\n"
    reference.thresholds(f"{table('above = 0.8')}{gate}{concept}")
    ids = [
        f"thresholds/tiny.toml::{gate}"
        for gate in ("gradcam::iou", "concepts::red::verdict", "neighbours::agreement")
    ]
    assert reference.node_ids(*ASKED) == ids
    assert reference.node_ids(*ASKED, ID) == ids[2:]
    assert reference.node_ids(*ASKED, "thresholds/tiny.toml::neighbours") == ids[2:]
    assert reference.node_ids(*ASKED, "-k", "neighbours") == ids[2:]
    sets = ["--xai-data=whole=tiny:images", "--xai-data=faded=tiny:one_blank"]
    assert reference.node_ids(*ASKED, *sets, "-k", "neighbours") == [
        ID.replace("toml::", f"toml::{name}::") for name in ("whole", "faded")
    ]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 2])
def test_every_image_has_the_share_that_a_plain_loop_finds(
    k: int, distance: str, reference: Project
) -> None:
    reference.thresholds(table("above = 0.5", f"distance = '{distance}'", k=k))
    found = reference.json(*ASKED)
    expected = shares_by_hand(k, distance)
    assert [record["value"] for record in found["measurements"]] == expected
    (row,) = found["gates"]
    assert row["mean"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert (k, distance) == (1, "cosine") or min(expected) < max(expected)


def test_the_row_and_the_records_say_what_was_asked_and_found(reference: Project) -> None:
    file = reference.thresholds(table("above = 0.9", "confidence = 0.8", "limit = 7"))
    found = reference.json(*ASKED)
    (row,) = found["gates"]
    assert (row["method"], row["gate"], row["metric"]) == (
        "neighbours",
        "agreement",
        "neighbour_agreement",
    )
    assert row["protocol"] == (
        "neighbour_agreement@v1(reference=data/reference, k=2, layer=1, limit=7)"
    )
    assert file.read_text().splitlines()[row["line"] - 1] == "above = 0.9"
    interval = mean_interval(np.array([1, 1, 0.5] * 2), confidence=0.8, bounds=(0.0, 1.0))
    (demand,) = row["demands"]
    assert (demand["low"], demand["high"]) == (interval.low, interval.high)
    assert (row["passed"], row["images"], row["undefined"]) == (False, 6, 0)
    assert [(one["image"], one["target"], one["value"]) for one in found["measurements"]] == [
        (f"image-{index}", index % 3, (1.0, 1.0, 0.5)[index % 3]) for index in range(6)
    ]
    settings = {
        "reference": "data/reference",
        "k": 2,
        "layer": "1",
        "distance": "cosine",
        "limit": 7,
    }
    assert all(one["settings"] == settings for one in found["measurements"])
    assert {one["method"] for one in found["measurements"]} == {"neighbours"}
    assert [(one["name"], one["images"]) for one in found["models"]] == [("tiny", 6)]
    (cost,) = [one for one in found["costs"] if one["name"] == "neighbour_agreement"]
    assert (cost["stage"], cost["forwards"], cost["gradients"]) == ("measure", 6 + 7, 0)


def test_a_failure_shows_the_nearest_images_of_the_worst(reference: Project) -> None:
    reference.thresholds(table("above = 0.9"))
    result = reference.run(*ASKED)
    result.assert_outcomes(failed=1)
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if line.startswith("neighbour_agreement["))
    assert re.fullmatch(
        r"neighbour_agreement\[neighbours\] tiny: 0\.833 < 0\.900 \(95% CI .*, n=6, detects .*\)",
        lines[start],
    )
    # Equally far images come in the reference's order; "c1" is called by another class's name.
    blue = "             bluish, nearest: c0.png (bluish), c1.png (reddish)"
    red = "             reddish, nearest: a0.png (reddish), a1.png (reddish)"
    green = "             greenish, nearest: b0.png (greenish), b1.png (greenish)"
    assert lines[start + 1 : start + 17] == [
        "neighbours: the nearest 2 of the 8 images of data/reference, at 1, by cosine distance",
        "",
        "worst images:",
        "      0.500  image-2",
        blue,
        "      0.500  image-5",
        blue,
        "      1.000  image-0",
        red,
        "      1.000  image-1",
        green,
        "      1.000  image-3",
        red,
        "",
        "run just this gate again:",
        f"  pytest --xai-model=tiny {ID}",
    ]
    table_lines = ["neighbours", "  agreement * 0.833 * >= 0.900 * 6 * fail?"]
    result.stdout.fnmatch_lines(table_lines)
    result.stdout.no_fnmatch_line("*.py:[0-9]*")


def test_of_many_neighbours_the_nearest_are_shown(reference: Project) -> None:
    reference.thresholds(table("below = 0.1", "undefined = 6", k=7))
    result = reference.run(*ASKED)
    result.stdout.fnmatch_lines(["*nearest: a0.png (reddish), *, and 2 more"])
    assert "6 of 6 images undefined, 6 allowed" in result.stdout.str()


def test_an_image_is_no_neighbour_of_itself(project: Project) -> None:
    project.thresholds(table("below = 0.5", reference="tiny:images", k=1))
    result = project.run(*ASKED)
    result.stdout.fnmatch_lines(["* image-0", "* class 0, nearest: image-3 (class 0)"])


@pytest.mark.parametrize(
    ("line", "passed"),
    [
        ("above = 0.8", True),
        ("above = 0.84", False),
        ("below = 0.84", True),
        ("below = 0.8", False),
        ("above = 0.6\nmostly = 0.66", True),
        ("above = 0.6\nmostly = 0.7", False),
    ],
)
def test_a_condition_decides_as_in_any_gate(line: str, passed: bool, reference: Project) -> None:
    reference.thresholds(table(line))  # two thirds of the images have 1.0, the others 0.5
    reference.run(*ASKED).assert_outcomes(passed=int(passed), failed=int(not passed))


def test_a_gate_of_level_warn_warns(reference: Project) -> None:
    reference.thresholds(table("above = 0.9", "level = 'warn'"))
    result = reference.run(*ASKED)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*GateWarning: neighbour_agreement*", "  agreement * warn"])


def test_strict_passes_only_what_is_proven(reference: Project) -> None:
    reference.thresholds(table("above = 0.8"))
    result = reference.run(*ASKED, "--xai-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["neighbour_agreement* 0.833 >= 0.800 *: not proven*"])


def test_a_class_with_too_few_images_in_the_reference_is_undefined(project: Project) -> None:
    write_reference(project.path / "data" / "reference", only="ab")
    project.thresholds(table("above = 0.9"))
    result = project.run(*ASKED)
    result.assert_outcomes(failed=1)
    few = "0 of the reference's images are of its class, class 2: fewer than k = 2"
    assert f"2 of 6 images undefined, 0 allowed (image-2: {few})" in result.stdout.str()
    project.thresholds(table("above = 0.9", "undefined = 2"))
    found = project.json(*ASKED)
    assert [(row["passed"], row["images"], row["mean"]) for row in found["gates"]] == [
        (True, 4, 1.0)
    ]
    reasons = [record["undefined"] for record in found["measurements"]]
    assert reasons == [None, None, few] * 2


@pytest.mark.parametrize(("label", "expected"), [("(index + 1) % 3", 0.0), ("None", 1.0)])
def test_the_class_is_the_label_else_the_predicted_one(
    label: str, expected: float, project: Project
) -> None:
    (project.path / "given.py").write_text(
        "import tiny\n"
        "def images():\n"
        "    for index, (name, image, mask, _) in enumerate(tiny.images()):\n"
        f"        yield name, image, mask, {label}\n"
    )
    head = HEAD.replace("tiny:images", "given:images")
    project.thresholds(table("above = 0", reference="tiny:images", k=1), head=head)
    (row,) = project.json(*ASKED)["gates"]
    assert row["mean"] == expected


def test_junit_and_xdist_have_what_one_process_has(reference: Project) -> None:
    gate = "[explainers.gradcam]\n[gates.gradcam]\niou = { above = 0.9 }\n"
    reference.thresholds(f"{gate}{table('above = 0.9')}")
    seen = []
    for mode in (["-p", "no:xdist"], ["-n2"]):
        files = ["--xai-json", "found.json", "--junitxml", "junit.xml"]
        result = reference.run(*ASKED, *mode, *files)
        result.assert_outcomes(passed=1, failed=1)
        found = json.loads((reference.path / "found.json").read_text())
        root = ElementTree.parse(reference.path / "junit.xml")
        junit = {
            case.get("name"): {one.get("name"): one.get("value") for one in case.iter("property")}
            for case in root.iter("testcase")
        }
        records = sorted(map(repr, found["measurements"]))
        seen.append((found["gates"], found["models"], records, junit))
    assert seen[0] == seen[1]
    interval = mean_interval(np.array([1, 1, 0.5] * 2), confidence=0.95, bounds=(0.0, 1.0))
    assert seen[0][-1]["agreement"] == {
        "xai_protocol": "neighbour_agreement@v1(reference=data/reference, k=2, layer=1)",
        "xai_outcome": "inconclusive",
        "xai_images": "6",
        "xai_undefined": "0",
        "xai_value": str(5 / 6),
        "xai_threshold": "0.9",
        "xai_ci_low": str(interval.low),
        "xai_ci_high": str(interval.high),
    }


def test_several_sets_are_compared(reference: Project) -> None:
    reference.thresholds(table("above = 0.1"))
    sets = ["--xai-data=whole=tiny:images", "--xai-data=bare=tiny:without_masks"]
    result = reference.run(*ASKED, *sets)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "=* explanations of tiny across image sets *=",
            "neighbours",
            "  agreement * 0.833 *0.833*",
        ]
    )


def test_the_reference_is_relative_to_the_root(
    reference: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = reference.thresholds(table("above = 0.8"))
    (reference.path / "elsewhere").mkdir()
    monkeypatch.chdir(reference.path / "elsewhere")
    root = ["--rootdir", reference.path, "-c", reference.path / "tox.ini"]
    reference.run(*ASKED, *root, "--xai-thresholds", file).assert_outcomes(passed=1)


def test_the_demo_s_neighbours_are_those_of_the_library(project: Project) -> None:
    file = project.thresholds(
        "[neighbours]\nreference = 'demo'\nabove = 0.9\n", head="", path="demo.toml"
    )
    asked = ["--xai-model", "demo", "--xai-thresholds", file, "--xai-limit", "12"]
    found = project.json(*asked)["measurements"]
    classifier = load_classifier("demo")
    images = load_imageset("demo", size=classifier.size)
    some = images.head(12)
    expected = neighbour_agreement(classifier, some, np.array(some.labels), images)
    assert [record["value"] for record in found] == expected.tolist()
    assert expected.mean() > 0.9


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("[neighbours]\nabove = 0.8", "", 'add reference = "..."'),
        ("[neighbours]\nreference = 'demo'", "", "nothing is asked of the neighbours"),
        (table("above = 0.8", "metric = 'iou'"), ".metric", "unknown key: known: above,"),
        (table("above = 0.8", "laier = 'x'"), ".laier", "did you mean 'layer'"),
        (table("above = 0.8", "beats = 'centre'"), ".beats", "unknown key"),
        (table("above = 0.8", "level = 'maybe'"), ".level", "must be 'fail' or 'warn'"),
        (table("above = 80"), ".above", "a share of the neighbours, from 0 to 1, got 80"),
        (table("above = nan"), ".above", "must be a finite number"),
        (table("above = 0.8", "below = 0.9"), ".above", "exclude each other"),
        (table("above = 0.8", "mostly = 2"), ".mostly", "a share of the images"),
        (table("above = 0.8", k=0), ".k", "must be at least 1, got 0"),
        (table("above = 0.8", "limit = 1"), ".limit", "leaves 1 images of the reference"),
        (table("above = 0.8", "distance = 'cosin'"), ".distance", "cosin"),
        (table("above = 0.8", layer=""), ".layer", "leave it out"),
        (table("above = 0.8", reference=""), ".reference", "names no image set"),
        ("[neighbours]\nreference = 3\nabove = 0.8", ".reference", "Expected `str`"),
    ],
)
def test_a_mistake_in_the_table_is_named_with_file_line_and_key(
    text: str, key: str, message: str, project: Project
) -> None:
    file = project.thresholds(text)
    named = key.removeprefix(".")
    lines = file.read_text().splitlines()
    starts = f"{named} = " if named else "[neighbours]"
    line = 1 + next(index for index, one in enumerate(lines) if one.startswith(starts))
    shown = project.run(*ASKED).stdout.str()
    found = re.search(rf"thresholds/tiny\.toml:{line}: neighbours{re.escape(key)}: .*", shown)
    assert found, shown
    assert message in found[0]


def test_an_explainer_beside_it_has_another_name(project: Project) -> None:
    gate = "[explainers.neighbours]\nkind = 'gradcam'\n[gates.neighbours]\niou = { above = 0.9 }\n"
    project.thresholds(gate)
    project.run(*ASKED).assert_outcomes(passed=1)
    project.thresholds(f"{gate}{table('above = 0.8', reference='tiny:images', k=1)}")
    result = project.run(*ASKED)
    result.stdout.fnmatch_lines(["*tiny.toml:*: gates.neighbours: an explainer beside *rename it"])


@pytest.mark.parametrize(
    ("lines", "options", "key", "message"),
    [
        ([], {"reference": "data/refrence"}, "reference", "no such image set"),
        ([], {"reference": "bare"}, "reference", "8 of 8 images have no label, the first is 'a0"),
        ([], {"layer": "nothing"}, "layer", "nothing"),
        ([], {"k": 9}, "k", "8 other images in the reference of 8, asked for 9"),
        (["distance = 'cosine'"], {"reference": "dark"}, "distance", "zero everywhere"),
        ([], {"reference": "dark"}, "", "zero everywhere"),
    ],
)
def test_what_cannot_be_measured_is_named_with_file_line_and_key(
    lines: list[str], options: dict, key: str, message: str, reference: Project
) -> None:
    write_reference(reference.path / "bare", labelled=False)
    dark = write_reference(reference.path / "dark")
    Image.new("RGB", (16, 16), (9, 9, 9)).save(dark / "images" / "c0.png")
    file = reference.thresholds(table("above = 0.8", *lines, **options))
    starts = f"{key} = " if key else "[neighbours]"
    listed = file.read_text().splitlines()
    line = 1 + next(index for index, one in enumerate(listed) if one.startswith(starts))
    result = reference.run(*ASKED)
    result.assert_outcomes(failed=1)
    where = f"thresholds/tiny.toml:{line}: neighbours{f'.{key}' if key else ''}: "
    found = re.search(rf"cannot be measured: {re.escape(where)}.*", result.stdout.str())
    assert found, result.stdout.str()
    assert message in found[0]
    result.stdout.fnmatch_lines(["  agreement * error"])


def test_an_image_of_the_reference_that_cannot_be_cropped_is_named(reference: Project) -> None:
    head = HEAD + 'transform = "off-center-crop(share=0.5)"\n'
    file = reference.thresholds(table("above = 0.8"), head=head)
    line = 1 + file.read_text().splitlines().index("reference = 'data/reference'")
    shown = reference.run(*ASKED).stdout.str()
    assert re.search(rf"tiny\.toml:{line}: neighbours\.reference: .*'a0\.png' has no mask", shown)
