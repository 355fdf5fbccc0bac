"""Images, masks and labels: from disk, COCO, a function or the demo, transformed together.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from xai_core.imageset.imageset import Batch, Entry, ImageSet, Sample
from xai_core.imageset.loading import load_imageset
from xai_core.imageset.transform import (
    CenterCrop,
    Interpolation,
    OffCenterCrop,
    Pixels,
    Resize,
    Transform,
    parse_transform,
)

__all__ = [
    "Batch",
    "CenterCrop",
    "Entry",
    "ImageSet",
    "Interpolation",
    "OffCenterCrop",
    "Pixels",
    "Resize",
    "Sample",
    "Transform",
    "load_imageset",
    "parse_transform",
]
