"""What does the classifier see in each segment of an image alone?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from xai_core.arrays import Bool, Float32, Float64, Int64
from xai_core.classifier import Classifier
from xai_core.concepts.embedding import embeddings
from xai_core.concepts.segmenter import Segmenter, SlicSegmenter, distinct
from xai_core.errors import ConceptError
from xai_core.imageset import ImageSet, Resize
from xai_core.imageset.transform import transform_image
from xai_core.parameters import require

Substrate: TypeAlias = Literal["grey", "mean", "black"]
"""The colour around a segment: ACE's grey, 117 / 255; the classifier's mean colour; RGB 0."""

Placement: TypeAlias = Literal["enlarged", "in-place"]
"""Where a segment alone lies: its bounding box enlarged to the whole image, without regard to its
aspect ratio, as in ACE; or where it lay, at its own size, for a classifier that knows a texture
at one scale only.
"""

_GREY = 117 / 255


@dataclass(frozen=True)
class Cutting:
    """How images become segments alone; the defaults are ACE's [Ghorbani 2019].

    Attributes:
        segmenter: cuts each image.
        substrate: the colour of the pixels outside the segment.
        placement: where the segment lies in the image of it alone.
        smallest: share of the image that a segment must have more than.
        overlap: intersection over union above which a segment is a duplicate of one before it
            in the same image, and removed.

    Raises:
        ParameterError: a share that is below 0, or 1 or more.
    """

    segmenter: Segmenter = field(default_factory=SlicSegmenter)
    substrate: Substrate = "grey"
    placement: Placement = "enlarged"
    smallest: float = 0.001
    overlap: float = 0.5

    def __post_init__(self) -> None:
        for name in ("smallest", "overlap"):
            value = getattr(self, name)
            require(0 <= value < 1, f"`{name}` must be from 0 to below 1, got {value}")

    def segments(self, image: Float32, *, name: str) -> list[Bool]:
        """Return the segments of one image that are large enough, without duplicates.

        Raises:
            ConceptError: the segmenter gives something else than bool ``[H, W]``.
        """
        masks = self.segmenter(image)
        for mask in masks:
            if mask.shape != image.shape[1:] or mask.dtype != np.bool_:
                msg = (
                    f"{self.segmenter.name} gave a {mask.dtype} mask of shape {mask.shape} for "
                    f"{name}; expected bool of shape {image.shape[1:]}"
                )
                raise ConceptError(msg)
        large = [mask for mask in masks if mask.mean() > self.smallest]
        return [large[index] for index in distinct(large, overlap=self.overlap)]

    def alone(self, image: Float32, mask: Bool, classifier: Classifier) -> Float32:
        """Return an image of one segment alone, RGB in whole 255ths, of the classifier's size.

        Args:
            image: RGB in [0, 1], ``[3, H, W]``.
            mask: the segment, bool ``[H, W]``, not empty.
            classifier: gives the size and the mean colour.
        """
        box = slice(None), slice(None)
        if self.placement == "enlarged":
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        level = _GREY if self.substrate == "grey" else 0.0
        colour = classifier.mean if self.substrate == "mean" else (level,) * 3
        around = np.array(colour, dtype=np.float32)[:, None, None]
        segment = np.where(mask[box], image[:, *box], around)
        resized = transform_image(Resize(classifier.size), segment)
        # A PNG keeps bytes: what is saved is what was embedded.
        whole = np.round(resized * np.float32(255)) / np.float32(255)
        return np.asarray(whole, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of several images.

    Attributes:
        bits: their masks, eight pixels to a byte, ``[S, bytes]``.
        owners: index of the image in its set that each is of, int64 ``[S]``.
        points: the embedding of each alone, float64 ``[S, C]``.
        size: height and width of the images.
        images: how many images were cut, copies left out.
    """

    bits: npt.NDArray[np.uint8] = field(repr=False)
    owners: Int64
    points: Float64 = field(repr=False)
    size: tuple[int, int]
    images: int

    def masks(self, chosen: Int64) -> Bool:
        """Return the masks of some segments, bool ``[n, H, W]``."""
        pixels = self.size[0] * self.size[1]
        flat = np.unpackbits(self.bits[chosen], axis=1, count=pixels).astype(np.bool_)
        return flat.reshape(-1, *self.size)


def embedded_segments(
    classifier: Classifier,
    images: ImageSet,
    cutting: Cutting,
    *,
    at: str | None,
) -> Segments:
    """Cut images and embed every segment alone; of equal images only the first is cut.

    Args:
        classifier: whose layers can be read.
        images: decoded one at a time.
        cutting: how.
        at: the layer's name; None = the classifier's default layer.

    Raises:
        ConceptError: no segment in any image.
    """
    bits, owners, points = [], [], []
    seen: set[bytes] = set()
    for index, sample in enumerate(images):
        image = sample.image
        if (content := hashlib.sha256(image.tobytes()).digest()) in seen:
            continue
        seen.add(content)
        masks = cutting.segments(image, name=sample.name)
        if masks:
            batches = _batches(classifier, image, masks, cutting)
            points.append(embeddings(classifier, batches, at=at))
            bits.append(np.stack([np.packbits(mask) for mask in masks]))
            owners += [index] * len(masks)
    if not points:
        msg = f"{images.name}: {cutting.segmenter.name} found no segment in {len(seen)} images"
        raise ConceptError(msg)
    height, width = image.shape[1:]
    return Segments(
        np.concatenate(bits),
        np.array(owners, dtype=np.int64),
        np.concatenate(points),
        (height, width),
        len(seen),
    )


def images_alone(
    classifier: Classifier, images: ImageSet, segments: Segments, chosen: Int64, cutting: Cutting
) -> dict[int, Float32]:
    """Return segment -> the image of it alone, for some segments; each image is decoded once."""
    alone: dict[int, Float32] = {}
    for owner in np.unique(segments.owners[chosen]).tolist():
        image = images[owner].image
        mine = chosen[segments.owners[chosen] == owner]
        for index, mask in zip(mine.tolist(), segments.masks(mine), strict=True):
            alone[index] = cutting.alone(image, mask, classifier)
    return alone


def _batches(
    classifier: Classifier, image: Float32, masks: list[Bool], cutting: Cutting
) -> Iterator[Float32]:
    step = classifier.batch_size(*classifier.size)
    for start in range(0, len(masks), step):
        some = masks[start : start + step]
        yield np.stack([cutting.alone(image, mask, classifier) for mask in some])
