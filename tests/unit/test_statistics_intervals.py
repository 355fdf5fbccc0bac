"""Intervals of means and shares, and their p-values, against closed forms and SciPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from xai_core.errors import ParameterError
from xai_core.statistics import (
    Interval,
    clopper_pearson,
    cluster_means,
    exact_mean,
    mean_interval,
    mean_p_value,
    verdict,
    wilson,
)
from xai_core.statistics.resampling import bootstrap_mean, resampled_means

BOUNDS = (0.0, 1.0)


def beta_values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(2, 5, size=n)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize(
    ("hits", "n", "method"),
    [
        (0, 5, "exact"),
        (1, 2, "exact"),
        (9, 200, "exact"),
        (11, 20, "exact"),
        (10, 20, "wilson"),
        (20, 20, "exact"),
        (82, 200, "wilson"),
        (490, 500, "wilson"),
    ],
)
def test_the_interval_of_a_share_is_exact_where_hits_or_misses_are_few_and_else_wilsons(
    hits: int, n: int, method: str, confidence: float
) -> None:
    values = np.array([1.0] * hits + [0.0] * (n - hits))
    expected = scipy.stats.binomtest(hits, n).proportion_ci(confidence, method=method)
    interval = mean_interval(values, confidence=confidence, bounds=BOUNDS)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)
    assert interval.confidence == confidence


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 20), (82, 200), (20, 20)])
def test_wilson_is_scipys(hits: int, n: int) -> None:
    expected = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 20, 60])
def test_neither_end_of_the_exact_interval_misses_more_often_than_it_says(n: int) -> None:
    true = np.linspace(0.001, 0.999, 999)
    chance = scipy.stats.binom.pmf(np.arange(n + 1)[:, None], n, true)
    low, high = np.array([clopper_pearson(hits, n) for hits in range(n + 1)]).T[:, :, None]
    assert (chance * (low > true)).sum(0).max() <= 0.025
    assert (chance * (high < true)).sum(0).max() <= 0.025


@pytest.mark.parametrize(("hits", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_hits_that_are_not_some_of_n_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ParameterError, match=f"got {hits} of {n}"):
        clopper_pearson(hits, n)


def test_a_share_in_percent_is_wilsons_interval_in_percent() -> None:
    share = np.array([1.0] * 3 + [0.0] * 17)
    plain = mean_interval(share, bounds=BOUNDS)
    percent = mean_interval(share * 100, bounds=(0, 100))
    assert (percent.low, percent.high) == pytest.approx((plain.low * 100, plain.high * 100))


def test_ones_and_zeros_of_a_metric_without_bounds_are_resampled() -> None:
    values = np.array([0.0] * 50)
    assert mean_interval(values).high == 0
    assert mean_interval(values, bounds=BOUNDS).high > 0.05


def expanded(confidence: float, n: int) -> float:
    """The confidence at which an expanded interval takes its percentiles."""
    t = scipy.stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(1 - 2 * scipy.stats.norm.sf(math.sqrt(n / (n - 1)) * t))


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("n", [8, 40, 300])
def test_other_values_are_resampled_as_scipy_does_it(
    n: int, confidence: float, method: Any, expand: bool
) -> None:
    values = beta_values(n) ** 2
    expected = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        confidence_level=expanded(confidence, n) if expand else confidence,
        method={"percentile": "percentile", "bca": "BCa"}[method],
        rng=np.random.default_rng(1),
    ).confidence_interval
    interval = mean_interval(
        values, confidence=confidence, bounds=BOUNDS, method=method, expand=expand
    )
    width = expected.high - expected.low
    assert interval.low == pytest.approx(expected.low, abs=0.04 * width)
    assert interval.high == pytest.approx(expected.high, abs=0.04 * width)


def test_bca_is_the_plain_formula_on_the_same_resamples() -> None:
    values = beta_values(25) ** 3
    means = resampled_means(values, seed=3)
    plain = bootstrap_mean(values, seed=3, expand=False)
    bias = scipy.stats.norm.ppf((means < values.mean()).mean())
    left_out = np.array([np.delete(values, row).mean() for row in range(25)])
    acceleration = scipy.stats.skew(left_out.mean() - left_out) / (6 * math.sqrt(25))
    for tail in (0.005, 0.025, 0.3):
        z = scipy.stats.norm.ppf([tail, 1 - tail])
        shares = scipy.stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        assert plain.ends(tail) == pytest.approx(np.quantile(means, shares), abs=1e-12)


def test_the_default_is_bca_expanded_for_small_n() -> None:
    values = beta_values(8)
    assert mean_interval(values) == mean_interval(values, method="bca", expand=True)
    assert mean_interval(values) != mean_interval(values, method="percentile", expand=True)
    assert mean_interval(values) != mean_interval(values, method="bca", expand=False)


def test_resamples_that_tie_with_the_mean_count_half_as_in_scipy() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0] * 3)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    found = mean_interval(values, expand=False)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_an_interval_holds_its_mean_widens_and_stays_within_the_values_however_skewed(
    method: Any,
) -> None:
    samples = [np.array([0.0] * (n - 1) + [1e6]) for n in (2, 3, 10, 200)]
    samples += [beta_values(n) ** 6 for n in (3, 10, 40)] + [beta_values(10) * 1e-120]
    for values in samples:
        outer = (float(values.mean()),) * 2
        for confidence in (0.01, 0.5, 0.95, 0.999999999):
            found = mean_interval(values, confidence=confidence, method=method)
            assert values.min() <= found.low <= outer[0]
            assert outer[1] <= found.high <= values.max()
            outer = (found.low, found.high)
        assert outer[1] > values.mean()


def test_values_that_differ_by_rounding_alone_have_an_interval_of_no_width_to_speak_of() -> None:
    values = np.array([0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2])
    found = mean_interval(values)
    assert found.high - found.low < 1e-15
    assert found.low == pytest.approx(0.3)


# --- several values of one image ----------------------------------------------------------------


def test_values_of_one_image_are_one_unit() -> None:
    rng = np.random.default_rng(2)
    images = rng.beta(2, 5, 30)
    names = [f"{row}.png" for row in range(30)]
    seeds = np.stack([images - 0.02, images + 0.02, images], axis=1)
    assert cluster_means(seeds.ravel(), np.repeat(names, 3).tolist()) == pytest.approx(images)
    found = mean_interval(seeds.ravel(), clusters=np.repeat(names, 3).tolist())
    alone = mean_interval(images)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    blind = mean_interval(seeds.ravel())
    assert blind.high - blind.low < 0.7 * (found.high - found.low)


def test_an_image_counts_once_however_many_values_it_has() -> None:
    values, images = np.array([0.1, 0.9, 0.9, 0.9, 0.5]), ["a", "b", "b", "b", "c"]
    assert cluster_means(values, images).tolist() == [0.1, 0.9, 0.5]
    assert exact_mean(cluster_means(values, images)) == pytest.approx(0.5)
    shuffled = cluster_means(values[[1, 4, 0, 2, 3]], ["b", "c", "a", "b", "b"])
    assert shuffled.tolist() == [0.9, 0.5, 0.1]


def test_many_values_of_one_image_say_nothing_of_the_spread_over_images() -> None:
    assert mean_interval(beta_values(9), clusters=["a"] * 9, bounds=BOUNDS) == Interval(0, 1)


def test_hits_of_every_seed_of_an_image_are_one_hit() -> None:
    hits = np.repeat([1.0, 1.0, 0.0, 1.0], 3)
    found = mean_interval(hits, clusters=np.repeat([0, 1, 2, 3], 3).tolist(), bounds=BOUNDS)
    expected = scipy.stats.binomtest(3, 4).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_clusters_of_another_number_are_refused() -> None:
    with pytest.raises(ParameterError, match="2 names, values of shape"):
        mean_interval(np.zeros(3), clusters=["a", "b"])


# --- p-values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n"), [(9, 60), (57, 60), (3, 5), (5, 5)])
def test_the_p_value_of_a_share_is_that_of_the_exact_test(hits: int, n: int) -> None:
    values = np.array([1.0] * hits + [0.0] * (n - hits))
    for threshold in (0.05, 0.2, 0.9, 0.99):
        for alternative in ("greater", "less"):
            expected = scipy.stats.binomtest(hits, n, threshold, alternative=alternative).pvalue
            found = mean_p_value(values, threshold, alternative=alternative, bounds=BOUNDS)
            if 1e-9 < expected < 0.499:
                assert found == pytest.approx(expected, rel=1e-3)
            else:
                assert found == (1.0 if expected > 0.499 else pytest.approx(1e-9))


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_a_p_value_is_the_level_from_which_the_interval_excludes_the_threshold(
    alternative: Any,
) -> None:
    values = beta_values(30)
    threshold = float(values.mean()) + (0.04 if alternative == "less" else -0.04)
    p = mean_p_value(values, threshold, alternative=alternative)
    assert 0.001 < p < 0.3
    for level, excluded in ((1.01 * p, True), (0.99 * p, False)):
        found = mean_interval(values, confidence=1 - 2 * level)
        beyond = found.low > threshold if alternative == "greater" else found.high < threshold
        assert beyond == excluded
    t = (values.mean() - threshold) / (values.std(ddof=1) / math.sqrt(30))
    tail = scipy.stats.t.sf(abs(t), 29)
    assert p == pytest.approx(tail, rel=0.5)


def test_a_p_value_is_never_zero_and_on_the_wrong_side_one() -> None:
    values = beta_values(30)
    assert mean_p_value(values, -5.0, alternative="greater") == pytest.approx(1e-4, rel=0.01)
    assert mean_p_value(values, -5.0, alternative="less") == 1
    assert mean_p_value(np.array([0.4]), 0.1, alternative="greater", bounds=BOUNDS) == 1
    assert mean_p_value(np.full(3, 0.4), 0.1, alternative="greater") == pytest.approx(
        1e-4, rel=0.01
    )
    with pytest.raises(ParameterError, match="cannot compare NaN"):
        mean_p_value(values, math.nan, alternative="less")


def test_many_values_give_the_normal_interval() -> None:
    values = beta_values(500)
    half = 1.959964 * values.std(ddof=1) / math.sqrt(500)
    interval = mean_interval(values)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.04 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.04 * half)


def test_the_interval_depends_on_the_seed_alone() -> None:
    values = beta_values(30)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.7, -12.3])
@pytest.mark.parametrize("n", [2, 3, 7, 30])
def test_equal_values_give_an_interval_of_no_width(value: float, n: int) -> None:
    interval = mean_interval(np.full(n, value))
    assert (interval.low, interval.high) == (value, value)
    assert verdict(interval, value, above=True) == "pass"
    assert verdict(interval, value, above=False) == "pass"


def test_one_value_says_nothing_of_its_spread() -> None:
    assert mean_interval(np.array([0.4]), bounds=BOUNDS) == Interval(0, 1)
    assert mean_interval(np.array([0.4])) == Interval(-math.inf, math.inf)
    assert mean_interval(np.array([1.0]), bounds=BOUNDS) == Interval(0, 1)


@pytest.mark.parametrize(
    ("values", "confidence", "message"),
    [
        ([], 0.95, "at least one value"),
        ([[0.1, 0.2]], 0.95, "at least one value"),
        ([0.1, math.nan], 0.95, "finite values, got nan at row 1"),
        ([0.1, math.inf], 0.95, "finite values"),
        ([0.1, 0.2], 0.0, "between 0 and 1, got 0.0"),
        ([0.1, 0.2], 1.0, "between 0 and 1, got 1.0"),
        ([0.1, 0.2], 95, "between 0 and 1, got 95"),
        ([0.1, 0.2], math.nan, "between 0 and 1, got nan"),
    ],
)
def test_what_has_no_interval_is_refused(
    values: list[float], confidence: float, message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        mean_interval(np.array(values), confidence=confidence)
