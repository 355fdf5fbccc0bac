"""Metrics: how good an explanation is, one float64 per image, one room a question.

PYTEST_DONT_REWRITE
"""

from xai_core.metrics.agreement import agreement
from xai_core.metrics.axioms import completeness, implementation_invariance, input_invariance
from xai_core.metrics.background import border_background, far_background
from xai_core.metrics.complexity import (
    active_fraction,
    complexity,
    native_active_fraction,
    native_complexity,
    native_sparseness,
    relative_complexity,
    sparseness,
)
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
from xai_core.metrics.localization import binarize, dice, iou, precision, recall
from xai_core.metrics.mprt import (
    efficient_mprt,
    mprt_cascading,
    mprt_independent,
    smooth_mprt,
)
from xai_core.metrics.objects import objects_found
from xai_core.metrics.pointing import (
    energy_pointing_game,
    pixel_ap,
    pointing_game,
    relevance_rank,
    top_k_intersection,
)
from xai_core.metrics.randomization import data_randomization, random_logit
from xai_core.metrics.robustness import (
    stability,
    stability_brightness,
    stability_jpeg,
    stability_shift,
)
from xai_core.metrics.sensitivity import average_sensitivity, local_lipschitz, max_sensitivity

__all__ = [
    "METRICS",
    "ConfiguredMetric",
    "ExplainedBy",
    "Metric",
    "active_fraction",
    "agreement",
    "average_drop",
    "average_sensitivity",
    "binarize",
    "border_background",
    "completeness",
    "complexity",
    "data_randomization",
    "deletion",
    "deletion_curve",
    "dice",
    "efficient_mprt",
    "energy_pointing_game",
    "faithfulness_gap",
    "far_background",
    "implementation_invariance",
    "increase_in_confidence",
    "input_invariance",
    "insertion",
    "insertion_curve",
    "iou",
    "local_lipschitz",
    "max_sensitivity",
    "metric",
    "mprt_cascading",
    "mprt_independent",
    "native_active_fraction",
    "native_complexity",
    "native_sparseness",
    "objects_found",
    "pixel_ap",
    "pointing_game",
    "precision",
    "random_logit",
    "recall",
    "relative_complexity",
    "relevance_rank",
    "smooth_mprt",
    "sparseness",
    "stability",
    "stability_brightness",
    "stability_jpeg",
    "stability_shift",
    "top_k_intersection",
]

# doctest passes over functions that a decorator of another module has wrapped.
__test__ = {name: declared.function for name, declared in METRICS.items()}
