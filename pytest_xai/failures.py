"""What assertions raise."""

from __future__ import annotations


class ExplanationError(AssertionError):
    """An explanation does not meet what a test demands of it."""
