"""Metrics of ranks against plain enumeration, scikit-learn and chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_core.errors import ParameterError
from xai_core.metrics import (
    METRICS,
    energy_pointing_game,
    pixel_ap,
    precision,
    relevance_rank,
    top_k_intersection,
)

RNG = np.random.default_rng(29)
HEATMAPS = RNG.normal(size=(6, 14, 11)).astype(np.float32)
MASKS = RNG.random((6, 14, 11)) < 0.35
BY_RANK = ("relevance_rank", "top_k_intersection", "pixel_ap")

TIED = hnp.arrays(np.float32, (2, 3, 4), elements=st.integers(-2, 2).map(float)).filter(
    lambda maps: (maps.max(axis=(1, 2)) > maps.min(axis=(1, 2))).all()
)
SOME_MASKS = hnp.arrays(bool, (2, 3, 4)).filter(
    lambda masks: (masks.any(axis=(1, 2)) & ~masks.all(axis=(1, 2))).all()
)


def plain_hits(heatmap: np.ndarray, mask: np.ndarray, count: int) -> float:
    """How many of the first ``count`` pixels hit, one by one; tied ones by their average."""
    pixels = list(zip(heatmap.ravel().tolist(), mask.ravel().tolist(), strict=True))
    hits = 0.0
    left = count
    for value in sorted({v for v, _ in pixels}, reverse=True):
        group = [m for v, m in pixels if v == value]
        taken = min(left, len(group))
        hits += taken * sum(group) / len(group)
        left -= taken
    return hits


def plain_average_precision(heatmap: np.ndarray, mask: np.ndarray) -> float:
    """The area under the steps of precision over recall, threshold by threshold."""
    wanted = int(mask.sum())
    area = recall_before = 0.0
    for threshold in sorted(set(heatmap.ravel().tolist()), reverse=True):
        chosen = heatmap >= threshold
        hits = int((chosen & mask).sum())
        area += (hits / wanted - recall_before) * hits / int(chosen.sum())
        recall_before = hits / wanted
    return area


def test_relevance_rank_equals_a_plain_loop() -> None:
    expected = [
        plain_hits(h, m, int(m.sum())) / m.sum() for h, m in zip(HEATMAPS, MASKS, strict=True)
    ]
    np.testing.assert_allclose(relevance_rank(HEATMAPS, MASKS), expected, rtol=1e-12)


def test_relevance_rank_is_the_precision_of_as_many_pixels_as_the_mask_where_none_are_equal() -> (
    None
):
    expected = precision(HEATMAPS, MASKS, binarize="top=mask")
    np.testing.assert_allclose(relevance_rank(HEATMAPS, MASKS), expected, rtol=1e-12)


@settings(deadline=None)
@given(TIED, SOME_MASKS, st.integers(1, 12))
def test_ranks_with_many_ties_equal_plain_loops(
    heatmaps: np.ndarray, masks: np.ndarray, count: int
) -> None:
    by_rank = relevance_rank(heatmaps, masks)
    by_count = top_k_intersection(heatmaps, masks, share=count / 12)
    for index, (heatmap, mask) in enumerate(zip(heatmaps, masks, strict=True)):
        size = int(mask.sum())
        assert by_rank[index] == pytest.approx(plain_hits(heatmap, mask, size) / size)
        expected = plain_hits(heatmap, mask, count) / min(count, size)
        assert by_count[index] == pytest.approx(expected)


def test_a_tie_is_worth_its_mean_over_all_orders() -> None:
    heatmap, mask = np.float32([[3, 1, 1, 1, 0]]), np.array([[1, 1, 0, 0, 1]], dtype=bool)
    hits = []
    for order in itertools.permutations(range(5)):
        ranked = sorted(order, key=lambda pixel: -heatmap[0, pixel])  # stable
        hits.append(sum(mask[0, pixel] for pixel in ranked[:3]) / 3)
    assert relevance_rank(heatmap, mask)[0] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("name", BY_RANK)
def test_equal_pixels_gain_nothing_from_where_they_stand(name: str) -> None:
    """A map that is zero but for one pixel, with the mask first and last in reading order."""
    heatmap = np.zeros((1, 20, 20), dtype=np.float32)
    heatmap[0, 10, 10] = 1
    first = np.zeros((1, 20, 20), dtype=bool)
    first[0, :4] = True
    measured = METRICS[name].function
    np.testing.assert_array_equal(measured(heatmap, first), measured(heatmap, first[:, ::-1]))


def test_relevance_rank_of_a_map_of_ties_is_close_to_chance() -> None:
    heatmap = np.zeros((1, 20, 20), dtype=np.float32)
    heatmap[0, 10, 10] = 1
    mask = np.zeros((1, 20, 20), dtype=bool)
    mask[0, :4] = True  # a fifth of the image
    assert relevance_rank(heatmap, mask)[0] == pytest.approx(0.2, abs=0.005)


def test_average_precision_equals_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    rounded = np.round(HEATMAPS * 2)  # many ties
    for heatmaps in (HEATMAPS, rounded):
        expected = [
            average_precision_score(m.ravel(), h.ravel())
            for h, m in zip(heatmaps, MASKS, strict=True)
        ]
        np.testing.assert_allclose(pixel_ap(heatmaps, MASKS), expected, rtol=1e-12)


@settings(deadline=None)
@given(TIED, SOME_MASKS)
def test_average_precision_equals_a_plain_loop(heatmaps: np.ndarray, masks: np.ndarray) -> None:
    expected = [plain_average_precision(h, m) for h, m in zip(heatmaps, masks, strict=True)]
    np.testing.assert_allclose(pixel_ap(heatmaps, masks), expected, rtol=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.02, 0.1, 0.5, 1.0])
def test_top_k_equals_a_plain_loop(share: float) -> None:
    count = max(1, round(share * 14 * 11))
    expected = [
        plain_hits(h, m, count) / min(count, int(m.sum()))
        for h, m in zip(HEATMAPS, MASKS, strict=True)
    ]
    found = top_k_intersection(HEATMAPS, MASKS, share=share)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_top_k_can_be_perfect_on_a_mask_smaller_than_k() -> None:
    mask = np.zeros((1, 20, 20), dtype=bool)
    mask[0, 3, 4:6] = True  # two pixels; k is 40
    assert top_k_intersection(mask.astype(np.float32), mask, share=0.1)[0] == pytest.approx(1.0)


def test_top_k_at_the_size_of_the_mask_is_the_relevance_rank() -> None:
    for heatmap, mask in zip(HEATMAPS, MASKS, strict=True):
        share = float(mask.mean())
        assert top_k_intersection(heatmap, mask, share=share) == relevance_rank(heatmap, mask)


def test_top_k_takes_at_least_one_pixel_and_is_one_when_it_takes_all() -> None:
    best = np.zeros((1, 5, 5), dtype=bool)
    best[0, 2, 2] = True
    heatmap = np.random.default_rng(8).random((1, 5, 5), dtype=np.float32)
    heatmap[0, 2, 2] = 2
    assert top_k_intersection(heatmap, best, share=0.001)[0] == 1.0
    assert top_k_intersection(-heatmap, best, share=0.001)[0] == 0.0
    assert top_k_intersection(-heatmap, best, share=1.0)[0] == 1.0


@pytest.mark.parametrize("name", BY_RANK)
def test_only_the_order_of_the_pixels_counts(name: str) -> None:
    measured = METRICS[name].function
    values = measured(HEATMAPS, MASKS)
    for changed in (HEATMAPS * 1024, HEATMAPS / 7, np.exp(HEATMAPS), HEATMAPS - 50):
        np.testing.assert_array_equal(measured(changed, MASKS), values)
    assert (measured(-HEATMAPS, MASKS) != values).any()


@pytest.mark.parametrize("name", [*BY_RANK, "energy_pointing_game"])
def test_the_mask_itself_is_perfect_its_inverse_worst_and_noise_at_chance(name: str) -> None:
    mask = np.zeros((1, 60, 60), dtype=bool)
    mask[0, 10:40, 20:50] = True  # a quarter of the image
    measured, rng = METRICS[name].function, np.random.default_rng(7)
    map_of_mask = mask + 0.001 * rng.random(mask.shape) * mask
    assert measured(map_of_mask, mask)[0] == pytest.approx(1.0)
    assert measured(1.0 - mask, mask)[0] <= 0.25
    noise = rng.random((40, 60, 60), dtype=np.float32)
    masks = np.repeat(mask, 40, axis=0)
    assert measured(noise, masks).mean() == pytest.approx(0.25, abs=0.02)


def test_extreme_values_are_ranked_without_a_warning() -> None:
    largest = float(np.finfo(np.float32).max)
    heatmap = np.float32([[largest, -largest, 1e-45, 0.0]])
    mask = np.array([[1, 0, 1, 0]], dtype=bool)
    with np.errstate(all="raise"):
        assert pixel_ap(heatmap, mask)[0] == 1.0
        assert relevance_rank(heatmap, mask)[0] == 1.0
    with np.errstate(over="raise"):
        assert energy_pointing_game(heatmap, mask)[0] == 1.0


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ParameterError, match="share"):
        METRICS["top_k_intersection"].configure({"share": share})


def test_the_protocols_name_the_papers_that_define_them() -> None:
    assert METRICS["relevance_rank"].configure({}).protocol == "relevance_rank@arras-2022"
    assert METRICS["pixel_ap"].configure({}).protocol == "pixel_ap@v1"
    smaller = METRICS["top_k_intersection"].configure({"share": 0.1})
    assert smaller.protocol == "top_k_intersection@v1(share=0.1)"
