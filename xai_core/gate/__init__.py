"""A gate: one metric of one method held against a threshold, and what came of it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from xai_core.gate.conditions import Conditions, Level
from xai_core.gate.earlier import compare_gate, loss_finding
from xai_core.gate.findings import Finding, skill_nulls
from xai_core.gate.judgement import WORST_SHOWN, Judgement
from xai_core.gate.judging import classes_of, judge, judge_values
from xai_core.gate.slices import ClassSlice

__all__ = [
    "WORST_SHOWN",
    "ClassSlice",
    "Conditions",
    "Finding",
    "Judgement",
    "Level",
    "classes_of",
    "compare_gate",
    "judge",
    "judge_values",
    "loss_finding",
    "skill_nulls",
]
