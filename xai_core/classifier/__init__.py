"""Classifiers: the two primitives, their back ends, and loading by name, path or factory.

PYTEST_DONT_REWRITE
"""

from xai_core.classifier.classifier import Classifier, Gradients, Passes
from xai_core.classifier.loading import load_classifier, preset_of
from xai_core.classifier.preset import Normalization, Preset
from xai_core.classifier.provenance import normalisation_text, weights_digest
from xai_core.classifier.torch_backend import TorchClassifier
from xai_core.classifier.weight_sources import weights_by_model

__all__ = [
    "Classifier",
    "Gradients",
    "Normalization",
    "Passes",
    "Preset",
    "TorchClassifier",
    "load_classifier",
    "normalisation_text",
    "preset_of",
    "weights_by_model",
    "weights_digest",
]
