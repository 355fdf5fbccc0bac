"""What is read from one file: upright RGB bytes, strict masks, errors that name the file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xai_core.errors import ImageSetError
from xai_core.imageset.pixels import read_image, read_mask

ORIENTATION = 0x0112


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was held with its right side down
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    found = read_image(tmp_path / "a.png")
    assert found.shape == (6, 4, 3)
    assert np.argwhere(found[..., 0]).tolist() == [[0, 3]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_every_common_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.new("RGB", (5, 3), (255, 255, 255)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    source.save(path)
    found = read_image(path)
    assert found.shape == (3, 5, 3)
    assert (found == 255).all()


def test_transparent_pixels_lie_over_white(tmp_path: Path) -> None:
    source = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    source.putpixel((1, 0), (10, 20, 30, 255))
    source.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[255, 255, 255], [10, 20, 30]]


def test_a_transparent_palette_colour_lies_over_white(tmp_path: Path) -> None:
    source = Image.new("P", (1, 1), 0)
    source.putpalette([10, 20, 30])
    source.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [255, 255, 255]


def test_a_16_bit_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ImageSetError, match=r"deep\.png: expected 8 bits a channel"):
        read_image(tmp_path / "deep.png")


def test_an_animated_image_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (level, 0, 0)) for level in (0, 255)]
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageSetError, match=r"film\.png: image has several frames"):
        read_image(tmp_path / "film.png")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"half{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ImageSetError, match=rf"half\{suffix}: corrupt image .*replace the file"):
        read_image(path)


def test_a_corrupt_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    with pytest.raises(ImageSetError, match=r"m\.png: corrupt mask"):
        read_mask(tmp_path / "m.png")


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageSetError, match=r"gone\.png: image is gone"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("strict", [False, True])
def test_pillows_limit_against_bombs_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    Image.new("RGB", (10, 15)).save(tmp_path / "bomb.png")
    # Pillow warns above its limit and raises above twice that.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100 if strict else 70)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        with pytest.raises(ImageSetError, match=r"bomb\.png: image is larger than Pillow's limit"):
            read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("high", [1, 255])
def test_a_mask_of_0_and_1_or_255_is_read(tmp_path: Path, high: int) -> None:
    drawn = np.array([[0, 1, 0], [1, 1, 0]], dtype=np.uint8)
    Image.fromarray(drawn * np.uint8(high)).save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png")
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, drawn == 1)


def test_a_mask_of_one_bit_is_read(tmp_path: Path) -> None:
    drawn = np.array([[True, False, True]])
    Image.fromarray(drawn).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), drawn)


def test_a_palette_mask_is_its_indices(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[False, True]]


def test_a_palette_mask_with_a_bright_background_is_refused(tmp_path: Path) -> None:
    source = Image.new("P", (2, 1))
    source.putpalette([255, 255, 255, 0, 0, 0])
    source.putpixel((0, 0), 1)
    source.save(tmp_path / "m.png")
    with pytest.raises(ImageSetError, match=r"m\.png: index 0 of the mask's palette is not black"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize(
    ("values", "shown"),
    [([0, 1, 255], "0, 1, 255"), ([0, 2], "0, 2"), (list(range(12)), r"0, 1, .*7, \.\.\.")],
)
def test_other_mask_values_are_refused_and_shown(
    tmp_path: Path, values: list[int], shown: str
) -> None:
    Image.fromarray(np.array([values], dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ImageSetError, match=rf"m\.png: .*got the values {shown}"):
        read_mask(tmp_path / "m.png")


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "m.png")
    with pytest.raises(ImageSetError, match=r"m\.png: expected a mask of one channel, got .*RGB"):
        read_mask(tmp_path / "m.png")
