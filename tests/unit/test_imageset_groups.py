"""Which photograph each image of a set is of: from a table, COCO, or a function."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xai_core.errors import ImageSetError
from xai_core.imageset import CenterCrop, Entry, ImageSet, Resize, Sample, load_imageset

GREY = np.full((3, 6, 8), 0.5, dtype=np.float32)
BOX = np.ones((6, 8), dtype=bool)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "zoo"
    (root / "images").mkdir(parents=True)
    for name in ("a_1", "a_2", "b_1"):
        Image.new("RGB", (8, 6), (90, 20, 30)).save(root / "images" / f"{name}.png")
    return root


def table(folder: Path, *rows: str, header: str = "image,label,group") -> None:
    (folder / "labels.csv").write_text("\n".join((header, *rows)) + "\n")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ImageSetError, match=message):
        load_imageset(folder)


def test_a_column_of_the_table_names_the_photograph(folder: Path) -> None:
    table(folder, "b_1.png,1,b", "a_2.png,0, a ", "a_1.png,0,a")
    images = load_imageset(folder, size=(6, 8))
    assert images.groups == ("a", "a", "b")
    assert [sample.group for sample in images] == ["a", "a", "b"]


def test_without_the_column_no_photograph_is_known(folder: Path) -> None:
    table(folder, "b_1.png,1", "a_2.png,0", "a_1.png,0", header="image,label")
    images = load_imageset(folder, size=(6, 8))
    assert images.groups is None
    assert images[0].group is None


def test_groups_stay_in_every_part_of_a_set(folder: Path) -> None:
    table(folder, "b_1.png,1,b", "a_2.png,0,a", "a_1.png,0,a")
    assert load_imageset(folder, limit=2).groups == ("a", "a")
    cropped = load_imageset(folder, transform=CenterCrop((4, 4), resize=4))
    assert cropped.groups == ("a", "a", "b")
    assert cropped.subset([2, 0]).groups == ("a", "b")
    assert cropped.of_label(0).groups == ("a", "a")
    predicted = cropped.with_masks(lambda _: lambda: BOX, source="a test")
    assert predicted.groups == ("a", "a", "b")


@pytest.mark.parametrize("cell", ["", "  "])
def test_an_empty_cell_is_named_by_file_and_line(folder: Path, cell: str) -> None:
    table(folder, "b_1.png,1,b", f"a_2.png,0,{cell}", "a_1.png,0,a")
    refused(folder, r"labels\.csv, line 3: the group of 'a_2\.png' is empty; name the photograph")


def test_a_missing_cell_is_named_by_file_and_line(folder: Path) -> None:
    table(folder, "b_1.png,1,b", "a_2.png,0,a", "a_1.png,0")
    refused(folder, r"labels\.csv, line 4: expected 3 cells as in the header, got 2")


@pytest.mark.parametrize("column", ["groups", "Group", "GROUPS"])
def test_a_column_that_is_nearly_called_so_is_not_passed_over(folder: Path, column: str) -> None:
    table(folder, "b_1.png,1,b", "a_2.png,0,a", header=f"image,label,{column}")
    refused(folder, rf"labels\.csv: no column is called '{column}'; did you mean 'group'\?")


def test_a_sample_without_a_group_is_a_photograph_of_its_own() -> None:
    entries = [
        Entry(name, None, partial(np.copy, GREY), None, "test", group=group)
        for name, group in (("whole.png", None), ("crop.png", "whole.png"), ("other.png", None))
    ]
    images = ImageSet(entries, name="crops", transform=Resize((6, 8)))
    assert images.names == ("crop.png", "other.png", "whole.png")
    assert images.groups == ("whole.png", "other.png", "whole.png")


def test_a_group_has_no_part_in_a_digest() -> None:
    assert Sample("a", GREY, group="b").digest() == Sample("a", GREY).digest()


def made_by(monkeypatch: pytest.MonkeyPatch, made: object) -> ImageSet:
    module = ModuleType("crops_of_a_test")
    module.images = lambda: made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "crops_of_a_test", module)
    return load_imageset("crops_of_a_test:images", size=(6, 8))


def test_a_function_names_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        Sample("b", GREY, group="p"),
        ("a", GREY, None, 0, None, "p"),
        ("c", GREY, None, 0),
    ]
    assert made_by(monkeypatch, made).groups == ("p", "p", "c")
    assert made_by(monkeypatch, [("c", GREY, None, 0)]).groups is None


@pytest.mark.parametrize(
    ("group", "message"),
    [(3, r"item 0 \('a'\): group 3 is no text"), ("", "the group of 'a' is empty")],
)
def test_a_function_that_names_no_photograph_is_told(
    group: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageSetError, match=message):
        made_by(monkeypatch, [("a", GREY, None, 0, None, group)])


def test_the_categories_of_a_coco_image_are_of_one_photograph(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools.mask", reason="needs the extra 'coco'")

    def instance(number: int, image: int, category: int) -> dict[str, Any]:
        outline = [[1, 1, 4, 1, 4, 5, 1, 5]]
        return {"id": number, "image_id": image, "category_id": category, "segmentation": outline}

    names = {1: "sub/a.png", 2: "b.png"}
    (tmp_path / "photos/sub").mkdir(parents=True)
    for name in names.values():
        Image.new("RGB", (8, 6)).save(tmp_path / "photos" / name)
    content = {
        "images": [
            {"id": key, "file_name": name, "height": 6, "width": 8} for key, name in names.items()
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            instance(10, 1, 1), instance(11, 1, 2), instance(12, 2, 1), instance(13, 2, 1)
        ],
    }  # fmt: skip
    (tmp_path / "found.json").write_text(json.dumps(content))
    images = load_imageset(tmp_path / "found.json", images=tmp_path / "photos", size=(6, 8))
    assert images.names == ("b.png:cat", "sub/a.png:cat", "sub/a.png:dog")
    assert images.groups == ("b.png", "sub/a.png", "sub/a.png")
