"""Intervals and verdicts against closed forms, SciPy, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_core import statistics
from xai_core.errors import ParameterError
from xai_core.statistics import (
    Interval,
    exact_mean,
    holm,
    images_to_settle,
    mean_interval,
    skill,
    skill_interval,
    smallest_detectable_drop,
    verdict,
)

BOUNDS = (0.0, 1.0)


def beta_values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(2, 5, size=n)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 499)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize(("hits", "n"), [(0, 5), (1, 2), (3, 20), (82, 200), (20, 20)])
def test_the_interval_of_a_share_is_wilsons(hits: int, n: int, confidence: float) -> None:
    values = np.array([1.0] * hits + [0.0] * (n - hits))
    expected = scipy.stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
    interval = mean_interval(values, confidence=confidence, bounds=BOUNDS)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)
    assert interval.confidence == confidence


def test_a_share_in_percent_is_wilsons_interval_in_percent() -> None:
    share = np.array([1.0] * 3 + [0.0] * 17)
    plain = mean_interval(share, bounds=BOUNDS)
    percent = mean_interval(share * 100, bounds=(0, 100))
    assert (percent.low, percent.high) == pytest.approx((plain.low * 100, plain.high * 100))


def test_ones_and_zeros_of_a_metric_without_bounds_are_resampled() -> None:
    values = np.array([0.0] * 50)
    assert mean_interval(values).high == 0
    assert mean_interval(values, bounds=BOUNDS).high > 0.05


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("n", [8, 40, 300])
def test_other_values_get_the_percentile_bootstrap(n: int, confidence: float) -> None:
    values = beta_values(n)
    expected = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    interval = mean_interval(values, confidence=confidence, bounds=BOUNDS)
    width = expected.high - expected.low
    assert interval.low == pytest.approx(expected.low, abs=0.04 * width)
    assert interval.high == pytest.approx(expected.high, abs=0.04 * width)


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
        ([0.1, math.nan], 0.95, "finite values"),
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


@pytest.mark.usefixtures("few_resamples")
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    truth = 2 / 7  # of Beta(2, 5)
    rng = np.random.default_rng(11)
    covered = 0
    for repetition in range(300):
        interval = mean_interval(rng.beta(2, 5, size=30), bounds=BOUNDS, seed=repetition)
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / 300 <= 0.99


@pytest.mark.parametrize(
    ("low", "high", "threshold", "above", "below"),
    [
        (0.5, 0.7, 0.4, "pass", "fail"),
        (0.5, 0.7, 0.5, "pass", "inconclusive"),
        (0.5, 0.7, 0.6, "inconclusive", "inconclusive"),
        (0.5, 0.7, 0.7, "inconclusive", "pass"),
        (0.5, 0.7, 0.8, "fail", "pass"),
        (0.6, 0.6, 0.6, "pass", "pass"),
        (-math.inf, math.inf, 0.5, "inconclusive", "inconclusive"),
    ],
)
def test_the_verdict_in_both_directions(
    low: float, high: float, threshold: float, above: str, below: str
) -> None:
    interval = Interval(low, high)
    assert verdict(interval, threshold, above=True) == above
    assert verdict(interval, threshold, above=False) == below


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_comparison_with_nan_is_an_error(position: int, above: bool) -> None:
    low, high, threshold = (math.nan if i == position else 0.5 for i in range(3))
    with pytest.raises(ParameterError, match="cannot compare NaN"):
        verdict(Interval(low, high), threshold, above=above)


VALUES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=1, max_size=40).map(
    np.array
)


@settings(max_examples=60, deadline=None)
@given(values=VALUES, threshold=st.floats(-1, 1), above=st.booleans(), seed=st.integers(0, 9))
def test_a_mean_on_the_wrong_side_never_passes_and_on_the_right_side_never_fails(
    values: np.ndarray, threshold: float, above: bool, seed: int
) -> None:
    mean = math.fsum(values) / len(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 499)
        outcome = verdict(mean_interval(values, bounds=(-1, 1), seed=seed), threshold, above=above)
    if mean == threshold:
        return
    right = mean > threshold if above else mean < threshold
    assert outcome != ("fail" if right else "pass")


@settings(max_examples=60, deadline=None)
@given(hits=st.lists(st.booleans(), min_size=2, max_size=60), threshold=st.floats(0, 1))
def test_a_share_on_the_wrong_side_never_passes(hits: list[bool], threshold: float) -> None:
    interval = mean_interval(np.array(hits, dtype=np.float64), bounds=BOUNDS)
    share = sum(hits) / len(hits)
    if share < threshold:
        assert verdict(interval, threshold, above=True) != "pass"
    if share > threshold:
        assert verdict(interval, threshold, above=False) != "pass"


@pytest.mark.parametrize(
    ("value", "null", "perfect", "expected"),
    [(0.6, 0.2, 1.0, 0.5), (0.2, 0.2, 1.0, 0.0), (1.0, 0.2, 1.0, 1.0), (0.1, 0.4, 0.0, 0.75)],
)
def test_skill_is_the_share_of_the_way_from_the_null_to_perfect(
    value: float, null: float, perfect: float, expected: float
) -> None:
    assert skill(value, null, perfect=perfect) == pytest.approx(expected)


def test_skill_below_the_null_is_negative_whichever_way_is_better() -> None:
    assert skill(0.1, 0.2, perfect=1.0) < 0
    assert skill(0.3, 0.2, perfect=0.0) < 0


def test_skill_without_meaning_is_refused() -> None:
    with pytest.raises(ParameterError, match="the null map is perfect already"):
        skill(0.5, 1.0, perfect=1.0)
    with pytest.raises(ParameterError, match="without a best possible value"):
        skill(0.5, 0.2, perfect=math.inf)
    with pytest.raises(ParameterError, match="the null map is perfect already"):
        skill_interval(np.ones(3), np.ones(3), perfect=1.0)


def test_the_interval_of_a_skill_resamples_images_with_their_nulls() -> None:
    rng = np.random.default_rng(5)
    null = rng.beta(2, 5, size=60)
    values = np.minimum(null + 0.1, 1)  # a constant gain, whatever the image
    paired = skill_interval(values, null, perfect=1.0)

    def of(values: np.ndarray, null: np.ndarray, axis: int = -1) -> np.ndarray:
        return (values.mean(axis) - null.mean(axis)) / (1 - null.mean(axis))

    expected = scipy.stats.bootstrap(
        (values, null), of, paired=True, method="percentile", n_resamples=20_000, rng=rng
    ).confidence_interval
    width = expected.high - expected.low
    assert paired.low == pytest.approx(expected.low, abs=0.05 * width)
    assert paired.high == pytest.approx(expected.high, abs=0.05 * width)
    shuffled = skill_interval(values, rng.permutation(null), perfect=1.0)
    assert paired.high - paired.low < 0.3 * (shuffled.high - shuffled.low)


def test_the_smallest_detectable_drop_is_what_so_many_images_show_with_power_point_eight() -> None:
    values = beta_values(200)
    normal = scipy.stats.norm
    z = normal.ppf(0.95) + normal.ppf(0.80)
    expected = z * values.std(ddof=1) / math.sqrt(200)
    assert smallest_detectable_drop(values) == pytest.approx(expected, rel=2e-3)
    assert smallest_detectable_drop(np.array([0.2, 0.2])) == 0
    assert math.isnan(smallest_detectable_drop(np.array([0.2])))


def test_four_times_the_images_settle_a_gap_of_half_the_width() -> None:
    assert images_to_settle(Interval(0.4, 0.6), 0.5, 0.45, 25) == pytest.approx(100, abs=1)


def test_so_many_images_do_settle_it() -> None:
    values = beta_values(40, seed=2)
    threshold = float(values.mean()) - 0.02
    interval = mean_interval(values)
    assert verdict(interval, threshold, above=True) == "inconclusive"
    needed = images_to_settle(interval, float(values.mean()), threshold, 40)
    more = np.tile(values, math.ceil(needed * 1.15 / 40))
    assert verdict(mean_interval(more), threshold, above=True) == "pass"
    fewer = np.tile(values, math.floor(needed / 2 / 40))
    assert verdict(mean_interval(fewer), threshold, above=True) == "inconclusive"


def test_no_number_of_images_settles_a_mean_on_the_threshold_or_a_single_image() -> None:
    assert images_to_settle(Interval(0.4, 0.6), 0.5, 0.5, 25) is None
    assert images_to_settle(Interval(-math.inf, math.inf), 0.5, 0.4, 1) is None


def test_an_interval_reads_as_people_write_it() -> None:
    assert str(Interval(0.397, 0.427)) == "95% CI 0.397..0.427"
    assert str(Interval(-0.1, 0.25, 0.9)) == "90% CI -0.100..0.250"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_is_that_of_a_plain_step_down_procedure(p_values: list[float]) -> None:
    """A hypothesis is rejected at a level just where its corrected p-value is not above it."""
    found = holm(p_values)
    for level in [0.01, 0.05, 0.3, *found]:
        rejected = set()
        for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if (len(p_values) - place) * p_values[index] > level and level < 1:
                break
            rejected.add(index)
        assert {index for index, p in enumerate(found) if p <= level} == rejected


def test_holm_refuses_what_is_no_p_value() -> None:
    for wrong in ([math.nan], [-0.1], [1.1]):
        with pytest.raises(ParameterError, match=r"p-values lie in \[0, 1\]"):
            holm(wrong)


def test_the_mean_of_equal_values_is_that_value() -> None:
    values = np.full(3, 0.42551437439594875)
    assert values.mean() != values[0]
    assert exact_mean(values) == values[0]
    assert exact_mean(np.array([0.0, 1.0])) == 0.5
