"""Completeness against its closed form."""

from __future__ import annotations

import numpy as np
import pytest

from xai_core.errors import ShapeError, UndefinedMeasurementError
from xai_core.metrics import completeness

RNG = np.random.default_rng(2)


def test_attributions_of_a_linear_function_are_complete() -> None:
    weights, image, baseline = RNG.normal(size=(3, 2, 3, 4, 4))
    difference = (weights * image).sum(axis=(1, 2, 3)) - (weights * baseline).sum(axis=(1, 2, 3))
    attributions = (weights * (image - baseline)).astype(np.float32)
    np.testing.assert_allclose(completeness(attributions, difference), 0.0, atol=1e-6)


def test_the_gap_is_relative_to_the_size_of_the_difference() -> None:
    attributions = np.zeros((3, 3, 2, 2), dtype=np.float32)
    attributions[:, 1, 0, 1] = (5.0, -3.0, 0.0)
    attributions[:, 2, 1, 1] = (-1.0, -3.0, 0.0)
    np.testing.assert_allclose(completeness(attributions, [2.0, -4.0, 8.0]), [1.0, 0.5, 1.0])


def test_many_small_attributions_are_summed_in_double_precision() -> None:
    attributions = np.full((1, 3, 64, 64), 0.1, dtype=np.float32)
    attributions[0, 0, 0, 0] = 1e6
    total = 1e6 + float(np.float32(0.1)) * (3 * 64 * 64 - 1)
    assert completeness(attributions, [total])[0] < 1e-12


@pytest.mark.parametrize("difference", [0.0, 9e-7, -9e-7, np.nan, np.inf])
def test_a_difference_that_is_no_measure_is_undefined(difference: float) -> None:
    with pytest.raises(UndefinedMeasurementError, match=r"f\(x\) - f\(x'\)") as caught:
        completeness(RNG.normal(size=(2, 3, 4, 4)), [1.0, difference])
    assert set(caught.value.reasons) == {1}


def test_attributions_that_are_not_finite_are_undefined() -> None:
    attributions = np.ones((2, 3, 4, 4), dtype=np.float32)
    attributions[0, 0, 0, 0] = np.nan
    with pytest.raises(UndefinedMeasurementError, match="not finite") as caught:
        completeness(attributions, [1.0, 1.0])
    assert set(caught.value.reasons) == {0}


def test_differences_of_another_number_are_refused() -> None:
    with pytest.raises(ShapeError, match="one value for each of 2 images"):
        completeness(np.ones((2, 3, 4, 4), dtype=np.float32), [1.0, 2.0, 3.0])


def test_a_value_does_not_depend_on_batch_mates() -> None:
    attributions = RNG.normal(size=(4, 3, 21, 17)).astype(np.float32)
    differences = RNG.normal(size=4)
    alone = [completeness(attributions[i], differences[i])[0] for i in range(4)]
    np.testing.assert_array_equal(completeness(attributions, differences), alone)
