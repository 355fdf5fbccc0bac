"""The same computation gives the same values, but for rounding; another moves most of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xai_core import METRICS
from xai_core.errors import ParameterError
from xai_core.statistics import reproduction

UNIT = st.floats(0, 1, allow_subnormal=False)
PAIRS = st.integers(1, 30).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=UNIT), arrays(np.float64, n, elements=UNIT))
)


@given(
    PAIRS,
    st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 100.0), (0.0, math.inf)]),
    st.sampled_from([0.01, 1.0]),
)
def test_a_value_moved_where_it_is_off_by_a_part_of_the_range_or_of_its_size(
    pairs: tuple[np.ndarray, np.ndarray], bounds: tuple[float, float], scale: float
) -> None:
    values, earlier = pairs
    found = reproduction(values, earlier, bounds=bounds, scale=scale)
    tolerance = (bounds[1] - bounds[0]) / 1000
    if math.isinf(tolerance):
        middle = sorted(abs(value) for value in earlier.tolist())
        half = len(middle) // 2
        median = middle[half] if len(middle) % 2 else (middle[half - 1] + middle[half]) / 2
        tolerance = max(median, scale) / 100
    moved = [
        abs(now - then) > tolerance
        for now, then in zip(values.tolist(), earlier.tolist(), strict=True)
        if not math.isclose(abs(now - then), tolerance)
    ]
    left = len(values) - len(moved)
    assert sum(moved) <= found.moved <= sum(moved) + left
    assert found.tolerance == pytest.approx(tolerance)
    assert found.images == len(values)
    assert found.holds == (found.moved <= len(values) / 2)


def test_rounding_holds_and_so_do_a_few_maxima_that_jump() -> None:
    earlier = np.random.default_rng(0).uniform(size=20)
    rounded = earlier.astype(np.float32).astype(np.float64)
    rounded[:3] = 1 - rounded[:3]
    assert reproduction(rounded, earlier, bounds=(0, 1)).holds
    assert reproduction(rounded, earlier, bounds=(0, 1)).moved == 3


def test_half_of_the_values_may_move_and_one_more_may_not() -> None:
    earlier = np.full(10, 0.5)
    for moved, holds in ((5, True), (6, False)):
        values = earlier.copy()
        values[:moved] += 0.002
        assert reproduction(values, earlier, bounds=(0, 1)).holds is holds


def test_next_to_nothing_is_not_held_against_nothing() -> None:
    nothing = np.zeros(5)
    assert reproduction(nothing + 1e-7, nothing).holds
    assert not reproduction(nothing + 2e-4, nothing).holds
    assert reproduction(nothing + 2e-4, nothing, scale=1.0).holds


@pytest.mark.parametrize("name", ["completeness", "implementation_invariance", "input_invariance"])
def test_an_error_relative_to_something_is_told_in_units_of_that(name: str) -> None:
    """A good explainer's is next to nothing, and rounding moves it by as much as itself."""
    assert METRICS[name].scale == 1
    assert METRICS["infidelity"].scale == 0.01


@pytest.mark.parametrize(
    ("values", "earlier", "says"),
    [
        (np.zeros(0), np.zeros(0), r"got shapes \(0,\) and \(0,\)"),
        (np.zeros(2), np.zeros(3), r"got shapes \(2,\) and \(3,\)"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "one value per image"),
        (np.array([np.nan]), np.zeros(1), "finite values"),
        (np.zeros(1), np.array([np.inf]), "finite values"),
    ],
)
def test_what_cannot_be_paired_is_refused(
    values: np.ndarray, earlier: np.ndarray, says: str
) -> None:
    with pytest.raises(ParameterError, match=says):
        reproduction(values, earlier)
