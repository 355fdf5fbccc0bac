"""Images and what is known of them: from disk, COCO, a function or the demo.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from xai_core.imageset.background import Background
from xai_core.imageset.imageset import Entry, ImageSet
from xai_core.imageset.loading import load_imageset
from xai_core.imageset.sample import Batch, Sample, pixel_digest
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
    "Background",
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
    "pixel_digest",
]
