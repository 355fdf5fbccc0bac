"""A gate: one metric of one method held against a threshold, and what came of it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from xai_core.gate.conditions import Conditions, Level
from xai_core.gate.findings import Finding, skill_nulls
from xai_core.gate.judgement import WORST_SHOWN, Judgement
from xai_core.gate.judging import judge, judge_values

__all__ = [
    "WORST_SHOWN",
    "Conditions",
    "Finding",
    "Judgement",
    "Level",
    "judge",
    "judge_values",
    "skill_nulls",
]
