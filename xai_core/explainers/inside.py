"""The torch module itself, for explainers that change how it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from xai_core.arrays import Float32, Int64
from xai_core.errors import ClassifierError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xai_core.classifier import Classifier


@runtime_checkable
class HasModule(Protocol):
    """A classifier that gives a copy of its torch module away."""

    def private_module(self, *, folded: bool = False) -> nn.Module:
        """Return a fresh copy that maps RGB in [0, 1] to logits, to do anything to."""
        ...


def private_module(classifier: Classifier, kind: str, *, folded: bool = False) -> nn.Module:
    """Return a fresh copy of the classifier's module for the explainer ``kind``.

    Its child ``model`` is the user's model, after the normalisation. ``folded``: convolutions
    absorb the batch norm after them, where the model can be traced.

    Raises:
        ClassifierError: the classifier has no torch module (ONNX).
    """
    if isinstance(classifier, HasModule):
        return classifier.private_module(folded=folded)
    msg = (
        f"{kind} works inside a torch module, which {classifier.name} "
        f"({type(classifier).__name__}) does not have; use an explainer that needs scores alone"
    )
    raise ClassifierError(msg)


def in_batches(
    classifier: Classifier,
    images: Float32,
    targets: Int64,
    attribute: Callable[[Tensor, Tensor], Tensor],
    *,
    share: int = 1,
) -> Float32:
    """Return what ``attribute(images, targets)`` gives, one full batch after the other.

    Args:
        classifier: says how many images a batch takes, and the device.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: class indices ``[N]``.
        attribute: maps images and targets on the device to a tensor ``[n, ...]``.
        share: images that run through the model for each image explained; the batch is as much
            smaller.
    """
    step = max(1, classifier.batch_size(*images.shape[-2:]) // share)
    parts = []
    for start in range(0, len(images), step):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + step]))
        classes = torch.from_numpy(np.ascontiguousarray(targets[start : start + step]))
        result = attribute(batch.to(classifier.device), classes.to(classifier.device))
        parts.append(result.detach().to("cpu", torch.float32).numpy())
    return np.ascontiguousarray(np.concatenate(parts)) if parts else np.zeros_like(images)
