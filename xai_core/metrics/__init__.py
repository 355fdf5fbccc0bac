"""Metrics: how good an explanation is, one float64 per image, one room a question.

PYTEST_DONT_REWRITE
"""

from xai_core.metrics.agreement import agreement
from xai_core.metrics.alignment import concept_correlation, concept_energy, concept_iou
from xai_core.metrics.axioms import completeness, implementation_invariance, input_invariance
from xai_core.metrics.background import background_class, border_background, far_background
from xai_core.metrics.complexity import (
    active_fraction,
    complexity,
    native_active_fraction,
    native_complexity,
    native_sparseness,
    relative_complexity,
    sparseness,
)
from xai_core.metrics.correlation import faithfulness_correlation, monotonicity
from xai_core.metrics.curves import deletion_curve, insertion_curve
from xai_core.metrics.declaration import (
    METRICS,
    ConfiguredMetric,
    ExplainedBy,
    Metric,
    WholeSet,
    metric,
)
from xai_core.metrics.faithfulness import (
    deletion,
    effective_complexity,
    faithfulness_gap,
    insertion,
    pixel_flipping,
)
from xai_core.metrics.infidelity import heatmap_infidelity, infidelity, infidelity_noise
from xai_core.metrics.irof import irof
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
from xai_core.metrics.road import road, road_lerf, road_morf
from xai_core.metrics.robustness import (
    stability,
    stability_brightness,
    stability_jpeg,
    stability_shift,
)
from xai_core.metrics.sensitivity import average_sensitivity, local_lipschitz, max_sensitivity
from xai_core.metrics.shading import average_drop, average_gain, increase_in_confidence
from xai_core.metrics.sufficiency import sufficiency

__all__ = [
    "METRICS",
    "ConfiguredMetric",
    "ExplainedBy",
    "Metric",
    "WholeSet",
    "active_fraction",
    "agreement",
    "average_drop",
    "average_gain",
    "average_sensitivity",
    "background_class",
    "binarize",
    "border_background",
    "completeness",
    "complexity",
    "concept_correlation",
    "concept_energy",
    "concept_iou",
    "data_randomization",
    "deletion",
    "deletion_curve",
    "dice",
    "effective_complexity",
    "efficient_mprt",
    "energy_pointing_game",
    "faithfulness_correlation",
    "faithfulness_gap",
    "far_background",
    "heatmap_infidelity",
    "implementation_invariance",
    "increase_in_confidence",
    "infidelity",
    "infidelity_noise",
    "input_invariance",
    "insertion",
    "insertion_curve",
    "iou",
    "irof",
    "local_lipschitz",
    "max_sensitivity",
    "metric",
    "monotonicity",
    "mprt_cascading",
    "mprt_independent",
    "native_active_fraction",
    "native_complexity",
    "native_sparseness",
    "objects_found",
    "pixel_ap",
    "pixel_flipping",
    "pointing_game",
    "precision",
    "random_logit",
    "recall",
    "relative_complexity",
    "relevance_rank",
    "road",
    "road_lerf",
    "road_morf",
    "smooth_mprt",
    "sparseness",
    "stability",
    "stability_brightness",
    "stability_jpeg",
    "stability_shift",
    "sufficiency",
    "top_k_intersection",
]

# doctest passes over functions that a decorator of another module has wrapped.
__test__ = {name: declared.function for name, declared in METRICS.items()}
