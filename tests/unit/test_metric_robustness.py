"""Stability and the similarities, against plain loops and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_core.errors import ShapeError, UndefinedMeasurementError
from xai_core.metrics import stability
from xai_core.metrics.similarity import spearman, ssim
from xai_core.seeding import generator_for

RNG = np.random.default_rng(8)
IMAGES = RNG.random((3, 3, 12, 10)).astype(np.float32)
TARGETS = np.array([0, 1, 2])


def explain(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Some heatmap that depends on image and target, pixel by pixel."""
    weights = np.array([[1, 2, 3], [3, 2, 1], [-1, 0, 4]], dtype=np.float32)[targets]
    return (images * weights[:, :, None, None]).sum(axis=1) ** 2


HEATMAPS = explain(IMAGES, TARGETS)


def plain_ssim(first: np.ndarray, second: np.ndarray, window: int) -> float:
    a, b = (
        (m.astype(np.float64) - float(m.min())) / (float(m.max()) - float(m.min()))
        for m in (first, second)
    )
    values = []
    for row in range(a.shape[0] - window + 1):
        for column in range(a.shape[1] - window + 1):
            x = a[row : row + window, column : column + window].ravel()
            y = b[row : row + window, column : column + window].ravel()
            (xx, xy), (_, yy) = np.cov(x, y)
            c1, c2 = 0.01**2, 0.03**2
            values.append(
                (2 * x.mean() * y.mean() + c1)
                * (2 * xy + c2)
                / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (xx + yy + c2))
            )
    return float(np.mean(values))


@pytest.mark.parametrize(("size", "window"), [((12, 10), 7), ((6, 9), 5), ((4, 4), 3), ((3, 8), 3)])
def test_ssim_equals_its_formula_window_by_window(size: tuple[int, int], window: int) -> None:
    first, second = RNG.normal(size=(2, 3, *size)).astype(np.float32)
    expected = [plain_ssim(a, b, window) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(ssim(first, second), expected, atol=1e-6)


def test_ssim_sees_two_dimensions() -> None:
    heatmap = np.zeros((1, 24, 24), dtype=np.float32)
    heatmap[0, 8:16, 8:16] = 1
    down, right = np.roll(heatmap, 3, axis=1), np.roll(heatmap, 3, axis=2)
    assert ssim(heatmap, down)[0] == pytest.approx(ssim(heatmap, right)[0])


def test_ssim_refuses_maps_without_a_window() -> None:
    with pytest.raises(ShapeError, match="3 x 3"):
        ssim(np.float32([[[1, 2], [3, 4]]]), np.float32([[[1, 2], [3, 4]]]))


@settings(deadline=None)  # the first example pays for late imports
@given(
    hnp.arrays(np.float32, (2, 4, 5), elements=st.integers(-4, 4).map(float)).filter(
        lambda maps: (np.ptp(maps, axis=(1, 2)) > 0).all()
    )
)
def test_spearman_equals_scipys_with_many_ties(maps: np.ndarray) -> None:
    from scipy.stats import spearmanr

    expected = spearmanr(maps[0].ravel(), maps[1].ravel()).statistic
    assert spearman(maps[:1], maps[1:])[0] == pytest.approx(expected, abs=1e-12)


def test_similarities_of_a_map_with_itself_scaled_are_one() -> None:
    np.testing.assert_allclose(ssim(HEATMAPS, HEATMAPS * 8 + 1), 1.0, atol=1e-5)
    np.testing.assert_allclose(spearman(HEATMAPS, HEATMAPS * 8), 1.0)
    np.testing.assert_allclose(spearman(HEATMAPS, -HEATMAPS), -1.0)


@pytest.mark.parametrize("similarity", ["ssim", "spearman"])
def test_stability_equals_a_plain_loop(similarity: str) -> None:
    from scipy.stats import spearmanr

    expected = []
    for image, target, heatmap in zip(IMAGES, TARGETS, HEATMAPS, strict=True):
        stream = generator_for(image, seed=4, purpose="stability")
        values = []
        for _ in range(3):
            noise = stream.standard_normal(image.shape, dtype=np.float32)
            noisy_image = np.minimum(np.maximum(image + np.float32(0.2) * noise, 0), 1)
            noisy = explain(noisy_image[None], np.array([target]))[0]
            values.append(
                plain_ssim(heatmap, noisy, 7)
                if similarity == "ssim"
                else spearmanr(heatmap.ravel(), noisy.ravel()).statistic
            )
        expected.append(np.mean(values))
    measured = stability(
        explain, IMAGES, TARGETS, HEATMAPS, sigma=0.2, samples=3, similarity=similarity, seed=4
    )
    np.testing.assert_allclose(measured, expected, atol=1e-6)
    assert (measured < 0.99).all()


def test_the_noise_has_the_deviation_asked_for_and_the_image_stays_in_range() -> None:
    seen: list[np.ndarray] = []

    def watched(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        seen.append(images)
        return explain(images, targets)

    grey = np.full((1, 3, 48, 48), 0.5, dtype=np.float32)
    heatmap = RNG.random((1, 48, 48))
    stability(watched, grey, 0, heatmap, sigma=0.05, samples=4)
    assert len(seen) == 4
    assert np.std(np.stack(seen) - 0.5) == pytest.approx(0.05, rel=0.03)
    assert len({images.tobytes() for images in seen}) == 4
    stability(watched, grey, 0, heatmap, sigma=5.0, samples=1)
    assert (seen[-1].min(), seen[-1].max()) == (0.0, 1.0)


def test_a_value_does_not_depend_on_batch_mates_or_order() -> None:
    together = stability(explain, IMAGES, TARGETS, HEATMAPS, sigma=0.1)
    alone = [stability(explain, IMAGES[i], TARGETS[i], HEATMAPS[i], sigma=0.1)[0] for i in range(3)]
    backwards = stability(explain, IMAGES[::-1], TARGETS[::-1], HEATMAPS[::-1], sigma=0.1)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, backwards[::-1])


def test_the_seed_decides_the_noise() -> None:
    first, again, other = (
        stability(explain, IMAGES, TARGETS, HEATMAPS, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_less_noise_is_more_stable() -> None:
    little, much = (
        stability(explain, IMAGES, TARGETS, HEATMAPS, sigma=sigma) for sigma in (0.01, 0.3)
    )
    assert (little > much).all()


def test_a_map_that_noise_makes_constant_is_undefined_and_the_sample_named() -> None:
    calls: list[int] = []

    def breaks_later(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        calls.append(1)
        heatmaps = explain(images, targets)
        if len(calls) == 2:
            heatmaps[1] = 0
            heatmaps[2, 0, 0] = np.nan
        return heatmaps

    with pytest.raises(UndefinedMeasurementError) as caught:
        stability(breaks_later, IMAGES, TARGETS, HEATMAPS)
    assert caught.value.reasons[1] == "under noise (sample 2 of 5), the heatmap is zero everywhere"
    assert "not finite" in caught.value.reasons[2]
    assert set(caught.value.reasons) == {1, 2}
    assert len(calls) == 5


def test_maps_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="explain"):
        stability(lambda images, _: images[:, 0, 1:], IMAGES, TARGETS, HEATMAPS)
