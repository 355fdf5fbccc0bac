"""What a layer says of images, as vectors: computed once for each image, layer and weights.

Everything is kept by content: the classifier's fingerprint, a digest of the image, the layer
and the parameters. Names have no part in it, so a new model under an old name starts afresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xai_core.arrays import Float32, Float64
from xai_core.classifier import Classifier
from xai_core.classifier.layered import with_layers
from xai_core.concepts.layer_gradients import layer_integrated_gradients
from xai_core.errors import ConceptError
from xai_core.imageset import ImageSet, pixel_digest
from xai_core.parameters import identity, require

T = TypeVar("T")
Kind = Literal["activations", "gradcam", "integrated_gradients"]
Pooling = Literal["mean", "flatten"]


@dataclass(frozen=True)
class LayerFeatures:
    """How the activations of one layer become a vector for each image.

    Args:
        kind: ``activations`` as they are [Kim 2018]; ``gradcam``: each channel times Grad-CAM's
            weight of it for the class (the mean over positions of the gradient of the class's
            *logit*) on the image itself; ``integrated_gradients``: the layer's integrated
            gradients for the class, from activations of zero.
        pooling: ``mean`` over positions, ``[C]``; ``flatten`` keeps them, ``[C h w]``.
        steps: of the integrated gradients.
    """

    kind: Kind = "activations"
    pooling: Pooling = "mean"
    steps: int = 20

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"`steps` must be 1 or more, got {self.steps}")


@dataclass(frozen=True)
class ClassGradients:
    """The gradients of one class's logit on its images.

    Attributes:
        gradients: by pooled activations (summed over positions, so that moving every position
            by ``v`` changes the logit by ``gradients . v``) or by flattened ones, float64
            ``[N, d]``.
        logits: of the class, float64 ``[N]``.
    """

    gradients: Float64
    logits: Float64


class FeatureStore:
    """The features, gradients and logits of images, each computed once.

    Kept for each image by its pixels, so that sets which share images share what is known of
    them.

    Args:
        classifier: a torch classifier, whose layers can be read.

    Raises:
        ClassifierError: its layers cannot be read (ONNX).
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._layers = with_layers(classifier, "TCAV")
        self._rows: dict[tuple[object, ...], npt.NDArray[Any]] = {}
        self._kept: dict[tuple[object, ...], Any] = {}
        self._digests: WeakKeyDictionary[ImageSet, tuple[str, ...]] = WeakKeyDictionary()

    def digest(self, images: ImageSet) -> str:
        """Return a SHA-256 of the pixels of a set, in order; names have no part in it."""
        return hashlib.sha256("".join(self._image_digests(images)).encode()).hexdigest()

    def features(
        self, images: ImageSet, at: str, how: LayerFeatures, target: int | None = None
    ) -> Float32:
        """Return the features of a set, float32 ``[n, d]``.

        Args:
            images: the set.
            at: name of the layer.
            how: kind and pooling.
            target: the class, which the kinds other than ``activations`` depend on.

        Raises:
            ConceptError: a kind that depends on a class, without one.
        """
        of_class = None if how.kind == "activations" else target
        parameters = how.pooling if how.kind == "activations" else identity("features", how)

        def compute(batch: Tensor) -> Float32:
            found = self._weighted(batch, at, how, of_class)
            pooled = found.mean(dim=(2, 3)) if how.pooling == "mean" else found.flatten(1)
            return pooled.cpu().numpy().astype(np.float32)

        found: Float32 = self._of_each(images, ("features", at, parameters, of_class), compute)
        return found

    def gradients(self, images: ImageSet, at: str, target: int, pooling: Pooling) -> ClassGradients:
        """Return the gradients of the logit of ``target`` on the images of a set."""

        def compute(batch: Tensor) -> Float64:
            found = self.classifier.gradients(batch, _targets(batch, target), at=at)
            flat = found.gradients
            flat = flat.sum(dim=(2, 3)) if pooling == "mean" else flat.flatten(1)
            joined = torch.cat([flat, found.logits[:, None]], dim=1)
            return joined.double().cpu().numpy()

        rows = self._of_each(images, ("gradients", at, target, pooling), compute)
        return ClassGradients(rows[:, :-1], rows[:, -1])

    def logits(self, images: ImageSet) -> Float64:
        """Return all logits of a set, float64 ``[n, K]``."""

        def compute(batch: Tensor) -> Float64:
            return self.classifier.logits(batch).double().cpu().numpy()

        found: Float64 = self._of_each(images, ("logits",), compute)
        return found

    def once(self, key: tuple[object, ...], compute: Callable[[], T]) -> T:
        """Return what ``compute`` makes, kept under ``key`` and the weights' fingerprint."""
        key = (self.classifier.fingerprint, *key)
        if key not in self._kept:
            self._kept[key] = compute()
        found: T = self._kept[key]
        return found

    def _weighted(self, batch: Tensor, at: str, how: LayerFeatures, target: int | None) -> Tensor:
        if how.kind == "activations":
            return self._layers.activations(batch, at)
        if target is None:
            msg = f"features of kind {how.kind!r} belong to a class: give `target`"
            raise ConceptError(msg)
        targets = _targets(batch, target)
        if how.kind == "integrated_gradients":
            found = layer_integrated_gradients(
                self.classifier, batch.numpy(), targets.numpy(), at, steps=how.steps
            )
            return torch.from_numpy(found)
        gradients = self.classifier.gradients(batch, targets, at=at)
        return gradients.gradients.mean(dim=(2, 3), keepdim=True) * gradients.activations

    def _image_digests(self, images: ImageSet) -> tuple[str, ...]:
        if images not in self._digests:
            self._digests[images] = tuple(pixel_digest(sample.image) for sample in images)
        return self._digests[images]

    def _of_each(
        self,
        images: ImageSet,
        what: tuple[object, ...],
        compute: Callable[[Tensor], npt.NDArray[Any]],
    ) -> npt.NDArray[Any]:
        """Return one row for each image, computed in full batches for those not known yet."""
        keys = [
            (self.classifier.fingerprint, *what, digest) for digest in self._image_digests(images)
        ]
        missing = [index for index, key in enumerate(keys) if key not in self._rows]
        step = self.classifier.batch_size(*images.transform.size)
        for start in range(0, len(missing), step):
            part = missing[start : start + step]
            batch = torch.from_numpy(np.stack([images[index].image for index in part]))
            for index, row in zip(part, compute(batch), strict=True):
                self._rows[keys[index]] = row
        return np.stack([self._rows[key] for key in keys])


def _targets(batch: Tensor, target: int) -> Tensor:
    return torch.full((len(batch),), target, dtype=torch.int64)
