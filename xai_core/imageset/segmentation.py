"""Which pixels a segmentation of a COCO instance file covers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np

from xai_core.arrays import Bool
from xai_core.errors import ImageSetError
from xai_core.imageset.background import Indices

_Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class Photograph(msgspec.Struct):
    """An entry of the file's ``images``."""

    id: int
    file_name: str
    height: _Side
    width: _Side


class _RunLengths(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


class Annotation(msgspec.Struct):
    """An entry of the file's ``annotations``."""

    id: int
    image_id: int
    category_id: int
    segmentation: list[list[float]] | _RunLengths | None = None
    iscrowd: int = 0


def require_segmentation(annotation: Annotation, photograph: Photograph, where: str) -> None:
    """Refuse at loading what pycocotools would misread or crash on at decoding."""
    found = annotation.segmentation
    if not found:
        msg = f"{where}: no segmentation; masks need an instance file, not boxes or captions"
        raise ImageSetError(msg)
    if isinstance(found, _RunLengths):
        size = (photograph.height, photograph.width)
        if found.size != size:
            msg = f"{where}: run lengths of size {found.size}, its image has {size}; correct one"
            raise ImageSetError(msg)
        counts = found.counts
        lengths = _decompressed(counts, where) if isinstance(counts, str) else counts
        if sum(lengths) != size[0] * size[1] or min(lengths) < 0:
            msg = (
                f"{where}: expected run lengths from 0 up that sum to {size[0] * size[1]} (height "
                f"x width), their sum is {sum(lengths)}; correct them"
            )
            raise ImageSetError(msg)
        return
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in found):
        msg = f"{where}: expected polygons of x, y pairs with at least three corners; correct them"
        raise ImageSetError(msg)
    # Tools draw a little past the border; memory for a polygon grows with its coordinates.
    reach = 2 * max(photograph.height, photograph.width)
    if any(abs(coordinate) > reach for polygon in found for coordinate in polygon):
        msg = f"{where}: a polygon lies far outside its image; give coordinates in pixels"
        raise ImageSetError(msg)


def _decompressed(text: str, where: str) -> list[int]:
    """Return the run lengths of COCO's compressed form.

    pycocotools gives uninitialised memory for a text that ends early, without an error, so the
    lengths are summed up here first. Each is written in groups of 5 bits, lowest first, with 32
    for "more follows"; from the fourth on, as the difference to the one before the last.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            break
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    else:
        if shift == 0 and lengths:
            return lengths
    msg = f"{where}: corrupt run lengths {text[:20]!r}; correct them"
    raise ImageSetError(msg)


def union_of(group: list[Annotation], photograph: Photograph, path: Path) -> Bool:
    """Return the pixels ``[H, W]`` that any of the annotations covers.

    Raises:
        ImageSetError: a segmentation cannot be decoded.
    """
    import pycocotools.mask

    height, width = photograph.height, photograph.width
    union = np.zeros((height, width), dtype=np.bool_)
    for annotation in group:
        found = annotation.segmentation
        try:
            # pycocotools warns of its own use of NumPy; a suite may turn warnings into errors.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                if isinstance(found, list):
                    encoded = pycocotools.mask.frPyObjects(found, height, width)
                else:
                    lengths: dict[str, Any] = msgspec.to_builtins(found)
                    if isinstance(lengths["counts"], list):
                        lengths = pycocotools.mask.frPyObjects(lengths, height, width)
                    encoded = [lengths]
                union |= pycocotools.mask.decode(encoded).any(axis=2)
        except Exception as error:  # the C extension's own types vary with the version
            msg = f"{path}, annotation {annotation.id}: corrupt segmentation ({error}); correct it"
            raise ImageSetError(msg) from error
    return union


def indices_of(
    groups: Mapping[int, list[Annotation]], photograph: Photograph, path: Path
) -> Indices:
    """Return for each pixel ``[H, W]`` the index of the group that covers it, 0 where none does.

    Where several do, the smallest is in front; of equally large ones that of the highest index.

    Raises:
        ImageSetError: a segmentation cannot be decoded.
    """
    indices = np.zeros((photograph.height, photograph.width), dtype=np.uint16)
    unions = {index: union_of(group, photograph, path) for index, group in groups.items()}
    for index, union in sorted(unions.items(), key=lambda item: (-item[1].sum(), item[0])):
        indices[union] = index
    return indices
