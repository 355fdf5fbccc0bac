"""What a set of images is: a lazy sequence in a fixed order, with what is known of each."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xai_core.arrays import Bool
from xai_core.errors import ImageSetError, ParameterError, ShapeError
from xai_core.imageset.background import Background, Indices, as_background, require_classes
from xai_core.imageset.sample import Batch, Sample
from xai_core.imageset.transform import (
    OffCenterCrop,
    Pixels,
    Transform,
    transform_background,
    transform_image,
    transform_mask,
    window_of,
)


@dataclass(frozen=True)
class Entry:
    """One image that is not yet decoded: what a loader puts into an ``ImageSet``.

    Attributes:
        name: unique in its set.
        label: index of the class, None where unknown.
        read_image: decodes bytes ``[H, W, 3]`` or float32 ``[3, H, W]``, before the transform.
        read_mask: decodes bool ``[H, W]``, before the transform; None without a mask.
        origin: where the image and its label stand, for error messages.
        read_background: decodes the background's indices ``[H, W]``, before the transform; None
            without them.
        group: name of the photograph that it is of; None where it is of no other's.
    """

    name: str
    label: int | None
    read_image: Callable[[], Pixels]
    read_mask: Callable[[], Bool] | None
    origin: str
    read_background: Callable[[], Indices] | None = None
    group: str | None = None


class ImageSet:
    """A lazy sequence of samples, always in the order of their names.

    The order is that of Python's strings (by code point), whatever the order of the directory,
    of ``labels.csv`` or of the factory. Pixels are decoded and transformed when a sample is
    asked for, each time anew, and always with the same result.

    Args:
        entries: the images, in any order.
        name: of the set, for reports.
        transform: brings every image, its mask and its background to one size.
        classes: index of a class -> its name, where known.
        background_classes: index of a class of background -> its name, where entries read one.
        masks_from: what predicted the masks; None where they are annotated, or there are none.

    Raises:
        ImageSetError: no image, two of the same name, a negative label, an empty group, masks or
            backgrounds for some images only, or backgrounds without the names of their classes.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        *,
        name: str,
        transform: Transform,
        classes: Mapping[int, str] | None = None,
        background_classes: Mapping[int, str] | None = None,
        masks_from: str | None = None,
    ) -> None:
        self._entries = tuple(sorted(entries, key=operator.attrgetter("name")))
        self._name = name
        self._transform = transform
        self._classes = dict(classes or {})
        self._background_classes = dict(background_classes or {})
        self._masks_from = masks_from
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
            if entry.group is not None and not entry.group.strip():
                msg = (
                    f"{entry.origin}: the group of {entry.name!r} is empty; name the photograph "
                    "that it is of, which may be of itself alone"
                )
                raise ImageSetError(msg)
        self._require_alike("mask", [entry.read_mask is not None for entry in self._entries])
        annotated = [entry.read_background is not None for entry in self._entries]
        self._require_alike("background", annotated)
        if annotated[0]:
            try:
                require_classes(self._background_classes)
            except ParameterError as error:
                msg = f"{name}: {error}"
                raise ImageSetError(msg) from None

    def _require_alike(self, what: str, there: Sequence[bool]) -> None:
        if len(set(there)) > 1:
            bare, other = self._entries[there.index(False)], self._entries[there.index(True)]
            msg = (
                f"{bare.origin}: {bare.name!r} has no {what} while {other.name!r} has one; "
                f"give every image a {what}, or none"
            )
            raise ImageSetError(msg)

    @property
    def name(self) -> str:
        """Name of the set, e.g. of its folder."""
        return self._name

    @property
    def transform(self) -> Transform:
        """What brings each image, its mask and its background to one size."""
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
    def groups(self) -> tuple[str, ...] | None:
        """Names of the photographs that the samples are of, in order; nothing is decoded.

        Several crops or versions of one photograph say little more than one of them does: all
        statistics count their mean once. A sample without a group is a photograph of its own name;
        None where no sample has a group.
        """
        if all(entry.group is None for entry in self._entries):
            return None
        return tuple(entry.group or entry.name for entry in self._entries)

    @property
    def classes(self) -> dict[int, str]:
        """Index of a class -> its name, where known."""
        return dict(self._classes)

    @property
    def background_classes(self) -> dict[int, str]:
        """Index of a class of background -> its name; empty where no background is annotated."""
        return dict(self._background_classes)

    @property
    def has_masks(self) -> bool:
        """Whether every sample has a mask; otherwise none has."""
        return self._entries[0].read_mask is not None

    @property
    def masks_from(self) -> str | None:
        """What predicted the masks; None where they are annotated, or there are none."""
        return self._masks_from

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<ImageSet {self._name!r}: {len(self)} images, {self._transform}>"

    def __getitem__(self, index: int) -> Sample:
        """Decode and transform one sample; negative indices count from the end.

        Raises:
            IndexError: no such sample.
            ImageSetError: the image, the mask or the background is corrupt, or their sizes
                differ.
        """
        entry = self._entries[index]
        pixels = entry.read_image()
        mask = None if entry.read_mask is None else entry.read_mask()
        indices = None if entry.read_background is None else entry.read_background()
        # Bytes have their channels last, floats first.
        shape = pixels.shape[:2] if pixels.dtype == np.uint8 else pixels.shape[1:]
        for what, drawn in (("mask", mask), ("background", indices)):
            if drawn is not None and drawn.shape != shape:
                msg = (
                    f"{entry.origin}: the {what} of {entry.name!r} is {_size(drawn.shape)} and its "
                    f"image {_size(shape)} (height x width, upright); make the {what} from this "
                    "image"
                )
                raise ImageSetError(msg)
        if mask is None and isinstance(self._transform, OffCenterCrop):
            msg = (
                f"{entry.origin}: {entry.name!r} has no mask, without which off-center-crop does "
                "not know where its object is; use resize or center-crop"
            )
            raise ImageSetError(msg)
        window = window_of(self._transform, mask)
        pixels = pixels[window] if pixels.dtype == np.uint8 else pixels[:, *window]
        return Sample(
            name=entry.name,
            image=transform_image(self._transform, pixels),
            mask=None if mask is None else transform_mask(self._transform, mask[window]),
            label=entry.label,
            group=entry.group,
            background=None if indices is None else self._background(entry, indices[window]),
        )

    def _background(self, entry: Entry, indices: Indices) -> Background:
        moved = transform_background(self._transform, indices)
        try:
            return Background(moved, self._background_classes)
        except ShapeError as error:
            msg = f"{entry.origin} ({entry.name!r}): {error}"
            raise ImageSetError(msg) from None

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def batch(self, start: int, stop: int) -> Batch:
        """Return the samples ``start`` to ``stop`` (not included, may lie past the end), stacked.

        Raises:
            IndexError: there is no sample in that range.
            ImageSetError: an image, a mask or a background is corrupt, or their sizes differ.
        """
        samples = [self[index] for index in range(*slice(start, stop).indices(len(self)))]
        if not samples:
            msg = f"no samples from {start} to {stop} in an image set of {len(self)}"
            raise IndexError(msg)
        masks = [sample.mask for sample in samples if sample.mask is not None]
        backgrounds = [sample.background for sample in samples if sample.background is not None]
        return Batch(
            names=tuple(sample.name for sample in samples),
            images=np.stack([sample.image for sample in samples]),
            masks=np.stack(masks) if masks else None,
            labels=tuple(sample.label for sample in samples),
            background=as_background(backgrounds) if backgrounds else None,
        )

    def head(self, limit: int) -> ImageSet:
        """Return the first ``limit`` samples as a set; all of them if there are fewer.

        Raises:
            ImageSetError: ``limit`` is below 1.
        """
        if limit < 1:
            msg = f"{self._name}: limit is {limit}; expected at least 1, or none for all images"
            raise ImageSetError(msg)
        return self._part(self._entries[:limit])

    def subset(self, rows: Iterable[int]) -> ImageSet:
        """Return some of the samples as a set, in the order of their names.

        Args:
            rows: their places in this set, in any order, each once.

        Raises:
            ImageSetError: there are none, or one is given twice.
            IndexError: no such sample.
        """
        return self._part([self._entries[row] for row in rows])

    def of_label(self, label: int) -> ImageSet:
        """Return the samples of one class as a set.

        Raises:
            ImageSetError: there is none.
        """
        own = [entry for entry in self._entries if entry.label == label]
        if not own:
            name = f" ({self._classes[label]})" if label in self._classes else ""
            counts = Counter(entry.label for entry in self._entries if entry.label is not None)
            there = ", ".join(f"{known} ({count})" for known, count in sorted(counts.items()))
            msg = (
                f"{self._name}: none of its {len(self)} images has the label {label}{name}; "
                f"labels there: {there or 'none'}"
            )
            raise ImageSetError(msg)
        return self._part(own)

    def with_masks(
        self, mask_of: Callable[[Entry], Callable[[], Bool]], *, source: str
    ) -> ImageSet:
        """Return the samples with predicted masks; the set's ``masks_from`` is ``source``.

        Args:
            mask_of: gives for each entry what predicts its mask, before the transform.
            source: what predicts them, for reports.

        Raises:
            ImageSetError: the set has masks already.
        """
        if self.has_masks:
            msg = f"{self._name}: has masks already; {source} would take their place"
            raise ImageSetError(msg)
        masked = [replace(entry, read_mask=mask_of(entry)) for entry in self._entries]
        return self._part(masked, masks_from=source)

    def _part(self, entries: Sequence[Entry], *, masks_from: str | None = None) -> ImageSet:
        return ImageSet(
            entries,
            name=self._name,
            transform=self._transform,
            classes=self._classes,
            background_classes=self._background_classes,
            masks_from=masks_from or self._masks_from,
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
        """Return the SHA-256 of one sample's image, mask and background, transformed."""
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
        seen = mask[window_of(self._transform, mask)]
        return bool(mask.any()) and not transform_mask(self._transform, seen).any()


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)
