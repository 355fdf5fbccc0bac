"""Several images of one photograph, as a run judges, shows and reports them."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import conftest
import numpy as np
import pytest
from PIL import Image

from pytest_xai import assert_iou_above
from pytest_xai.assertions import ExplanationError
from xai_core.errors import ParameterError, ShapeError
from xai_core.statistics import mean_interval

if TYPE_CHECKING:
    from conftest import Project

HEAD = conftest.HEAD.replace("tiny:images", "crops")
PHOTOGRAPHS, CROPS = 20, 3
CENTRE = "[explainers.centre]\n[gates.centre]\n"


def write_crops(folder: Path, *, groups: bool = True) -> None:
    """Write three crops each of 20 photographs, whose patches lie ever further from the centre."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows = ["image,label,group" if groups else "image,label"]
    for index in range(PHOTOGRAPHS * CROPS):
        photograph, crop = divmod(index, CROPS)
        mask = np.zeros((16, 16), dtype=np.uint8)
        mask[2 + photograph % 7 : 10, 1 + photograph % 5 : 9 + crop] = 255
        name = f"{crop}_of_{photograph:02}.png"  # not in the order of the photographs
        pixels = np.full((16, 16, 3), 25, dtype=np.uint8)
        pixels[mask > 0, photograph % 3] = 255
        Image.fromarray(pixels).save(folder / "images" / name)
        Image.fromarray(mask).save(folder / "masks" / name)
        group = f",photograph-{photograph:02}" if groups else ""
        rows.append(f"{name},{photograph % 3}{group}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def crops(project: Project) -> Project:
    write_crops(project.path / "crops")
    project.thresholds(f"{CENTRE}iou = {{ above = 0.9 }}\n", head=HEAD)
    return project


def means_of(found: dict[str, Any]) -> list[float]:
    """Return the mean of each photograph, from the records of its crops."""
    values: dict[str, list[float]] = {}
    for record in found["measurements"]:
        values.setdefault(record["image"].partition("_of_")[2], []).append(record["value"])
    assert {len(of_one) for of_one in values.values()} == {CROPS}
    return [sum(of_one) / CROPS for of_one in values.values()]


def test_a_gate_is_about_the_means_of_photographs(crops: Project) -> None:
    found = crops.json("--xai-model", "tiny")
    means = np.array(means_of(found))
    (gate,) = found["gates"]
    (demand,) = gate["demands"]
    expected = mean_interval(means, bounds=(0, 1))
    assert (gate["images"], gate["groups"]) == (60, 20)
    assert gate["mean"] == pytest.approx(means.mean())
    assert demand["value"] == pytest.approx(means.mean())
    assert demand["low"] == pytest.approx(expected.low)
    assert demand["high"] == pytest.approx(expected.high)
    assert {record["group"] for record in found["measurements"]} == {
        f"photograph-{row:02}" for row in range(20)
    }
    assert (found["models"][0]["images"], found["models"][0]["groups"]) == (60, 20)


def test_without_the_column_the_interval_is_narrower_and_nothing_is_said(crops: Project) -> None:
    def width() -> float:
        (gate,) = crops.json("--xai-model", "tiny")["gates"]
        return gate["demands"][0]["high"] - gate["demands"][0]["low"]

    grouped = width()
    write_crops(crops.path / "crops", groups=False)
    assert grouped > 1.3 * width()
    found = crops.json("--xai-model", "tiny")
    assert (found["gates"][0]["images"], found["gates"][0]["groups"]) == (60, None)
    assert {record["group"] for record in found["measurements"]} == {None}
    assert found["models"][0]["groups"] is None
    result = crops.run("--xai-model", "tiny")
    result.stdout.no_fnmatch_line("*group*")
    result.stdout.fnmatch_lines(["60 images of crops, *"])


def test_lines_and_tables_say_that_they_count_groups(crops: Project) -> None:
    result = crops.run("--xai-model", "tiny", "--junitxml", "found.xml")
    result.stdout.fnmatch_lines(
        [
            "iou[[]centre[]] tiny: 0.* < 0.900 (95% CI 0.*..0.*, n=20 groups, detects 0.*)",
            "worst class: ? 0.*, n=? groups",
            "worst images:",
            "*_of_*.png",
            "60 images in 20 groups of crops, top-1 accuracy 1.000",
            "  iou *  >= 0.900  0.*..0.*  20 *fail",
        ]
    )
    tree = ET.parse(crops.path / "found.xml")
    properties = {one.get("name"): one.get("value") for one in tree.iter("property")}
    assert (properties["xai_images"], properties["xai_groups"]) == ("60", "20")


def test_failures_and_classes_are_counted_in_groups(crops: Project) -> None:
    crops.thresholds(f"{CENTRE}iou = {{ above = 0.9, max_failures = 2 }}\n", head=HEAD)
    crops.run("--xai-model", "tiny").stdout.fnmatch_lines(
        [
            "iou[[]centre[]] tiny: 20 groups < 0.900, 2 allowed (95% CI *, n=20 groups, *",
            "    groups < 0.900 * 20  <= 2 *",
        ]
    )
    crops.thresholds(f"{CENTRE}iou = {{ above = 0.9, per_class = true }}\n", head=HEAD)
    (gate,) = crops.json("--xai-model", "tiny")["gates"]
    assert {name: one["images"] for name, one in gate["classes"].items()} == {
        "0": 7,
        "1": 7,
        "2": 6,
    }


def test_a_mistake_in_the_table_names_file_and_line(crops: Project) -> None:
    table = crops.path / "crops/labels.csv"
    table.write_text(table.read_text().replace("photograph-01", "", 1))
    result = crops.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*labels.csv, line 5: the group of '0_of_01.png' is empty; *"])


def test_sequential_gates_count_groups(crops: Project) -> None:
    result = crops.run("--xai-model", "tiny", "--xai-sequential")
    result.stdout.fnmatch_lines(
        [
            "iou[[]centre[]] tiny: * < 0.900 (95% CI *, n=8 of 20 groups)",
            "60 images in 20 groups of crops, top-1 accuracy 1.000 of the 24 that were classified",
            "  iou * >= 0.900 * 8 of 20 *fail",
            "sequential: 24 of 60 images settled iou[[]centre[]]; 36 of 60 values were not needed",
        ]
    )


def test_calibration_counts_groups(crops: Project) -> None:
    result = crops.run("--xai-model", "tiny", "--xai-calibrate", "2")
    result.stdout.fnmatch_lines(["20 groups of images of crops, no seed in any gate"])


def test_a_new_threshold_says_that_it_rests_on_groups(crops: Project) -> None:
    crops.thresholds(f"{CENTRE}iou = {{}}\n", head=HEAD)
    result = crops.run("--xai-model", "tiny", "--xai-update")
    result.stdout.fnmatch_lines(
        ["iou[[]centre[]] tiny: no threshold yet: measured 0.* (95% CI *, n=20 groups), proposed *"]
    )


def test_runs_are_compared_photograph_by_photograph(crops: Project) -> None:
    demand = "{ above = 0.0, not_worse_by = 0.01, reproducible = false }"
    blurred = "[explainers.blurred]\nkind = 'centre'\n[gates.blurred]\n"
    crops.thresholds(f"{blurred}iou = {demand}\n", head=HEAD)
    crops.run("--xai-model", "tiny", "--xai-save", "v1")
    saved = crops.path / "xai_runs/v1.json"
    content = json.loads(saved.read_text())
    (measurement,) = content["subjects"][0]["measurements"]
    noise = np.random.default_rng(0).uniform(0, 0.1, 20)
    for name, value in measurement["values"].items():
        photograph = int(re.search(r"_of_(\d+)", name)[1])
        measurement["values"][name] = value + noise[photograph]
    saved.write_text(json.dumps(content))
    found = crops.json("--xai-model", "tiny", "--xai-compare", "v1")
    (row,) = found["compared"]
    expected = mean_interval(-noise, bounds=(-1, 1))
    assert row["images"] == 20
    assert row["difference"] == pytest.approx(-noise.mean())
    # The order of the photographs is that of their first crop, 00 to 19.
    assert row["low"] == pytest.approx(expected.low)
    assert row["high"] == pytest.approx(expected.high)
    result = crops.run("--xai-model", "tiny", "--xai-compare", "v1")
    result.stdout.fnmatch_lines(["*against v1, margin 0.010 (95% CI *, n=20 groups)"])


# --- assertions on arrays ----------------------------------------------------------------------


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    masks = np.zeros((4, 16, 16), dtype=bool)
    masks[:, 2:6, 2:6] = True
    heatmaps = masks.astype(np.float32)
    heatmaps[3, 2:6, 6:10] = 1.0  # IoU 1, 1, 1 and 0.5
    return heatmaps, masks


@pytest.mark.parametrize("groups", [["a", "a", "a", "b"], np.array([7, 7, 7, 9])], ids=repr)
def test_an_assertion_takes_the_photographs_of_its_images(arrays: Any, groups: Any) -> None:
    heatmaps, masks = arrays
    judgement = assert_iou_above(heatmaps, 0.7, masks=masks, image_groups=groups)
    assert judgement.findings[0].value == pytest.approx(0.75)
    assert judgement.units == 2
    with pytest.raises(ExplanationError, match=r"0\.750 < 0\.800 .*, n=2 groups"):
        assert_iou_above(heatmaps, 0.8, masks=masks, image_groups=groups)
    assert assert_iou_above(heatmaps, 0.8, masks=masks).findings[0].value == pytest.approx(0.875)


@pytest.mark.parametrize("groups", [["a"], "abcd", 3])
def test_photographs_of_other_images_are_refused(arrays: Any, groups: Any) -> None:
    with pytest.raises(
        ShapeError, match="image_groups: expected 4 names or numbers, one for each image"
    ):
        assert_iou_above(arrays[0], 0.5, masks=arrays[1], image_groups=groups)


def test_an_image_of_no_photograph_is_named(arrays: Any) -> None:
    with pytest.raises(ParameterError, match="image_groups: image 2 is of None"):
        assert_iou_above(arrays[0], 0.5, masks=arrays[1], image_groups=["a", "a", None, "b"])


def test_what_is_explained_brings_its_own_groups(crops: Project) -> None:
    crops.pytester.makepyfile(
        """
        from pytest_xai import assert_iou_above

        def test_own(xai_explain):
            judgement = assert_iou_above(xai_explain("centre"), 0.0)
            assert (judgement.images, judgement.units) == (60, 20)

        def test_given(xai_explain):
            assert_iou_above(xai_explain("centre"), 0.0, image_groups=["a"] * 60)
        """
    )
    result = crops.run("--xai-model", "tiny", "test_what_is_explained_brings_its_own_groups.py")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*what xai_explain gives brings its own image_groups; leave them out"]
    )
