"""Where the concepts of a run come from: one library, and folders of their own; each read once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_xai.once import Once
from xai_core.concepts.loading import RANDOM, ConceptLibrary, load_concept, load_concepts
from xai_core.concepts.map_fitting import ConceptMaps
from xai_core.errors import ConceptError, XaiError, did_you_mean

if TYPE_CHECKING:
    from xai_core.imageset import ImageSet


@dataclass(frozen=True)
class ConceptSource:
    """Where the concepts of a model come from.

    Attributes:
        library: a folder with one folder for each concept, or ``demo``; None where nothing names
            one, and it is the folder that the concepts' own ones lie in.
        own: name -> folder of the concepts that a threshold file gives one of their own.
        shown: how messages call the threshold file; None without one.
    """

    library: str | None
    own: tuple[tuple[str, str], ...] = ()
    shown: str | None = None


class CounterexampleError(ConceptError):
    """What a concept is held against does not exist, or cannot be read."""


class ConceptFolders:
    """The concepts of a run, read once for each size.

    Args:
        root: that the folders of a threshold file are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._once = Once()

    def concept(self, source: ConceptSource, name: str, size: tuple[int, int]) -> ImageSet:
        """Return the images of a concept: of its own folder, else of the library.

        Raises:
            ConceptError: there is none, or it cannot be read.
        """
        own = dict(source.own)
        if name not in own:
            return self.library(source, size).concept(name)
        folder = self._under_root(own[name])
        return self._once(
            ("concept", folder, name, size), lambda: load_concept(folder, name=name, size=size)
        )

    def counterexamples(self, source: ConceptSource, name: str, size: tuple[int, int]) -> ImageSet:
        """Return what a concept is held against: ``random``, another concept, or a folder.

        Raises:
            CounterexampleError: there is no such thing, or it cannot be read.
        """
        library = self.library(source, size)
        known = {*library.concepts, *dict(source.own), "random"}
        if name in known:
            return self.concept(source, name, size)
        folder = self._under_root(name)
        if not folder.is_dir():
            msg = f"no concept and no folder {name!r}: {did_you_mean(name, known)}"
            raise CounterexampleError(msg)
        try:
            return self._once(("concept", folder, size), lambda: load_concept(folder, size=size))
        except XaiError as error:
            raise CounterexampleError(str(error)) from None

    def library(self, source: ConceptSource, size: tuple[int, int]) -> ConceptLibrary:
        """Return the library, which has the counterexamples.

        Raises:
            ConceptError: there is none, or it cannot be read.
        """
        folder = source.library or self._around(source)
        return self._once(("library", folder, size), lambda: load_concepts(folder, size=size))

    def _around(self, source: ConceptSource) -> str:
        """Return the folder that the concepts' own folders lie in, with counterexamples."""
        parents = {self._under_root(folder).parent for _, folder in source.own}
        for parent in parents if len(parents) == 1 else ():
            found = [path for path in parent.glob("random*") if path.is_dir()]
            if any(RANDOM.fullmatch(path.name) for path in found):
                return os.fspath(parent)
        msg = (
            "no concepts: give a folder with one folder of images for each concept and one called "
            "'random' with counterexamples: --xai-concepts DIR, or `concepts` under [data] in the "
            "threshold file, or the ini xai_concepts"
        )
        raise ConceptError(msg)

    def _under_root(self, folder: str) -> Path:
        under = self._root / folder
        return under if under.exists() else Path(folder)

    def maps(self, source: ConceptSource, size: tuple[int, int]) -> ConceptMaps:
        """Return the maker of concept maps, made once.

        Raises:
            XaiError: the concepts cannot be loaded.
        """

        def make() -> ConceptMaps:
            library = self.library(source, size)
            own = {name: self.concept(source, name, size) for name, _ in source.own}
            return ConceptMaps(replace(library, concepts={**library.concepts, **own}))

        return self._once(("maps", source, size), make)
