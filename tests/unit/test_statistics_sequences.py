"""Confidence sequences against a plain grid, counted error rates, and optional stopping."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_core.errors import ParameterError
from xai_core.statistics import ConfidenceSequence, Interval

EMPTY = ConfidenceSequence(low=0.0, high=1.0)
BETS = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)


def plain_bounds(
    values: list[float], confidence: float, population: int | None, cells: int = 2000
) -> tuple[float, float]:
    """Every mean of a fine grid that neither gambler refuted at any time, one value at a time."""
    kept = []
    for mean in (cell / cells for cell in range(1, cells)):
        above, below = [1.0] * len(BETS), [1.0] * len(BETS)
        drawn, refuted = 0.0, False
        for t, value in enumerate(values):
            fair = mean if population is None else (population * mean - drawn) / (population - t)
            if not 0 < fair < 1:
                refuted = True
                break
            above = [k * (1 + f * (value - fair) / fair) for k, f in zip(above, BETS, strict=True)]
            below = [
                k * (1 + f * (fair - value) / (1 - fair)) for k, f in zip(below, BETS, strict=True)
            ]
            drawn += value
            mixed = max(sum(above), sum(below)) / len(BETS)
            refuted |= mixed >= 2 / (1 - confidence)
        if population is not None and not refuted:
            left = population - len(values)
            refuted = not 0 <= (population * mean - drawn) / left <= 1
        if not refuted:
            kept.append(mean)
    return kept[0], kept[-1]


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("population", [None, 60, 41])
@pytest.mark.parametrize("shape", [(2, 5), (0.3, 0.3), (30, 3)])
def test_the_interval_is_what_a_plain_grid_of_gamblers_leaves(
    shape: tuple[float, float], population: int | None, confidence: float
) -> None:
    values = np.random.default_rng(4).beta(*shape, 40)
    sequence = ConfidenceSequence(0.0, 1.0, confidence, population).after(values)
    low, high = plain_bounds(values.tolist(), confidence, population)
    assert sequence.interval.low == pytest.approx(low, abs=1 / 2000)
    assert sequence.interval.high == pytest.approx(high, abs=1 / 2000)
    assert sequence.interval.confidence == confidence


@pytest.mark.parametrize("hits", [[1.0] * 25, [0.0] * 25, [1.0, 0.0] * 12])
@pytest.mark.parametrize("population", [None, 100])
def test_hits_and_misses_are_played_the_same(hits: list[float], population: int | None) -> None:
    sequence = ConfidenceSequence(0.0, 1.0, 0.95, population).after(hits)
    low, high = plain_bounds(hits, 0.95, population)
    assert sequence.interval.low == pytest.approx(low, abs=1 / 1000)
    assert sequence.interval.high == pytest.approx(high, abs=1 / 1000)


# --- the error rate -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_the_mean_is_ever_left_out_at_most_as_often_as_stated_counted_over_all_streams(
    share: float,
) -> None:
    alpha, n = 0.5, 9
    wrong = 0.0
    for stream in itertools.product([0.0, 1.0], repeat=n):
        found = ConfidenceSequence(0.0, 1.0, 1 - alpha, values=stream)
        if found.settled_at(share) is not None:
            wrong += share ** sum(stream) * (1 - share) ** (n - sum(stream))
    assert 0.04 < wrong <= alpha


@pytest.mark.parametrize("hits", [1, 3, 5])
def test_the_mean_of_a_set_is_ever_left_out_at_most_as_often_as_stated_counted_over_all_orders(
    hits: int,
) -> None:
    alpha, size = 0.5, 10
    wrong = []
    for places in itertools.combinations(range(size), hits):
        stream = [float(place in places) for place in range(size)]
        sequence = ConfidenceSequence(0.0, 1.0, 1 - alpha, size).after(stream[:-1])
        wrong.append(sequence.settled_at(hits / size) is not None)
    assert 0.04 < np.mean(wrong) <= alpha


@pytest.mark.parametrize("population", [None, 150])
def test_stopping_as_soon_as_the_threshold_is_excluded_keeps_the_error_rate(
    population: int | None,
) -> None:
    """The usual interval, looked at after each value, is wrong many times as often."""
    rng = np.random.default_rng(8)
    streams, wrong, usual = 300, 0, 0
    for _ in range(streams):
        values = rng.beta(2, 5, 150)
        mean = float(values.mean()) if population else 2 / 7
        values = values[:149]
        sequence = ConfidenceSequence(0.0, 1.0, 0.9, population).after(values)
        wrong += sequence.settled_at(mean) is not None
        count = np.arange(1, 150)
        means = values.cumsum() / count
        errors = np.sqrt((values**2).cumsum() / count - means**2 + 1e-12) / np.sqrt(count)
        usual += bool((np.abs(means - mean) > 1.645 * errors)[9:].any())
    assert wrong / streams <= 0.1
    assert usual / streams > 0.25


# --- what it costs ------------------------------------------------------------------------------


def settling_times(distance: float, size: int | None, streams: int = 15) -> list[float]:
    rng = np.random.default_rng(3)
    times = []
    for _ in range(streams):
        values = rng.beta(8, 2, size or 3000)
        mean = float(values.mean()) if size else 0.8
        found = ConfidenceSequence(0.0, 1.0, population=size).after(values)
        times.append(found.settled_at(mean - distance) or math.inf)
    return times


def test_a_near_threshold_takes_more_values_than_a_far_one_within_three_times_what_must_be() -> (
    None
):
    times = [
        float(np.median(settling_times(distance, None))) for distance in (0.2, 0.1, 0.05, 0.025)
    ]
    assert times == sorted(times)
    deviation = math.sqrt(0.8 * 0.2 / 11)
    for distance, time in ((0.05, times[2]), (0.025, times[3])):
        fixed = ((1.96 + 0.84) * deviation / distance) ** 2  # n known before, power .8
        assert time < 3 * fixed


def test_the_cost_follows_the_distance_and_not_the_size_of_the_set() -> None:
    small, large = (float(np.median(settling_times(0.1, size))) for size in (200, 2000))
    assert large < 1.5 * small


# --- the object ---------------------------------------------------------------------------------


def drifts(sequence: ConfidenceSequence) -> bool:
    try:
        _ = sequence.interval
    except ParameterError:
        return True
    return False


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=25),
    population=st.sampled_from([None, 25, 40]),
    confidence=st.sampled_from([0.9, 0.99]),
)
def test_the_interval_only_ever_shrinks_and_fed_one_by_one_is_the_same(
    values: list[float], population: Any, confidence: float
) -> None:
    whole = ConfidenceSequence(0.0, 1.0, confidence, population).after(values)
    sequence = ConfidenceSequence(0.0, 1.0, confidence, population)
    before = sequence.interval
    for value in values:
        sequence = sequence.after(value)
        if drifts(sequence):
            continue
        after = sequence.interval
        closed = after.low == after.high
        assert closed or before.low - 1e-9 <= after.low <= after.high <= before.high + 1e-9
        before = after
    assert sequence == whole


def test_it_is_settled_at_the_first_value_after_which_it_says_so() -> None:
    values = np.random.default_rng(0).beta(8, 2, 120)
    for threshold, outcome in ((0.7, "pass"), (0.9, "fail")):
        first = EMPTY.after(values).settled_at(threshold)
        assert first is not None
        assert EMPTY.after(values[: first - 1]).settled(threshold, above=True) is None
        assert EMPTY.after(values[:first]).settled(threshold, above=True) == outcome
        other = {"pass": "fail", "fail": "pass"}[outcome]
        assert EMPTY.after(values).settled(threshold, above=False) == other
    assert EMPTY.after(values).settled_at(float(values.mean())) is None


def test_nothing_is_known_before_the_first_value() -> None:
    percent = ConfidenceSequence(low=-100.0, high=100.0)
    assert percent.interval == Interval(-100, 100)
    assert percent.settled(5, above=True) is None
    assert percent.settled_at(5) is None


def test_another_scale_and_the_other_direction_give_the_same_interval() -> None:
    values = np.random.default_rng(1).beta(2, 5, 50)
    plain = EMPTY.after(values).interval
    percent = ConfidenceSequence(0.0, 100.0).after(values * 100).interval
    assert (percent.low, percent.high) == pytest.approx((plain.low * 100, plain.high * 100))
    turned = ConfidenceSequence(-1.0, 0.0).after(-values).interval
    assert (-turned.high, -turned.low) == pytest.approx((plain.low, plain.high), abs=1e-8)


def test_a_finite_set_closes_on_its_mean_when_all_have_come() -> None:
    values = np.random.default_rng(1).beta(2, 5, 37)
    sequence = ConfidenceSequence(0.0, 1.0, population=37).after(values)
    assert (
        sequence.interval.low == sequence.interval.high == pytest.approx(values.mean(), abs=1e-15)
    )
    assert sequence.settled(float(values.mean()) - 1e-9, above=True) == "pass"
    assert sequence.settled(float(values.mean()) + 1e-9, above=True) == "fail"


def test_a_finite_set_knows_what_the_rest_can_still_change() -> None:
    sequence = ConfidenceSequence(0.0, 1.0, population=20).after([0.0] * 18 + [1.0])
    assert sequence.interval.low == pytest.approx(1 / 20)
    assert sequence.interval.high == pytest.approx(2 / 20)
    assert EMPTY.after([0.0] * 18 + [1.0]).interval.high > 0.2


def test_a_threshold_that_a_finite_set_cannot_reach_any_more_is_settled_at_once() -> None:
    sequence = ConfidenceSequence(0.0, 1.0, population=20).after([1.0, 0.0, 0.0])
    for threshold, first in ((0.04, 1), (0.06, None), (0.97, 2), (0.96, 2), (0.94, 3)):
        assert sequence.settled_at(threshold) == first
        if first is not None:
            before = replace(sequence, values=sequence.values[: first - 1])
            at = replace(sequence, values=sequence.values[:first])
            assert before.settled(threshold, above=True) is None
            assert at.settled(threshold, above=True) is not None
    whole = ConfidenceSequence(0.0, 1.0, population=3).after([1.0, 0.0, 0.0])
    assert (whole.settled_at(0.33), whole.settled_at(0.34)) == (1, 3)


def test_a_threshold_outside_the_range_needs_no_value() -> None:
    assert EMPTY.settled_at(-0.1) == EMPTY.settled_at(1.1) == 0
    assert EMPTY.settled(-0.1, above=True) == EMPTY.settled(1.1, above=False) == "pass"


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("population", [None, 100])
def test_values_that_drift_are_an_error_and_not_a_verdict(population: int | None) -> None:
    drifting = [1.0] * 50 + [0.0] * 49
    sequence = ConfidenceSequence(0.0, 1.0, population=population).after(drifting)
    with pytest.raises(ParameterError, match=r"no mean fits the 99 values.*random order"):
        sequence.settled(0.5, above=True)


@pytest.mark.parametrize(
    ("low", "high"), [(0, math.inf), (-math.inf, 0), (1, 1), (1, 0), (0, math.nan)]
)
def test_a_range_without_two_ends_has_no_sequence(low: float, high: float) -> None:
    with pytest.raises(ParameterError, match="needs a metric of finite range"):
        ConfidenceSequence(low, high)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_a_value_outside_the_range_is_refused_by_its_place(value: float) -> None:
    with pytest.raises(ParameterError, match=rf"value 2 of the sequence is {value}, expected 0"):
        EMPTY.after([0.5, 0.5]).after(value)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_a_confidence_outside_zero_and_one_is_refused(confidence: float) -> None:
    with pytest.raises(ParameterError, match="`confidence` must be between 0 and 1"):
        ConfidenceSequence(0.0, 1.0, confidence)


@pytest.mark.parametrize(("population", "count"), [(3, 4), (0, 0), (-1, 0)])
def test_a_set_gives_each_image_once(population: int, count: int) -> None:
    with pytest.raises(ParameterError, match=f"{count} values of a population of {population}"):
        ConfidenceSequence(0.0, 1.0, population=population, values=(0.5,) * count)


def test_a_threshold_that_is_nan_is_refused() -> None:
    with pytest.raises(ParameterError, match="cannot compare NaN"):
        EMPTY.after(0.5).settled(math.nan, above=True)
    with pytest.raises(ParameterError, match="cannot compare NaN"):
        EMPTY.after(0.5).settled_at(math.nan)
