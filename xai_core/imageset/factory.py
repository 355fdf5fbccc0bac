"""Which images a Python function gives, or any iterable of arrays."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from xai_core.arrays import Bool, Float32, as_images, as_masks
from xai_core.errors import ImageSetError, ShapeError, did_you_mean
from xai_core.imageset.background import Indices, as_background
from xai_core.imageset.imageset import Entry, ImageSet
from xai_core.imageset.sample import Sample
from xai_core.imageset.transform import Transform
from xai_core.torchvision_import import with_torchvision

Array = TypeVar("Array", Float32, Bool, Indices)


def load_factory(reference: str, *, transform: Transform) -> ImageSet:
    """Return the set that the function ``"package.module:function"`` makes, called bare.

    The function returns an ``ImageSet``, whose own transform stands, or an iterable of
    ``Sample`` or of tuples (name, image, mask or None, label or None) and, where wanted, a
    ``Background`` of the same classes in all, and the name of the photograph that several images
    are of: images float RGB in [0, 1], ``[3, H, W]``; masks of 0/1, 0/255 or bool, ``[H, W]``.

    Raises:
        ImageSetError: the function cannot be found, or gives anything else.
    """
    module_name, _, function_name = reference.partition(":")
    try:
        module = with_torchvision(lambda: importlib.import_module(module_name))
    except ImportError as error:
        msg = f"{reference}: cannot import {module_name!r} ({error}); is it on the Python path?"
        raise ImageSetError(msg) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value)]
        msg = f"{reference}: no function {function_name!r}; {did_you_mean(function_name, known)}"
        raise ImageSetError(msg)
    made = with_torchvision(lambda: _call(function))
    if isinstance(made, ImageSet):
        return made
    if isinstance(made, str) or not isinstance(made, Iterable):
        msg = (
            f"{reference}: returned {type(made).__name__}; expected an ImageSet, or an iterable "
            "of Sample or of (name, image, mask, label)"
        )
        raise ImageSetError(msg)
    items = [(f"{reference}, item {index}", item) for index, item in enumerate(made)]
    samples = [(origin, _sample(item, origin)) for origin, item in items]
    return set_in_memory(samples, name=reference, transform=transform)


def _call(function: Callable[[], object]) -> object:
    """Return what the function gives; of a generator all items, as its code runs only then."""
    made = function()
    return list(made) if isinstance(made, Iterator) else made


def set_in_memory(
    samples: Iterable[tuple[str, Sample]],
    *,
    name: str,
    transform: Transform,
    classes: Mapping[int, str] | None = None,
) -> ImageSet:
    """Return the set of samples whose arrays are at hand, each with its origin.

    Raises:
        ImageSetError: as `ImageSet` does; or the classes of the backgrounds differ.
    """
    given = list(samples)
    background_classes: Mapping[int, str] = {}
    for origin, sample in given:
        if sample.background is None:
            continue
        background_classes = background_classes or sample.background.classes
        if sample.background.classes != background_classes:
            msg = (
                f"{origin} ({sample.name!r}): its background has the classes "
                f"{dict(sample.background.classes)}, an earlier one {dict(background_classes)}; "
                "give all images the same classes"
            )
            raise ImageSetError(msg)
    entries = [_entry(sample, origin) for origin, sample in given]
    return ImageSet(
        entries,
        name=name,
        transform=transform,
        classes=classes,
        background_classes=background_classes,
    )


def _entry(sample: Sample, origin: str) -> Entry:
    mask, background = sample.mask, sample.background
    return Entry(
        name=sample.name,
        label=sample.label,
        read_image=partial(_same, sample.image),
        read_mask=None if mask is None else partial(_same, mask),
        origin=f"{origin} ({sample.name!r})",
        read_background=None if background is None else partial(_same, background.indices),
        group=sample.group,
    )


def _sample(item: object, origin: str) -> Sample:
    if isinstance(item, Sample):
        item = (item.name, item.image, item.mask, item.label, item.background, item.group)
    if not isinstance(item, tuple) or len(item) not in (4, 5, 6) or not isinstance(item[0], str):
        msg = (
            f"{origin}: expected a Sample or (name, image, mask, label[, background[, group]]), "
            f"got {_shown(item)}"
        )
        raise ImageSetError(msg)
    name, image, mask, label, background, group = (*item, None, None)[:6]
    origin = f"{origin} ({name!r})"
    if not isinstance(group, str | None):
        msg = f"{origin}: group {group!r} is no text; name the photograph that it is of"
        raise ImageSetError(msg)
    try:
        images = as_images(image, name="image")
        masks = None if mask is None else as_masks(mask, name="mask")
        backgrounds = None if background is None else as_background(background)
    except ShapeError as error:
        msg = f"{origin}: {error}"
        raise ImageSetError(msg) from error
    if any(given is not None and len(given) != 1 for given in (images, masks, backgrounds)):
        msg = (
            f"{origin}: expected one image [3, H, W], one mask and one background [H, W], got "
            "several"
        )
        raise ImageSetError(msg)
    try:
        label = None if label is None else operator.index(label)
    except TypeError:
        msg = f"{origin}: label {label!r} is not an integer; give the index of the class"
        raise ImageSetError(msg) from None
    return Sample(
        name,
        images[0],
        None if masks is None else masks[0],
        label,
        None if backgrounds is None else backgrounds[0],
        group,
    )


def _shown(item: object) -> str:
    if isinstance(item, tuple):
        return f"({', '.join(type(part).__name__ for part in item)})"
    return type(item).__name__


def _same(array: Array) -> Array:
    return array
