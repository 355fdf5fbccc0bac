"""A COCO instance file gives one sample per image and category."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xai_core.errors import ImageSetError, MissingExtraError
from xai_core.imageset import ImageSet, load_imageset

mask_api = pytest.importorskip("pycocotools.mask", reason="needs the extra 'coco'")

HEIGHT, WIDTH = 10, 14


def rectangle(left: int, top: int, right: int, bottom: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    drawn = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    drawn[top:bottom, left:right] = 1
    return drawn


def run_lengths(drawn: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed form: column by column, zeros first."""
    counts, value, length = [], 0, 0
    for pixel in drawn.flatten(order="F").tolist():
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return {"size": [HEIGHT, WIDTH], "counts": [*counts, length]}


def compressed(drawn: np.ndarray) -> dict[str, Any]:
    encoded = mask_api.encode(np.asfortranarray(drawn))
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


@pytest.fixture
def content() -> dict[str, Any]:
    """Two photographs, three categories, one of each form of segmentation, one crowd."""

    def instance(number: int, image: int, category: int, shape: object, crowd: int = 0) -> object:
        return {
            "id": number,
            "image_id": image,
            "category_id": category,
            "segmentation": shape,
            "iscrowd": crowd,
            "bbox": [0, 0, 1, 1],
        }

    return {
        "info": {"year": 2017},
        "images": [
            {"id": 7, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
            {"id": 3, "file_name": "sub/a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 4, "file_name": "unused.png", "height": 1, "width": 1},
        ],
        "categories": [
            {"id": 1, "name": "person", "supercategory": "person"},
            {"id": 18, "name": "dog"},
            {"id": 90, "name": "unseen"},
        ],
        "annotations": [
            instance(100, 7, 18, [rectangle(1, 1, 4, 5)]),
            instance(101, 7, 18, run_lengths(box(6, 2, 9, 8))),
            instance(102, 7, 18, run_lengths(box(0, 0, 14, 10)), crowd=1),
            instance(103, 7, 1, compressed(box(10, 0, 14, 3))),
            instance(104, 3, 18, [rectangle(0, 0, 3, 3), rectangle(5, 5, 9, 9)]),
        ],
    }


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for name in ("b.png", "sub/a.png"):
        path = tmp_path / "photographs" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30)).save(path)
    return tmp_path / "photographs"


def load(content: object, photographs: Path, **options: Any) -> ImageSet:
    file = photographs.parent / "instances.json"
    file.write_text(json.dumps(content))
    options.setdefault("images", photographs)
    return load_imageset(file, size=(HEIGHT, WIDTH), **options)


def refused(content: object, photographs: Path, message: str, **options: Any) -> None:
    with pytest.raises(ImageSetError, match=message):
        load(content, photographs, **options)


def test_each_image_and_category_is_a_sample(content: Any, photographs: Path) -> None:
    images = load(content, photographs, labels={"person": 0, "dog": 207})
    assert images.name == "instances"
    assert images.names == ("b.png:dog", "b.png:person", "sub/a.png:dog")
    assert images.labels == (207, 0, 207)
    assert images.classes == {0: "person", 207: "dog"}


def test_a_mask_is_the_union_of_its_instances_without_crowds(
    content: Any, photographs: Path
) -> None:
    masks = load(content, photographs).batch(0, 3).masks
    assert masks is not None
    np.testing.assert_array_equal(masks[0], box(1, 1, 4, 5) | box(6, 2, 9, 8))
    np.testing.assert_array_equal(masks[1], box(10, 0, 14, 3))
    np.testing.assert_array_equal(masks[2], box(0, 0, 3, 3) | box(5, 5, 9, 9))


def test_without_labels_no_class_is_known(content: Any, photographs: Path) -> None:
    images = load(content, photographs)
    assert images.labels == (None, None, None)
    assert images.classes == {}


def test_categories_may_share_a_class(content: Any, photographs: Path) -> None:
    images = load(content, photographs, labels={"person": 5, "dog": 5})
    assert images.classes == {5: "dog / person"}


def test_a_category_without_a_class_index_is_listed(content: Any, photographs: Path) -> None:
    refused(
        content,
        photographs,
        r"instances\.json: labels= has no class index for dog; .* occur are dog, person",
        labels={"person": 0},
    )


def test_a_class_index_that_is_no_integer_is_refused(content: Any, photographs: Path) -> None:
    labels = {"person": 0, "dog": "207"}
    refused(content, photographs, r"instances\.json: labels= gives 'dog' '207'", labels=labels)


def test_a_class_index_out_of_range_is_refused(content: Any, photographs: Path) -> None:
    labels = {"person": 0, "dog": 10}
    message = r"b\.png .*: label 10 of 'b\.png:dog' is out of range"
    refused(content, photographs, message, labels=labels, num_classes=10)


def test_the_folder_of_photographs_must_be_given(content: Any, photographs: Path) -> None:
    refused(content, photographs, r"instances\.json: a COCO file needs images=", images=None)


def test_a_folder_of_photographs_that_is_not_there_is_named(
    content: Any, photographs: Path
) -> None:
    refused(content, photographs, "nowhere: no such folder", images=photographs / "nowhere")


def test_a_photograph_that_is_not_there_is_named(content: Any, photographs: Path) -> None:
    (photographs / "b.png").unlink()
    refused(content, photographs, r"b\.png: no such image, named by .*instances\.json, image 7")


@pytest.mark.parametrize("escape", ["/etc/hostname", "../photographs/b.png", r"..\b.png"])
def test_a_path_that_leaves_the_folder_is_refused(
    content: Any, photographs: Path, escape: str
) -> None:
    content["images"][0]["file_name"] = escape
    refused(content, photographs, r"instances\.json, image 7: refused")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_a_link_that_leaves_the_folder_is_refused(content: Any, photographs: Path) -> None:
    (photographs / "b.png").rename(photographs.parent / "outside.png")
    (photographs / "b.png").symlink_to(photographs.parent / "outside.png")
    refused(content, photographs, r"b\.png: refused, it links to")


def test_a_photograph_of_another_size_is_named(content: Any, photographs: Path) -> None:
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(photographs / "b.png")
    images = load(content, photographs)
    with pytest.raises(ImageSetError, match=r"b\.png .* is 10 x 14 and its image 10 x 15"):
        _ = images[0]


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"images": []}', '{"images": 3}', "{"])
def test_another_json_is_named(photographs: Path, text: str) -> None:
    file = photographs / "other.json"
    file.write_text(text)
    with pytest.raises(ImageSetError, match=r"other\.json: not a COCO instance file"):
        load_imageset(file, images=photographs)


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, None, "annotation 100: no segmentation"),
        (0, [], "annotation 100: no segmentation"),
        (0, [[1, 2, 3, 4]], "annotation 100: expected polygons"),
        (0, [[1, 2, 3, 4, 5, 6, 7]], "annotation 100: expected polygons"),
        (0, [[0, 0, 1e12, 0, 1e12, 5]], "annotation 100: a polygon lies far outside"),
        (1, {"size": [HEIGHT, WIDTH], "counts": [-1, 141]}, "annotation 101: expected run lengths"),
        (1, {"size": [4, 4], "counts": [16]}, r"annotation 101: run lengths of size \(4, 4\)"),
        (
            1,
            {"size": [HEIGHT, WIDTH], "counts": [9]},
            "annotation 101: expected run lengths .* sum is 9",
        ),
    ],
)
def test_a_segmentation_that_cannot_be_is_named(
    content: Any, photographs: Path, index: int, shape: object, message: str
) -> None:
    content["annotations"][index]["segmentation"] = shape
    refused(content, photographs, rf"instances\.json, {message}")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("", "corrupt run lengths"),
        ("zzz", "corrupt run lengths 'zzz'"),
        ("5 5", "corrupt run lengths '5 5'"),
        ("é", "corrupt run lengths"),
        ("5", "expected run lengths .* their sum is 5"),
        # pycocotools alone would return uninitialised memory for a text that ends early.
        (compressed(box(10, 0, 14, 3))["counts"][:-1], "(corrupt|expected) run lengths"),
        ("O5", "expected run lengths .* their sum is 4"),
    ],
)
def test_a_corrupt_compressed_segmentation_is_named(
    content: Any, photographs: Path, counts: str, message: str
) -> None:
    content["annotations"][3]["segmentation"]["counts"] = counts
    refused(content, photographs, rf"instances\.json, annotation 103: {message}")


def test_compressed_run_lengths_are_read_whatever_their_number(
    content: Any, photographs: Path
) -> None:
    generator = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        drawn = (generator.random((HEIGHT, WIDTH)) < share).astype(np.uint8)
        content["annotations"][3]["segmentation"] = compressed(drawn)
        mask = load(content, photographs)[1].mask
        assert mask is not None
        np.testing.assert_array_equal(mask, drawn == 1)


def test_an_undecodable_segmentation_is_named_when_it_is_decoded(
    content: Any, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(_: object) -> None:
        raise ValueError("Invalid RLE mask representation")

    images = load(content, photographs)
    monkeypatch.setattr(mask_api, "decode", decode)
    with pytest.raises(ImageSetError, match=r"instances\.json, annotation 103: corrupt segm"):
        _ = images[1]


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_an_annotation_of_nothing_is_named(content: Any, photographs: Path, key: str) -> None:
    content["annotations"][4][key] = 55
    kind = key.removesuffix("_id")
    refused(content, photographs, rf"instances\.json, annotation 104: no {kind} 55")


@pytest.mark.parametrize("kind", ["images", "categories"])
def test_an_id_that_occurs_twice_is_named(content: Any, photographs: Path, kind: str) -> None:
    content[kind].append(content[kind][0])
    refused(content, photographs, r"instances\.json: .* occurs twice")


def test_crowds_alone_make_no_set(content: Any, photographs: Path) -> None:
    content["annotations"] = content["annotations"][2:3]
    refused(content, photographs, r"instances\.json: no images with instances")


def test_a_missing_extra_says_what_to_install(
    content: Any, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pytest-xai\[coco\]'"):
        load(content, photographs)
