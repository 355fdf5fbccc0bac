"""What a set says of the background: read, checked, and kept beside the image by every transform."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xai_core.errors import ImageSetError, ParameterError, ShapeError
from xai_core.imageset import (
    Background,
    Entry,
    ImageSet,
    OffCenterCrop,
    Resize,
    Sample,
    load_imageset,
    parse_transform,
)
from xai_core.imageset.background import as_background
from xai_core.imageset.transform import transform_mask

SIZE = (6, 8)
NAMES = {1: "grass", 2: "sky", 7: "watermark"}
INDICES = np.random.default_rng(2).choice([0, 1, 2, 7], size=SIZE).astype(np.uint8)
GREY = np.full((3, *SIZE), 0.5, dtype=np.float32)


# The annotation itself


def test_the_pixels_of_a_class_are_those_with_its_index() -> None:
    background = Background(INDICES, NAMES)
    for index, name in NAMES.items():
        expected = [[value == index for value in row] for row in INDICES.tolist()]
        assert background.of(name).tolist() == expected
    assert background.of("sky").dtype == np.bool_


def test_an_unknown_class_gets_the_nearest_and_all_names() -> None:
    with pytest.raises(ParameterError) as caught:
        Background(INDICES, NAMES).of("watermarks")
    assert str(caught.value) == (
        "no class of background 'watermarks': did you mean 'watermark'? "
        "Known: grass, sky, watermark"
    )


@pytest.mark.parametrize("wrong", [3, -1, 263])
def test_an_index_that_is_no_class_is_refused(wrong: int) -> None:
    indices = INDICES.astype(np.int64)
    indices[2, 3] = wrong
    message = rf"index {wrong} is no class; .* 1 \(grass\), 2 \(sky\), 7 \(watermark\)"
    with pytest.raises(ShapeError, match=message):
        Background(indices, NAMES)


@pytest.mark.parametrize("indices", [INDICES * 1.0, INDICES > 0, INDICES[0], INDICES[None, None]])
def test_only_whole_numbers_of_one_image_or_several_are_indices(indices: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="expected whole numbers"):
        Background(indices, NAMES)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "no classes"),
        ({0: "grass"}, "index 0 of 'grass'; expected 1 to"),
        ({True: "grass"}, "index True of 'grass'"),
        ({1: ""}, "index 1 is named ''"),
        ({1: "grass", 2: "grass"}, "the name 'grass' occurs twice"),
    ],
)
def test_classes_that_cannot_be_are_refused(classes: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Background(np.zeros(SIZE, dtype=np.uint8), classes)


def test_one_image_and_a_list_of_images_become_a_batch() -> None:
    one, other = Background(INDICES, NAMES), Background(INDICES[::-1], NAMES)
    np.testing.assert_array_equal(as_background(one).indices, INDICES[None])
    np.testing.assert_array_equal(as_background([one, other])[1].indices, INDICES[::-1])
    for wrong in (INDICES, [], [INDICES], [one, Background(INDICES * 0, {1: "sand"})]):
        with pytest.raises(ShapeError, match="background: expected a Background"):
            as_background(wrong)
    with pytest.raises(ShapeError, match="different sizes"):
        as_background([one, Background(INDICES[1:], NAMES)])


# A set


def entry(indices: np.ndarray | None, *, name: str = "a", mask: np.ndarray | None = None) -> Entry:
    return Entry(
        name=name,
        label=None,
        read_image=lambda: GREY,
        read_mask=None if mask is None else lambda: mask,
        origin=f"origin of {name}",
        read_background=None if indices is None else lambda: indices,
    )


def made(*entries: Entry, **options: Any) -> ImageSet:
    options = {"transform": Resize(SIZE), "background_classes": NAMES, **options}
    return ImageSet(entries, name="made", **options)


def test_samples_batches_and_heads_carry_the_background() -> None:
    images = made(entry(INDICES), entry(INDICES[::-1], name="b"))
    assert images.background_classes == NAMES
    assert images.head(1).background_classes == NAMES
    background = images[1].background
    assert background is not None
    np.testing.assert_array_equal(background.indices, INDICES[::-1])
    batch = images.batch(0, 2)
    assert batch.background is not None
    assert batch.background.classes == NAMES
    np.testing.assert_array_equal(batch.background.indices, [INDICES, INDICES[::-1]])


def test_a_set_without_annotation_has_none() -> None:
    images = made(entry(None), background_classes=None)
    assert images.background_classes == {}
    assert images[0].background is None
    assert images.batch(0, 1).background is None


def test_a_digest_tells_backgrounds_apart() -> None:
    other = INDICES.copy()
    other[0, 0] = 0 if INDICES[0, 0] else 1
    digests = {
        made(entry(INDICES)).digest(0),
        made(entry(other)).digest(0),
        made(entry(INDICES), background_classes={**NAMES, 1: "sand"}).digest(0),
        made(entry(None)).digest(0),
    }
    assert len(digests) == 4
    assert made(entry(INDICES.astype(np.int64), name="b")).digest(0) in digests


@pytest.mark.parametrize("annotated", ["a", "b"])
def test_backgrounds_for_some_images_only_are_refused(annotated: str) -> None:
    bare = "b" if annotated == "a" else "a"
    entries = [entry(INDICES if name == annotated else None, name=name) for name in "ab"]
    message = f"origin of {bare}: '{bare}' has no background while '{annotated}' has one"
    with pytest.raises(ImageSetError, match=message):
        made(*entries)


def test_backgrounds_without_the_names_of_their_classes_are_refused() -> None:
    with pytest.raises(ImageSetError, match="made: background: no classes"):
        made(entry(INDICES), background_classes=None)


def test_an_index_that_is_no_class_of_the_set_names_the_image() -> None:
    images = made(entry(INDICES), background_classes={1: "grass", 2: "sky"})
    with pytest.raises(ImageSetError, match=r"origin of a \('a'\): background: index 7 is no clas"):
        _ = images[0]


def test_a_background_of_another_size_than_its_image_is_refused() -> None:
    images = made(entry(INDICES.T))
    with pytest.raises(ImageSetError, match=r"origin of a: the background of 'a' is 8 x 6 .* 6 x"):
        _ = images[0]


# Transforms


@pytest.mark.parametrize("bytes_", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "resize",
        "center-crop(size=(20, 24), resize=33)",
        "off-center-crop(share=0.4)",
        "off-center-crop(share=0.7, keep=0.5)",
    ],
)
def test_a_background_moves_with_its_image_as_masks_of_its_classes_do(
    text: str, bytes_: bool
) -> None:
    indices = np.random.default_rng(5).choice([0, 1, 2, 7], size=(9, 11))
    indices = indices.repeat(5, axis=0).repeat(4, axis=1)
    mask = np.zeros(indices.shape, dtype=bool)
    mask[20:30, 12:25] = True
    transform = parse_transform(text, size=(20, 24))
    rows, columns = slice(None), slice(None)
    if isinstance(transform, OffCenterCrop):
        rows, columns = transform.window(mask)
        assert (rows.start, columns.start) != (0, 0)

    def sample_of(where: np.ndarray) -> Sample:
        """The annotated image, which shows the pixels of ``where`` in white."""
        white = np.repeat(where[None], 3, axis=0)
        pixels = np.uint8(255) * white.transpose(1, 2, 0) if bytes_ else white.astype(np.float32)
        whole = Entry("a", None, lambda: pixels, lambda: mask, "test", lambda: indices)
        return ImageSet([whole], name="s", transform=transform, background_classes=NAMES)[0]

    alone = transform if rows == slice(None) else Resize(transform.size)
    for index in (0, 1, 2, 7):
        sample = sample_of(indices == index)
        assert sample.background is not None
        found = sample.background.indices == index
        np.testing.assert_array_equal(
            found, transform_mask(alone, (indices == index)[rows, columns])
        )
        # Which is where the image shows the class: a pixel all white is in, one all black is out.
        assert found[sample.image[0] == 1].all()
        assert not found[sample.image[0] == 0].any()


def test_indices_past_255_survive_a_transform() -> None:
    names = {300: "grass", 301: "sky"}
    indices = np.where(INDICES > 1, 300, 301)
    images = made(entry(indices), background_classes=names, transform=Resize((12, 16)))
    background = images[0].background
    assert background is not None
    np.testing.assert_array_equal(background.indices, indices.repeat(2, 0).repeat(2, 1))


# The folder format


def saved(path: Path, array: np.ndarray, mode: str = "L") -> None:
    path.parent.mkdir(exist_ok=True)
    drawn = Image.fromarray(array)
    if mode == "P":
        drawn.putpalette([(value * 7) % 256 for value in range(768)])
    drawn.save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, with the background of one as grey and of the other as a palette."""
    root = tmp_path / "zoo"
    for name, mode, array in (("cat", "L", INDICES), ("dog", "P", INDICES[::-1])):
        saved(root.parent / f"{name}.png", np.zeros((*SIZE, 3), dtype=np.uint8))
        root.mkdir(exist_ok=True)
        (root / "images").mkdir(exist_ok=True)
        (root.parent / f"{name}.png").rename(root / "images" / f"{name}.png")
        saved(root / "background" / f"{name}.png", array, mode)
    (root / "background.csv").write_text("index,name\n2,sky\n1,grass\n7,watermark\n")
    return root


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ImageSetError, match=message):
        load_imageset(folder)


def test_a_folder_gives_its_backgrounds_and_their_names(folder: Path) -> None:
    images = load_imageset(folder, size=SIZE)
    assert images.background_classes == NAMES
    background = images.batch(0, 2).background
    assert background is not None
    np.testing.assert_array_equal(background.indices, [INDICES, INDICES[::-1]])
    assert not images.has_masks
    assert pickle.loads(pickle.dumps(images)).digest(0) == images.digest(0)


def test_an_index_that_the_table_does_not_name_names_the_file(folder: Path) -> None:
    (folder / "background.csv").write_text("index,name\n1,grass\n2,sky\n")
    images = load_imageset(folder, size=SIZE)
    message = r"background.cat\.png: index 7 is no class of background\.csv, .* 1 \(grass\), 2 \(s"
    with pytest.raises(ImageSetError, match=message):
        _ = images[0]


def test_a_background_of_another_size_is_named(folder: Path) -> None:
    saved(folder / "background" / "cat.png", INDICES.T.copy())
    images = load_imageset(folder, size=SIZE)
    with pytest.raises(ImageSetError, match=r"the background of 'cat\.png' is 8 x 6 .* 6 x 8"):
        _ = images[0]


@pytest.mark.parametrize("kind", ["RGB", "1", "I;16"])
def test_a_background_that_is_no_index_map_is_named(folder: Path, kind: str) -> None:
    Image.new(kind, (8, 6)).save(folder / "background" / "cat.png")
    images = load_imageset(folder, size=SIZE)
    with pytest.raises(ImageSetError, match=r"background.cat\.png: expected one index .* mode '"):
        _ = images[0]


def test_a_corrupt_background_is_named(folder: Path) -> None:
    path = folder / "background" / "dog.png"
    path.write_bytes(path.read_bytes()[:50])
    images = load_imageset(folder, size=SIZE)
    with pytest.raises(ImageSetError, match=r"background.dog\.png: corrupt background"):
        _ = images[1]


def test_a_missing_and_a_left_over_background_are_named(folder: Path) -> None:
    cat = folder / "background" / "cat.png"
    cat.rename(cat.with_name("cow.png"))
    refused(folder, r"images.cat\.png: no background; expected .*background.cat\.png, or no backg")
    saved(cat, INDICES)
    refused(folder, r"background.cow\.png: a background without an image")


def test_a_background_as_jpeg_is_refused(folder: Path) -> None:
    cat = folder / "background" / "cat.png"
    with Image.open(cat) as opened:
        opened.save(cat.with_suffix(".jpg"))
    cat.unlink()
    refused(folder, r"background.cat\.jpg: expected a \.png")


def test_folder_and_table_need_each_other(folder: Path) -> None:
    (folder / "background").rename(folder / "spare")
    refused(folder, r"background\.csv: there is no folder background/")
    (folder / "spare").rename(folder / "background")
    (folder / "background.csv").unlink()
    refused(folder, r"background\.csv: no such file; background/ needs it")


def test_a_table_that_leaves_the_folder_is_refused(folder: Path) -> None:
    table = folder / "background.csv"
    table.rename(folder.parent / "outside.csv")
    table.symlink_to(folder.parent / "outside.csv")
    refused(folder, r"background\.csv: refused, it links to")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", r"background\.csv: no classes"),
        ("0,grass", r"background\.csv, line 2: index 0; expected 1 to 255"),
        ("1,grass\n256,sky", r"background\.csv, line 3: index 256; expected 1 to 255"),
        ("one,grass", r"background\.csv, line 2: index 'one' is not an integer"),
        ("1,", r"background\.csv, line 2: 1,; give each index a name"),
        ("1,grass\n1,sky", r"background\.csv, line 3: 1,sky; give each .* and each of both once"),
        ("1,grass\n2,grass", r"background\.csv, line 3: 2,grass; give each .* each of both once"),
        ("1,grass,green", r"background\.csv, line 2: expected 2 cells"),
    ],
)
def test_a_row_that_names_no_class_is_named_with_its_line(
    folder: Path, rows: str, message: str
) -> None:
    (folder / "background.csv").write_text(f"index,name\n{rows}\n")
    refused(folder, message)


def test_a_table_without_its_columns_is_named(folder: Path) -> None:
    (folder / "background.csv").write_text("number,name\n1,grass\n")
    refused(folder, r"background\.csv: no column index; expected the header index,name, got 'numb")


# Functions and the demo


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], str]:
    module = ModuleType("my_backgrounds")
    monkeypatch.setitem(sys.modules, "my_backgrounds", module)

    def give(given: object) -> str:
        module.images = lambda: given  # type: ignore[attr-defined]
        return "my_backgrounds:images"

    return give


def test_a_function_gives_backgrounds_in_tuples_and_samples(
    factory: Callable[[object], str],
) -> None:
    annotated = made(entry(INDICES, name="b"))[0]
    reference = factory([("a", GREY, None, 1, Background(INDICES[::-1], NAMES)), annotated])
    images = load_imageset(reference, size=SIZE)
    assert images.background_classes == NAMES
    background = images.batch(0, 2).background
    assert background is not None
    np.testing.assert_array_equal(background.indices, [INDICES[::-1], INDICES])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (("a", GREY, None, 1, INDICES), r"item 1 \('a'\): background: expected a Background"),
        (("a", GREY, None, 1), r"item 1 \('a'\): 'a' has no background while 'z' has one"),
        (
            ("a", GREY, None, 1, Background(INDICES * 0, {1: "sand"})),
            r"item 1 \('a'\): its background has the classes {1: 'sand'}, an earlier one {1: 'gra",
        ),
        (
            ("a", GREY, None, 1, Background(np.stack([INDICES] * 2), NAMES)),
            r"item 1 \('a'\): expected one image .* one background",
        ),
        (("a", GREY, None, 1, None, "p", 3), r"item 1: expected a Sample or"),
    ],
)
def test_a_background_that_a_function_cannot_give_is_named(
    factory: Callable[[object], str], item: object, message: str
) -> None:
    first = ("z", GREY, None, 1, Background(INDICES, NAMES))
    with pytest.raises(ImageSetError, match=f"my_backgrounds:images, {message}"):
        load_imageset(factory([first, item]))


def test_the_demo_annotates_its_watermark_and_its_clutter() -> None:
    from xai_core.demo.scenes import demo_images

    images = load_imageset("demo", size=(48, 48), limit=6)
    assert images.background_classes == {1: "watermark", 2: "clutter"}
    batch = images.batch(0, 6)
    assert batch.background is not None
    assert batch.masks is not None
    for index, scene in enumerate(demo_images(size=48, count=6)):
        np.testing.assert_array_equal(batch.background.of("watermark")[index], scene.watermark)
        np.testing.assert_array_equal(batch.background.of("clutter")[index], scene.clutter)
    assert not (batch.background.indices[batch.masks] > 0).any()


# COCO


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., ImageSet]:
    pytest.importorskip("pycocotools", reason="needs the extra 'coco'")
    (tmp_path / "photographs").mkdir()
    for name in ("one", "two"):
        Image.new("RGB", (SIZE[1], SIZE[0])).save(tmp_path / "photographs" / f"{name}.png")

    def load(*instances: tuple[int, int, tuple[int, int, int, int]], **options: Any) -> ImageSet:
        annotations = [
            {"id": number, "image_id": image, "category_id": category,
             "segmentation": [[left, top, right, top, right, bottom, left, bottom]]}
            for number, (image, category, (left, top, right, bottom)) in enumerate(instances)
        ]  # fmt: skip
        content = {
            "images": [
                {"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
                for number, name in ((1, "one"), (2, "two"))
            ],
            "categories": [
                {"id": 5, "name": "zebra"}, {"id": 6, "name": "person"}, {"id": 7, "name": "ball"}
            ],
            "annotations": annotations,
        }  # fmt: skip
        (tmp_path / "instances.json").write_text(json.dumps(content))
        options.setdefault("images", tmp_path / "photographs")
        return load_imageset(tmp_path / "instances.json", size=SIZE, **options)

    return load


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    drawn = np.zeros(SIZE, dtype=bool)
    drawn[top:bottom, left:right] = True
    return drawn


ZEBRA, PERSON, BALL = (0, 0, 3, 4), (3, 0, 8, 6), (5, 1, 7, 3)


def test_the_other_categories_of_an_image_are_its_background(coco: Callable[..., ImageSet]) -> None:
    images = coco((1, 5, ZEBRA), (1, 6, PERSON), (1, 7, BALL), (2, 6, PERSON))
    assert images.background_classes == {1: "ball", 2: "person", 3: "zebra"}
    background = {name: images[index].background for index, name in enumerate(images.names)}
    of_zebra = background["one.png:zebra"]
    assert of_zebra is not None
    # The ball, which is smaller, is in front of the person.
    np.testing.assert_array_equal(of_zebra.of("ball"), rectangle(*BALL))
    np.testing.assert_array_equal(of_zebra.of("person"), rectangle(*PERSON) & ~rectangle(*BALL))
    assert not of_zebra.of("zebra").any()
    of_person = background["one.png:person"]
    assert of_person is not None
    np.testing.assert_array_equal(of_person.of("zebra"), rectangle(*ZEBRA))
    alone = background["two.png:person"]
    assert alone is not None
    assert not alone.indices.any()


def test_a_category_of_the_objects_label_is_not_its_background(
    coco: Callable[..., ImageSet],
) -> None:
    instances = ((1, 5, ZEBRA), (1, 6, PERSON), (1, 7, BALL))
    images = coco(*instances, labels={"zebra": 0, "person": 0, "ball": 1})
    background = images[images.names.index("one.png:zebra")].background
    assert background is not None
    np.testing.assert_array_equal(background.indices > 0, rectangle(*BALL))


def test_a_file_whose_images_have_one_category_each_annotates_none(
    coco: Callable[..., ImageSet],
) -> None:
    images = coco((1, 5, ZEBRA), (2, 6, PERSON))
    assert images.background_classes == {}
    assert images[0].background is None
