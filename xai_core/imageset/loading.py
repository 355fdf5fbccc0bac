"""Where an image set comes from: a folder, a COCO file, a function, the demo."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from xai_core.errors import ImageSetError
from xai_core.imageset.background import Background
from xai_core.imageset.coco import load_coco
from xai_core.imageset.factory import load_factory, set_in_memory
from xai_core.imageset.folder import load_folder
from xai_core.imageset.imageset import ImageSet
from xai_core.imageset.sample import Sample
from xai_core.imageset.transform import Transform, parse_transform

_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def load_imageset(
    source: str | os.PathLike[str] | ImageSet,
    *,
    transform: str | Transform = "resize",
    size: tuple[int, int] = (224, 224),
    limit: int | None = None,
    num_classes: int | None = None,
    images: str | os.PathLike[str] | None = None,
    labels: Mapping[str, int] | None = None,
) -> ImageSet:
    """Return the image set that ``source`` names; pixels are decoded later, one by one.

    Args:
        source: a folder with ``images/``, ``masks/``, ``labels.csv`` and, where wanted,
            ``background/`` and ``background.csv``; a COCO instance file (``.json``);
            ``"package.module:function"``; the word ``"demo"`` (a folder of that name is
            ``"./demo"``); or a set in hand, which keeps its own transform.
        transform: ``"resize"``, ``"center-crop"``, ``"center-crop(resize=256)"``,
            ``"off-center-crop"`` (needs masks), or an instance.
        size: height and width in pixels, for a ``transform`` given as text.
        limit: take only the first so many images, in the order of their names.
        num_classes: of the classifier; every label of the images taken must lie below it.
        images: the folder of a COCO file's photographs.
        labels: name of a COCO category -> class index of the classifier.

    Raises:
        ImageSetError: anything missing, broken or inconsistent, with the file it is about.
        ParameterError: a transform that does not exist or cannot be.
        MissingExtraError: a COCO file without pycocotools.
    """
    if isinstance(transform, str):
        transform = parse_transform(transform, size=size)
    found = _open(source, transform, images, labels)
    if limit is not None:
        found = found.head(limit)
    if num_classes is not None:
        found.check_labels(num_classes)
    return found


def _open(
    source: str | os.PathLike[str] | ImageSet,
    transform: Transform,
    images: str | os.PathLike[str] | None,
    labels: Mapping[str, int] | None,
) -> ImageSet:
    if not isinstance(source, ImageSet) and source != "demo" and Path(source).is_file():
        return _open_file(Path(source), transform, images, labels)
    if images is not None or labels is not None:
        msg = f"{source}: images= and labels= belong to a COCO .json file; leave them out"
        raise ImageSetError(msg)
    if isinstance(source, ImageSet):
        return source
    if source == "demo":
        return _load_demo(transform)
    path = Path(source)
    if path.is_dir():
        return load_folder(path, transform=transform)
    if isinstance(source, str) and _FACTORY.fullmatch(source):
        return load_factory(source, transform=transform)
    msg = (
        f"{path}: no such image set (looked in {Path.cwd()}); expected a folder with images/, a "
        "COCO .json file, 'package.module:function' or 'demo'"
    )
    raise ImageSetError(msg)


def _open_file(
    path: Path,
    transform: Transform,
    images: str | os.PathLike[str] | None,
    labels: Mapping[str, int] | None,
) -> ImageSet:
    if path.suffix.lower() != ".json":
        msg = f"{path}: expected a folder with images/ or a COCO .json file, got another file"
        raise ImageSetError(msg)
    if images is None:
        msg = f"{path}: a COCO file needs images=, the folder of its photographs"
        raise ImageSetError(msg)
    if not Path(images).is_dir():
        msg = f"{images}: no such folder; images= is the folder of the photographs of {path}"
        raise ImageSetError(msg)
    return load_coco(path, images=Path(images), transform=transform, labels=labels)


def _load_demo(transform: Transform) -> ImageSet:
    from xai_core.demo.scenes import BACKGROUND_CLASSES, CLASSES, demo_images

    # The scenes are square and drawn at the size asked for, so nothing is lost by resizing.
    scenes = demo_images(size=max(transform.size))
    samples = [
        Sample(
            scene.name,
            scene.image,
            scene.mask,
            scene.label,
            Background(scene.background, BACKGROUND_CLASSES),
        )
        for scene in scenes
    ]
    return set_in_memory(
        [("demo", sample) for sample in samples],
        name="demo",
        transform=transform,
        classes=dict(enumerate(CLASSES)),
    )
