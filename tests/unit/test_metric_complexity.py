"""Complexity metrics against closed forms, other formulas of the same thing, and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_core.metrics import (
    METRICS,
    active_fraction,
    complexity,
    native_active_fraction,
    native_complexity,
    native_sparseness,
    relative_complexity,
    sparseness,
)

RNG = np.random.default_rng(3)
HEATMAPS = RNG.normal(size=(5, 9, 12)).astype(np.float32)
NAMES = (
    "complexity",
    "relative_complexity",
    "sparseness",
    "active_fraction",
    "native_complexity",
    "native_sparseness",
    "native_active_fraction",
)
MAPS = hnp.arrays(np.float32, (2, 4, 5), elements=st.integers(-40, 40).map(lambda v: v / 8)).filter(
    lambda maps: (maps.max(axis=(1, 2)) > maps.min(axis=(1, 2))).all()
)


def one_pixel_of(count: int) -> np.ndarray:
    heatmap = np.zeros((1, count))
    heatmap[0, 3] = -8.0
    return heatmap


def test_complexity_equals_scipys_entropy() -> None:
    from scipy.stats import entropy

    expected = [entropy(np.abs(heatmap).ravel().astype(np.float64)) for heatmap in HEATMAPS]
    np.testing.assert_allclose(complexity(HEATMAPS), expected, rtol=1e-12)


def test_complexity_of_k_equal_pixels_is_ln_k() -> None:
    heatmap = np.zeros((6, 6))
    heatmap[:2] = 3.0
    heatmap[0] *= -1
    assert complexity(heatmap)[0] == pytest.approx(math.log(12))
    assert complexity(one_pixel_of(20))[0] == 0.0


@settings(deadline=None)  # the first example pays for late imports
@given(MAPS)
def test_sparseness_is_half_the_relative_mean_difference(heatmaps: np.ndarray) -> None:
    for heatmap, value in zip(np.abs(heatmaps), sparseness(heatmaps), strict=True):
        pixels = [float(pixel) for pixel in heatmap.ravel()]
        differences = math.fsum(abs(a - b) for a in pixels for b in pixels)
        expected = differences / (2 * len(pixels) * math.fsum(pixels))
        assert value == pytest.approx(expected, abs=1e-12)


def test_sparseness_is_one_minus_twice_the_area_under_the_lorenz_curve() -> None:
    for heatmap, value in zip(HEATMAPS, sparseness(HEATMAPS), strict=True):
        ascending = np.sort(np.abs(heatmap.astype(np.float64)).ravel())
        lorenz = np.concatenate([[0], np.cumsum(ascending)]) / ascending.sum()
        area = ((lorenz[1:] + lorenz[:-1]) / 2).mean()
        assert value == pytest.approx(1 - 2 * area, abs=1e-12)


def test_sparseness_of_one_pixel_of_n_is_1_minus_1_over_n() -> None:
    assert sparseness(one_pixel_of(20))[0] == pytest.approx(0.95)


def test_a_map_of_one_size_and_two_signs_is_as_complex_as_can_be() -> None:
    heatmap = np.ones((4, 4))
    heatmap[::2] = -1
    assert complexity(heatmap)[0] == pytest.approx(math.log(16))
    assert sparseness(heatmap)[0] == 0.0
    assert active_fraction(heatmap)[0] == 1.0


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.9])
def test_active_fraction_equals_a_plain_count(fraction: float) -> None:
    expected = []
    for heatmap in HEATMAPS:
        sizes = [abs(float(pixel)) for pixel in heatmap.ravel()]
        expected.append(sum(size > fraction * max(sizes) for size in sizes) / len(sizes))
    np.testing.assert_allclose(active_fraction(HEATMAPS, fraction=fraction), expected)


def test_a_pixel_at_exactly_the_fraction_is_not_active() -> None:
    assert active_fraction([[4.0, 2.0, 0.0, -3.0]])[0] == 0.5


@settings(deadline=None)  # the first example pays for late imports
@given(MAPS, st.sampled_from((0.25, 2.0, 1024.0)), st.sampled_from(NAMES))
def test_scale_sign_and_place_of_the_pixels_change_nothing(
    heatmaps: np.ndarray, scale: float, name: str
) -> None:
    measured = METRICS[name].function
    values = measured(heatmaps)
    low, high = METRICS[name].range
    assert ((values >= low) & (values <= high)).all()
    np.testing.assert_allclose(measured(heatmaps * scale), values, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(measured(-heatmaps), values, rtol=1e-12, atol=1e-15)
    turned = np.ascontiguousarray(heatmaps[:, ::-1, ::-1])
    np.testing.assert_allclose(measured(turned), values, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_subnormal_relevance_is_measured_as_any_other(name: str) -> None:
    tiny = np.float32([[1, 2, 3, 0]]) * np.float32(2.0**-149)
    measured = METRICS[name].function
    np.testing.assert_allclose(measured(tiny), measured(np.float32([[1, 2, 3, 0]])), rtol=1e-12)


def test_relative_complexity_equals_scipys_entropy_in_the_base_of_the_pixel_count() -> None:
    from scipy.stats import entropy

    flat = np.abs(HEATMAPS.reshape(len(HEATMAPS), -1)).astype(np.float64)
    expected = [entropy(pixels, base=9 * 12) for pixels in flat]
    np.testing.assert_allclose(relative_complexity(HEATMAPS), expected, rtol=1e-12)


def test_relative_complexity_goes_from_0_on_one_pixel_to_1_on_all() -> None:
    assert relative_complexity(one_pixel_of(20))[0] == 0.0
    even = np.ones((16, 16))
    even[::2] = -1
    assert relative_complexity(even)[0] == 1.0


def test_relative_complexity_of_the_same_pattern_hardly_depends_on_its_resolution() -> None:
    coarse = RNG.random((1, 7, 7))
    fine = coarse.repeat(32, axis=1).repeat(32, axis=2)
    assert complexity(fine)[0] - complexity(coarse)[0] == pytest.approx(math.log(32 * 32))
    assert abs(relative_complexity(fine)[0] - relative_complexity(coarse)[0]) < 0.05


def test_native_metrics_are_the_plain_ones_on_the_methods_own_grid() -> None:
    native = RNG.normal(size=(4, 7, 7)).astype(np.float32)
    np.testing.assert_array_equal(native_complexity(native), relative_complexity(native))
    np.testing.assert_array_equal(native_sparseness(native), sparseness(native))
    for fraction in (0.2, 0.5):
        expected = active_fraction(native, fraction=fraction)
        np.testing.assert_array_equal(native_active_fraction(native, fraction=fraction), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_of_few_pixels_is_simpler_than_one_of_many(name: str) -> None:
    few, many = np.full((2, 12, 12), 0.01), np.full((2, 12, 12), 0.01)
    few[:, 4:6, 4:6] = many[:, 1:11, 1:11] = 1.0
    metric = METRICS[name]
    better, worse = metric.function(few), metric.function(many)
    assert (better > worse).all() if metric.better == "higher" else (better < worse).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_value_does_not_depend_on_batch_mates_or_order(name: str) -> None:
    measured = METRICS[name].function
    together = measured(HEATMAPS)
    np.testing.assert_array_equal(measured(HEATMAPS[::-1]), together[::-1])
    np.testing.assert_array_equal([measured(one)[0] for one in HEATMAPS], together)
