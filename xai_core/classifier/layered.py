"""Classifiers whose layers can be read and overwritten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from xai_core.errors import ClassifierError

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier.classifier import Classifier, Gradients


@runtime_checkable
class HasLayers(Protocol):
    """A classifier whose layers can be read and overwritten."""

    def activations(self, images: Tensor, at: str) -> Tensor:
        """Return a layer's output ``[N, C, h, w]``; forward only."""
        ...

    def logits_from(self, image: Tensor, at: str, activations: Iterable[Tensor]) -> Tensor:
        """Return the logits that one image would get if a layer gave other outputs."""
        ...

    def gradients_from(
        self, image: Tensor, target: int, at: str, activations: Iterable[Tensor]
    ) -> Iterator[Gradients]:
        """Yield the gradients that one image would get at a layer if that gave other outputs."""
        ...


def with_layers(
    classifier: Classifier, what: str, *, instead: str = "an explainer that needs scores alone"
) -> HasLayers:
    """Return the classifier as one whose layers can be read and overwritten.

    Args:
        classifier: any.
        what: the method that reads them, for the message.
        instead: what to use where they cannot be reached, for the message.

    Raises:
        ClassifierError: its layers cannot be reached (ONNX).
    """
    if isinstance(classifier, HasLayers):
        return classifier
    msg = (
        f"{what} reads the layers of a torch model, which {classifier.name} "
        f"({type(classifier).__name__}) does not show; use {instead}"
    )
    raise ClassifierError(msg)
