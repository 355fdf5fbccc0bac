"""What lies where the object does not: for each pixel, the class of background that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xai_core.arrays import Bool, as_numpy
from xai_core.errors import ParameterError, ShapeError, did_you_mean

Indices: TypeAlias = npt.NDArray[np.integer[Any]]
"""For each pixel the index of its class of background, ``[H, W]`` or ``[N, H, W]``."""

_LARGEST = np.iinfo(np.uint16).max


@dataclass(frozen=True, eq=False)
class Background:
    """The annotated background of one image, or of ``N`` images of one size.

    >>> background = Background(np.array([[0, 1], [2, 1]]), {1: "grass", 2: "sky"})
    >>> background.of("grass").tolist()
    [[False, True], [False, True]]

    Args:
        indices: integers ``[H, W]`` or ``[N, H, W]``; 0 where nothing is annotated, else one of
            ``classes``. What lies on the object may be annotated too; metrics leave it out.
        classes: index, from 1, -> name of the class.

    Raises:
        ShapeError: not such an array, or it has an index that is no class.
        ParameterError: an index or a name that cannot be, or a name that occurs twice.
    """

    indices: Indices = field(repr=False)
    classes: Mapping[int, str]

    def __post_init__(self) -> None:
        require_classes(self.classes)
        array = as_numpy(self.indices)
        if array.ndim not in (2, 3) or array.dtype.kind not in "iu":
            msg = (
                "background: expected whole numbers [N, H, W] or [H, W], one index for each pixel, "
                f"got {array.dtype} of shape {array.shape}"
            )
            raise ShapeError(msg)
        unknown = unknown_indices(array, self.classes)
        if unknown:
            msg = (
                f"background: index {', '.join(map(str, unknown[:5]))} is no class; 0 is what is "
                f"not annotated, the classes are {listed(self.classes)}"
            )
            raise ShapeError(msg)
        object.__setattr__(self, "indices", np.ascontiguousarray(array, dtype=np.uint16))
        object.__setattr__(self, "classes", dict(self.classes))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the index map."""
        return self.indices.shape

    @property
    def ndim(self) -> int:
        """2 for one image, 3 for several."""
        return self.indices.ndim

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> Background:
        """Return some of the images, or a part of their pixels, by an index as of an array."""
        return Background(self.indices[key], self.classes)

    def of(self, name: str) -> Bool:
        """Return the pixels of one class, bool of the map's shape.

        Raises:
            ParameterError: there is no such class.
        """
        for index, known in self.classes.items():
            if known == name:
                return np.asarray(self.indices == index)
        msg = f"no class of background {name!r}: {did_you_mean(name, self.classes.values())}"
        raise ParameterError(msg)


def as_background(values: object, *, name: str = "background") -> Background:
    """Return the background of ``N`` images; one image gets ``N = 1``, a sequence is stacked.

    Raises:
        ShapeError: no `Background`, nor a sequence of those of single images of the same classes
            and size.
    """
    if isinstance(values, Sequence) and values:
        first = values[0]
        alike = isinstance(first, Background) and all(
            isinstance(one, Background) and one.ndim == 2 and one.classes == first.classes
            for one in values
        )
        if alike and len({one.shape for one in values}) > 1:
            msg = f"{name}: arrays of different sizes in one batch; resize all of them alike"
            raise ShapeError(msg)
        if alike:
            return Background(np.stack([one.indices for one in values]), first.classes)
    if isinstance(values, Background):
        return values if values.ndim == 3 else Background(values.indices[None], values.classes)
    msg = (
        f"{name}: expected a Background(indices, classes) or a list with one of the same classes "
        f"for each image, got {type(values).__name__}"
    )
    raise ShapeError(msg)


def require_classes(classes: Mapping[int, str]) -> None:
    """Check the names of the classes of background.

    Raises:
        ParameterError: no class, an index out of range, or a name that is empty or occurs twice.
    """
    if not classes:
        msg = "background: no classes; give each index its name, such as {1: 'grass'}"
        raise ParameterError(msg)
    names: set[str] = set()
    for index, name in classes.items():
        if type(index) is not int or not 1 <= index <= _LARGEST:
            msg = f"background: index {index!r} of {name!r}; expected 1 to {_LARGEST}"
            raise ParameterError(msg)
        if not isinstance(name, str) or not name:
            msg = f"background: index {index} is named {name!r}; give it a name"
            raise ParameterError(msg)
        if name in names:
            msg = f"background: the name {name!r} occurs twice; a class has one index"
            raise ParameterError(msg)
        names.add(name)


def unknown_indices(indices: npt.NDArray[Any], classes: Mapping[int, str]) -> list[int]:
    """Return the indices in the map that are neither 0 nor a class, in ascending order."""
    known = np.isin(indices, [0, *classes])
    return [] if known.all() else [int(index) for index in np.unique(indices[~known])]


def listed(classes: Mapping[int, str]) -> str:
    """Return the classes as a message names them, the first of many."""
    shown = [f"{index} ({name})" for index, name in sorted(classes.items())]
    return ", ".join(shown[:20] + ["..."] * (len(shown) > 20))
