"""Where an image lies in a classifier's embedding: the pooled activations of a layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from xai_core.arrays import Float32, Float64
from xai_core.classifier.layered import with_layers

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


def embeddings(
    classifier: Classifier, batches: Iterable[Float32], *, at: str | None = None
) -> Float64:
    """Return the activations of a layer, averaged over its places, float64 ``[N, C]``.

    One forward pass for each image; the activations of one pass at a time are held in memory.

    Args:
        classifier: whose layers can be read.
        batches: RGB in [0, 1], ``[n, 3, H, W]`` each, taken one by one.
        at: the layer's name; None = the classifier's default layer, the last one with space.

    Raises:
        ClassifierError: its layers cannot be reached (ONNX).
        LayerError: ``at`` names no layer, or one without space.
    """
    import torch

    layers = with_layers(classifier, "an embedding")
    layer = classifier.default_layer() if at is None else at
    pooled = []
    for batch in batches:
        step = classifier.batch_size(*batch.shape[-2:])
        for start in range(0, len(batch), step):
            images = torch.from_numpy(np.ascontiguousarray(batch[start : start + step]))
            activations = layers.activations(images.to(classifier.device), layer)
            pooled.append(activations.cpu().double().mean(dim=(2, 3)).numpy())
    return np.concatenate(pooled) if pooled else np.zeros((0, 0))
