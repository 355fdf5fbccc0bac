"""Gates that stop measuring as soon as what was measured settles them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from xai_core.sequential.judging import About, judge_sequentially, why_in_full
from xai_core.sequential.order import ImagesInOrder

__all__ = ["About", "ImagesInOrder", "judge_sequentially", "why_in_full"]
