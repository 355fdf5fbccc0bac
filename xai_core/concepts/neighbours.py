"""Which images of a reference set does a classifier take for the most alike to an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from xai_core.arrays import ArrayLike, Bool, Float32, Float64, Int64, as_images, as_targets
from xai_core.classifier import Classifier
from xai_core.concepts.embedding import embeddings
from xai_core.errors import ConceptError, ParameterError, ShapeError, did_you_mean
from xai_core.imageset import ImageSet, pixel_digest
from xai_core.parameters import require

Distance = Literal["cosine", "euclidean"]
"""Between two embeddings a and b: ``1 - a.b / |a||b|``, or ``|a - b|``."""

_AT_ONCE = 2**22  # numbers in memory


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest images of a reference set, nearest first.

    Attributes:
        indices: in the reference set, int64 ``[N, k]``.
        distances: in the embedding, float64 ``[N, k]``.
        names: of the images in the reference set, ``N`` times ``k``.
        labels: index of their class, None where unknown, ``N`` times ``k``.
    """

    indices: Int64
    distances: Float64
    names: tuple[tuple[str, ...], ...]
    labels: tuple[tuple[int | None, ...], ...]


def nearest(
    classifier: Classifier,
    images: ArrayLike | ImageSet,
    reference: ArrayLike | ImageSet,
    k: int = 5,
    *,
    at: str | None = None,
    distance: Distance = "cosine",
) -> Neighbours:
    """Return the ``k`` images of ``reference`` whose embeddings are nearest to each image's.

    The embedding is a layer's activations averaged over its places. An image is no neighbour of
    itself: images of the reference with exactly the same pixels are left out. Of images equally
    far the one that comes first in the reference is the nearer. One forward pass for each image;
    the reference streams, so that memory does not grow with it.

    Args:
        classifier: whose layers can be read.
        images: a set, or RGB in [0, 1], ``[N, 3, H, W]``.
        reference: a set, or RGB in [0, 1], ``[M, 3, H, W]``; an array's images are called by
            their index and have no labels.
        k: how many neighbours.
        at: the layer's name; None = the classifier's default layer.
        distance: see `Distance`.

    Raises:
        ParameterError: ``k`` below 1, or no such distance.
        ConceptError: fewer than ``k`` other images in the reference, or an image whose embedding
            is zero, which has no cosine.
        ClassifierError: the classifier's layers cannot be reached (ONNX).
        LayerError: ``at`` names no layer, or one without space.
    """
    require(k >= 1, f"`k` must be at least 1, got {k}")
    if distance not in get_args(Distance):
        msg = f"`distance`: got {distance!r}; {did_you_mean(str(distance), get_args(Distance))}"
        raise ParameterError(msg)
    asked, others = _Source.of(images, "images"), _Source.of(reference, "reference")
    points, digests = [], []
    for start, batch in asked.batches(classifier):
        points.append(_points(classifier, batch, at, distance, asked.names, start))
        digests += [pixel_digest(image) for image in batch]
    here = np.concatenate(points)

    far = np.full((len(here), k), np.inf)
    found = np.full((len(here), k), -1, dtype=np.int64)
    for start, batch in others.batches(classifier):
        there = _points(classifier, batch, at, distance, others.names, start)
        itself = np.array(digests)[:, None] == np.array([pixel_digest(image) for image in batch])
        apart = np.where(itself, np.inf, _squared_distances(here, there))
        # What was found before comes first, so a stable sort breaks ties by index.
        both = np.concatenate([far, apart], axis=1)
        indices = np.broadcast_to(np.arange(start, start + len(batch)), apart.shape)
        order = np.argsort(both, axis=1, kind="stable")[:, :k]
        far = np.take_along_axis(both, order, axis=1)
        found = np.take_along_axis(np.concatenate([found, indices], axis=1), order, axis=1)
    _require_enough(far, asked.names, others)
    return Neighbours(
        indices=found,
        distances=far / 2 if distance == "cosine" else np.sqrt(far),
        names=tuple(tuple(others.names[index] for index in row) for row in found.tolist()),
        labels=tuple(tuple(others.labels[index] for index in row) for row in found.tolist()),
    )


def neighbour_agreement(
    classifier: Classifier,
    images: ArrayLike | ImageSet,
    targets: ArrayLike,
    reference: ArrayLike | ImageSet,
    reference_labels: ArrayLike | None = None,
    k: int = 5,
    *,
    at: str | None = None,
    distance: Distance = "cosine",
) -> Float64:
    """Return the share of each image's ``k`` neighbours that have its class, float64 ``[N]``.

    Args:
        classifier: as in `nearest`.
        images: as in `nearest`.
        targets: the class of each image, ``[N]``, or one for all.
        reference: as in `nearest`.
        reference_labels: the class of each image of the reference, ``[M]``; None = the labels of
            the set.
        k: how many neighbours.
        at: as in `nearest`.
        distance: as in `nearest`.

    Raises:
        ShapeError: not one target for each image, or not one label for each of the reference.
        ConceptError: an image of the reference without a label; this and others as in `nearest`.
    """
    asked, others = _Source.of(images, "images"), _Source.of(reference, "reference")
    classes = _one_each(as_targets(targets, len(asked.names)), asked.names, "targets", "image")
    if reference_labels is None:
        unknown = [n for n, label in zip(others.names, others.labels, strict=True) if label is None]
        if unknown:
            msg = (
                f"reference: {len(unknown)} of {len(others.names)} images have no label, the first "
                f"is {unknown[0]!r}; give reference_labels=, one class for each"
            )
            raise ConceptError(msg)
        reference_labels = np.array(others.labels, dtype=np.int64)
    labels = as_targets(reference_labels, len(others.names), name="reference_labels")
    labels = _one_each(labels, others.names, "reference_labels", "image of the reference")
    neighbours = nearest(classifier, images, reference, k, at=at, distance=distance)
    agreement: Float64 = (labels[neighbours.indices] == classes[:, None]).mean(axis=1)
    return agreement


@dataclass(frozen=True)
class _Source:
    """Images that stream: of a set, or of an array."""

    images: ImageSet | Float32
    names: tuple[str, ...]
    labels: tuple[int | None, ...]

    @classmethod
    def of(cls, images: ArrayLike | ImageSet, name: str) -> _Source:
        if isinstance(images, ImageSet):
            return cls(images, images.names, images.labels)
        array = as_images(images, name=name)
        return cls(array, tuple(f"{name}[{i}]" for i in range(len(array))), (None,) * len(array))

    def batches(self, classifier: Classifier) -> Iterator[tuple[int, Float32]]:
        """Yield the batches of one pass each, with the index of their first image."""
        height, width = (
            self.images.transform.size
            if isinstance(self.images, ImageSet)
            else self.images.shape[-2:]
        )
        step = classifier.batch_size(height, width)
        for start in range(0, len(self.names), step):
            stop = start + step
            if isinstance(self.images, ImageSet):
                yield start, self.images.batch(start, stop).images
            else:
                yield start, self.images[start:stop]


def _points(
    classifier: Classifier,
    batch: Float32,
    at: str | None,
    distance: Distance,
    names: tuple[str, ...],
    start: int,
) -> Float64:
    """Return the embeddings, of length 1 for the cosine: then |a - b|^2 = 2 - 2 cos."""
    points = embeddings(classifier, [batch], at=at)
    if distance == "euclidean":
        return points
    lengths = np.sqrt(np.square(points).sum(axis=1))
    if not lengths.all():
        name = names[start + int(np.flatnonzero(lengths == 0)[0])]
        msg = (
            f"{name}: its activations at this layer are zero everywhere, and zero has no "
            "direction; use another layer or distance='euclidean'"
        )
        raise ConceptError(msg)
    scaled: Float64 = points / lengths[:, None]
    return scaled


def _squared_distances(here: Float64, there: Float64) -> Float64:
    """Return |a - b|^2 of all pairs, ``[N, M]``.

    Not by a matrix product: a pair's distance would depend on its place in the block, and images
    equally far would not tie.
    """
    apart = np.empty((len(here), len(there)))
    step = max(1, _AT_ONCE // max(1, there.size))
    for start in range(0, len(here), step):
        rows = slice(start, start + step)
        apart[rows] = np.square(here[rows, None] - there[None]).sum(axis=-1)
    return apart


def _require_enough(far: Float64, names: tuple[str, ...], reference: _Source) -> None:
    left: Bool = np.isfinite(far)
    short = np.flatnonzero(~left.all(axis=1))
    if len(short):
        row = int(short[0])
        msg = (
            f"{names[row]} has {left[row].sum()} other images in the reference of "
            f"{len(reference.names)}, asked for {far.shape[1]} neighbours; use a smaller `k` or a "
            "larger reference"
        )
        raise ConceptError(msg)


def _one_each(values: Int64, names: tuple[str, ...], what: str, whose: str) -> Int64:
    if len(values) != len(names):
        msg = f"{what}: expected {len(names)}, one for each {whose}, got {len(values)}"
        raise ShapeError(msg)
    return values
