"""Relevance on the background, by its distance from the object and in the frame of the image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_core.errors import ParameterError, UndefinedMeasurementError
from xai_core.metrics import METRICS, border_background, energy_pointing_game, far_background

RNG = np.random.default_rng(41)
NAMES = ("far_background", "border_background")
HEATMAPS = RNG.normal(size=(5, 17, 23)).astype(np.float32)
MASKS = np.zeros((5, 17, 23), dtype=bool)
for row in range(5):
    MASKS[row, 1 + row : 6 + 2 * row, row : 12 - row] = True
MAPS = hnp.arrays(np.float32, (5, 6), elements=st.integers(-3, 6).map(float)).filter(
    lambda heatmap: heatmap.max() > max(heatmap.min(), 0)
)
SOME_MASKS = hnp.arrays(bool, (5, 6)).filter(lambda mask: mask.any() and not mask.all())


def plain_far(mask: np.ndarray, farthest: float) -> np.ndarray:
    """Every pixel's distance to every pixel of the mask, sorted."""
    object_pixels = np.argwhere(mask).tolist()
    distances = {
        place: min(math.dist(place, other) for other in object_pixels)
        for place in map(tuple, np.argwhere(~mask).tolist())
    }
    ascending = sorted(distances.values())
    near = max(1, round((1 - farthest) * len(ascending)))
    far = np.zeros_like(mask)
    for place, distance in distances.items():
        far[place] = distance > ascending[near - 1]
    return far


def plain_frame(mask: np.ndarray, width: float) -> np.ndarray:
    frame = np.zeros_like(mask)
    height, breadth = mask.shape
    rows, columns = max(1, round(width * height)), max(1, round(width * breadth))
    for row, column in np.ndindex(height, breadth):
        off_rows = min(row, height - 1 - row) < rows
        off_columns = min(column, breadth - 1 - column) < columns
        frame[row, column] = (off_rows or off_columns) and not mask[row, column]
    return frame


def plain_share(heatmap: np.ndarray, places: np.ndarray) -> float:
    positive = [max(float(value), 0.0) for value in heatmap.ravel()]
    inside = [p for p, there in zip(positive, places.ravel(), strict=True) if there]
    return math.fsum(inside) / math.fsum(positive)


@pytest.mark.parametrize("farthest", [0.1, 0.25, 0.5, 0.9])
def test_the_far_background_equals_plain_loops(farthest: float) -> None:
    expected = [
        plain_share(h, plain_far(m, farthest)) for h, m in zip(HEATMAPS, MASKS, strict=True)
    ]
    found = far_background(HEATMAPS, MASKS, farthest=farthest)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@settings(deadline=None)
@given(MAPS, SOME_MASKS, st.sampled_from((0.2, 0.5, 0.8)))
def test_the_far_background_of_odd_masks_equals_plain_loops_or_is_undefined(
    heatmap: np.ndarray, mask: np.ndarray, farthest: float
) -> None:
    far = plain_far(mask, farthest)
    assert far.sum() <= max(farthest * (~mask).sum() + 0.5, 0)
    if far.any():
        expected = plain_share(heatmap, far)
        assert far_background(heatmap, mask, farthest=farthest)[0] == pytest.approx(expected)
    else:
        with pytest.raises(UndefinedMeasurementError, match="equally far"):
            far_background(heatmap, mask, farthest=farthest)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.2, 0.45])
def test_the_border_equals_plain_loops(width: float) -> None:
    expected = [plain_share(h, plain_frame(m, width)) for h, m in zip(HEATMAPS, MASKS, strict=True)]
    found = border_background(HEATMAPS, MASKS, width=width)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_relevance_on_the_object_counts_nowhere_and_in_the_corner_everywhere() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[0:6, 0:6] = True  # reaches the frame
    corner = np.zeros((20, 20))
    corner[19, 19] = 1
    for name in NAMES:
        assert METRICS[name].function(mask.astype(float), mask)[0] == 0.0
        assert METRICS[name].function(corner, mask)[0] == 1.0


def test_relevance_just_around_the_object_is_neither_on_it_nor_far() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[8:12, 8:12] = True
    ring = np.zeros((20, 20))
    ring[7, 7:13] = ring[12, 7:13] = 2.0
    assert energy_pointing_game(ring, mask)[0] == 0.0
    assert far_background(ring, mask)[0] == 0.0
    assert border_background(ring, mask)[0] == 0.0


def test_an_even_map_gives_the_area_shares() -> None:
    heatmap = np.ones((20, 20))
    mask = np.zeros((20, 20), dtype=bool)
    mask[:, :10] = True
    heatmap[0, 0] = 1.0001  # a constant map has no value
    assert far_background(heatmap, mask)[0] == pytest.approx(0.25, rel=1e-3)
    assert far_background(heatmap, mask, farthest=0.2)[0] == pytest.approx(0.1, rel=1e-3)
    # Ten columns of the frame's two rows, and the right column without its corners.
    assert border_background(heatmap, mask)[0] == pytest.approx((20 + 18) / 400, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_without_positive_relevance_is_undefined_and_named(name: str) -> None:
    heatmaps = HEATMAPS.copy()
    heatmaps[3] = -np.abs(heatmaps[3])
    with pytest.raises(UndefinedMeasurementError, match="no positive relevance") as caught:
        METRICS[name].function(heatmaps, MASKS)
    assert set(caught.value.reasons) == {3}


def test_a_mask_over_the_whole_frame_has_no_border_background() -> None:
    masks = MASKS.copy()
    masks[2] = True
    masks[2, 8, 8:12] = False
    with pytest.raises(UndefinedMeasurementError, match="whole frame") as caught:
        border_background(HEATMAPS, masks)
    assert set(caught.value.reasons) == {2}


def test_a_background_of_one_distance_has_no_far_part() -> None:
    masks = MASKS.copy()
    masks[1] = np.indices((17, 23)).sum(axis=0) % 2 == 0
    with pytest.raises(UndefinedMeasurementError, match="equally far") as caught:
        far_background(HEATMAPS, masks)
    assert set(caught.value.reasons) == {1}


@pytest.mark.parametrize("name", NAMES)
def test_scale_and_negative_relevance_change_nothing(name: str) -> None:
    measured = METRICS[name].function
    values = measured(HEATMAPS, MASKS)
    np.testing.assert_allclose(measured(HEATMAPS * 64, MASKS), values, rtol=1e-12)
    deeper = np.where(HEATMAPS < 0, HEATMAPS * 3 - 1, HEATMAPS)
    np.testing.assert_allclose(measured(deeper, MASKS), values, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("far_background", {"farthest": 0.0}),
        ("far_background", {"farthest": 1.0}),
        ("border_background", {"width": 0.0}),
        ("border_background", {"width": 0.5}),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        METRICS[name].configure(wrong)
