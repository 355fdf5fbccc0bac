"""The images of a set a batch at a time, decoded once where memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from xai_core.arrays import Int64
from xai_core.imageset import Batch, ImageSet, Sample
from xai_core.imageset.background import as_background

MOST_DECODED_BYTES = 2**30
"""Larger sets are decoded anew for every pass."""


def decoded_bytes(images: ImageSet) -> int:
    """Return how much memory the decoded images of a set take."""
    height, width = images.transform.size
    return len(images) * 3 * height * width * 4


class Decoding:
    """Batches of an image set.

    Args:
        images: the set.
        step: how many images a batch has at most.
        most_bytes: larger sets are decoded anew for every pass.
    """

    def __init__(
        self, images: ImageSet, step: int, *, most_bytes: int = MOST_DECODED_BYTES
    ) -> None:
        self._images = images
        self._step = step
        self._keeps = decoded_bytes(images) <= most_bytes
        self._decoded: dict[int, Batch] = {}

    def batches(self, rows: Int64) -> Iterator[tuple[Int64, Batch]]:
        """Yield the images ``rows``, in ascending order, in full batches with their rows."""
        start, decoded = -1, None
        for first in range(0, len(rows), self._step):
            chunk = rows[first : first + self._step]
            starts = chunk // self._step * self._step
            parts = []
            for wanted in np.unique(starts).tolist():
                if decoded is None or start != wanted:
                    start, decoded = wanted, self._batch(wanted)
                parts.append(_taken(decoded, chunk[starts == wanted] - wanted))
            yield chunk, _joined(parts)

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of every image with its mask and background, in order."""
        found = []
        for _, batch in self.batches(np.arange(len(self._images))):
            for row, name in enumerate(batch.names):
                mask = None if batch.masks is None else batch.masks[row]
                background = None if batch.background is None else batch.background[row]
                sample = Sample(name, batch.images[row], mask, background=background)
                found.append(sample.digest())
        return found

    def _batch(self, start: int) -> Batch:
        batch = self._decoded.get(start) or self._images.batch(start, start + self._step)
        if self._keeps:
            self._decoded[start] = batch
        return batch


def _taken(batch: Batch, rows: Int64) -> Batch:
    if len(rows) == len(batch.names):
        return batch
    return Batch(
        names=tuple(batch.names[row] for row in rows),
        images=batch.images[rows],
        masks=None if batch.masks is None else batch.masks[rows],
        labels=tuple(batch.labels[row] for row in rows),
        background=None if batch.background is None else batch.background[rows],
    )


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    masks = [part.masks for part in parts if part.masks is not None]
    backgrounds = [
        part.background[row]
        for part in parts
        if part.background is not None
        for row in range(len(part.names))
    ]
    return Batch(
        names=tuple(name for part in parts for name in part.names),
        images=np.concatenate([part.images for part in parts]),
        masks=np.concatenate(masks) if masks else None,
        labels=tuple(label for part in parts for label in part.labels),
        background=as_background(backgrounds) if backgrounds else None,
    )
