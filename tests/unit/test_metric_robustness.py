"""Stability and the similarities, against plain loops and SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.metrics import (
    METRICS,
    stability,
    stability_brightness,
    stability_jpeg,
    stability_shift,
)
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


LARGE = RNG.random((3, 3, 20, 18)).astype(np.float32)
LARGE_MAPS = explain(LARGE, TARGETS)
OTHER_CHANGES = {
    "stability_brightness": stability_brightness,
    "stability_jpeg": stability_jpeg,
    "stability_shift": stability_shift,
}


def plain_similarity(first: np.ndarray, second: np.ndarray, similarity: str) -> float:
    from scipy.stats import spearmanr

    if similarity == "ssim":
        return plain_ssim(first, second, 7)
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


@pytest.mark.parametrize("similarity", ["ssim", "spearman"])
def test_stability_in_other_light_equals_a_plain_loop(similarity: str) -> None:
    expected = []
    for image, target, heatmap in zip(LARGE, TARGETS, LARGE_MAPS, strict=True):
        stream = generator_for(image, seed=4, purpose="stability_brightness")
        values = []
        for _ in range(3):
            factor, offset = 1 + 0.5 * stream.uniform(-1, 1), 0.2 * stream.uniform(-1, 1)
            lit = np.minimum(np.maximum(image * np.float32(factor) + np.float32(offset), 0), 1)
            values.append(plain_similarity(heatmap, explain(lit[None], [target])[0], similarity))
        expected.append(np.mean(values))
    given = {"factor": 0.5, "offset": 0.2, "samples": 3, "similarity": similarity, "seed": 4}
    measured = stability_brightness(explain, LARGE, TARGETS, LARGE_MAPS, **given)
    np.testing.assert_allclose(measured, expected, atol=1e-5)
    assert (measured < 0.9999).all()


def test_factor_and_offset_of_the_light_fill_their_ranges_and_are_one_for_an_image() -> None:
    seen: list[np.ndarray] = []

    def watched(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        seen.append(images)
        return explain(images, targets)

    image = np.full((1, 3, 8, 8), 0.25, dtype=np.float32)
    image[:, :, 4:] = 0.5
    given = {"factor": 0.3, "offset": 0.1, "samples": 200}
    stability_brightness(watched, image, 0, RNG.random((1, 8, 8)), **given)
    dark, light = (np.concatenate([x[:, :, row].reshape(1, -1) for x in seen]) for row in (0, 7))
    assert np.ptp(dark, axis=1).max() == np.ptp(light, axis=1).max() == 0
    factors = (light - dark)[:, 0] / 0.25
    offsets = dark[:, 0] - 0.25 * factors
    for values, middle, reach in ((factors, 1.0, 0.3), (offsets, 0.0, 0.1)):
        assert values.min() == pytest.approx(middle - reach, abs=0.05 * reach)
        assert values.max() == pytest.approx(middle + reach, abs=0.05 * reach)
        assert (np.abs(values - middle) < reach + 1e-5).all()
    stability_brightness(watched, LARGE, TARGETS, LARGE_MAPS, factor=0.9, offset=0.9)
    assert all(images.min() >= 0 and images.max() <= 1 for images in seen)


@pytest.mark.parametrize("similarity", ["ssim", "spearman"])
def test_stability_after_jpeg_equals_that_of_an_image_saved_and_opened(
    similarity: str, tmp_path: Path
) -> None:
    from PIL import Image

    expected = []
    for image, target, heatmap in zip(LARGE, TARGETS, LARGE_MAPS, strict=True):
        file = tmp_path / "image.jpg"
        as_bytes = np.uint8(np.floor(image * 255 + 0.5)).transpose(1, 2, 0)
        Image.fromarray(as_bytes).save(file, quality=30, subsampling=2)
        opened = np.float32(np.array(Image.open(file)).transpose(2, 0, 1) / 255)
        assert np.abs(opened - image).max() > 0.05
        compressed = explain(opened[None], [target])[0]
        expected.append(plain_similarity(heatmap, compressed, similarity))
    given = {"quality": 30, "similarity": similarity}
    measured = stability_jpeg(explain, LARGE, TARGETS, LARGE_MAPS, **given)
    np.testing.assert_allclose(measured, expected, atol=1e-6)


@pytest.mark.parametrize("similarity", ["ssim", "spearman"])
def test_stability_under_shifts_equals_a_plain_loop(similarity: str) -> None:
    weights = RNG.normal(size=(20, 18)).astype(np.float32)

    def explain_by_place(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        # The whole image has a part in every pixel, so what fills the border shows.
        return explain(images, targets) + weights * images.sum(axis=(1, 2, 3))[:, None, None] / 99

    maps = explain_by_place(LARGE, TARGETS)
    expected = []
    shifts = [(a, b) for a in range(-2, 3) for b in range(-2, 3) if (a, b) != (0, 0)]
    for image, target, heatmap in zip(LARGE, TARGETS, maps, strict=True):
        stream = generator_for(image, seed=4, purpose="stability_shift")
        values = []
        for _ in range(3):
            down, right = shifts[stream.integers(24)]
            shifted = np.empty_like(image)
            for y in range(20):
                for x in range(18):
                    source = min(max(y - down, 0), 19), min(max(x - right, 0), 17)
                    shifted[:, y, x] = image[:, source[0], source[1]]
            found = explain_by_place(shifted[None], [target])[0]
            back = np.roll(found, (-down, -right), axis=(0, 1))
            inner = (slice(2, -2), slice(2, -2))
            values.append(plain_similarity(heatmap[inner], back[inner], similarity))
        expected.append(np.mean(values))
    given = {"pixels": 2, "samples": 3, "similarity": similarity, "seed": 4}
    measured = stability_shift(explain_by_place, LARGE, TARGETS, maps, **given)
    np.testing.assert_allclose(measured, expected, atol=1e-6)
    assert (measured < 0.99).all()


def test_every_shift_within_reach_occurs_but_none_at_all() -> None:
    seen: list[tuple[int, int]] = []
    spot = np.zeros((1, 3, 15, 15), dtype=np.float32)
    spot[:, :, 7, 7] = 1

    def watched(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        seen.extend(tuple(place - 7) for place in np.argwhere(images[:, 0])[:, 1:])
        return explain(images, targets)

    stability_shift(watched, spot, 0, explain(spot, [0]), pixels=2, samples=300)
    places = {(a, b) for a in range(-2, 3) for b in range(-2, 3)} - {(0, 0)}
    assert {(int(a), int(b)) for a, b in seen} == places


def test_a_map_that_moves_with_its_image_is_perfectly_stable_and_one_that_stays_is_not() -> None:
    moves = stability_shift(explain, LARGE, TARGETS, LARGE_MAPS, pixels=3)
    np.testing.assert_allclose(moves, 1.0, atol=1e-6)
    stays = stability_shift(lambda *_: LARGE_MAPS, LARGE, TARGETS, LARGE_MAPS, pixels=3)
    assert (stays < 0.5).all()


@pytest.mark.parametrize("name", OTHER_CHANGES)
def test_a_change_gives_the_same_value_in_any_batch_and_order(name: str) -> None:
    measure = OTHER_CHANGES[name]
    together = measure(explain, LARGE, TARGETS, LARGE_MAPS)
    alone = [measure(explain, LARGE[i], TARGETS[i], LARGE_MAPS[i])[0] for i in range(3)]
    backwards = measure(explain, LARGE[::-1], TARGETS[::-1], LARGE_MAPS[::-1])
    assert together.dtype == np.float64
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, backwards[::-1])


@pytest.mark.parametrize("name", ["stability_brightness", "stability_shift"])
def test_the_seed_decides_the_change(name: str) -> None:
    by_place = RNG.random((20, 18)).astype(np.float32)

    def placed(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return explain(images, targets) + by_place

    maps = placed(LARGE, TARGETS)
    first, again, other = (
        OTHER_CHANGES[name](placed, LARGE, TARGETS, maps, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.parametrize(
    ("name", "little", "much"),
    [
        ("stability_brightness", {"factor": 0.05, "offset": 0.0}, {"factor": 0.9, "offset": 0.5}),
        ("stability_jpeg", {"quality": 95}, {"quality": 5}),
    ],
)
def test_a_smaller_change_is_more_stable(name: str, little: dict, much: dict) -> None:
    small, large = (
        OTHER_CHANGES[name](explain, LARGE, TARGETS, LARGE_MAPS, **given)
        for given in (little, much)
    )
    assert (small > large).all()


@pytest.mark.parametrize("name", OTHER_CHANGES)
def test_scaling_the_maps_leaves_their_stability(name: str) -> None:
    def eightfold(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return 8 * explain(images, targets)

    measure = OTHER_CHANGES[name]
    plain = measure(explain, LARGE, TARGETS, LARGE_MAPS)
    np.testing.assert_allclose(measure(eightfold, LARGE, TARGETS, 8 * LARGE_MAPS), plain, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("stability", "under noise (sample 1 of 5)"),
        ("stability_brightness", "in other light (sample 1 of 5)"),
        ("stability_jpeg", "after JPEG at quality 75"),
        ("stability_shift", "shifted (sample 1 of 5)"),
    ],
)
def test_an_image_without_a_value_costs_the_others_nothing(name: str, what: str) -> None:
    def second_is_empty(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        maps = explain(images, targets)
        maps[1] = 0
        return maps

    measure = {**OTHER_CHANGES, "stability": stability}[name]
    with pytest.raises(UndefinedMeasurementError) as caught:
        measure(second_is_empty, LARGE, TARGETS, LARGE_MAPS)
    assert caught.value.reasons == {1: f"{what}, the heatmap is zero everywhere"}
    whole = measure(explain, LARGE, TARGETS, LARGE_MAPS)
    assert caught.value.values is not None
    np.testing.assert_array_equal(caught.value.values[[0, 2]], whole[[0, 2]])
    with pytest.raises(UndefinedMeasurementError) as caught:
        measure(lambda images, _: np.zeros_like(images[:, 0]), LARGE, TARGETS, LARGE_MAPS)
    assert set(caught.value.reasons) == {0, 1, 2}


def test_a_map_that_is_constant_but_for_its_border_is_undefined_under_shifts() -> None:
    maps = LARGE_MAPS.copy()
    maps[2, 4:-4, 4:-4] = 1
    with pytest.raises(UndefinedMeasurementError) as caught:
        stability_shift(explain, LARGE, TARGETS, maps)
    assert caught.value.reasons == {2: "4 px from the border, the heatmap is constant (1)"}


def test_a_shift_that_leaves_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"12 x 10: shifts of up to 4 px cut away 8 .* fewer"):
        stability_shift(explain, IMAGES, TARGETS, HEATMAPS)
    assert (stability_shift(explain, IMAGES, TARGETS, HEATMAPS, pixels=3) > 0.99).all()


@pytest.mark.parametrize("name", OTHER_CHANGES)
def test_a_change_refuses_maps_of_another_shape(name: str) -> None:
    with pytest.raises(ShapeError, match="explain"):
        OTHER_CHANGES[name](lambda images, _: images[:, 0, 1:], LARGE, TARGETS, LARGE_MAPS)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("stability_brightness", "factor", 0.0),
        ("stability_brightness", "factor", 1.0),
        ("stability_brightness", "offset", -0.1),
        ("stability_brightness", "sigma", 0.1),
        ("stability_jpeg", "quality", 0),
        ("stability_jpeg", "quality", 96),
        ("stability_jpeg", "samples", 2),
        ("stability_shift", "pixels", 0),
        ("stability_shift", "pixels", 1.5),
        ("stability", "quality", 50),
    ],
)
def test_a_setting_out_of_range_or_of_another_change_is_refused(
    name: str, setting: str, value: object
) -> None:
    with pytest.raises(ParameterError, match=setting):
        METRICS[name].configure({setting: value})


def test_the_protocols_of_the_changes() -> None:
    assert METRICS["stability"].configure({}).protocol == "stability@v1"
    shift = METRICS["stability_shift"].configure({"pixels": 2, "seed": 3})
    assert shift.protocol == "stability_shift@v1(pixels=2)"
    assert METRICS["stability_jpeg"].configure({}).protocol == "stability_jpeg@v1"
