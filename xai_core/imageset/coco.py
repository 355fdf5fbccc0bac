"""Which images, masks, labels and backgrounds a COCO instance file describes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from xai_core.errors import ImageSetError, MissingExtraError
from xai_core.imageset.containment import require_inside, require_relative
from xai_core.imageset.imageset import Entry, ImageSet
from xai_core.imageset.pixels import read_image
from xai_core.imageset.segmentation import (
    Annotation,
    Photograph,
    indices_of,
    require_segmentation,
    union_of,
)
from xai_core.imageset.transform import Transform


class _Category(msgspec.Struct):
    id: int
    name: str


class _Instances(msgspec.Struct):
    images: list[Photograph]
    categories: list[_Category]
    annotations: list[Annotation]


def load_coco(
    annotations: Path,
    *,
    images: Path,
    transform: Transform,
    labels: Mapping[str, int] | None = None,
) -> ImageSet:
    """Return the set of a COCO instance file: one sample per image and category.

    A sample's name is ``"<file name>:<category>"``, its group the file; its mask is the union of
    the image's instances of that category, crowds left out. An image without an instance gives no
    sample.
    Its background are the image's other categories, except those of the same label; where they
    overlap, the smaller one is in front. Without any such category the set has no background.

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
    behind = _behind(groups, categories, labels)
    seen = {categories[other] for others in behind.values() for other in others}
    background_classes = dict(enumerate(sorted(seen), start=1))
    index_of = {name: index for index, name in background_classes.items()}
    entries = []
    for key, group in groups.items():
        image_id, category_id = key
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
                read_mask=partial(union_of, group, photograph, annotations),
                origin=f"{path} ({where})",
                group=photograph.file_name,
                read_background=partial(
                    indices_of,
                    {index_of[categories[c]]: groups[image_id, c] for c in behind[key]},
                    photograph,
                    annotations,
                )
                if background_classes
                else None,
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
        background_classes=background_classes,
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
    annotations: list[Annotation],
    photographs: Mapping[int, Photograph],
    categories: Mapping[int, str],
    path: Path,
) -> dict[tuple[int, int], list[Annotation]]:
    """Return (image, category) -> its instances, crowds left out."""
    groups: dict[tuple[int, int], list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        where = f"{path}, annotation {annotation.id}"
        if annotation.image_id not in photographs:
            msg = f"{where}: no image {annotation.image_id} in the file; remove it or add the image"
            raise ImageSetError(msg)
        if annotation.category_id not in categories:
            msg = f"{where}: no category {annotation.category_id} in the file; correct or add it"
            raise ImageSetError(msg)
        if not annotation.iscrowd:
            require_segmentation(annotation, photographs[annotation.image_id], where)
            groups[annotation.image_id, annotation.category_id].append(annotation)
    return groups


def _behind(
    keys: Iterable[tuple[int, int]],
    categories: Mapping[int, str],
    labels: Mapping[str, int] | None,
) -> dict[tuple[int, int], list[int]]:
    """Return (image, category) -> the image's other categories, but for those of its label."""
    of_image: dict[int, list[int]] = defaultdict(list)
    for image, category in keys:
        of_image[image].append(category)

    def shown(category: int) -> object:
        return category if labels is None else labels[categories[category]]

    return {
        (image, category): [other for other in listed if shown(other) != shown(category)]
        for image, listed in of_image.items()
        for category in listed
    }


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
