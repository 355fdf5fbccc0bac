"""Baselines of path methods, pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from xai_core.errors import ParameterError
from xai_core.explainers.baselines import baseline_images, check_baseline

IMAGES = np.random.default_rng(3).random((2, 3, 8, 12), dtype=np.float32)
CLASSIFIER = SimpleNamespace(mean=(0.4, 0.5, 0.6))


def plain_blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian cut at four sigma, rows then columns, edges repeated."""
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()

    def along_rows(line: np.ndarray) -> np.ndarray:
        return np.convolve(np.pad(line, radius, mode="edge"), kernel, mode="valid")

    return np.apply_along_axis(along_rows, 3, np.apply_along_axis(along_rows, 2, images))


@pytest.mark.parametrize(
    ("name", "colour"), [("black", (0, 0, 0)), ("white", (1, 1, 1)), ("mean", (0.4, 0.5, 0.6))]
)
def test_a_colour_fills_the_image(name: str, colour: tuple[float, float, float]) -> None:
    baseline = baseline_images(name, CLASSIFIER, IMAGES)
    assert baseline.shape == IMAGES.shape
    assert baseline.dtype == np.float32
    for channel in range(3):
        assert (baseline[:, channel] == np.float32(colour[channel])).all()


@pytest.mark.parametrize(("text", "sigma"), [("blurred(sigma=2)", 2), ("blurred", 0.5)])
def test_blurred_is_the_image_through_a_gaussian(text: str, sigma: float) -> None:
    baseline = baseline_images(text, CLASSIFIER, IMAGES)
    np.testing.assert_allclose(baseline, plain_blur(IMAGES, sigma), atol=1e-6)
    assert baseline.dtype == np.float32


def test_an_image_file_is_the_baseline_of_every_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    path = tmp_path / "a reference.png"
    Image.fromarray(pixels).save(path)
    baseline = baseline_images(f"image:{path}", CLASSIFIER, IMAGES)
    assert baseline.dtype == np.float32
    for image in baseline:
        np.testing.assert_allclose(image, pixels.transpose(2, 0, 1) / 255, atol=1e-7)


def test_an_image_file_of_another_size_and_mode_is_brought_to_the_images(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.new("L", (40, 10), 51).save(path)
    baseline = baseline_images(f"image:{path}", CLASSIFIER, IMAGES)
    assert baseline.shape == IMAGES.shape
    np.testing.assert_allclose(baseline, 0.2, atol=1e-6)


@pytest.mark.parametrize("text", ["black", "white", "mean", "blurred", "blurred(sigma=2.5)"])
def test_a_known_baseline_is_accepted(text: str) -> None:
    check_baseline(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blck", "no baseline 'blck': did you mean 'black'"),
        ("image", "no baseline 'image': did you mean 'image:FILE'"),
        ("black(sigma=3)", "only `blurred` has a parameter, `sigma`"),
        ("blurred(radius=3)", "only `blurred` has a parameter, `sigma`"),
        ("blurred(sigma=0)", "`sigma` must be a number above 0"),
        ("blurred(sigma=-1)", "`sigma` must be a number above 0"),
        ("blurred(sigma=True)", "`sigma` must be a number above 0"),
        ("blurred(sigma='3')", "`sigma` must be a number above 0"),
        ("blurred(sigma=1e999)", "`sigma` must be a number above 0"),
        ("image:/no/such/file.png", "there is no file /no/such/file.png"),
        ("0.5", "expected 'name' or"),
        ("", "expected 'name' or"),
    ],
)
def test_a_bad_baseline_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        check_baseline(text)


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not an image")
    with pytest.raises(ParameterError, match="cannot be read as an image"):
        baseline_images(f"image:{path}", CLASSIFIER, IMAGES)
