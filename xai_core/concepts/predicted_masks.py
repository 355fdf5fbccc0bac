"""Masks where nobody drew any: the object that Segment Anything sees in each image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from xai_core.arrays import Bool, Float32
from xai_core.concepts.segment_anything import Prompt
from xai_core.errors import ImageSetError, ParameterError, did_you_mean
from xai_core.imageset import Entry, ImageSet, Pixels


class ObjectSegmenter(Protocol):
    """Finds the object at a prompt, as `SegmentAnything` does."""

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    def object_mask(self, image: Float32, prompt: Prompt) -> Bool:
        """Return the mask of what lies at the prompt, bool ``[H, W]``; it may be empty."""
        ...


def with_predicted_masks(
    images: ImageSet, segmenter: ObjectSegmenter, *, prompts: Mapping[str, Prompt] | None = None
) -> ImageSet:
    """Return the set with predicted masks in the place of missing ones; ``masks_from`` says so.

    The segmenter sees each image before the transform, at its full size, once, when its mask is
    first asked for. What it is asked for is the object at a prompt: a point or a box for each
    image where they are known, else the middle of the image, where photographers put their
    subject. A heatmap has no part in the choice, or it would be measured against itself; for the
    middle a map that looks there always has an advantage, so hold such gates against the null map
    ``centre`` too. A mask that comes out empty is measured as any empty mask: undefined, with
    that reason.

    Args:
        images: a set without masks.
        segmenter: `SegmentAnything`, or another.
        prompts: name of the image -> a point ``(x, y)`` on its object, or its box ``(left, top,
            right, bottom)``, in pixels of the image before the transform; of every image or none.

    Raises:
        ImageSetError: the set has masks of its own.
        ParameterError: a prompt of no image, or an image without one.
    """
    if prompts is not None:
        _require_all(prompts, images)
    kinds = {len(prompt) for prompt in (prompts or {}).values()}
    how = " and ".join(kind for n, kind in ((2, "points"), (4, "boxes")) if n in kinds)
    source = f"{segmenter.name}, {f'prompted by {how}' if how else 'at the middle of the image'}"

    def predicted(entry: Entry) -> _PredictedMask:
        return _PredictedMask(entry, segmenter, None if prompts is None else prompts[entry.name])

    return images.with_masks(predicted, source=source)


class _PredictedMask:
    """The mask of one image: predicted once, kept as bits."""

    def __init__(self, entry: Entry, segmenter: ObjectSegmenter, prompt: Prompt | None) -> None:
        self._entry = entry
        self._segmenter = segmenter
        self._prompt = prompt
        self._kept: tuple[bytes, tuple[int, ...]] | None = None

    def __call__(self) -> Bool:
        if self._kept is None:
            mask = self._predict()
            self._kept = np.packbits(mask).tobytes(), mask.shape
        bits, shape = self._kept
        flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=shape[0] * shape[1])
        return flat.astype(np.bool_).reshape(shape)

    def _predict(self) -> Bool:
        image = _floats(self._entry.read_image())
        height, width = image.shape[1:]
        prompt = (width / 2, height / 2) if self._prompt is None else self._prompt
        try:
            mask = self._segmenter.object_mask(image, prompt)
        except ParameterError as error:
            msg = f"{self._entry.origin}: {self._entry.name!r}: {error}"
            raise ImageSetError(msg) from None
        if mask.shape != image.shape[1:] or mask.dtype != np.bool_:
            msg = (
                f"{self._segmenter.name} gave a {mask.dtype} mask of shape {mask.shape} for "
                f"{self._entry.name!r}; expected bool of shape {image.shape[1:]}"
            )
            raise ImageSetError(msg)
        return mask


def _floats(pixels: Pixels) -> Float32:
    if pixels.dtype != np.uint8:
        return np.asarray(pixels, dtype=np.float32)
    first = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    return first / np.float32(255)


def _require_all(prompts: Mapping[str, Prompt], images: ImageSet) -> None:
    for name, prompt in prompts.items():
        if name not in images.names:
            msg = (
                f"prompts: {images.name} has no image {name!r}: {did_you_mean(name, images.names)}"
            )
            raise ParameterError(msg)
        if len(prompt) not in (2, 4):
            msg = (
                f"prompts: {name!r} has {prompt}; expected a point (x, y) or a box "
                "(left, top, right, bottom)"
            )
            raise ParameterError(msg)
    missing = [name for name in images.names if name not in prompts]
    if missing:
        msg = (
            f"prompts: none for {missing[0]!r}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; give every image of "
            f"{images.name} one, or leave prompts out"
        )
        raise ParameterError(msg)
