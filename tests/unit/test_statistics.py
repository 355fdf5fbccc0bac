"""Verdicts, skill scores and families of tests against closed forms, SciPy, and counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_core.errors import ParameterError
from xai_core.statistics import (
    Interval,
    exact_mean,
    false_alarm_rate,
    holm,
    images_to_settle,
    mean_interval,
    resampling,
    skill,
    skill_interval,
    smallest_detectable_drop,
    verdict,
)

BOUNDS = (0.0, 1.0)


def beta_values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(2, 5, size=n)


def expanded(confidence: float, n: int) -> float:
    """The confidence at which an expanded interval takes its percentiles."""
    t = scipy.stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(1 - 2 * scipy.stats.norm.sf(math.sqrt(n / (n - 1)) * t))


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
        patch.setattr(resampling, "RESAMPLES", 499)
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
        (values, null),
        of,
        paired=True,
        method="BCa",
        confidence_level=expanded(0.95, 60),
        n_resamples=20_000,
        rng=rng,
    ).confidence_interval
    width = expected.high - expected.low
    assert paired.low == pytest.approx(expected.low, abs=0.05 * width)
    assert paired.high == pytest.approx(expected.high, abs=0.05 * width)
    shuffled = skill_interval(values, rng.permutation(null), perfect=1.0)
    assert paired.high - paired.low < 0.3 * (shuffled.high - shuffled.low)


def test_a_skill_that_every_image_agrees_on_has_an_interval_of_no_width() -> None:
    null = beta_values(20)
    with np.errstate(all="raise"):
        found = skill_interval(null, null, perfect=1.0)
    assert (found.low, found.high) == (0, 0)


def test_the_skill_of_one_image_has_no_finite_interval() -> None:
    found = skill_interval(np.array([0.5]), np.array([0.2]), perfect=1.0)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_the_smallest_detectable_drop_is_what_so_many_images_show_with_power_point_eight() -> None:
    values = beta_values(200)
    normal = scipy.stats.norm
    z = normal.ppf(0.975) + normal.ppf(0.80)
    expected = z * values.std(ddof=1) / math.sqrt(200)
    assert smallest_detectable_drop(mean_interval(values)) == pytest.approx(expected, rel=0.03)
    z = normal.ppf(0.95) + normal.ppf(0.80)
    expected = z * values.std(ddof=1) / math.sqrt(200)
    found = smallest_detectable_drop(mean_interval(values, confidence=0.9))
    assert found == pytest.approx(expected, rel=0.03)
    assert smallest_detectable_drop(Interval(0.2, 0.2)) == 0
    assert math.isnan(smallest_detectable_drop(Interval(-math.inf, math.inf)))


def test_a_drop_of_that_size_is_proven_in_four_of_five_runs() -> None:
    draws = np.random.default_rng(3).normal(0.5, 0.1, size=(200, 60))
    drop = 2.80 * 0.1 / math.sqrt(60)
    proven = [verdict(mean_interval(one), 0.5 + drop, above=True) == "fail" for one in draws]
    assert np.mean(proven) == pytest.approx(0.8, abs=0.085)  # three standard errors


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


@pytest.mark.parametrize("level", [0.025, 0.3])
def test_the_false_alarm_rate_of_a_family_under_holm_is_the_level_of_one_test(level: float) -> None:
    """Independent true null hypotheses, counted: no alarm where the smallest p-value holds."""
    tests = 8
    p_values = np.random.default_rng(0).random((20_000, tests))
    corrected = np.array([min(holm(row)) for row in p_values.tolist()])
    assert (corrected <= level).mean() <= false_alarm_rate(tests, level) + 0.01
    alarms = (p_values.min(axis=1) <= level).mean()
    assert alarms == pytest.approx(1 - (1 - level) ** tests, abs=0.01)
    assert alarms <= false_alarm_rate(tests, level, correction="none")
    assert alarms > 2.5 * false_alarm_rate(tests, level)


def test_a_family_has_a_size_and_a_level() -> None:
    assert false_alarm_rate(0, 0.05) == 0
    assert false_alarm_rate(0, 0.05, correction="none") == 0
    assert false_alarm_rate(3, 0.05, correction="none") == pytest.approx(0.15)
    assert false_alarm_rate(99, 0.05, correction="none") == 1
    with pytest.raises(ParameterError, match="the size of a family is 0 or more, got -1"):
        false_alarm_rate(-1, 0.05)
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(ParameterError, match="`level` must be between 0 and 1"):
            false_alarm_rate(3, level)


def test_the_mean_of_equal_values_is_that_value() -> None:
    values = np.full(3, 0.42551437439594875)
    assert values.mean() != values[0]
    assert exact_mean(values) == values[0]
    assert exact_mean(np.array([0.0, 1.0])) == 0.5
