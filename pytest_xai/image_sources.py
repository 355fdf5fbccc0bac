"""Which image sets were asked for, and what each is called.

Loaded in every pytest run, so it imports pytest and the standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

SET_NAME = re.compile(r"[\w.+-]+")
"""What an image set may be called by its user: the name goes into the ids of tests."""


@dataclass(frozen=True)
class ImageSource:
    """Where the images come from, and what they are called in ids and reports."""

    name: str
    path: str

    @classmethod
    def of(cls, path: str) -> ImageSource:
        """Return the source that is called after its folder, file or function.

        >>> ImageSource.of("data/pets").name, ImageSource.of("data/pets/coco.json").name
        ('pets', 'coco')
        >>> ImageSource.of("package.module:function").name
        'package.module:function'
        """
        if ":" in path and not Path(path).exists():
            return cls(path, path)
        found = Path(os.path.abspath(path))  # noqa: PTH100 - no symlinks
        return cls(found.stem if found.suffix == ".json" else found.name, path)

    @property
    def option(self) -> str:
        """The text that ``--xai-data`` takes for it."""
        return self.path if self == self.of(self.path) else f"{self.name}={self.path}"


def image_sources(given: Iterable[str]) -> tuple[ImageSource, ...]:
    """Return the image sets that ``--xai-data`` was given, without repetitions.

    Raises:
        pytest.UsageError: names that cannot be, or that two sets share.
    """
    sources = [_image_source(text) for text in dict.fromkeys(given)]
    by_name: dict[str, ImageSource] = {}
    for source in sources if len(sources) > 1 else []:
        if "::" in source.name or re.search(r"[\[\]/\\]", source.name):
            msg = (
                f"--xai-data {source.path}: {source.name!r} cannot stand in the ids of tests; "
                "name it, --xai-data NAME=PATH"
            )
            raise pytest.UsageError(msg)
        first = by_name.setdefault(source.name, source)
        if first is not source:
            msg = (
                f"--xai-data: two image sets are called {source.name!r} ({first.path} and "
                f"{source.path}); name them, --xai-data NAME=PATH"
            )
            raise pytest.UsageError(msg)
    return tuple(sources)


def _image_source(text: str) -> ImageSource:
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return ImageSource.of(text)
    if not path or not SET_NAME.fullmatch(name):
        msg = (
            f"--xai-data {text!r}: no such path, and as NAME=PATH it needs a path, and a name of "
            "letters, digits, '.', '_', '+' and '-'"
        )
        raise pytest.UsageError(msg)
    return ImageSource(name, path)
