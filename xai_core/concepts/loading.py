"""Concept sets: folders of example images of one idea, and the counterexamples beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xai_core.arrays import ArrayLike, Float32, as_images
from xai_core.errors import ConceptError, did_you_mean
from xai_core.imageset import Entry, ImageSet, parse_transform
from xai_core.imageset.containment import require_inside
from xai_core.imageset.pixels import SUFFIXES, read_image

RANDOM = re.compile(r"random([_-]?\d+)?")
"""The names of folders of counterexamples: ``random``, ``random_1``, ``random-2``, ..."""

_NOTES = frozenset({".csv", ".json", ".md", ".txt"})
_SYSTEM_FILES = frozenset({"desktop.ini", "thumbs.db"})
_DEMO_IMAGES = 60
_DEMO_RANDOM = 240


@dataclass(frozen=True)
class ConceptLibrary:
    """Concept sets by name, and one pool of counterexamples.

    Attributes:
        source: where they come from, for messages.
        concepts: name -> its images.
        random: the images of all folders called ``random``, ``random_1``, ...
    """

    source: str
    concepts: Mapping[str, ImageSet]
    random: ImageSet

    def concept(self, name: str) -> ImageSet:
        """Return the concept set called ``name``; ``random`` is the pool.

        Raises:
            ConceptError: there is none.
        """
        if name == "random":
            return self.random
        if name not in self.concepts:
            known = [*self.concepts, "random"]
            msg = f"{self.source}: no concept {name!r}: {did_you_mean(name, known)}"
            raise ConceptError(msg)
        return self.concepts[name]

    def __str__(self) -> str:
        listed = [f"{name} ({len(images)})" for name, images in self.concepts.items()]
        return f"{self.source}: {', '.join([*listed, f'random ({len(self.random)})'])}"


def load_concepts(
    source: str | os.PathLike[str], *, size: tuple[int, int] = (224, 224)
) -> ConceptLibrary:
    """Return the concept sets of a folder with one folder of images for each concept.

    Folders called ``random``, ``random_1``, ... hold counterexamples and are pooled. Images are
    resized to ``size``. Notes (``.txt``, ``.md``, ``.csv``, ``.json``) beside them are passed
    over.

    Args:
        source: the folder; or the word ``"demo"`` for the generated concepts of the demo (a
            folder of that name is ``"./demo"``).
        size: height and width in pixels.

    Raises:
        ConceptError: no such folder, no concept in it, no folder of counterexamples, a folder
            without images or with a file that is none.
        ImageSetError: a link that leads out of the folder.
    """
    if source == "demo":
        return _demo_concepts(size)
    folder = Path(source)
    if not folder.is_dir():
        msg = (
            f"{folder}: no such folder (looked in {Path.cwd()}); expected one folder of images for "
            "each concept and one called 'random' with counterexamples"
        )
        raise ConceptError(msg)
    children = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    random = [path for path in children if RANDOM.fullmatch(path.name)]
    named = [path for path in children if path not in random]
    if not named:
        msg = f"{folder}: no concept in it; expected one folder of images for each concept"
        raise ConceptError(msg)
    if not random:
        msg = (
            f"{folder}: no counterexamples; expected a folder 'random' (or random_1, random_2, "
            "...) with images of anything else, 60 or more"
        )
        raise ConceptError(msg)
    concepts = {path.name: _image_set(path.name, [path], folder, size) for path in named}
    return ConceptLibrary(os.fspath(folder), concepts, _image_set("random", random, folder, size))


def load_concept(
    folder: str | os.PathLike[str], *, name: str | None = None, size: tuple[int, int] = (224, 224)
) -> ImageSet:
    """Return the images of one folder as a concept set.

    Args:
        folder: of images; notes beside them are passed over.
        name: of the set; None = the folder's.
        size: height and width in pixels.

    Raises:
        ConceptError: no such folder, no images in it, or a file that is none.
        ImageSetError: a link that leads out of the folder.
    """
    path = Path(folder)
    if not path.is_dir():
        msg = f"{path}: no such folder (looked in {Path.cwd()}); expected the images of a concept"
        raise ConceptError(msg)
    return _image_set(name or path.resolve().name, [path], path, size)


def concept_set(name: str, images: ArrayLike | ImageSet) -> ImageSet:
    """Return images in memory as a set: RGB in [0, 1], float ``[n, 3, H, W]``.

    Raises:
        ShapeError: the images have another shape or range.
    """
    if isinstance(images, ImageSet):
        return images
    array = as_images(images, name=name)
    entries = [
        Entry(f"{index:05d}", None, partial(_same, image), None, f"{name}[{index}]")
        for index, image in enumerate(array)
    ]
    height, width = array.shape[-2:]
    return ImageSet(entries, name=name, transform=parse_transform("resize", size=(height, width)))


def _image_set(name: str, folders: list[Path], root: Path, size: tuple[int, int]) -> ImageSet:
    entries = []
    for folder in folders:
        require_inside(folder, root)
        found = [path for path in sorted(folder.iterdir()) if _is_image(path)]
        if not found:
            msg = f"{folder}: no images; expected files ending in {', '.join(SUFFIXES)}"
            raise ConceptError(msg)
        for path in found:
            shown = path.name if len(folders) == 1 else f"{folder.name}/{path.name}"
            read = partial(read_image, require_inside(path, root))
            entries.append(Entry(shown, None, read, None, os.fspath(path)))
    return ImageSet(entries, name=name, transform=parse_transform("resize", size=size))


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES
    if hidden or (path.suffix.lower() in _NOTES and path.is_file()):
        return False
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        msg = f"{path}: not an image ({', '.join(SUFFIXES)}); move it out of {path.parent}"
        raise ConceptError(msg)
    return True


def _demo_concepts(size: tuple[int, int]) -> ConceptLibrary:
    from xai_core.demo.scenes import CONCEPTS

    def images(concept: str) -> ImageSet:
        count = _DEMO_RANDOM if concept == "random" else _DEMO_IMAGES
        entries = [
            Entry(f"{index:05d}", None, partial(_drawn, concept, index, max(size)), None, "demo")
            for index in range(count)
        ]
        return ImageSet(entries, name=concept, transform=parse_transform("resize", size=size))

    concepts = {name: images(name) for name in CONCEPTS if name != "random"}
    return ConceptLibrary("demo", concepts, images("random"))


@lru_cache(maxsize=1024)  # a set is read for its digest and for each layer
def _pixels(concept: str, index: int, side: int) -> npt.NDArray[np.uint8]:
    from xai_core.demo.scenes import concept_image

    # Whole 255ths, so bytes lose nothing and take a quarter of the memory.
    return np.round(concept_image(concept, index, size=side) * 255).astype(np.uint8)


def _drawn(concept: str, index: int, side: int) -> Float32:
    return (_pixels(concept, index, side) / 255).astype(np.float32)


def _same(image: Float32) -> Float32:
    return image
