"""Localization metrics against plain loops, closed forms and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.metrics import (
    METRICS,
    binarize,
    dice,
    energy_pointing_game,
    iou,
    pointing_game,
    precision,
    recall,
)

RNG = np.random.default_rng(11)
HEATMAPS = RNG.normal(size=(6, 14, 11)).astype(np.float32)
MASKS = RNG.random((6, 14, 11)) < 0.35

MAPS = hnp.arrays(np.float32, (2, 5, 6), elements=st.integers(-40, 40).map(lambda v: v / 8)).filter(
    lambda maps: (maps.max(axis=(1, 2)) > maps.min(axis=(1, 2))).all()
)
SOME_MASKS = hnp.arrays(bool, (2, 5, 6)).filter(
    lambda masks: (masks.any(axis=(1, 2)) & ~masks.all(axis=(1, 2))).all()
)
METHODS = ("otsu", "fraction=0.5", "top=mask")


def plain_otsu(heatmap: np.ndarray) -> list[list[bool]]:
    """Otsu by its definition: the split of 256 bins with the largest between-class variance."""
    values = [float(value) for value in heatmap.ravel()]
    low, high = min(values), max(values)
    width = (high - low) / 256
    bins = [min(int((value - low) / width), 255) for value in values]
    best, threshold = -1.0, low
    for split in range(255):
        below = [low + (b + 0.5) * width for b in bins if b <= split]
        above = [low + (b + 0.5) * width for b in bins if b > split]
        if not below or not above:
            continue
        gap = sum(below) / len(below) - sum(above) / len(above)
        variance = len(below) * len(above) * gap**2
        if variance > best * (1 + 1e-12):
            best, threshold = variance, low + (split + 0.5) * width
    return [[float(value) > threshold for value in row] for row in heatmap]


def plain_top(heatmap: np.ndarray, count: int) -> list[list[bool]]:
    height, width = heatmap.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    first = sorted(places, key=lambda place: (-float(heatmap[place]), place))[:count]
    return [[(row, column) in first for column in range(width)] for row in range(height)]


def plain_overlap(binary: list[list[bool]], mask: np.ndarray) -> tuple[float, ...]:
    both = either = chosen = wanted = 0
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            b, m = binary[row][column], bool(mask[row, column])
            both += b and m
            either += b or m
            chosen += b
            wanted += m
    shared = 2 * both / (chosen + wanted)
    return both / either, both / chosen if chosen else 0.0, both / wanted, shared


def plain_binary(heatmap: np.ndarray, mask: np.ndarray, method: str) -> list[list[bool]]:
    if method == "otsu":
        return plain_otsu(heatmap)
    if method == "top=mask":
        return plain_top(heatmap, int(mask.sum()))
    share = float(method.split("=")[1])
    top = float(heatmap.max())
    return [[top > 0 and float(value) >= share * top for value in row] for row in heatmap]


def plain_pointing(heatmap: np.ndarray, mask: np.ndarray, tolerance: float) -> float:
    top = heatmap.max()
    hits = []
    for row, column in np.argwhere(heatmap == top):
        nearest = min(math.hypot(row - r, column - c) for r, c in np.argwhere(mask))
        hits.append(nearest <= tolerance)
    return sum(hits) / len(hits)


@pytest.mark.parametrize("method", [*METHODS, "fraction=.25", "fraction=1"])
def test_overlaps_equal_plain_loops(method: str) -> None:
    expected = np.array(
        [
            plain_overlap(plain_binary(heatmap, mask, method), mask)
            for heatmap, mask in zip(HEATMAPS, MASKS, strict=True)
        ]
    )
    np.testing.assert_allclose(iou(HEATMAPS, MASKS, binarize=method), expected[:, 0])
    np.testing.assert_allclose(precision(HEATMAPS, MASKS, binarize=method), expected[:, 1])
    np.testing.assert_allclose(recall(HEATMAPS, MASKS, binarize=method), expected[:, 2])
    np.testing.assert_allclose(dice(HEATMAPS, MASKS, binarize=method), expected[:, 3])


@settings(deadline=None)  # the first example pays for late imports
@given(MAPS, SOME_MASKS, st.sampled_from(METHODS))
def test_overlaps_equal_plain_loops_with_many_ties(
    heatmaps: np.ndarray, masks: np.ndarray, method: str
) -> None:
    for index, (heatmap, mask) in enumerate(zip(heatmaps, masks, strict=True)):
        binary = plain_binary(heatmap, mask, method)
        np.testing.assert_array_equal(binarize(heatmap, method, mask)[0], binary)
        expected = plain_overlap(binary, mask)
        assert iou(heatmaps, masks, binarize=method)[index] == pytest.approx(expected[0])
        assert precision(heatmaps, masks, binarize=method)[index] == pytest.approx(expected[1])
        assert recall(heatmaps, masks, binarize=method)[index] == pytest.approx(expected[2])
        assert dice(heatmaps, masks, binarize=method)[index] == pytest.approx(expected[3])


def test_overlaps_equal_scikit_learn() -> None:
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    binary = binarize(HEATMAPS)
    pairs = [(m.ravel(), b.ravel()) for m, b in zip(MASKS, binary, strict=True)]
    np.testing.assert_allclose(iou(HEATMAPS, MASKS), [jaccard_score(m, b) for m, b in pairs])
    np.testing.assert_allclose(dice(HEATMAPS, MASKS), [f1_score(m, b) for m, b in pairs])
    np.testing.assert_allclose(
        precision(HEATMAPS, MASKS), [precision_score(m, b) for m, b in pairs]
    )
    np.testing.assert_allclose(recall(HEATMAPS, MASKS), [recall_score(m, b) for m, b in pairs])


def test_a_heatmap_that_is_the_mask_is_perfect() -> None:
    heatmaps = MASKS.astype(np.float32)
    for method in METHODS:
        for measured in (iou, dice, precision, recall):
            np.testing.assert_array_equal(measured(heatmaps, MASKS, binarize=method), 1.0)
    np.testing.assert_array_equal(pointing_game(heatmaps, MASKS, tolerance=0), 1.0)
    np.testing.assert_array_equal(energy_pointing_game(heatmaps, MASKS), 1.0)


def test_an_empty_binary_map_gives_zero() -> None:
    heatmap, mask = -np.arange(1.0, 7.0).reshape(2, 3), np.array([[1, 1, 1], [1, 1, 0]])
    assert not binarize(heatmap, "fraction=0.5").any()
    for measured in (iou, dice, precision, recall):
        assert measured(heatmap, mask, binarize="fraction=0.5") == 0.0


def test_a_fraction_of_a_maximum_of_zero_is_empty() -> None:
    assert not binarize([[0.0, -1.0]], "fraction=0.5").any()


def test_top_mask_takes_exactly_as_many_pixels_as_the_mask_despite_ties() -> None:
    heatmaps = np.ones((1, 4, 5), dtype=np.float32)
    heatmaps[0, 3, 4] = 2
    masks = np.zeros((1, 4, 5), dtype=bool)
    masks[0, 0, :3] = True
    chosen = np.argwhere(binarize(heatmaps, "top=mask", masks)[0]).tolist()
    assert chosen == [[0, 0], [0, 1], [3, 4]]


def test_otsu_splits_neighbouring_float32_values() -> None:
    heatmap = np.full((3, 3), 1.0, dtype=np.float32)
    heatmap[1, 1] = np.nextafter(np.float32(1), np.float32(2))
    assert np.argwhere(binarize(heatmap)[0]).tolist() == [[1, 1]]


def test_otsu_splits_subnormal_values() -> None:
    assert binarize(np.float32([[0, 0, 1e-44]])).tolist() == [[[False, False, True]]]


def test_binarize_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ParameterError, match="needs the masks"):
        binarize(HEATMAPS, "top=mask")
    with pytest.raises(ParameterError, match="got 'percentile=3'"):
        binarize(HEATMAPS, "percentile=3")
    with pytest.raises(ShapeError, match="heatmaps' shape"):
        binarize(HEATMAPS, "top=mask", MASKS[:1])
    with pytest.raises(ShapeError, match="finite"):
        binarize([[0.0, math.nan]])


@pytest.mark.parametrize("tolerance", [0, 1, 2, 5, 15])
def test_pointing_game_equals_plain_loops(tolerance: int) -> None:
    heatmaps = RNG.integers(0, 9, (20, 13, 17)).astype(np.float32)
    masks = RNG.random((20, 13, 17)) < 0.02
    masks[:, 12, 16] = True
    expected = [plain_pointing(h, m, tolerance) for h, m in zip(heatmaps, masks, strict=True)]
    np.testing.assert_allclose(pointing_game(heatmaps, masks, tolerance=tolerance), expected)


def test_pointing_game_counts_a_maximum_at_exactly_the_tolerance() -> None:
    heatmap, mask = np.zeros((32, 32)), np.zeros((32, 32), dtype=bool)
    mask[0, 0] = True
    heatmap[9, 12] = 1  # 9^2 + 12^2 = 15^2
    assert pointing_game(heatmap, mask) == 1.0
    assert pointing_game(heatmap, mask, tolerance=14) == 0.0
    further = np.zeros((32, 32))
    further[9, 13] = 1
    assert pointing_game(further, mask) == 0.0


def test_tied_maxima_give_the_share_that_hits() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[0] = True
    heatmap = np.zeros((4, 4))
    heatmap[0, 0] = heatmap[3, 0] = heatmap[3, 1] = heatmap[3, 2] = 7
    assert pointing_game(heatmap, mask, tolerance=0) == 0.25


def test_energy_equals_a_plain_loop() -> None:
    expected = []
    for heatmap, mask in zip(HEATMAPS.tolist(), MASKS.tolist(), strict=True):
        pairs = [p for h, m in zip(heatmap, mask, strict=True) for p in zip(h, m, strict=True)]
        everywhere = math.fsum(h for h, _ in pairs if h > 0)
        expected.append(math.fsum(h for h, m in pairs if m and h > 0) / everywhere)
    np.testing.assert_allclose(energy_pointing_game(HEATMAPS, MASKS), expected, rtol=1e-12)


def test_energy_without_positive_relevance_is_undefined() -> None:
    heatmaps = np.stack([HEATMAPS[0], -np.abs(HEATMAPS[1])])
    with pytest.raises(UndefinedMeasurementError, match="no positive relevance") as caught:
        energy_pointing_game(heatmaps, MASKS[:2])
    assert set(caught.value.reasons) == {1}


@settings(deadline=None)  # the first example pays for late imports
@given(MAPS, SOME_MASKS, st.sampled_from((0.25, 2.0, 1024.0)), st.sampled_from(METHODS))
def test_scaling_a_heatmap_changes_nothing_and_values_are_shares(
    heatmaps: np.ndarray, masks: np.ndarray, scale: float, method: str
) -> None:
    for name in ("iou", "dice", "precision", "recall"):
        configured = METRICS[name].configure({"binarize": method})
        values = configured(heatmaps=heatmaps, masks=masks)
        np.testing.assert_array_equal(configured(heatmaps=heatmaps * scale, masks=masks), values)
        assert ((values >= 0) & (values <= 1)).all()
    pointed = pointing_game(heatmaps, masks, tolerance=1)
    np.testing.assert_array_equal(pointing_game(heatmaps * scale, masks, tolerance=1), pointed)
    assert ((pointed >= 0) & (pointed <= 1)).all()
    positive = np.abs(heatmaps) + 1
    energy = energy_pointing_game(positive, masks) if np.ptp(positive, axis=(1, 2)).all() else 0.5
    assert np.all((np.asarray(energy) > 0) & (np.asarray(energy) <= 1))
