"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("xai_core", "pytest_xai")
    for path in (ROOT / package).rglob("*.py")
    # A metric's example is found in the package, see its ``__test__``.
    if ">>>" in path.read_text(encoding="utf-8") and path.parent.name != "metrics"
)


@pytest.mark.parametrize(
    "name",
    [*WITH_EXAMPLES, "xai_core.metrics", "xai_core.metrics.ranking", "xai_core.metrics.regions"],
)
def test_the_examples_are_true(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
