"""Gates held against an earlier run: what of their values is compared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xai_core import METRICS
from xai_core.gate import Conditions, compare_gate
from xai_core.statistics import compare_with_earlier

VALUES = arrays(np.float64, 12, elements=st.floats(0, 1, width=16))
IOU, COMPLETENESS = METRICS["iou"], METRICS["completeness"]


@given(VALUES, VALUES)
def test_a_gate_on_the_mean_compares_the_means(now: np.ndarray, then: np.ndarray) -> None:
    found = compare_gate(now, then, IOU, Conditions(above=0.5, confidence=0.9), margin=0.1)
    assert found == compare_with_earlier(
        now, then, margin=0.1, better="higher", confidence=0.9, bounds=(0, 1)
    )


@pytest.mark.parametrize("each", [{"mostly": 0.5}, {"max_failures": 3}])
@pytest.mark.parametrize("edge", ["above", "below"])
@given(VALUES, VALUES)
def test_a_gate_on_each_image_compares_the_shares_that_keep_its_bound(
    each: dict[str, float], edge: str, now: np.ndarray, then: np.ndarray
) -> None:
    metric, conditions = (
        (IOU, Conditions(above=0.5, **each))
        if edge == "above"
        else (COMPLETENESS, Conditions(below=0.5, **each))
    )
    found = compare_gate(now, then, metric, conditions, margin=0.1)
    kept = [
        np.array([float(one >= 0.5 if edge == "above" else one <= 0.5) for one in values])
        for values in (now, then)
    ]
    assert found == compare_with_earlier(*kept, margin=0.1, better="higher", bounds=(0, 1))
    assert found.difference == pytest.approx((kept[0].sum() - kept[1].sum()) / 12)


def test_one_image_that_outweighs_a_mean_is_one_image_where_each_counts() -> None:
    then = np.full(40, 0.01)
    now = then.copy()
    now[7] = 40.0
    of_mean = compare_gate(now, then, COMPLETENESS, Conditions(below=0.05), margin=0.02)
    of_each = compare_gate(now, then, COMPLETENESS, Conditions(below=0.05, mostly=0.9), margin=0.1)
    assert of_mean.difference == pytest.approx(-39.99 / 40)
    assert of_each.difference == pytest.approx(-1 / 40)
    assert of_each.outcome != "fail"


def test_each_photograph_counts_once_by_the_mean_of_its_images() -> None:
    now, then = np.array([0.2, 0.9, 0.4, 0.4]), np.array([0.6, 0.6, 0.6, 0.6])
    conditions = Conditions(above=0.5, mostly=0.5)
    found = compare_gate(now, then, IOU, conditions, margin=0.1, groups=["a", "a", "b", "b"])
    assert (found.images, found.difference) == (2, -0.5)  # a: .55, b: .4


def test_a_value_that_is_missing_is_refused_whatever_is_compared() -> None:
    now, then = np.array([0.2, np.nan]), np.array([0.6, 0.6])
    for conditions in (Conditions(above=0.5), Conditions(above=0.5, mostly=0.5)):
        with pytest.raises(Exception, match="b: the value of this run is nan"):
            compare_gate(now, then, IOU, conditions, margin=0.1, names=["a", "b"])
