"""Similarities of two maps against SciPy, scikit-image and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from xai_core.errors import ShapeError
from xai_core.metrics.similarity import SIMILARITIES, hog, spearman, spearman_abs

RNG = np.random.default_rng(9)
FIRST, SECOND = RNG.normal(size=(2, 3, 40, 52)).astype(np.float32)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_map_is_like_itself_whatever_its_scale_and_less_like_another(name: str) -> None:
    alike = SIMILARITIES[name]
    np.testing.assert_allclose(alike(FIRST, FIRST), 1.0, atol=1e-12)
    np.testing.assert_allclose(alike(FIRST, FIRST * 4), 1.0, atol=1e-6)
    others = alike(FIRST, SECOND)
    assert (others < 0.5).all()
    np.testing.assert_allclose(alike(SECOND * 7, FIRST), others, atol=1e-4)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_each_pair_is_compared_on_its_own(name: str) -> None:
    alike = SIMILARITIES[name]
    alone = [alike(FIRST[i : i + 1], SECOND[i : i + 1])[0] for i in range(3)]
    np.testing.assert_array_equal(alike(FIRST, SECOND), alone)


def test_spearman_of_sizes_equals_scipys_and_does_not_see_the_sign() -> None:
    from scipy.stats import spearmanr

    expected = [
        spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic
        for a, b in zip(FIRST, SECOND, strict=True)
    ]
    np.testing.assert_allclose(spearman_abs(FIRST, SECOND), expected, atol=1e-12)
    np.testing.assert_allclose(spearman_abs(FIRST, -FIRST), 1.0)
    np.testing.assert_allclose(spearman(FIRST, -FIRST), -1.0)
    assert spearman_abs(np.abs(FIRST), np.abs(SECOND)) == pytest.approx(
        spearman(np.abs(FIRST), np.abs(SECOND))
    )


def plain_descriptor(heatmap: np.ndarray, cell: int) -> list[float]:
    """HOG by its definition: 9 unsigned orientations, blocks of 3 x 3 cells, L2-Hys."""
    rows, columns = (side // cell for side in heatmap.shape)
    down, right = np.zeros_like(heatmap), np.zeros_like(heatmap)
    down[1:-1] = heatmap[2:] - heatmap[:-2]
    right[:, 1:-1] = heatmap[:, 2:] - heatmap[:, :-2]
    histograms = np.zeros((rows, columns, 9))
    for y in range(rows * cell):
        for x in range(columns * cell):
            angle = np.degrees(np.arctan2(down[y, x], right[y, x])) % 180
            size = np.hypot(down[y, x], right[y, x])
            histograms[y // cell, x // cell, int(angle // 20)] += size / cell**2
    descriptor = []
    for y in range(rows - 2):
        for x in range(columns - 2):
            block = histograms[y : y + 3, x : x + 3].ravel()
            block = np.minimum(block / np.sqrt((block**2).sum() + 1e-10), 0.2)
            descriptor += (block / np.sqrt((block**2).sum() + 1e-10)).tolist()
    return descriptor


def test_hog_equals_its_definition_pixel_by_pixel() -> None:
    first, second = RNG.random((2, 2, 56, 61)).astype(np.float32)  # cells of 56 // 14 = 4 px
    scaled = [
        [(m - m.min()) / (m.max() - m.min()) for m in maps.astype(np.float64)]
        for maps in (first, second)
    ]
    expected = [
        np.corrcoef(plain_descriptor(a, 4), plain_descriptor(b, 4))[0, 1]
        for a, b in zip(*scaled, strict=True)
    ]
    np.testing.assert_allclose(hog(first, second), expected, atol=1e-4)


def test_hog_cells_are_the_papers_16_px_at_224() -> None:
    from skimage.feature import hog as descriptor

    first, second = RNG.random((2, 1, 224, 224)).astype(np.float32)
    features = [
        descriptor(m[0].astype(np.float64), pixels_per_cell=(16, 16)) for m in (first, second)
    ]
    assert hog(first, second)[0] == pytest.approx(np.corrcoef(*features)[0, 1], abs=1e-4)


@pytest.mark.filterwarnings("error")
def test_a_map_with_nothing_to_compare_has_no_similarity() -> None:
    stripes = np.zeros((1, 20, 20), dtype=np.float32)
    stripes[:, ::2] = 1  # every pixel lies between equal ones
    assert np.isnan(hog(stripes, FIRST[:1, :20, :20]))
    signs = np.sign(FIRST[:1])
    assert np.isnan(spearman_abs(FIRST[:1], signs))


def test_hog_refuses_maps_without_a_block() -> None:
    with pytest.raises(ShapeError, match="HOG needs at least 3 x 3"):
        hog(FIRST[:, :2], SECOND[:, :2])
