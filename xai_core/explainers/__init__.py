"""Explainers: one file per family, each explainer a frozen dataclass of its parameters.

PYTEST_DONT_REWRITE
"""

from xai_core.explainers.cam import GradCAM
from xai_core.explainers.explanation import Complete, Explainer, Explanation, reduce_channels
from xai_core.explainers.nulls import (
    NULL_MAPS,
    CentreMap,
    InvertedMap,
    RandomMap,
    SobelMap,
    null_maps,
)
from xai_core.explainers.path import IntegratedGradients
from xai_core.explainers.registry import EXPLAINERS, build_explainer, parse_explainer

__all__ = [
    "EXPLAINERS",
    "NULL_MAPS",
    "CentreMap",
    "Complete",
    "Explainer",
    "Explanation",
    "GradCAM",
    "IntegratedGradients",
    "InvertedMap",
    "RandomMap",
    "SobelMap",
    "build_explainer",
    "null_maps",
    "parse_explainer",
    "reduce_channels",
]
