"""Post-processing against plain loops and scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xai_core.errors import ParameterError
from xai_core.parameters import identity
from xai_core.postprocess import (
    POSTPROCESS,
    Clahe,
    Gaussian,
    MinMax,
    Otsu,
    PercentileClip,
    PostProcess,
    apply,
    parse_postprocess,
)

RNG = np.random.default_rng(6)
HEATMAPS = RNG.normal(size=(3, 24, 17)).astype(np.float32)
STEPS = [Gaussian(sigma=1.5), Clahe(), Otsu(), MinMax(), PercentileClip(low=5, high=90)]
NAMES = [step.name for step in STEPS]


def test_every_step_is_registered_under_its_name() -> None:
    assert {name: cls.name for name, cls in POSTPROCESS.items()} == {n: n for n in NAMES}
    assert all(isinstance(step, PostProcess) for step in STEPS)


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
def test_a_map_does_not_depend_on_batch_mates(step: PostProcess) -> None:
    given = np.concatenate([HEATMAPS, HEATMAPS[:1] * 1000])
    together = step(given)
    assert together.dtype == np.float32
    assert together.shape == given.shape
    np.testing.assert_array_equal(together, np.concatenate([step(heatmap) for heatmap in given]))
    np.testing.assert_array_equal(step(given[::-1]), together[::-1])


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
def test_the_given_maps_stay_as_they_were(step: PostProcess) -> None:
    before = HEATMAPS.copy()
    step(HEATMAPS)
    np.testing.assert_array_equal(HEATMAPS, before)


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
@pytest.mark.parametrize("fill", [0.0, 3.7, np.nan, np.inf])
def test_a_map_that_says_nothing_comes_out_as_it_went_in(step: PostProcess, fill: float) -> None:
    given = HEATMAPS.copy()
    given[1] = fill
    processed = step(given)
    np.testing.assert_array_equal(processed[1], given[1])
    np.testing.assert_array_equal(processed[[0, 2]], step(HEATMAPS)[[0, 2]])


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_value_not_finite_is_not_spread(step: PostProcess, value: float) -> None:
    given = HEATMAPS.copy()
    given[0, 3, 3] = value
    np.testing.assert_array_equal(step(given)[0], given[0])


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
@pytest.mark.parametrize("size", [(1, 2), (3, 3), (2, 9)])
def test_small_maps_are_taken(step: PostProcess, size: tuple[int, int]) -> None:
    given = RNG.normal(size=size)
    assert np.isfinite(step(given)).all()


def test_gaussian_equals_a_plain_sum_with_the_edge_pixel_repeated() -> None:
    heatmap, sigma = HEATMAPS[0].astype(np.float64), 1.5
    reach = int(4 * sigma + 0.5)
    offsets = range(-reach, reach + 1)
    weights = [math.exp(-(o**2) / (2 * sigma**2)) for o in offsets]
    weights = [w / sum(weights) for w in weights]
    height, width = heatmap.shape
    expected = np.zeros_like(heatmap)
    for row in range(height):
        for column in range(width):
            for dy, wy in zip(offsets, weights, strict=True):
                for dx, wx in zip(offsets, weights, strict=True):
                    y = min(max(row + dy, 0), height - 1)
                    x = min(max(column + dx, 0), width - 1)
                    expected[row, column] += wy * wx * heatmap[y, x]
    np.testing.assert_allclose(Gaussian(sigma=sigma)(heatmap)[0], expected, atol=1e-6)


def test_min_max_spans_0_to_1() -> None:
    scaled = MinMax()(HEATMAPS)
    np.testing.assert_array_equal(scaled.min(axis=(1, 2)), 0)
    np.testing.assert_array_equal(scaled.max(axis=(1, 2)), 1)
    low, high = float(HEATMAPS[1].min()), float(HEATMAPS[1].max())
    assert scaled[1, 4, 5] == pytest.approx((float(HEATMAPS[1, 4, 5]) - low) / (high - low))


def test_percentile_clip_cuts_at_interpolated_order_statistics() -> None:
    heatmap = np.arange(101, dtype=np.float32)[RNG.permutation(101)][None]
    clipped = PercentileClip(low=2.5, high=99)(heatmap)[0]
    np.testing.assert_allclose(clipped, np.clip(heatmap, 2.5, 99))


def test_percentile_clip_of_a_map_that_is_zero_almost_everywhere_is_constant() -> None:
    heatmap = np.zeros((20, 20))
    heatmap[3, 3] = 1
    assert not PercentileClip()(heatmap).any()


def test_otsu_separates_two_groups() -> None:
    heatmap = np.where(RNG.random((20, 20)) < 0.3, 5.0, 1.0) + RNG.normal(size=(20, 20)) * 0.1
    np.testing.assert_array_equal(Otsu()(heatmap)[0], heatmap > 3)


def test_otsu_equals_the_metrics_binarisation() -> None:
    from xai_core.metrics import binarize

    np.testing.assert_array_equal(Otsu()(HEATMAPS) == 1, binarize(HEATMAPS, "otsu"))


def test_clahe_equals_scikit_image_on_the_scaled_map() -> None:
    from skimage.exposure import equalize_adapthist

    step = Clahe(kernel=6, clip_limit=0.05, bins=64)
    scaled = (HEATMAPS[0] - HEATMAPS[0].min()).astype(np.float64)
    expected = equalize_adapthist(scaled / scaled.max(), 6, clip_limit=0.05, nbins=64)
    np.testing.assert_allclose(step(HEATMAPS)[0], expected, atol=1e-3)
    np.testing.assert_allclose(step(HEATMAPS * 32 + 64)[0], step(HEATMAPS)[0], atol=1e-3)


def test_clahe_raises_local_contrast() -> None:
    rows = np.linspace(0, 1, 32)[:, None] * np.ones((1, 32))
    faint = rows + 0.02 * (np.indices((32, 32)).sum(axis=0) % 2)
    processed = Clahe(clip_limit=0.5)(faint)[0]
    assert np.abs(np.diff(processed, axis=1)).mean() > 3 * np.abs(np.diff(faint, axis=1)).mean()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gaussian", Gaussian(sigma=3.0)),
        ("gaussian(sigma=2)", Gaussian(sigma=2.0)),
        ("clahe(kernel=8, clip_limit=0.02)", Clahe(kernel=8, clip_limit=0.02)),
        ("clahe(clip_limit=1)", Clahe(clip_limit=1.0)),
        ("otsu", Otsu()),
        ("min_max()", MinMax()),
        ("percentile_clip(high=95)", PercentileClip(low=0.0, high=95.0)),
    ],
)
def test_a_step_is_read_from_text(text: str, expected: PostProcess) -> None:
    assert parse_postprocess(text) == expected


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
def test_the_identity_of_a_step_reads_back(step: PostProcess) -> None:
    assert parse_postprocess(identity(step.name, step)) == step


def test_an_integer_in_text_is_the_same_step_as_the_float() -> None:
    step = parse_postprocess("gaussian(sigma=3)")
    assert identity(step.name, step) == "gaussian(sigma=3.0)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gausian", "did you mean 'gaussian'"),
        ("gaussian(sigmma=3)", "did you mean 'sigma'"),
        ("gaussian(sigma='3')", "sigma"),
        ("gaussian(sigma=0)", "more than 0"),
        ("clahe(clip_limit=0)", "clip_limit"),
        ("clahe(kernel=0)", "kernel"),
        ("clahe(bins=1)", "bins"),
        ("percentile_clip(low=60, high=40)", "low < high"),
        ("otsu(bins=3)", "takes no parameters"),
        ("gaussian(3)", "expected 'name'"),
    ],
)
def test_text_that_is_no_step_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_postprocess(text)
    assert reason in str(caught.value)


def test_steps_apply_in_their_order() -> None:
    steps = [Gaussian(sigma=1), MinMax(), Otsu()]
    expected = Otsu()(MinMax()(Gaussian(sigma=1)(HEATMAPS)))
    np.testing.assert_array_equal(apply(HEATMAPS, steps), expected)
    np.testing.assert_array_equal(apply(HEATMAPS[0], []), HEATMAPS[:1])
