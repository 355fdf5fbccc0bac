"""Regression tests for the explanations of image classifiers.

``from pytest_xai import assert_iou_above, parametrize_with_checks``: a name is looked up when it is
first asked for, so importing this package loads nothing but the standard library.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "parametrize_with_checks":
        from pytest_xai.checks import parametrize_with_checks

        return parametrize_with_checks
    if not name.startswith("assert_"):
        msg = f"module 'pytest_xai' has no attribute {name!r}"
        raise AttributeError(msg)
    from pytest_xai import assertions

    return getattr(assertions, name, None) or assertions.assertion(name)


def __dir__() -> list[str]:
    from pytest_xai.assertions import assertion_names

    return sorted([*globals(), "parametrize_with_checks", *assertion_names()])
