"""Which images, masks and labels a COCO instance file describes."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np

from xai_core.arrays import Bool
from xai_core.errors import ImageSetError, MissingExtraError
from xai_core.imageset.containment import require_inside, require_relative
from xai_core.imageset.imageset import Entry, ImageSet
from xai_core.imageset.pixels import read_image
from xai_core.imageset.transform import Transform

_Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: _Side
    width: _Side


class _Category(msgspec.Struct):
    id: int
    name: str


class _RunLengths(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


class _Annotation(msgspec.Struct):
    id: int
    image_id: int
    category_id: int
    segmentation: list[list[float]] | _RunLengths | None = None
    iscrowd: int = 0


class _Instances(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def load_coco(
    annotations: Path,
    *,
    images: Path,
    transform: Transform,
    labels: Mapping[str, int] | None = None,
) -> ImageSet:
    """Return the set of a COCO instance file: one sample per image and category.

    A sample's name is ``"<file name>:<category>"``; its mask is the union of the image's
    instances of that category, crowds left out. An image without an instance gives no sample.

    Args:
        annotations: the JSON file.
        images: the folder that its ``file_name`` entries are relative to.
        transform: brings every image and its mask to one size.
        labels: name of a category -> class index of the classifier; None leaves labels out.

    Raises:
        ImageSetError: a file is missing or leads out of the folder, the JSON is not an instance
            file, or a category that occurs has no entry in ``labels``.
        MissingExtraError: pycocotools is not installed.
    """
    try:
        import pycocotools.mask  # noqa: F401  here, so that a missing extra shows at loading
    except ImportError:
        raise MissingExtraError(
            "reading COCO annotations", package="pycocotools", extra="coco"
        ) from None

    instances = _read(annotations)
    photographs = {photograph.id: photograph for photograph in instances.images}
    categories = {category.id: category.name for category in instances.categories}
    groups = _grouped(instances.annotations, photographs, categories, annotations)
    occurring = {categories[key] for _, key in groups}
    if labels is not None:
        _require_labels(occurring, labels, annotations)
    entries = []
    for (image_id, category_id), group in groups.items():
        photograph, category = photographs[image_id], categories[category_id]
        where = f"{annotations}, image {image_id}"
        path = images / require_relative(photograph.file_name, where=where)
        if not require_inside(path, images).is_file():
            msg = f"{path}: no such image, named by {where}; correct images= or add the file"
            raise ImageSetError(msg)
        entries.append(
            Entry(
                name=f"{photograph.file_name}:{category}",
                label=None if labels is None else labels[category],
                read_image=partial(read_image, path),
                read_mask=partial(_union, group, photograph, annotations),
                origin=f"{path} ({where})",
            )
        )
    if not entries:
        msg = f"{annotations}: no images with instances (crowds do not count); nothing to load"
        raise ImageSetError(msg)
    return ImageSet(
        entries,
        name=annotations.stem,
        transform=transform,
        classes=_class_names(occurring, labels),
    )


def _read(path: Path) -> _Instances:
    try:
        instances = msgspec.json.decode(path.read_bytes(), type=_Instances)
    except (OSError, msgspec.DecodeError) as error:
        msg = (
            f"{path}: not a COCO instance file ({error}); expected images, categories, annotations"
        )
        raise ImageSetError(msg) from None
    _require_unique("image", [(item.id, item.file_name) for item in instances.images], path)
    _require_unique("category", [(item.id, item.name) for item in instances.categories], path)
    return instances


def _require_unique(kind: str, listed: list[tuple[int, str]], path: Path) -> None:
    ids: set[int] = set()
    names: set[str] = set()
    for number, name in listed:
        if number in ids or name in names:
            msg = f"{path}: {kind} {number} ({name!r}) occurs twice; remove one"
            raise ImageSetError(msg)
        ids.add(number)
        names.add(name)


def _grouped(
    annotations: list[_Annotation],
    photographs: Mapping[int, _Image],
    categories: Mapping[int, str],
    path: Path,
) -> dict[tuple[int, int], list[_Annotation]]:
    """Return (image, category) -> its instances, crowds left out."""
    groups: dict[tuple[int, int], list[_Annotation]] = defaultdict(list)
    for annotation in annotations:
        where = f"{path}, annotation {annotation.id}"
        if annotation.image_id not in photographs:
            msg = f"{where}: no image {annotation.image_id} in the file; remove it or add the image"
            raise ImageSetError(msg)
        if annotation.category_id not in categories:
            msg = f"{where}: no category {annotation.category_id} in the file; correct or add it"
            raise ImageSetError(msg)
        if not annotation.iscrowd:
            _require_segmentation(annotation, photographs[annotation.image_id], where)
            groups[annotation.image_id, annotation.category_id].append(annotation)
    return groups


def _require_segmentation(annotation: _Annotation, photograph: _Image, where: str) -> None:
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


def _require_labels(occurring: set[str], labels: Mapping[str, int], path: Path) -> None:
    missing = sorted(occurring - set(labels))
    if missing:
        msg = (
            f"{path}: labels= has no class index for {', '.join(missing)}; "
            f"the categories that occur are {', '.join(sorted(occurring))}"
        )
        raise ImageSetError(msg)
    for category in sorted(occurring):
        if type(labels[category]) is not int:
            msg = f"{path}: labels= gives {category!r} {labels[category]!r}, expected a class index"
            raise ImageSetError(msg)


def _class_names(occurring: set[str], labels: Mapping[str, int] | None) -> dict[int, str]:
    """Return class index -> its category, or several joined where they share an index."""
    shared: dict[int, list[str]] = defaultdict(list)
    for category in sorted(occurring):
        if labels is not None:
            shared[labels[category]].append(category)
    return {label: " / ".join(names) for label, names in shared.items()}


def _union(group: list[_Annotation], photograph: _Image, path: Path) -> Bool:
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
