"""What several seeds and draws of images say of a gate, against closed forms and fresh draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from xai_core.calibration import any_false_alarm, calibrated, largest_difference
from xai_core.errors import ParameterError
from xai_core.evaluation import Measurement
from xai_core.gate import Conditions, Judgement, judge_values
from xai_core.metrics import METRICS
from xai_core.statistics import false_alarm_rate_of, proposals, proposed_threshold, resampling


def measured(values: Any, method: str = "rise") -> Measurement:
    array = np.asarray(values, dtype=np.float64)
    names = tuple(f"image_{row}" for row in range(len(array)))
    undefined = {int(row): "no value" for row in np.flatnonzero(np.isnan(array))}
    return Measurement(METRICS["iou"].configure({}), method, names, array, undefined)


def judged(values: Any, *, classes: Any = None, null: Any = None, **conditions: Any) -> Judgement:
    nulls = {} if null is None else {"centre": measured(null, "centre")}
    demanded = Conditions(**conditions)
    return judge_values(measured(values), demanded, model="m", nulls=nulls, classes=classes)


def drawn(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).beta(6, 6, n) * 0.8 + 0.1 + shift


def test_what_has_no_seed_has_images_only() -> None:
    values = drawn(40, 0)
    (found,) = calibrated([judged(values, above=0.45)], rate=0.02, seed=7)
    assert (found.seeds, found.seed_deviation, found.images) == (1, None, 40)
    assert (found.threshold, found.above) == (0.45, True)
    assert found.mean == found.lowest == found.highest == pytest.approx(values.mean())
    assert found.image_deviation == pytest.approx(values.std(ddof=1) / math.sqrt(40))
    same = {"better": "higher", "bounds": (0, 1), "seed": 7}
    assert found.false_alarm_rate == false_alarm_rate_of(values, 0.45, **same)
    assert found.proposed == proposed_threshold(values, rate=0.02, **same)


def test_the_spread_over_seeds_is_that_of_their_means() -> None:
    shifts = [0.0, 0.04, -0.02, 0.01]
    values = drawn(30, 1)
    found = calibrated([judged(values + shift, above=0.4) for shift in shifts])[0]
    assert found.seeds == 4
    assert found.seed_deviation == pytest.approx(np.std(shifts, ddof=1))
    assert found.mean == pytest.approx(values.mean() + np.mean(shifts))
    assert found.lowest == pytest.approx(values.mean() - 0.02)
    assert found.highest == pytest.approx(values.mean() + 0.04)
    assert found.image_deviation == pytest.approx(values.std(ddof=1) / math.sqrt(30))


def test_seeds_and_images_cry_wolf_together_about_as_often_as_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proposals, "RESAMPLES", 499)
    monkeypatch.setattr(resampling, "RESAMPLES", 99)  # of intervals that nobody asks for
    rng = np.random.default_rng(2)
    said, seen, missed = [], [], []
    for run in range(60):
        images = int(rng.integers(1e9))
        shifts = rng.normal(0, 0.02, 6)
        judgements = [judged(drawn(40, images, shift), above=0.48) for shift in shifts]
        (found,) = calibrated(judgements, rate=0.05, seed=run)
        said.append(found.false_alarm_rate)
        fresh = [drawn(40, int(rng.integers(1e9)), rng.normal(0, 0.02)).mean() for _ in range(50)]
        seen.append(np.mean(np.array(fresh) < 0.48))
        missed.append(np.mean(np.array(fresh) < found.proposed))
    # Two draws of images and of the seed's shift lie between the calibration and the next run:
    # its own are known no better, so that it says more than a run that knew the mean would see.
    deviation = math.sqrt(2 * 0.64 / (4 * 13 * 40) + (1 + 1 / 6) * 0.02**2)
    assert np.mean(said) == pytest.approx(scipy.stats.norm.cdf(-0.02 / deviation), abs=0.03)
    assert np.mean(said) == pytest.approx(np.mean(seen), abs=0.09)
    assert 0.02 < np.mean(missed) < 0.1


def test_a_seed_with_too_many_images_without_a_value_fails_the_gate() -> None:
    values = drawn(20, 3)
    with_gap = np.where(np.arange(20) == 4, np.nan, values)
    three = [judged(one, above=0.1) for one in (values, with_gap, values, values)]
    (found,) = calibrated(three)
    assert found.stopped == 0.25
    assert found.false_alarm_rate == pytest.approx(0.25, abs=1e-3)
    allowed = [judged(one, above=0.1, undefined=1) for one in (values, with_gap)]
    assert calibrated(allowed)[0].stopped == 0


def test_a_seed_without_any_value_is_left_out_and_counts_as_failed() -> None:
    nothing = judged([math.nan] * 20, above=0.1)
    (found,) = calibrated([judged(drawn(20, 3), above=0.1), nothing])
    assert (found.seeds, found.stopped) == (1, 0.5)
    assert found.false_alarm_rate == pytest.approx(0.5, abs=1e-3)
    assert calibrated([nothing]) == ()


def test_each_condition_is_calibrated_with_its_own_threshold() -> None:
    values, null = drawn(40, 4), drawn(40, 5) - 0.2
    judgement = judged(values, null=null, above=0.3, beats=("centre",), skill_above=0.1)
    mean, over, skill = calibrated([judgement])
    assert over.mean == pytest.approx((values - null).mean())
    expected = (values - null).std(ddof=1) / math.sqrt(40)
    assert over.image_deviation == pytest.approx(expected)
    assert (mean.threshold, skill.threshold) == (0.3, 0.1)


def test_the_spread_of_a_skill_score_is_that_of_resampled_images() -> None:
    values, null = drawn(200, 6), drawn(200, 7) - 0.2
    (found,) = calibrated([judged(values, null=null, skill_above=0.1)])
    rows = np.random.default_rng(0).integers(200, size=(4000, 200))
    means, nulls = values[rows].mean(axis=1), null[rows].mean(axis=1)
    resampled = (means - nulls) / (1 - nulls)
    assert found.mean == pytest.approx((values - null).mean() / (1 - null.mean()))
    assert found.image_deviation == pytest.approx(resampled.std(), rel=0.05)


def test_failing_images_are_proposed_in_whole_numbers() -> None:
    values = np.repeat([0.9, 0.1], [94, 6])
    (found,) = calibrated([judged(values, above=0.5, max_failures=8)], rate=0.05)
    assert (found.mean, found.threshold, found.above) == (6, 8, False)
    assert found.proposed == int(found.proposed)
    assert found.image_deviation == pytest.approx(100 * math.sqrt(0.06 * 0.94 / 99), rel=1e-6)
    assert 6 < found.proposed < 20


def test_classes_miss_their_threshold_one_by_one() -> None:
    classes = ["a"] * 30 + ["b"] * 30
    values = np.concatenate([drawn(30, 8), drawn(30, 9, 0.02)])
    (found,) = calibrated([judged(values, classes=classes, above=0.45, per_class=True)])
    alone = [
        false_alarm_rate_of(part, 0.45, better="higher", bounds=(0, 1))
        for part in (values[:30], values[30:])
    ]
    assert found.false_alarm_rate == pytest.approx(1 - (1 - alone[0]) * (1 - alone[1]))
    each = 1 - math.sqrt(0.99)
    expected = [
        proposed_threshold(part, better="higher", rate=each, bounds=(0, 1))
        for part in (values[:30], values[30:])
    ]
    assert found.proposed == min(expected)
    worst = min(values[:30], values[30:], key=np.mean)
    assert found.mean == pytest.approx(worst.mean())
    assert found.image_deviation == pytest.approx(worst.std(ddof=1) / math.sqrt(30))


def test_a_single_image_says_nothing_of_a_rate() -> None:
    (found,) = calibrated([judged([0.5], above=0.4)])
    assert (found.image_deviation, found.false_alarm_rate) == (None, None)


@pytest.mark.parametrize(
    ("other", "difference", "image"),
    [
        ([0.1, 0.2, math.nan], 0.0, "image_0"),
        ([0.1, np.nextafter(0.2, 1), math.nan], pytest.approx(2.8e-17, rel=0.1), "image_1"),
        ([0.1, 0.25, math.nan], pytest.approx(0.05), "image_1"),
        ([0.1, 0.2, 0.3], math.inf, "image_2"),
        ([math.nan, 0.2, math.nan], math.inf, "image_0"),
    ],
)
def test_two_measurements_are_held_against_each_other_image_by_image(
    other: list[float], difference: Any, image: str
) -> None:
    first = judged([0.1, 0.2, math.nan], above=0.1)
    found, name = largest_difference(first, judged(other, above=0.1))
    assert found == difference
    assert name == image


def test_a_run_cries_wolf_where_any_gate_does() -> None:
    rng = np.random.default_rng(0)
    rates = [0.01, 0.05, 0.2]
    alarms = rng.random((100_000, 3)) < rates
    assert any_false_alarm(rates) == pytest.approx(alarms.any(axis=1).mean(), abs=0.005)
    assert any_false_alarm([]) == 0


def test_impossible_calibrations_are_refused() -> None:
    with pytest.raises(ParameterError, match="needs a judgement"):
        calibrated([])
    with pytest.raises(ParameterError, match="between 0 and 1"):
        calibrated([judged([0.5], above=0.4)], rate=1.0)
