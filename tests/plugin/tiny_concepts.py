"""Concepts that the tiny model's answer to is known by hand, as folders of images.

The model's logit of a class is 40 times the mean of ReLU(colour - 0.5) over the pixels. Every image
here is noise above 0.5: so "red" (noise, brighter in red) speaks for class 0 alone, "green" for
class 1 alone, "dark" against every class, and "dull" is noise like the counterexamples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

HEAD = """\
[model]
spec = "tiny:build"
size = [16, 16]
normalization = "none"
[data]
path = "tiny:images"
concepts = "concepts"
"""
HOW = 'layer = "1"\npooling = "flatten"\nruns = 5\nnull_sets = 30\n'
SHIFTS = {"red": (25, 0, 0), "green": (0, 25, 0), "dark": (-20, -20, -20), "dull": (0, 0, 0)}
CLASSES = ("red_patch", "green_patch", "blue_patch")


def table(name: str, *lines: str, of_class: str = "class = 0") -> str:
    """Return the table of a concept in a threshold file."""
    return "\n".join([f"[concepts.{name}]", of_class, *lines, HOW])


def write_concepts(folder: Path, *, images: int = 24, random: int = 60) -> Path:
    generator = np.random.default_rng(0)
    for name, shift in SHIFTS.items():
        write_noise(folder / name, images, generator, shift)
    write_noise(folder / "random", random, generator)
    return folder


def write_noise(
    folder: Path,
    count: int,
    generator: np.random.Generator,
    shift: tuple[int, int, int] = (0, 0, 0),
) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = generator.integers(150, 230, size=(16, 16, 3)) + np.array(shift)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02d}.png")


def read_folder(folder: Path) -> npt.NDArray[np.float64]:
    """Return the images of a folder, RGB in [0, 1], ``[n, H, W, 3]``."""
    return np.stack([np.asarray(Image.open(path)) / 255 for path in sorted(folder.glob("*.png"))])


def write_images(folder: Path) -> Path:
    """Write an image set of two images of each class, whose classes have names."""
    (folder / "images").mkdir(parents=True)
    rows = ["image,label,class"]
    for index in range(6):
        pixels = np.full((16, 16, 3), 25, np.uint8)
        pixels[4:10, 1 + index : 7 + index, index % 3] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        rows.append(f"{index}.png,{index % 3},{CLASSES[index % 3]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder
