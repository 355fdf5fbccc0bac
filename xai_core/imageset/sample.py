"""What is known of one image, and of several that are measured together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from xai_core.arrays import Bool, Float32
from xai_core.imageset.background import Background


def pixel_digest(image: Float32) -> str:
    """Return a SHA-256 of an image's shape and pixels; nothing else has a part in it."""
    hasher = hashlib.sha256(f"{image.shape}".encode())
    # The byte order is fixed so that the digest is the same on every machine.
    hasher.update(np.ascontiguousarray(image, dtype="<f4").tobytes())
    return hasher.hexdigest()


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with what is known of it.

    Attributes:
        name: unique in its set, e.g. ``"zebra_01.jpg"``.
        image: float32 RGB in [0, 1], ``[3, H, W]``.
        mask: bool ``[H, W]``, True on the object; None where the set has no masks.
        label: index of the class, None where unknown.
        background: what lies where the object does not, ``[H, W]``; None where the set does not
            say.
        group: name of the photograph that it is one of several images of; None where it is not.
    """

    name: str
    image: Float32 = field(repr=False)
    mask: Bool | None = field(default=None, repr=False)
    label: int | None = None
    background: Background | None = field(default=None, repr=False)
    group: str | None = None

    def digest(self) -> str:
        """Return a SHA-256 of image, mask and background; names and label have no part."""
        hasher = hashlib.sha256(f"image {self.image.shape}".encode())
        # The byte order is fixed so that the digest is the same on every machine.
        hasher.update(np.ascontiguousarray(self.image, dtype="<f4").tobytes())
        if self.mask is not None:
            hasher.update(f"mask {self.mask.shape}".encode())
            hasher.update(np.packbits(self.mask).tobytes())
        if self.background is not None:
            classes = sorted(self.background.classes.items())
            hasher.update(f"background {self.background.shape} {classes}".encode())
            hasher.update(self.background.indices.astype("<u2").tobytes())
        return hasher.hexdigest()


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive samples of a set, stacked.

    Attributes:
        names: of the samples, ``N``.
        images: float32 RGB in [0, 1], ``[N, 3, H, W]``.
        masks: bool ``[N, H, W]``, None where the set has no masks.
        labels: index of the class, None where unknown, ``N``.
        background: what lies where the object does not, ``[N, H, W]``; None where the set does
            not say.
    """

    names: tuple[str, ...]
    images: Float32 = field(repr=False)
    masks: Bool | None = field(repr=False)
    labels: tuple[int | None, ...]
    background: Background | None = field(default=None, repr=False)
