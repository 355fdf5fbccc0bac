"""Which images a Python function gives, or any iterable of arrays."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Iterable
from functools import partial
from typing import TypeVar

from xai_core.arrays import Bool, Float32, as_images, as_masks
from xai_core.errors import ImageSetError, ShapeError, did_you_mean
from xai_core.imageset.imageset import Entry, ImageSet, Sample
from xai_core.imageset.transform import Transform

Array = TypeVar("Array", Float32, Bool)


def load_factory(reference: str, *, transform: Transform) -> ImageSet:
    """Return the set that the function ``"package.module:function"`` makes, called bare.

    The function returns an ``ImageSet``, whose own transform stands, or an iterable of
    ``Sample`` or of tuples (name, image, mask or None, label or None): images float RGB in
    [0, 1], ``[3, H, W]``; masks of 0/1, 0/255 or bool, ``[H, W]``.

    Raises:
        ImageSetError: the function cannot be found, or gives anything else.
    """
    module_name, _, function_name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        msg = f"{reference}: cannot import {module_name!r} ({error}); is it on the Python path?"
        raise ImageSetError(msg) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value)]
        msg = f"{reference}: no function {function_name!r}; {did_you_mean(function_name, known)}"
        raise ImageSetError(msg)
    made = function()
    if isinstance(made, ImageSet):
        return made
    if isinstance(made, str) or not isinstance(made, Iterable):
        msg = (
            f"{reference}: returned {type(made).__name__}; expected an ImageSet, or an iterable "
            "of Sample or of (name, image, mask, label)"
        )
        raise ImageSetError(msg)
    entries = [_entry(item, f"{reference}, item {index}") for index, item in enumerate(made)]
    return ImageSet(entries, name=reference, transform=transform)


def entry_in_memory(sample: Sample, *, origin: str) -> Entry:
    """Return the entry of a sample whose arrays are at hand."""
    mask = sample.mask
    return Entry(
        name=sample.name,
        label=sample.label,
        read_image=partial(_same, sample.image),
        read_mask=None if mask is None else partial(_same, mask),
        origin=origin,
    )


def _entry(item: object, origin: str) -> Entry:
    if isinstance(item, Sample):
        item = (item.name, item.image, item.mask, item.label)
    if not isinstance(item, tuple) or len(item) != 4 or not isinstance(item[0], str):
        msg = f"{origin}: expected a Sample or (name, image, mask, label), got {_shown(item)}"
        raise ImageSetError(msg)
    name, image, mask, label = item
    origin = f"{origin} ({name!r})"
    try:
        images = as_images(image, name="image")
        masks = None if mask is None else as_masks(mask, name="mask")
    except ShapeError as error:
        msg = f"{origin}: {error}"
        raise ImageSetError(msg) from error
    if len(images) != 1 or (masks is not None and len(masks) != 1):
        msg = f"{origin}: expected one image [3, H, W] and one mask [H, W], got several"
        raise ImageSetError(msg)
    try:
        label = None if label is None else operator.index(label)
    except TypeError:
        msg = f"{origin}: label {label!r} is not an integer; give the index of the class"
        raise ImageSetError(msg) from None
    sample = Sample(name, images[0], None if masks is None else masks[0], label)
    return entry_in_memory(sample, origin=origin)


def _shown(item: object) -> str:
    if isinstance(item, tuple):
        return f"({', '.join(type(part).__name__ for part in item)})"
    return type(item).__name__


def _same(array: Array) -> Array:
    return array
