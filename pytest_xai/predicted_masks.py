"""Masks that Segment Anything predicts where none were drawn, and which values rest on them."""

from __future__ import annotations

import os

from xai_core.concepts.predicted_masks import with_predicted_masks
from xai_core.concepts.segment_anything import load_segment_anything
from xai_core.errors import ImageSetError, WeightsError
from xai_core.imageset import ImageSet, OffCenterCrop
from xai_core.metrics import METRICS, Metric


def with_masks_of(
    checkpoint: str | os.PathLike[str], images: ImageSet, *, shown: str, place: str, device: str
) -> ImageSet:
    """Return the images with masks that a checkpoint of Segment Anything predicts.

    Args:
        checkpoint: its folder.
        images: a set without masks.
        shown: how reports call the checkpoint.
        place: file, line and key that ask for it, for messages.
        device: torch device name.

    Raises:
        ImageSetError: the images have masks.
        WeightsError: there is no such checkpoint, or it cannot be read.
        MissingExtraError: transformers is not installed.
    """
    if images.has_masks:
        msg = (
            f"{place}: {images.name} has masks; leave out `predicted_masks`, which stands in for "
            "missing ones"
        )
        raise ImageSetError(msg)
    try:
        segmenter = load_segment_anything(checkpoint, device=device)
    except WeightsError as error:
        msg = f"{place}: {error}"
        raise WeightsError(msg) from None
    segmenter.source = shown
    return with_predicted_masks(images, segmenter)


def needs_masks(metric: Metric) -> bool:
    """Return whether a metric, or one that it is made of, compares with masks."""
    return any(
        need == "masks" or (need in METRICS and needs_masks(METRICS[need])) for need in metric.needs
    )


def masks_behind(metric: Metric, images: ImageSet) -> str | None:
    """Return what predicted the masks that a metric's values depend on; None if nothing did.

    A crop off the centre is taken around the mask, so every metric depends on it there.
    """
    depends = needs_masks(metric) or isinstance(images.transform, OffCenterCrop)
    return images.masks_from if depends else None
