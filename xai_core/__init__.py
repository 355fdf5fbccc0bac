"""Explain image classifiers and measure how good the explanations are.

The names below are imported when they are first used, so ``import xai_core`` alone is quick.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import xai_core.loaded  # noqa: F401 - it notes the time, before anything else is loaded

if TYPE_CHECKING:
    from xai_core.classifier import Classifier, TorchClassifier, load_classifier
    from xai_core.errors import XaiError
    from xai_core.evaluation import Evaluation, Measurement, Method
    from xai_core.explainers import EXPLAINERS, Explainer, Explanation, GradCAM, IntegratedGradients
    from xai_core.gate import Conditions, Judgement, judge
    from xai_core.imageset import Background, ImageSet, Sample, load_imageset
    from xai_core.metrics import METRICS, Metric

_HOMES = {
    "classifier": ("Classifier", "TorchClassifier", "load_classifier"),
    "errors": ("XaiError",),
    "evaluation": ("Evaluation", "Measurement", "Method"),
    "explainers": ("EXPLAINERS", "Explainer", "Explanation", "GradCAM", "IntegratedGradients"),
    "gate": ("Conditions", "Judgement", "judge"),
    "imageset": ("Background", "ImageSet", "Sample", "load_imageset"),
    "metrics": ("METRICS", "Metric"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "EXPLAINERS",
    "METRICS",
    "Background",
    "Classifier",
    "Conditions",
    "Evaluation",
    "Explainer",
    "Explanation",
    "GradCAM",
    "ImageSet",
    "IntegratedGradients",
    "Judgement",
    "Measurement",
    "Method",
    "Metric",
    "Sample",
    "TorchClassifier",
    "XaiError",
    "judge",
    "load_classifier",
    "load_imageset",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        msg = f"module 'xai_core' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"xai_core.{_HOME_OF[name]}"), name)
