"""What is recorded of a classifier, so that a later run can tell what became of it."""

from __future__ import annotations

import hashlib

from xai_core.classifier.classifier import Classifier
from xai_core.classifier.torch_backend import TorchClassifier


def weights_digest(classifier: Classifier) -> str | None:
    """Return a digest of the content of a torch model's parameters and buffers.

    Names, layers and normalisation have no part in it: it stays when a model is wrapped, and when
    its weights are loaded into other code. None of a model without weights, which is its code
    alone, and of a classifier that is no torch model.
    """
    if not isinstance(classifier, TorchClassifier) or not classifier.tensor_digests:
        return None
    listed = sorted(classifier.tensor_digests.values())
    return hashlib.sha256(" ".join(listed).encode()).hexdigest()


def normalisation_text(classifier: Classifier) -> str:
    """Return what a classifier subtracts and divides by, as messages show it.

    The standard deviation is missing of a classifier that does not say it.
    """
    std: tuple[float, ...] | None = getattr(classifier, "std", None)
    text = f"mean {_listed(classifier.mean)}"
    return text if std is None else f"{text}, std {_listed(std)}"


def _listed(colour: tuple[float, ...]) -> str:
    return " ".join(f"{part:g}" for part in colour)
