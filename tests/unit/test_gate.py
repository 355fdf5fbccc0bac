"""Gates: what they demand, how they decide, and the one line that they say."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.evaluation import Evaluation, Measurement, Method
from xai_core.explainers import NULL_MAPS, GradCAM
from xai_core.gate import Conditions, Finding, Judgement, judge, judge_values
from xai_core.imageset import load_imageset
from xai_core.metrics import METRICS
from xai_core.statistics import Interval, resampling


def measured(
    values: Any, metric: str = "iou", *, method: str = "ig", undefined: dict[int, str] | None = None
) -> Measurement:
    array = np.asarray(values, dtype=np.float64)
    names = tuple(f"image_{row}" for row in range(len(array)))
    return Measurement(METRICS[metric].configure({}), method, names, array, undefined or {})


def judged(
    values: Any, metric: str = "iou", *, nulls: dict[str, Any] | None = None, **conditions: Any
) -> Judgement:
    measurements = {
        name: measured(null, metric, method=name) for name, null in (nulls or {}).items()
    }
    measurement = values if isinstance(values, Measurement) else measured(values, metric)
    return judge_values(
        measurement, Conditions(**conditions), model="densenet121", nulls=measurements
    )


def spread(mean: float, deviation: float, n: int) -> np.ndarray:
    """Values of exactly this mean and sample standard deviation."""
    values = np.random.default_rng(0).normal(size=n)
    values = (values - values.mean()) / values.std(ddof=1)
    return mean + deviation * values


# --- the headline ---------------------------------------------------------------------------


def test_the_headline_reads_exactly_as_designed() -> None:
    finding = Finding(
        value=0.412,
        threshold=0.45,
        above=True,
        interval=Interval(0.397, 0.427),
        outcome="fail",
        holds=False,
        text="0.412 < 0.450",
    )
    judgement = Judgement(
        model="densenet121",
        measurement=measured([0.412] * 200),
        conditions=Conditions(above=0.45),
        findings=(finding,),
        detects=0.018,
        too_many_undefined=None,
        nulls={},
    )
    assert judgement.headline() == (
        "iou[ig] densenet121: 0.412 < 0.450 (95% CI 0.397..0.427, n=200, detects 0.018)"
    )


def test_the_headline_of_a_share_in_closed_form() -> None:
    # Wilson: (82 + z2/2) / (200 + z2) -+ z sqrt(200 p (1 - p) + z2/4) / (200 + z2), z2 = 3.8415;
    # detects: half of that interval, times (1.960 + .842) / 1.960.
    judgement = judged([1.0] * 82 + [0.0] * 118, "pointing_game", above=0.45)
    assert judgement.headline() == (
        "pointing_game[ig] densenet121: 0.410 < 0.450 (95% CI 0.344..0.479, n=200, detects 0.097)"
    )


def test_the_numbers_of_the_headline_are_mean_interval_count_and_detectable_drop() -> None:
    judgement = judged(spread(0.412, 0.1022, 200), above=0.45)
    pattern = (
        r"iou\[ig\] densenet121: 0\.412 < 0\.450 "
        r"\(95% CI (0\.\d{3})\.\.(0\.\d{3}), n=200, detects 0\.020\)"
    )
    found = re.fullmatch(pattern, judgement.headline())
    assert found is not None
    half = 1.96 * 0.1022 / math.sqrt(200)
    assert float(found[1]) == pytest.approx(0.412 - half, abs=0.0015)
    assert float(found[2]) == pytest.approx(0.412 + half, abs=0.0015)


@pytest.mark.parametrize(
    ("mean", "conditions", "comparison"),
    [
        (0.412, {"above": 0.450}, "0.412 < 0.450"),
        (0.512, {"above": 0.450}, "0.512 >= 0.450"),
        (0.5, {"above": 0.5}, "0.500 >= 0.500"),
        (0.412, {"below": 0.450}, "0.412 <= 0.450"),
        (0.512, {"below": 0.450}, "0.512 > 0.450"),
        (0.5, {"below": 0.5}, "0.500 <= 0.500"),
    ],
)
def test_the_comparison_that_is_shown_is_the_one_that_is_true(
    mean: float, conditions: dict[str, float], comparison: str
) -> None:
    judgement = judged([mean] * 4, **conditions)
    assert f": {comparison} (" in judgement.headline()
    assert judgement.passes() is ("=" in comparison)


def test_values_without_a_model_have_none_in_their_headline() -> None:
    judgement = judge_values(measured([0.5] * 3), Conditions(above=0.4), model="", nulls={})
    assert judgement.headline().startswith("iou[ig]: 0.500 >= 0.400 (")


def test_a_single_image_detects_nothing() -> None:
    assert judged([0.5], above=0.4).headline().endswith("(95% CI 0.000..1.000, n=1)")


def test_the_headline_shows_the_first_condition_that_fails_or_all() -> None:
    nulls = {"centre": [0.3] * 4}
    holds = judged([0.5] * 4, above=0.4, beats=("centre",), nulls=nulls)
    assert holds.headline().count("95% CI") == 2
    fails = judged([0.5] * 4, above=0.4, beats=("centre",), nulls={"centre": [0.6] * 4})
    assert "does not beat centre 0.600, gain -0.100" in fails.headline()
    assert ">= 0.400" not in fails.headline()


# --- direction ---------------------------------------------------------------------------------


def test_a_proven_mean_passes_and_fails_in_both_directions() -> None:
    values = spread(0.5, 0.05, 50)
    for conditions, outcome in [
        ({"above": 0.4}, "pass"),
        ({"above": 0.6}, "fail"),
        ({"below": 0.6}, "pass"),
        ({"below": 0.4}, "fail"),
        ({"above": 0.499}, "inconclusive"),
        ({"above": 0.501}, "inconclusive"),
        ({"below": 0.499}, "inconclusive"),
    ]:
        assert judged(values, **conditions).outcome == outcome, conditions


def test_a_metric_where_lower_is_better_fails_when_it_rises() -> None:
    good, collapsed = spread(0.1, 0.02, 30), spread(0.6, 0.02, 30)
    assert judged(good, "deletion", below=0.2).passes(strict=True)
    judgement = judged(collapsed, "deletion", below=0.2)
    assert not judgement.passes()
    assert judgement.outcome == "fail"
    assert judgement.headline().startswith("deletion[ig] densenet121: 0.600 > 0.200 (")


def test_a_mean_on_the_right_side_passes_by_default_and_strictly_only_when_proven() -> None:
    judgement = judged(spread(0.5, 0.2, 10), above=0.45)
    assert judgement.outcome == "inconclusive"
    assert judgement.passes()
    assert not judgement.passes(strict=True)
    assert re.search(
        r": not proven, about \d+ images would settle it$", judgement.headline(strict=True)
    )
    assert "not proven" not in judgement.headline()


def test_a_mean_on_the_wrong_side_fails_although_nothing_is_proven() -> None:
    judgement = judged(spread(0.44, 0.2, 10), above=0.45)
    assert judgement.outcome == "inconclusive"
    assert not judgement.passes()
    assert not judgement.passes(strict=True)


VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(values=VALUES, threshold=st.floats(0, 1), above=st.booleans())
def test_what_passes_strictly_passes_and_what_is_proven_wrong_does_not(
    values: list[float], threshold: float, above: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "RESAMPLES", 199)
        judgement = judged(values, **{"above" if above else "below": threshold})
    if judgement.passes(strict=True):
        assert judgement.passes()
    if judgement.outcome == "fail":
        assert not judgement.passes()


# --- undefined values --------------------------------------------------------------------------


def test_one_image_without_a_value_fails_the_gate_unless_it_allows_it() -> None:
    values = [0.9, math.nan, 0.9, math.nan, 0.9]
    measurement = measured(values, undefined={3: "the mask is empty", 1: "the heatmap is zero"})
    judgement = judged(measurement, above=0.5)
    assert judgement.headline() == (
        "iou[ig] densenet121: 2 of 5 images undefined, 0 allowed (image_1: the heatmap is zero)"
    )
    assert (judgement.passes(), judgement.passes(strict=True)) == (False, False)
    assert judgement.outcome == "fail"
    assert not judged(measurement, above=0.5, undefined=1).passes()
    allowed = judged(measurement, above=0.5, undefined=2)
    assert allowed.passes()
    assert allowed.images == 3
    assert "n=3" in allowed.headline()


def test_no_value_at_all_fails_whatever_is_allowed() -> None:
    measurement = measured([math.nan] * 2, undefined={0: "constant", 1: "constant"})
    judgement = judged(measurement, above=0.0, undefined=2)
    assert not judgement.passes()
    assert judgement.outcome == "fail"
    assert "2 of 2 images undefined" in judgement.headline()


def test_the_worst_images_come_first_and_those_without_a_value_before_them() -> None:
    values = [0.5, 0.1, math.nan, 0.9, 0.3, 0.2, 0.8]
    undefined = {2: "the mask is empty"}
    higher = judged(measured(values, undefined=undefined), above=0.5, undefined=1)
    assert higher.worst_images() == [
        ("image_2", None, "the mask is empty"),
        ("image_1", 0.1, ""),
        ("image_5", 0.2, ""),
        ("image_4", 0.3, ""),
        ("image_0", 0.5, ""),
    ]
    lower = judged(measured(values, "deletion", undefined=undefined), below=0.5, undefined=1)
    assert [name for name, _, _ in lower.worst_images()] == [
        "image_2",
        "image_3",
        "image_6",
        "image_0",
        "image_4",
    ]


# --- mostly ------------------------------------------------------------------------------------


def test_mostly_asks_for_a_share_of_the_images() -> None:
    values = [0.9] * 9 + [0.0]
    assert judged(values, above=0.5, mostly=0.9).passes()
    judgement = judged(values, above=0.5, mostly=0.95)
    assert not judgement.passes()
    assert judgement.headline().startswith(
        "iou[ig] densenet121: 0.900 of the images >= 0.500, < 0.950 (95% CI "
    )
    low = [0.1] * 9 + [1.0]
    assert judged(low, "deletion", below=0.2, mostly=0.9).passes()
    assert not judged(low, "deletion", below=0.05, mostly=0.9).passes()


def test_the_interval_of_mostly_is_that_of_a_share() -> None:
    judgement = judged([0.9] * 18 + [0.1] * 2, above=0.5, mostly=0.8)
    interval = judgement.findings[0].interval
    assert (interval.low, interval.high) == pytest.approx((0.683, 0.988), abs=5e-4)  # exact 18/20


# --- null maps ---------------------------------------------------------------------------------


def test_equal_does_not_beat() -> None:
    values = spread(0.5, 0.1, 20)
    judgement = judged(values, beats=("centre",), nulls={"centre": values})
    assert not judgement.passes()
    assert "0.500 does not beat centre 0.500, gain +0.000" in judgement.headline()


@pytest.mark.parametrize(("metric", "sign"), [("iou", 1), ("deletion", -1)])
def test_better_beats_in_the_direction_of_the_metric(metric: str, sign: int) -> None:
    null = spread(0.5, 0.1, 20)
    better = judged(null + sign * 0.01, metric, beats=("sobel",), nulls={"sobel": null})
    assert better.passes(strict=True)
    assert "beats sobel 0.500, gain +0.010" in better.headline()
    worse = judged(null - sign * 0.01, metric, beats=("sobel",), nulls={"sobel": null})
    assert not worse.passes()
    assert worse.outcome == "fail"


def test_every_null_that_is_named_must_be_beaten() -> None:
    nulls = {"centre": [0.3, 0.4], "sobel": [0.6, 0.7]}
    assert judged([0.5, 0.6], beats=("centre",), nulls=nulls).passes()
    judgement = judged([0.5, 0.6], beats=("centre", "sobel"), nulls=nulls)
    assert not judgement.passes()
    assert "does not beat sobel" in judgement.headline()
    assert judgement.nulls == pytest.approx({"centre": 0.35, "sobel": 0.65})


def test_the_gain_is_paired_by_image() -> None:
    null = spread(0.5, 0.2, 30)
    gain = spread(0.02, 0.005, 30)
    judgement = judged(null + gain, beats=("centre",), nulls={"centre": null})
    width = judgement.findings[0].interval.high - judgement.findings[0].interval.low
    assert width == pytest.approx(2 * 1.96 * 0.005 / math.sqrt(30), rel=0.15)
    assert judgement.outcome == "pass"


def test_images_without_a_value_on_either_side_are_left_out_of_the_comparison() -> None:
    values = measured([0.5, 0.5, math.nan, 0.5], undefined={2: "constant"})
    null = measured([0.4, math.nan, 0.9, 0.4], method="sobel", undefined={1: "constant"})
    conditions = Conditions(beats=("sobel",), undefined=1)
    judgement = judge_values(values, conditions, model="m", nulls={"sobel": null})
    assert judgement.findings[0].value == pytest.approx(0.1)
    nothing = measured([math.nan] * 4, method="sobel")
    with pytest.raises(ParameterError, match=r"no image has a value both for ig and .* sobel"):
        judge_values(values, conditions, model="m", nulls={"sobel": nothing})


def test_the_skill_is_over_the_best_null() -> None:
    nulls = {"random": [0.1, 0.3], "centre": [0.3, 0.5], "sobel": [0.0, 0.2]}
    values = [0.6, 0.8]
    judgement = judged(values, skill_above=0.49, nulls=nulls)
    assert judgement.findings[0].value == pytest.approx((0.7 - 0.4) / (1 - 0.4))
    assert judgement.passes()
    assert "skill 0.500 over centre (0.700 against 0.400) >= 0.490" in judgement.headline()
    assert not judged(values, skill_above=0.51, nulls=nulls).passes()


def test_the_skill_of_a_metric_where_lower_is_better() -> None:
    nulls = {"random": [0.2, 0.4], "sobel": [0.5, 0.7]}
    judgement = judged([0.1, 0.2], "deletion", skill_above=0.4, nulls=nulls)
    assert judgement.findings[0].value == pytest.approx((0.15 - 0.3) / (0 - 0.3))
    assert judgement.passes()
    assert "over random" in judgement.headline()
    assert not judged([0.4, 0.5], "deletion", skill_above=0.0, nulls=nulls).passes()


def test_an_inverted_map_that_follows_the_model_is_no_null_of_a_skill() -> None:
    nulls = {"random": [1.0, 1.0], "centre": [1.0, 1.0], "inverted": [0.1, 0.3]}
    judgement = judged([0.1, 0.3], "mprt_cascading", skill_above=0.3, nulls=nulls)
    assert judgement.findings[0].value == pytest.approx((0.2 - 1) / (-1 - 1))
    assert "over random" in judgement.headline()
    judgement = judged([0.1, 0.3], skill_above=-1, nulls=nulls | {"inverted": [2.0, 2.0]})
    assert "over inverted" in judgement.headline()  # IoU explains nothing anew


def test_a_null_without_any_value_is_not_the_best_one() -> None:
    nulls = {"sobel": [math.nan] * 2, "centre": [0.3, 0.5]}
    judgement = judged([0.6, 0.8], skill_above=0.4, nulls=nulls)
    assert "over centre" in judgement.headline()
    with pytest.raises(ParameterError, match="no null map has a value on any image"):
        judged([0.6, 0.8], skill_above=0.4, nulls={"sobel": [math.nan] * 2})


# --- conditions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "a gate needs a threshold with its direction"),
        ({"undefined": 3}, "a gate needs a threshold with its direction"),
        ({"above": 0.4, "below": 0.6}, "`above` and `below` exclude each other"),
        ({"above": math.nan}, "`above` must be a finite number"),
        ({"below": math.inf}, "`below` must be a finite number"),
        ({"skill_above": -math.inf}, "`skill_above` must be a finite number"),
        ({"above": 0.4, "mostly": 0.0}, "`mostly` is a share of the images"),
        ({"above": 0.4, "mostly": 1.1}, "`mostly` is a share of the images"),
        ({"above": 0.4, "mostly": math.nan}, "`mostly` is a share of the images"),
        ({"beats": ("sobel",), "mostly": 0.5}, "`mostly` needs `above` or `below`"),
        ({"beats": ("center",)}, "`beats` names null maps .*, got 'center'"),
        ({"above": 0.4, "undefined": -1}, "`undefined` is a number of images"),
        ({"above": 0.4, "confidence": 1.0}, "`confidence` must lie between 0 and 1"),
        ({"above": 0.4, "confidence": 95}, "`confidence` must lie between 0 and 1"),
    ],
)
def test_conditions_that_cannot_be_are_refused(conditions: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Conditions(**conditions)


@pytest.mark.parametrize(
    "conditions", [{"above": 0.0}, {"below": 0}, {"beats": ("sobel",)}, {"skill_above": 0.0}]
)
def test_a_threshold_of_zero_is_a_threshold(conditions: dict[str, Any]) -> None:
    assert Conditions(**conditions)


def test_the_confidence_widens_the_interval() -> None:
    values = spread(0.5, 0.1, 30)
    narrow, wide = (
        judged(values, above=0.4, confidence=level).findings[0].interval for level in (0.5, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


# --- from a classifier to a judgement ----------------------------------------------------------


def test_judge_measures_the_method_and_the_nulls_that_the_conditions_need() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)
    )
    nn.init.uniform_(net[-1].weight)  # positive, so that no map is all zero
    with torch.no_grad():
        net[0].bias += 1
    classifier = TorchClassifier(net, name="small", size=(16, 16))
    images = load_imageset("demo", size=(16, 16), limit=3)
    method, metric = Method("cam", GradCAM(layer="1")), METRICS["iou"].configure({})
    evaluation = Evaluation(classifier, images)
    plain = judge(evaluation, method, metric, Conditions(above=0.0))
    assert plain.passes()
    assert plain.headline().startswith("iou[cam] small: ")
    assert plain.nulls == {}
    assert list(judge(evaluation, method, metric, Conditions(beats=("sobel",))).nulls) == ["sobel"]
    with_skill = judge(evaluation, method, metric, Conditions(skill_above=-9.0))
    assert set(with_skill.nulls) == set(NULL_MAPS)
    mprt = METRICS["mprt_independent"].configure({"stages": 1})
    explains_anew = judge(evaluation, method, mprt, Conditions(skill_above=-9.0, beats=("sobel",)))
    assert set(explains_anew.nulls) == set(NULL_MAPS) - {"inverted"}
