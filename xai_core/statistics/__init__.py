"""How sure a mean over images is, and what that says about a threshold or an earlier run.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from xai_core.statistics.clusters import cluster_means, defined_cluster_means, exact_mean
from xai_core.statistics.comparison import Comparison, compare_with_earlier
from xai_core.statistics.corrections import false_alarm_rate, holm
from xai_core.statistics.intervals import (
    Interval,
    mean_interval,
    mean_p_value,
)
from xai_core.statistics.proposals import false_alarm_rate_of, proposed_threshold
from xai_core.statistics.reproduction import Reproduction, reproduction
from xai_core.statistics.resampling import BootstrapMethod
from xai_core.statistics.sequences import ConfidenceSequence
from xai_core.statistics.shares import clopper_pearson, tango, wilson
from xai_core.statistics.skill_score import skill, skill_interval
from xai_core.statistics.verdicts import (
    Outcome,
    images_to_settle,
    smallest_detectable_drop,
    verdict,
)

__all__ = [
    "BootstrapMethod",
    "Comparison",
    "ConfidenceSequence",
    "Interval",
    "Outcome",
    "Reproduction",
    "clopper_pearson",
    "cluster_means",
    "compare_with_earlier",
    "defined_cluster_means",
    "exact_mean",
    "false_alarm_rate",
    "false_alarm_rate_of",
    "holm",
    "images_to_settle",
    "mean_interval",
    "mean_p_value",
    "proposed_threshold",
    "reproduction",
    "skill",
    "skill_interval",
    "smallest_detectable_drop",
    "tango",
    "verdict",
    "wilson",
]
