"""The classifier: two primitives that every explainer and metric is built on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol, overload, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


class Gradients(NamedTuple):
    """What one call of `Classifier.gradients` gives for a batch.

    Attributes:
        logits: the targets' logits (before the softmax), ``[N]``.
        activations: the tensor that the gradient is taken at: the images themselves,
            ``[N, 3, H, W]``, or the layer's output as ``[N, C, h, w]``.
        gradients: d logit / d activations, same shape.
    """

    logits: Tensor
    activations: Tensor
    gradients: Tensor


class Passes:
    """How many images went through a classifier since it was made.

    Attributes:
        forwards: images scored without gradients.
        gradients: images whose gradient was taken, a forward and a backward pass each.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self.gradients = 0
        self._watchers: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"Passes({self.forwards} forwards, {self.gradients} gradients)"

    @property
    def total(self) -> int:
        """Images that went through, with or without gradients."""
        return self.forwards + self.gradients

    def count(self, *, forwards: int = 0, gradients: int = 0) -> None:
        """Add images that went through, and tell the innermost of those who watch."""
        self.forwards += forwards
        self.gradients += gradients
        if self._watchers:
            self._watchers[-1]()

    @contextmanager
    def watched(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call ``tell`` after every pass while the context, and none inside it, is open."""
        self._watchers.append(tell)
        try:
            yield
        finally:
            self._watchers.remove(tell)


@runtime_checkable
class Classifier(Protocol):
    """A model with its normalisation inside.

    Images are RGB in [0, 1] before normalisation, float32 ``[N, 3, H, W]``. Results live on the
    classifier's device. Both primitives split what they get into batches of at most
    ``batch_size`` images, so peak memory follows the batch and not the number of images; given
    an iterable of batches they stream.

    Attributes:
        name: how reports call it.
        size: height and width that it was made for.
        num_classes: number of classes, K.
        mean: the RGB colour that normalisation maps to zero (black where there is none).
        fingerprint: digest of weights and normalisation.
        device: torch device name that it computes on.
        passes: exact count of the images that went through.
    """

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def mean(self) -> tuple[float, float, float]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def passes(self) -> Passes: ...
    def batch_size(self, height: int, width: int) -> int:
        """Return how many images of that size one pass takes at most."""
        ...

    def scores(self, images: Tensor | Iterable[Tensor]) -> Tensor:
        """Return softmax probabilities ``[N, K]``; forward only, no autograd."""
        ...

    def logits(self, images: Tensor | Iterable[Tensor]) -> Tensor:
        """Return the values before the softmax ``[N, K]``; forward only, no autograd."""
        ...

    @overload
    def gradients(self, images: Tensor, targets: Tensor, at: str | None = None) -> Gradients: ...
    @overload
    def gradients(
        self, images: Iterable[tuple[Tensor, Tensor]], targets: None = None, at: str | None = None
    ) -> Iterator[Gradients]: ...
    def gradients(
        self,
        images: Tensor | Iterable[tuple[Tensor, Tensor]],
        targets: Tensor | None = None,
        at: str | None = None,
    ) -> Gradients | Iterator[Gradients]:
        """Return the gradient of the targets' logits with respect to the images or a layer.

        Args:
            images: ``[N, 3, H, W]``; or an iterable of (images, targets) batches, which are
                then taken one by one, as they are, and answered by an iterator.
            targets: class indices ``[N]``.
            at: None for the images, else a layer's name; the backward pass stops there.
        """
        ...

    def default_layer(self) -> str:
        """Return the name of the last layer that still has space, after its ReLU."""
        ...
