"""What a set of images is: a lazy sequence in a fixed order, with masks and labels."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from xai_core.arrays import Bool, Float32
from xai_core.errors import ImageSetError
from xai_core.imageset.transform import (
    OffCenterCrop,
    Pixels,
    Transform,
    cut_out,
    transform_image,
    transform_mask,
)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with what is known of it.

    Attributes:
        name: unique in its set, e.g. ``"zebra_01.jpg"``.
        image: float32 RGB in [0, 1], ``[3, H, W]``.
        mask: bool ``[H, W]``, True on the object; None where the set has no masks.
        label: index of the class, None where unknown.
    """

    name: str
    image: Float32 = field(repr=False)
    mask: Bool | None = field(default=None, repr=False)
    label: int | None = None

    def digest(self) -> str:
        """Return a SHA-256 of the image and the mask; the name and the label have no part."""
        hasher = hashlib.sha256(f"image {self.image.shape}".encode())
        # The byte order is fixed so that the digest is the same on every machine.
        hasher.update(np.ascontiguousarray(self.image, dtype="<f4").tobytes())
        if self.mask is not None:
            hasher.update(f"mask {self.mask.shape}".encode())
            hasher.update(np.packbits(self.mask).tobytes())
        return hasher.hexdigest()


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive samples of a set, stacked.

    Attributes:
        names: of the samples, ``N``.
        images: float32 RGB in [0, 1], ``[N, 3, H, W]``.
        masks: bool ``[N, H, W]``, None where the set has no masks.
        labels: index of the class, None where unknown, ``N``.
    """

    names: tuple[str, ...]
    images: Float32 = field(repr=False)
    masks: Bool | None = field(repr=False)
    labels: tuple[int | None, ...]


@dataclass(frozen=True)
class Entry:
    """One image that is not yet decoded: what a loader puts into an ``ImageSet``.

    Attributes:
        name: unique in its set.
        label: index of the class, None where unknown.
        read_image: decodes bytes ``[H, W, 3]`` or float32 ``[3, H, W]``, before the transform.
        read_mask: decodes bool ``[H, W]``, before the transform; None without a mask.
        origin: where the image and its label stand, for error messages.
    """

    name: str
    label: int | None
    read_image: Callable[[], Pixels]
    read_mask: Callable[[], Bool] | None
    origin: str


class ImageSet:
    """A lazy sequence of samples, always in the order of their names.

    The order is that of Python's strings (by code point), whatever the order of the directory,
    of ``labels.csv`` or of the factory. Pixels are decoded and transformed when a sample is
    asked for, each time anew, and always with the same result.

    Args:
        entries: the images, in any order.
        name: of the set, for reports.
        transform: brings every image and its mask to one size.
        classes: index of a class -> its name, where known.

    Raises:
        ImageSetError: no image, two of the same name, a negative label, or masks for some
            images only.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        *,
        name: str,
        transform: Transform,
        classes: Mapping[int, str] | None = None,
    ) -> None:
        self._entries = tuple(sorted(entries, key=operator.attrgetter("name")))
        self._name = name
        self._transform = transform
        self._classes = dict(classes or {})
        if not self._entries:
            msg = f"{name}: no images; an image set needs at least one"
            raise ImageSetError(msg)
        for entry, following in zip(self._entries, self._entries[1:], strict=False):
            if entry.name == following.name:
                msg = f"{following.origin}: the name {entry.name!r} occurs twice; rename one"
                raise ImageSetError(msg)
        for entry in self._entries:
            if entry.label is not None and entry.label < 0:
                msg = f"{entry.origin}: label {entry.label} is negative; class indices start at 0"
                raise ImageSetError(msg)
            if self.has_masks is (entry.read_mask is None):
                bare, masked = entry, self._entries[0]
                if entry.read_mask is not None:
                    bare, masked = masked, bare
                msg = (
                    f"{bare.origin}: {bare.name!r} has no mask while {masked.name!r} has one; "
                    "give every image a mask, or none"
                )
                raise ImageSetError(msg)

    @property
    def name(self) -> str:
        """Name of the set, e.g. of its folder."""
        return self._name

    @property
    def transform(self) -> Transform:
        """What brings each image and its mask to one size."""
        return self._transform

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the samples, in order; nothing is decoded."""
        return tuple(entry.name for entry in self._entries)

    @property
    def labels(self) -> tuple[int | None, ...]:
        """Class indices of the samples, in order; nothing is decoded."""
        return tuple(entry.label for entry in self._entries)

    @property
    def classes(self) -> dict[int, str]:
        """Index of a class -> its name, where known."""
        return dict(self._classes)

    @property
    def has_masks(self) -> bool:
        """Whether every sample has a mask; otherwise none has."""
        return self._entries[0].read_mask is not None

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<ImageSet {self._name!r}: {len(self)} images, {self._transform}>"

    def __getitem__(self, index: int) -> Sample:
        """Decode and transform one sample; negative indices count from the end.

        Raises:
            IndexError: no such sample.
            ImageSetError: the image or the mask is corrupt, or their sizes differ.
        """
        entry = self._entries[index]
        pixels = entry.read_image()
        mask = None if entry.read_mask is None else entry.read_mask()
        # Bytes have their channels last, floats first.
        shape = pixels.shape[:2] if pixels.dtype == np.uint8 else pixels.shape[1:]
        if mask is not None and mask.shape != shape:
            msg = (
                f"{entry.origin}: the mask of {entry.name!r} is {_size(mask.shape)} and its image "
                f"{_size(shape)} (height x width, upright); make the mask from this image"
            )
            raise ImageSetError(msg)
        if mask is not None:
            pixels, mask = cut_out(self._transform, pixels, mask)
        elif isinstance(self._transform, OffCenterCrop):
            msg = (
                f"{entry.origin}: {entry.name!r} has no mask, without which off-center-crop does "
                "not know where its object is; use resize or center-crop"
            )
            raise ImageSetError(msg)
        return Sample(
            name=entry.name,
            image=transform_image(self._transform, pixels),
            mask=None if mask is None else transform_mask(self._transform, mask),
            label=entry.label,
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def batch(self, start: int, stop: int) -> Batch:
        """Return the samples ``start`` to ``stop`` (not included, may lie past the end), stacked.

        Raises:
            IndexError: there is no sample in that range.
            ImageSetError: an image or a mask is corrupt, or their sizes differ.
        """
        samples = [self[index] for index in range(*slice(start, stop).indices(len(self)))]
        if not samples:
            msg = f"no samples from {start} to {stop} in an image set of {len(self)}"
            raise IndexError(msg)
        masks = [sample.mask for sample in samples if sample.mask is not None]
        return Batch(
            names=tuple(sample.name for sample in samples),
            images=np.stack([sample.image for sample in samples]),
            masks=np.stack(masks) if masks else None,
            labels=tuple(sample.label for sample in samples),
        )

    def head(self, limit: int) -> ImageSet:
        """Return the first ``limit`` samples as a set; all of them if there are fewer.

        Raises:
            ImageSetError: ``limit`` is below 1.
        """
        if limit < 1:
            msg = f"{self._name}: limit is {limit}; expected at least 1, or none for all images"
            raise ImageSetError(msg)
        return ImageSet(
            self._entries[:limit],
            name=self._name,
            transform=self._transform,
            classes=self._classes,
        )

    def check_labels(self, num_classes: int) -> None:
        """Check that a classifier of ``num_classes`` classes has every label of the set.

        Raises:
            ImageSetError: a label is ``num_classes`` or more; the message says where it stands.
        """
        for entry in self._entries:
            if entry.label is not None and entry.label >= num_classes:
                msg = (
                    f"{entry.origin}: label {entry.label} of {entry.name!r} is out of range; the "
                    f"classifier has {num_classes} classes, 0 to {num_classes - 1}"
                )
                raise ImageSetError(msg)

    def digest(self, index: int) -> str:
        """Return the SHA-256 of one sample's image and mask, decoded and transformed."""
        return self[index].digest()

    def emptied_masks(self) -> tuple[str, ...]:
        """Return the names of the images whose mask the transform emptied.

        The object was too small or lay outside the crop. Such a sample stays in the set with its
        empty mask. A mask that is empty on disk is not listed. Every mask is decoded.
        """
        return tuple(entry.name for entry in self._entries if self._is_emptied(entry))

    def _is_emptied(self, entry: Entry) -> bool:
        if entry.read_mask is None:
            return False
        mask = entry.read_mask()
        _, cut = cut_out(self._transform, np.empty((3, *mask.shape), np.float32), mask)
        return bool(mask.any()) and not transform_mask(self._transform, cut).any()


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)
