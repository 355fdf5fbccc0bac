"""A run against an earlier one, against closed forms, brute force and properties that must hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xai_core.errors import ParameterError
from xai_core.statistics import (
    Comparison,
    compare_with_earlier,
    images_to_settle,
    mean_interval,
    resampling,
    tango,
)

SHARES = (0.0, 1.0)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 999)


def runs(n: int, change: float, *, spread: float = 0.05, seed: int = 0) -> Any:
    """This run's values and an earlier run's, whose mean difference is exactly ``change``."""
    rng = np.random.default_rng(seed)
    earlier = rng.uniform(0.3, 0.7, n)
    noise = rng.normal(0, spread, n)
    return earlier + change + noise - noise.mean(), earlier


# --- the three outcomes -------------------------------------------------------------------------


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (0.2, "pass"),
        (0.0, "pass"),
        (-0.05, "inconclusive"),
        (-0.06, "inconclusive"),
        (-0.2, "fail"),
    ],
)
def test_a_run_is_no_worse_worse_or_nobody_knows(change: float, outcome: str, better: Any) -> None:
    values, earlier = runs(40, change if better == "higher" else -change)
    found = compare_with_earlier(values, earlier, margin=0.05, better=better)
    assert found.difference == pytest.approx(change, abs=1e-12)
    assert found.outcome == outcome
    assert (found.settled_by is None) == (outcome != "inconclusive" or change == -0.05)
    assert found.images == 40


def test_the_interval_is_that_of_the_differences_of_each_image() -> None:
    values, earlier = runs(40, -0.02)
    found = compare_with_earlier(values, earlier, margin=0.05, better="higher", confidence=0.9)
    assert found.interval == mean_interval(values - earlier, confidence=0.9)
    assert found.interval.high - found.interval.low < 0.06
    shuffled = np.random.default_rng(1).permutation(earlier)
    blind = compare_with_earlier(values, shuffled, margin=0.05, better="higher").interval
    assert blind.high - blind.low > 2 * (found.interval.high - found.interval.low)


def test_so_many_images_settle_it() -> None:
    values, earlier = runs(30, -0.03)
    found = compare_with_earlier(values, earlier, margin=0.04, better="higher")
    assert found.outcome == "inconclusive"
    assert found.settled_by == images_to_settle(found.interval, found.difference, -0.04, 30)
    times = math.ceil(found.settled_by * 1.2 / 30)
    more = [np.tile(run, times) for run in (values, earlier)]
    assert compare_with_earlier(*more, margin=0.04, better="higher").outcome == "pass"


def test_one_image_proves_nothing() -> None:
    one = [np.array([0.2]), np.array([0.9])]
    unbounded = compare_with_earlier(*one, margin=0.1, better="higher")
    assert (unbounded.interval.low, unbounded.interval.high) == (-math.inf, math.inf)
    bounded = compare_with_earlier(*one, margin=0.1, better="higher", bounds=SHARES)
    assert (bounded.interval.low, bounded.interval.high) == (-1, 1)
    assert bounded.outcome == unbounded.outcome == "inconclusive"
    assert (bounded.settled_by, bounded.p_loss, bounded.p_kept) == (None, 1, 1)


def test_a_run_that_changed_nothing_passes() -> None:
    earlier = np.random.default_rng(0).random(12)
    found = compare_with_earlier(earlier, earlier, margin=1e-9, better="lower", bounds=SHARES)
    assert found.outcome == "pass"
    assert (found.interval.low, found.interval.high) == (0, 0)


def test_seeds_of_one_image_are_one_pair() -> None:
    values, earlier = runs(20, -0.02)
    thrice = [np.repeat(run, 3) for run in (values, earlier)]
    images = np.repeat(np.arange(20), 3).tolist()
    found = compare_with_earlier(*thrice, margin=0.03, better="higher", clusters=images)
    assert found == compare_with_earlier(values, earlier, margin=0.03, better="higher")
    assert found.images == 20


def test_a_comparison_reads_as_one_line() -> None:
    values, earlier = runs(40, -0.2, spread=0.0)
    found = compare_with_earlier(values, earlier, margin=0.05, better="higher")
    assert str(found) == "-0.200 (95% CI -0.200..-0.200, n=40, margin 0.05)"


# --- hits and misses on the same images ---------------------------------------------------------


def plain_score(wins: int, losses: int, n: int, change: float) -> float:
    """Tango's score with the likeliest rates found by brute force."""

    def surprise(rate: float) -> float:
        chances = np.array([rate + change, rate, 1 - 2 * rate - change])
        return float(-scipy.special.xlogy([wins, losses, n - wins - losses], chances).sum())

    lowest, highest = max(0.0, -change), (1 - change) / 2
    found = scipy.optimize.minimize_scalar(
        surprise, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-12}
    )
    variance = n * (2 * found.x + change - change**2)
    return float((wins - losses - n * change) / math.sqrt(variance))


@pytest.mark.parametrize(
    ("wins", "losses", "n"), [(1, 3, 20), (5, 5, 30), (2, 20, 60), (9, 1, 12), (1, 1, 3)]
)
def test_the_ends_of_tangos_interval_are_where_the_score_is_the_normal_quantile(
    wins: int, losses: int, n: int
) -> None:
    low, high = tango(wins, losses, n)
    assert plain_score(wins, losses, n, low) == pytest.approx(1.959964, abs=1e-3)
    assert plain_score(wins, losses, n, high) == pytest.approx(-1.959964, abs=1e-3)
    assert tango(losses, wins, n) == (-high, -low)


@pytest.mark.parametrize("n", [5, 50, 400])
def test_no_change_among_n_images_still_leaves_room_for_one(n: int) -> None:
    z2 = 1.959964**2
    assert tango(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), abs=1e-6)


@pytest.mark.parametrize(("wins", "losses", "n"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_wins_and_losses_that_are_not_some_of_n_are_refused(wins: int, losses: int, n: int) -> None:
    with pytest.raises(ParameterError, match=f"got {wins} and {losses} of {n}"):
        tango(wins, losses, n)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_hits_of_two_runs_are_compared_as_paired_shares(scale: float) -> None:
    earlier = np.array([1.0] * 30 + [0.0] * 10)
    values = earlier.copy()
    values[:3], values[-1] = 0, 1
    found = compare_with_earlier(
        values * scale,
        earlier * scale,
        margin=0.1 * scale,
        better="higher",
        bounds=(0.0, scale),
    )
    assert found.difference == pytest.approx(-0.05 * scale)
    low, high = tango(1, 3, 40)
    assert (found.interval.low, found.interval.high) == pytest.approx((low * scale, high * scale))
    assert found.outcome == "inconclusive"
    n = found.settled_by
    rates = [(1 / 40 * images, 3 / 40 * images, images) for images in (n - 1, n)]
    assert tango(*rates[0])[0] <= -0.1 < tango(*rates[1])[0]


def test_a_few_unchanged_hits_do_not_prove_that_no_hit_is_lost() -> None:
    hits = np.array([1.0] * 9 + [0.0])
    found = compare_with_earlier(hits, hits, margin=0.05, better="higher", bounds=SHARES)
    assert found.outcome == "inconclusive"
    assert found.settled_by == math.floor(1.959964**2 * (1 / 0.05 - 1)) + 1


@pytest.mark.parametrize("n", [5, 12, 30])
@pytest.mark.parametrize("changed", [0.1, 0.3, 0.6])
def test_a_loss_of_the_margin_in_hits_is_rarely_called_proven(n: int, changed: float) -> None:
    """Counted over every outcome of n images, not drawn."""
    margin = 0.1
    rates = [(changed - margin) / 2, (changed + margin) / 2, 1 - changed]
    wrong = 0.0
    for wins in range(n + 1):
        for losses in range(n + 1 - wins):
            low, high = tango(wins, losses, n)
            if not low <= -margin <= high:
                counts = [wins, losses, n - wins - losses]
                wrong += float(scipy.stats.multinomial.pmf(counts, n, rates))
    assert wrong < 0.07


# --- p-values -----------------------------------------------------------------------------------


def test_p_values_are_those_of_students_paired_test_where_differences_are_normal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 20_000)
    values, earlier = runs(60, -0.035)
    found = compare_with_earlier(values, earlier, margin=0.05, better="higher")
    shifted = values - earlier + 0.05
    expected = scipy.stats.ttest_1samp(shifted, 0, alternative="greater").pvalue
    assert found.p_kept == pytest.approx(expected, rel=0.2)
    assert found.p_loss == 1
    worse = compare_with_earlier(values - 0.03, earlier, margin=0.05, better="higher")
    assert worse.p_kept == 1
    expected = scipy.stats.ttest_1samp(shifted - 0.03, 0, alternative="less").pvalue
    assert worse.p_loss == pytest.approx(expected, rel=0.2)


# --- properties ---------------------------------------------------------------------------------

PAIRS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda p: (round(p[0], 3), round(p[1], 3))),
    min_size=1,
    max_size=30,
)
DIRECTION = st.sampled_from(["higher", "lower"])


def compared(pairs: Any, margin: float, better: Any) -> Comparison:
    values, earlier = np.array(pairs).T
    return compare_with_earlier(values, earlier, margin=margin, better=better, bounds=SHARES)


@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS, margin=st.floats(0.001, 0.5), better=DIRECTION)
def test_a_mean_loss_beyond_the_margin_never_passes_and_one_within_it_never_fails(
    pairs: Any, margin: float, better: Any
) -> None:
    change = math.fsum(now - then for now, then in pairs) / len(pairs)
    gain = change if better == "higher" else -change
    assume(abs(gain + margin) > 1e-9)
    outcome = compared(pairs, margin, better).outcome
    assert outcome != ("pass" if gain < -margin else "fail")


@settings(max_examples=60, deadline=None)
@given(
    earlier=st.lists(st.floats(0, 0.2), min_size=5, max_size=40),
    better=DIRECTION,
    left=st.floats(0, 0.1),
)
def test_a_metric_that_collapses_fails_whichever_way_is_better(
    earlier: list[float], better: Any, left: float
) -> None:
    """Good values turn bad by .6 or more on every image: near 0 is good where lower is better."""
    good = np.array(earlier)
    bad = np.minimum(1, good + 0.6 + left * np.cos(np.arange(len(good))) ** 2)
    if better == "higher":
        good, bad = 1 - good, 1 - bad
    found = compare_with_earlier(bad, good, margin=0.05, better=better, bounds=SHARES)
    assert found.outcome == "fail"
    assert found.p_loss < 0.025
    back = compare_with_earlier(good, bad, margin=0.05, better=better, bounds=SHARES)
    assert back.outcome == "pass"


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS, margin=st.floats(0.001, 0.5), better=DIRECTION)
def test_turning_the_metric_upside_down_changes_nothing(
    pairs: Any, margin: float, better: Any
) -> None:
    one = compared(pairs, margin, better)
    turned = [(1 - now, 1 - then) for now, then in pairs]
    other = compared(turned, margin, "lower" if better == "higher" else "higher")
    assert other.difference == pytest.approx(one.difference, abs=1e-9)
    assert other.interval.low == pytest.approx(one.interval.low, abs=0.02)
    assert other.interval.high == pytest.approx(one.interval.high, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS, better=DIRECTION)
def test_a_wider_margin_never_turns_a_pass_into_anything_else(pairs: Any, better: Any) -> None:
    order = {"fail": 0, "inconclusive": 1, "pass": 2}
    outcomes = [order[compared(pairs, m, better).outcome] for m in (0.01, 0.05, 0.2, 0.6)]
    assert outcomes == sorted(outcomes)


@settings(max_examples=40, deadline=None)
@given(
    pairs=PAIRS,
    better=DIRECTION,
    wrong=st.sampled_from([math.nan, math.inf, -math.inf]),
    run=st.integers(0, 1),
    data=st.data(),
)
def test_a_value_that_is_not_finite_is_an_error_wherever_it_stands(
    pairs: Any, better: Any, wrong: float, run: int, data: st.DataObject
) -> None:
    both = np.array(pairs)
    row = data.draw(st.integers(0, len(pairs) - 1))
    both[row, run] = wrong
    names = [f"image_{index}.png" for index in range(len(pairs))]
    whose = ("this run", "the earlier run")[run]
    with pytest.raises(ParameterError, match=rf"image_{row}\.png: the value of {whose} is {wrong}"):
        compare_with_earlier(both[:, 0], both[:, 1], margin=0.1, better=better, names=names)
    with pytest.raises(ParameterError, match=f"image {row}: the value of {whose} is {wrong}"):
        compare_with_earlier(both[:, 0], both[:, 1], margin=0.1, better=better)


# --- what cannot be compared --------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_that_is_not_above_zero_is_refused(margin: float) -> None:
    with pytest.raises(ParameterError, match=f"`margin` must be a number above 0, got {margin}"):
        compare_with_earlier(np.zeros(3), np.zeros(3), margin=margin, better="higher")


@pytest.mark.parametrize(("n", "earlier"), [(0, 0), (3, 2), (1, 3)])
def test_runs_that_are_not_pairs_are_refused(n: int, earlier: int) -> None:
    with pytest.raises(ParameterError, match="a comparison needs pairs"):
        compare_with_earlier(np.zeros(n), np.zeros(earlier), margin=0.1, better="higher")


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ParameterError, match="`confidence` must be between 0 and 1"):
        compare_with_earlier(
            np.zeros(3), np.ones(3), margin=0.1, better="higher", confidence=confidence
        )
