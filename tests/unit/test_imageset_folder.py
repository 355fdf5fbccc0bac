"""The folder format: images/, masks/, labels.csv; every fault names its file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xai_core.errors import ImageSetError
from xai_core.imageset import Resize, load_imageset

SHARED = Path(__file__).parents[3] / "shared/data"


def picture(path: Path, shade: int = 90, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (shade, 2 * shade % 256, 255 - shade)).save(path)


def mask(path: Path, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(exist_ok=True)
    drawn = Image.new("L", size, 0)
    drawn.paste(255, (0, 0, size[0] // 2, size[1]))
    drawn.save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two animals with masks and labels; the table is not in the order of the names."""
    root = tmp_path / "zoo"
    root.mkdir()
    for name in ("zebra_01", "cat_07"):
        picture(root / "images" / f"{name}.png", shade=len(name))
        mask(root / "masks" / f"{name}.png")
    (root / "labels.csv").write_text(
        "image,label,class\nzebra_01.png,340,zebra\ncat_07.png,281,tabby\n"
    )
    return root


def table(folder: Path, *rows: str, header: str = "image,label,class") -> None:
    (folder / "labels.csv").write_text("\n".join((header, *rows)) + "\n")


def refused(folder: Path, message: str, **options: int) -> None:
    with pytest.raises(ImageSetError, match=message):
        load_imageset(folder, **options)  # type: ignore[arg-type]


def test_a_folder_gives_images_masks_labels_and_class_names(folder: Path) -> None:
    images = load_imageset(folder, size=(6, 8))
    assert images.name == "zoo"
    assert images.names == ("cat_07.png", "zebra_01.png")
    assert images.labels == (281, 340)
    assert images.classes == {281: "tabby", 340: "zebra"}
    assert images.has_masks
    assert images.transform == Resize((6, 8))
    sample = images[1]
    assert sample.image[:, 0, 0].tolist() == pytest.approx([8 / 255, 16 / 255, 247 / 255])
    assert sample.mask is not None
    assert sample.mask[0].tolist() == [True] * 4 + [False] * 4


def test_a_folder_may_be_given_as_text(folder: Path) -> None:
    assert load_imageset(str(folder)).names == load_imageset(folder).names


def test_without_masks_and_labels_there_are_only_images(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.JPG")
    images = load_imageset(tmp_path)
    assert (images.has_masks, images.labels, images.classes) == (False, (None,), {})
    assert images[0].mask is None


def test_a_table_without_class_names_has_labels_only(folder: Path) -> None:
    table(folder, "zebra_01.png,340", "cat_07.png,281", header="image,label")
    images = load_imageset(folder)
    assert (images.labels, images.classes) == ((281, 340), {})


def test_a_table_from_a_spreadsheet_is_read(folder: Path) -> None:
    text = "label, image ,note\r\n340, zebra_01.png,\r\n\r\n281,cat_07.png,old\r\n"
    (folder / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_imageset(folder).labels == (281, 340)


def test_hidden_files_are_passed_over(folder: Path) -> None:
    (folder / "images" / ".DS_Store").write_bytes(b"")
    (folder / "masks" / "Thumbs.db").write_bytes(b"")
    assert len(load_imageset(folder)) == 2


def test_the_limit_takes_the_first_names(folder: Path) -> None:
    assert load_imageset(folder, limit=1).names == ("cat_07.png",)


def test_a_limit_below_1_is_refused(folder: Path) -> None:
    refused(folder, "zoo: limit is 0", limit=0)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere: no such image set")


def test_a_file_that_is_no_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"")
    refused(tmp_path / "set.zip", r"set\.zip: expected a folder")


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    refused(tmp_path, "images: no such folder")


def test_an_empty_images_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    refused(tmp_path, "images: no images found")


@pytest.mark.parametrize("stray", ["notes.txt", "film.gif"])
def test_a_stray_file_among_the_images_is_named(folder: Path, stray: str) -> None:
    (folder / "images" / stray).write_bytes(b"")
    refused(folder, f"{stray}: not an image")


def test_a_folder_among_the_images_is_named(folder: Path) -> None:
    (folder / "images" / "more.png").mkdir()
    refused(folder, r"more\.png: not an image")


def test_a_corrupt_image_is_named_when_it_is_decoded(folder: Path) -> None:
    (folder / "images" / "cat_07.png").write_bytes(b"no image at all")
    images = load_imageset(folder)
    _ = images[1]
    with pytest.raises(ImageSetError, match=r"cat_07\.png: corrupt image"):
        _ = images[0]


def test_a_corrupt_mask_is_named_when_it_is_decoded(folder: Path) -> None:
    path = folder / "masks" / "zebra_01.png"
    path.write_bytes(path.read_bytes()[:45])
    images = load_imageset(folder)
    with pytest.raises(ImageSetError, match=r"masks.zebra_01\.png: corrupt mask"):
        _ = images[1]


def test_an_image_without_a_mask_is_named(folder: Path) -> None:
    (folder / "masks" / "cat_07.png").unlink()
    refused(folder, r"images.cat_07\.png: no mask; expected .*masks.cat_07\.png")


def test_a_mask_without_an_image_is_named(folder: Path) -> None:
    mask(folder / "masks" / "dog.png")
    refused(folder, r"masks.dog\.png: a mask without an image")


def test_a_mask_of_another_size_is_named(folder: Path) -> None:
    mask(folder / "masks" / "cat_07.png", size=(6, 8))
    images = load_imageset(folder)
    with pytest.raises(ImageSetError, match=r"the mask of 'cat_07\.png' is 8 x 6 .* 6 x 8"):
        _ = images[0]


def test_two_images_of_one_stem_are_named(folder: Path) -> None:
    picture(folder / "images" / "cat_07.jpg")
    refused(folder, r"cat_07\.png: has the same stem as cat_07\.jpg")


def test_two_masks_of_one_stem_are_named(folder: Path) -> None:
    mask(folder / "masks" / "cat_07.bmp")
    refused(folder, r"masks.cat_07\.png: has the same stem as cat_07\.bmp")


@pytest.mark.parametrize("label", ["", "zebra", "3.0", "1_0", "+3", "--3", "٣"])
def test_a_label_that_is_no_integer_is_named_with_its_line(folder: Path, label: str) -> None:
    table(folder, "cat_07.png,281,tabby", f"zebra_01.png,{label},zebra")
    refused(folder, r"labels\.csv, line 3: label .* is not an integer")


def test_a_negative_label_is_named_with_its_line(folder: Path) -> None:
    table(folder, "cat_07.png,281,tabby", "zebra_01.png,-1,zebra")
    refused(folder, r"labels\.csv, line 3: label -1 is negative")


def test_a_label_out_of_range_is_named_with_its_line(folder: Path) -> None:
    refused(folder, r"labels\.csv, line 2: label 340 .* 300 classes", num_classes=300)
    assert len(load_imageset(folder, num_classes=341)) == 2


def test_a_row_for_an_image_that_is_not_there_is_named(folder: Path) -> None:
    table(folder, "cat_07.png,281,tabby", "zebra_02.png,340,zebra", "zebra_01.png,340,zebra")
    refused(folder, r"labels\.csv, line 3: image 'zebra_02\.png' .*did you mean 'zebra_01\.png'")


def test_an_image_without_a_row_is_named(folder: Path) -> None:
    table(folder, "cat_07.png,281,tabby")
    refused(folder, r"labels\.csv: no row for zebra_01\.png")


def test_a_second_row_for_an_image_is_named(folder: Path) -> None:
    table(folder, *["cat_07.png,281,tabby"] * 2, "zebra_01.png,340,zebra")
    refused(folder, r"labels\.csv, line 3: second row for 'cat_07\.png' .*line 2")


def test_two_class_names_for_one_label_are_named(folder: Path) -> None:
    table(folder, "cat_07.png,281,tabby", "zebra_01.png,281,zebra")
    refused(folder, r"labels\.csv, line 3: label 281 is named 'zebra' here and 'tabby'")


@pytest.mark.parametrize(
    "escape",
    ["/etc/passwd.png", "../zoo/images/cat_07.png", r"..\cat_07.png", r"C:\cat_07.png", ""],
)
def test_a_path_that_leaves_the_folder_is_refused(folder: Path, escape: str) -> None:
    table(folder, "cat_07.png,281,tabby", f"{escape},340,zebra")
    refused(folder, r"labels\.csv, line 3: refused")


@pytest.mark.parametrize("header", ["image;label;class", "file,label", "image,class", ""])
def test_a_table_without_its_columns_is_named(folder: Path, header: str) -> None:
    table(folder, "cat_07.png,281,tabby", header=header)
    refused(folder, r"labels\.csv: no column .* expected the header image,label,class")


@pytest.mark.parametrize("row", ["cat_07.png,281", "cat_07.png,281,tabby,cat"])
def test_a_row_of_another_length_is_named(folder: Path, row: str) -> None:
    table(folder, row)
    refused(folder, r"labels\.csv, line 2: expected 3 cells")


@pytest.mark.parametrize("content", [b"image,label\ncaf\xe9.png,1\n", b'image,label\n"a,1\n'])
def test_a_table_that_cannot_be_read_is_named(folder: Path, content: bytes) -> None:
    (folder / "labels.csv").write_bytes(content)
    refused(folder, r"labels\.csv: cannot be read")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
@pytest.mark.parametrize("inside", ["images/cat_07.png", "masks/cat_07.png", "labels.csv", "masks"])
def test_a_link_that_leaves_the_folder_is_refused(folder: Path, inside: str) -> None:
    outside = folder.parent / "outside"
    (folder / inside).rename(outside)
    (folder / inside).symlink_to(outside)
    refused(folder, rf"{inside}: refused, it links to .*outside")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_a_link_within_the_folder_and_to_the_folder_is_followed(folder: Path) -> None:
    (folder / "images" / "cat_07.png").rename(folder / "spare")
    (folder / "images" / "cat_07.png").symlink_to(folder / "spare")
    alias = folder.parent / "alias"
    alias.symlink_to(folder, target_is_directory=True)
    assert load_imageset(alias)[0].name == "cat_07.png"


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_a_link_in_a_circle_is_named(folder: Path) -> None:
    (folder / "labels.csv").unlink()
    (folder / "labels.csv").symlink_to("labels.csv")
    refused(folder, r"labels\.csv: cannot be")


@pytest.mark.parametrize("option", [{"images": "photos"}, {"labels": {"cat": 1}}])
def test_the_options_of_a_coco_file_are_refused_for_a_folder(
    folder: Path, option: dict[str, object]
) -> None:
    with pytest.raises(ImageSetError, match=r"zoo: images= and labels= belong to a COCO"):
        load_imageset(folder, **option)  # type: ignore[arg-type]


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not on this machine")
def test_the_coco_crops_are_one_set() -> None:
    images = load_imageset(SHARED / "coco", num_classes=1000)
    assert len(images) == 94
    assert len(images.classes) == 48
    assert images.classes[340] == "zebra"
    assert images.emptied_masks() == ()
    first = images.batch(0, 8)
    assert first.masks is not None
    # The crops have the size of the set, so the file's own bytes come out.
    with Image.open(SHARED / "coco" / "images" / first.names[3]) as opened:
        own = np.asarray(opened.convert("RGB"), dtype=np.float32).transpose(2, 0, 1) / 255
    np.testing.assert_array_equal(first.images[3], own)
