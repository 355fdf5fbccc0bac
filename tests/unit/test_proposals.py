"""Thresholds for a stated rate of false alarms, against fresh draws from known populations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_core.errors import ParameterError
from xai_core.statistics import false_alarm_rate_of, proposals, proposed_threshold

Draw = Callable[[np.random.Generator, int], np.ndarray]
POPULATIONS: dict[str, tuple[Draw, tuple[float, float]]] = {
    "beta": (lambda rng, n: rng.beta(2, 5, n), (0.0, 1.0)),
    "normal": (lambda rng, n: rng.normal(3, 2, n), (-math.inf, math.inf)),
    "share": (lambda rng, n: (rng.random(n) < 0.9).astype(np.float64), (0.0, 1.0)),
}
VALUES = st.lists(st.integers(0, 1000), min_size=1, max_size=30).map(
    lambda values: np.array(values) / 1000
)


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("n", [20, 100])
def test_another_draw_misses_the_proposal_about_as_often_as_stated(
    n: int, population: str, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "RESAMPLES", 999)
    draw, bounds = POPULATIONS[population]
    rng = np.random.default_rng(n)
    missed = []
    for seed in range(300):
        threshold = proposed_threshold(
            draw(rng, n), better=better, rate=0.05, bounds=bounds, seed=seed
        )
        fresh = draw(rng, n * 10).reshape(10, n).mean(axis=1)
        wrong = fresh < threshold if better == "higher" else fresh > threshold
        missed.append(wrong.mean())
    # A threshold from n images meets n other images: a plain bootstrap's would be missed at 0.12.
    assert 0.015 < np.mean(missed) < 0.09


def test_the_rate_of_a_threshold_is_that_of_the_predictive_t_distribution() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 40)
    error = values.std(ddof=1) * math.sqrt(2 / 40)
    for away in (0.5, 1, 2, 2.5):
        expected = scipy.stats.t.sf(away, 39)
        threshold = values.mean() - away * error
        found = false_alarm_rate_of(values, threshold, better="higher")
        assert found == pytest.approx(expected, abs=0.012)
        mirrored = false_alarm_rate_of(-values, -threshold, better="lower")
        assert mirrored == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(20, 20), (18, 20), (0, 5), (99, 100)])
def test_a_share_follows_the_beta_binomial_distribution(hits: int, n: int) -> None:
    values = np.repeat([1.0, 0.0], [hits, n - hits])
    expected = scipy.stats.betabinom(n, hits + 0.5, n - hits + 0.5)
    for count in range(n + 1):
        found = false_alarm_rate_of(values, count / n, better="higher", bounds=(0, 1))
        assert found == pytest.approx(expected.cdf(count - 1), abs=1e-12)
    threshold = proposed_threshold(values, better="higher", rate=0.05, bounds=(0, 1))
    assert round(threshold * n, 9) <= expected.ppf(0.05) < threshold * n + 1


def test_twenty_hits_of_twenty_do_not_promise_twenty_more() -> None:
    assert proposed_threshold(np.ones(20), better="higher", bounds=(0, 1)) == 0.8


def test_a_share_between_other_bounds_scales_with_them() -> None:
    values = np.repeat([1.0, -1.0], [18, 2])
    found = proposed_threshold(values, better="higher", rate=0.05, bounds=(-1, 1))
    of_shares = proposed_threshold((values + 1) / 2, better="higher", rate=0.05, bounds=(0, 1))
    assert found == pytest.approx(2 * of_shares - 1)


@pytest.mark.parametrize(
    ("value", "better", "expected"),
    [
        (0.123456, "higher", 0.123),
        (0.123456, "lower", 0.124),
        (-0.123456, "higher", -0.124),
        (0.7, "higher", 0.7),
        (1234.5, "lower", 1240.0),
        (0.0, "lower", 0.0),
        (3.0001e-9, "lower", 3.01e-9),
    ],
)
@pytest.mark.parametrize("n", [1, 6])
def test_equal_values_are_rounded_to_the_looser_side(
    n: int, value: float, better: str, expected: float
) -> None:
    values = np.full(n, value)
    threshold = proposed_threshold(values, better=better, bounds=(-math.inf, math.inf))
    assert threshold == pytest.approx(expected, rel=1e-12)
    assert (threshold <= value) if better == "higher" else (threshold >= value)


def test_equal_values_never_miss_what_they_meet_and_a_single_one_says_nothing() -> None:
    values = np.full(4, 0.3)
    assert false_alarm_rate_of(values, 0.3, better="higher", bounds=(0, 1)) == 0
    assert false_alarm_rate_of(values, 0.31, better="higher", bounds=(0, 1)) == 1
    assert math.isnan(false_alarm_rate_of(values[:1], 0.2, better="higher", bounds=(0, 1)))


@settings(max_examples=80, deadline=None)
@given(values=VALUES, better=st.sampled_from(["higher", "lower"]), rate=st.floats(0.001, 0.3))
def test_the_proposal_stays_in_range_on_the_looser_side_and_reads_well(
    values: np.ndarray, better: str, rate: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proposals, "RESAMPLES", 499)
        threshold = proposed_threshold(values, better=better, rate=rate, bounds=(0, 1))
        alarms = false_alarm_rate_of(values, threshold, better=better, bounds=(0, 1))
    assert 0 <= threshold <= 1
    if better == "higher":
        assert threshold <= values.mean() + 1e-12
    else:
        assert threshold >= values.mean() - 1e-12
    assert len(str(threshold)) <= len("0.000123")
    assert math.isnan(alarms) or alarms <= rate + 1e-9


def test_a_smaller_rate_gives_a_looser_threshold() -> None:
    values = np.random.default_rng(4).beta(2, 5, 60)
    found = [proposed_threshold(values, better="higher", rate=rate) for rate in (0.1, 0.01, 0.001)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 3


def test_a_seed_that_shifts_all_images_is_part_of_another_draw() -> None:
    values = np.random.default_rng(5).normal(0.5, 0.02, 50)
    shifted = [values - 0.1, values, values + 0.1, values + 0.01]
    assert false_alarm_rate_of(values, 0.45, better="higher") < 0.001
    assert false_alarm_rate_of(shifted, 0.45, better="higher") == pytest.approx(0.25, abs=0.01)
    assert proposed_threshold(shifted, better="higher") < 0.4


def test_the_same_seed_proposes_the_same() -> None:
    values = np.random.default_rng(6).beta(2, 5, 30)
    first, again, other = (
        false_alarm_rate_of(values, 0.25, better="higher", seed=seed) for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("values", "keywords", "message"),
    [
        ([], {}, "at least one value"),
        ([0.1, math.nan], {}, "finite values"),
        ([0.1], {"rate": 0.0}, "`rate` must be between 0 and 1"),
        ([0.1], {"rate": 1.0}, "`rate` must be between 0 and 1"),
    ],
)
def test_what_cannot_be_proposed_is_refused(
    values: list[float], keywords: dict[str, float], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        proposed_threshold(np.array(values), better="higher", **keywords)
    with pytest.raises(ParameterError, match="cannot compare NaN"):
        false_alarm_rate_of(np.ones(3), math.nan, better="higher")
