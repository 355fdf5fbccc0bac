"""Metrics: how good an explanation is, one float64 per image, one room a question.

PYTEST_DONT_REWRITE
"""

from xai_core.metrics.axioms import completeness
from xai_core.metrics.complexity import active_fraction, complexity, sparseness
from xai_core.metrics.declaration import (
    METRICS,
    ConfiguredMetric,
    ExplainedBy,
    Metric,
    metric,
)
from xai_core.metrics.faithfulness import (
    average_drop,
    deletion,
    deletion_curve,
    faithfulness_gap,
    increase_in_confidence,
    insertion,
    insertion_curve,
)
from xai_core.metrics.localization import (
    binarize,
    energy_pointing_game,
    iou,
    pointing_game,
    precision,
    recall,
)
from xai_core.metrics.robustness import stability

__all__ = [
    "METRICS",
    "ConfiguredMetric",
    "ExplainedBy",
    "Metric",
    "active_fraction",
    "average_drop",
    "binarize",
    "completeness",
    "complexity",
    "deletion",
    "deletion_curve",
    "energy_pointing_game",
    "faithfulness_gap",
    "increase_in_confidence",
    "insertion",
    "insertion_curve",
    "iou",
    "metric",
    "pointing_game",
    "precision",
    "recall",
    "sparseness",
    "stability",
]

# doctest passes over functions that a decorator of another module has wrapped.
__test__ = {name: declared.function for name, declared in METRICS.items()}
