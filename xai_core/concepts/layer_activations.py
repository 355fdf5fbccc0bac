"""The activations of an image set at one layer, batch by batch, as often as they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from xai_core.classifier.layered import with_layers

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier
    from xai_core.imageset import ImageSet

_MOST_BYTES = 2**29  # larger ones are computed anew each time


class LayerActivations:
    """An iterable of activations ``[n, C, h, w]``, computed once where all of them fit.

    Up to half a gibibyte is kept; a larger set's are computed anew in every iteration.

    Args:
        classifier: a torch classifier.
        images: the set, decoded a batch at a time.
        at: name of the layer.

    Raises:
        ClassifierError: the classifier's layers cannot be reached.
    """

    def __init__(self, classifier: Classifier, images: ImageSet, at: str) -> None:
        self.images = images
        self._layers = with_layers(classifier, "a concept map", instead="a torch model")
        self._step = classifier.batch_size(*images.transform.size)
        self._at = at
        self._kept: list[Tensor] | None = None

    def __iter__(self) -> Iterator[Tensor]:
        if self._kept is not None:
            yield from self._kept
            return
        seen: list[Tensor] = []
        size = 0
        for start in range(0, len(self.images), self._step):
            batch = torch.from_numpy(self.images.batch(start, start + self._step).images)
            activations = self._layers.activations(batch, self._at)
            size += activations.nbytes
            seen = [*seen, activations] if size <= _MOST_BYTES else []
            yield activations
        if size <= _MOST_BYTES:
            self._kept = seen
