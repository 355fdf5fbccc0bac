"""Gates on single images (`max_failures`) and on single classes (`per_class`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.evaluation import Evaluation, Measurement, Method
from xai_core.explainers import GradCAM
from xai_core.gate import Conditions, Judgement, judge, judge_values
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import METRICS
from xai_core.statistics import mean_interval


def judged(
    values: Any, metric: str = "iou", *, classes: Any = None, **conditions: Any
) -> Judgement:
    array = np.asarray(values, dtype=np.float64)
    names = tuple(f"image_{row}" for row in range(len(array)))
    undefined = {int(row): "no value" for row in np.flatnonzero(np.isnan(array))}
    configured = METRICS[metric].configure({})
    measurement = Measurement(configured, "gradcam", names, array, undefined)
    return judge_values(measurement, Conditions(**conditions), model="m", nulls={}, classes=classes)


# --- max_failures ----------------------------------------------------------------------------


@pytest.mark.parametrize(("allowed", "passes"), [(3, False), (4, True), (5, True)])
def test_so_many_images_may_fail_and_not_one_more(allowed: int, passes: bool) -> None:
    values = [0.9] * 46 + [0.1] * 4
    assert judged(values, above=0.45, max_failures=allowed).passes() is passes
    lower = judged([0.1] * 46 + [0.9] * 4, "deletion", below=0.45, max_failures=allowed)
    assert lower.passes() is passes


def test_an_image_on_the_threshold_has_not_failed() -> None:
    assert judged([0.5, 0.6], above=0.5, max_failures=0).passes()
    assert not judged([0.5 - 1e-12, 0.6], above=0.5, max_failures=0).passes()


def test_the_headline_counts_images() -> None:
    judgement = judged([0.9] * 46 + [0.1] * 4, above=0.45, max_failures=3)
    assert judgement.headline().startswith(
        "iou[gradcam] m: 4 images < 0.450, 3 allowed (95% CI 1.111..9.617, n=50, detects "
    )
    # As many more failures as half of that interval, times (1.960 + .842) / 1.960.
    assert judgement.detects == pytest.approx((9.617 - 1.111) / 2 * 1.4294, abs=0.001)
    share = judged([0.9] * 46 + [0.1] * 4, above=0.45, mostly=0.95)
    assert share.detects == pytest.approx(judgement.detects / 50)
    one = judged([0.1] * 9 + [0.9], "deletion", below=0.45, max_failures=0)
    assert "1 image > 0.450, 0 allowed" in one.headline()


@pytest.mark.parametrize(("failed", "n"), [(4, 50), (0, 20), (15, 60), (1, 8)])
def test_the_interval_is_that_of_the_share_times_the_number_of_images(failed: int, n: int) -> None:
    values = [0.9] * (n - failed) + [0.1] * failed
    (finding,) = judged(values, above=0.45, max_failures=n - 1).findings
    few = min(failed, n - failed) < 10
    expected = scipy.stats.binomtest(failed, n).proportion_ci(method="exact" if few else "wilson")
    assert finding.interval.low == pytest.approx(n * expected.low, abs=1e-6)
    assert finding.interval.high == pytest.approx(n * expected.high, abs=1e-6)


def test_failures_are_proven_by_the_interval_of_their_share() -> None:
    values = [0.9] * 46 + [0.1] * 4  # 95 % interval of the failures: 1.1 to 9.6
    outcomes = [judged(values, above=0.45, max_failures=m).outcome for m in (1, 2, 9, 10)]
    assert outcomes == ["fail", "inconclusive", "inconclusive", "pass"]


def test_no_number_of_images_proves_that_none_ever_fails() -> None:
    judgement = judged([0.9] * 500, above=0.45, max_failures=0)
    assert judgement.passes()
    assert judgement.outcome == "inconclusive"


def test_an_image_without_a_value_counts_as_undefined_not_as_failed() -> None:
    values = [0.9] * 5 + [math.nan]
    assert judged(values, above=0.5, max_failures=0, undefined=1).passes()
    assert not judged(values, above=0.5, max_failures=0).passes()


# --- per_class ---------------------------------------------------------------------------------

CLASSES = ["zebra"] * 4 + ["cat"] * 6 + ["dog"] * 10
VALUES = [0.30, 0.32, 0.31, 0.318] + [0.6] * 6 + [0.7] * 10


def test_every_class_must_meet_the_threshold() -> None:
    assert judged(VALUES, classes=CLASSES, above=0.45).passes()  # the mean of all is 0.592
    assert not judged(VALUES, classes=CLASSES, above=0.45, per_class=True).passes()
    assert judged(VALUES, classes=CLASSES, above=0.3, per_class=True).passes()
    assert judged(VALUES, "deletion", classes=CLASSES, below=0.7, per_class=True).passes()
    assert not judged(VALUES, "deletion", classes=CLASSES, below=0.69, per_class=True).passes()


def test_the_worst_class_is_named_with_its_own_number_of_images() -> None:
    headline = judged(VALUES, classes=CLASSES, above=0.45, per_class=True).headline()
    interval = mean_interval(np.array(VALUES[:4]), bounds=(0, 1))
    assert headline == (
        "iou[gradcam] m: worst of 3 classes 'zebra' 0.312 < 0.450 "
        f"(95% CI {interval.low:.3f}..{interval.high:.3f}, n=4)"
    )
    lower = judged(VALUES, "deletion", classes=CLASSES, below=0.5, per_class=True).headline()
    assert lower.startswith("deletion[gradcam] m: worst of 3 classes 'dog' 0.700 > 0.500 (")


def test_it_is_proven_right_only_where_each_class_is() -> None:
    rng = np.random.default_rng(0)
    sure = rng.normal(0.6, 0.02, 40)
    classes = ["a"] * 20 + ["b"] * 20
    assert judged(sure, classes=classes, above=0.5, per_class=True).outcome == "pass"
    single = judged([*sure, 0.6], classes=[*classes, "c"], above=0.5, per_class=True)
    assert single.outcome == "inconclusive"  # one image says nothing of its class
    assert single.passes()
    assert not single.passes(strict=True)
    assert "least proven 'c' 0.600 (n=1)" in single.headline(strict=True)


def test_it_is_proven_wrong_after_a_correction_for_the_number_of_classes() -> None:
    rng = np.random.default_rng(3)
    weak = rng.normal(0.45, 0.06, 12)
    weak += 0.46 - weak.mean()
    single = mean_interval(weak, bounds=(0, 1)).high
    threshold = single + 0.001  # one class alone is proven wrong, barely
    alone = judged(weak, classes=["weak"] * 12, above=threshold, per_class=True)
    assert alone.outcome == "fail"
    others = np.concatenate([rng.normal(0.8, 0.05, 12) for _ in range(10)])
    names = [f"class {row // 12}" for row in range(120)]
    several = judged(
        [*weak, *others], classes=["weak"] * 12 + names, above=threshold, per_class=True
    )
    assert several.outcome == "inconclusive"
    far = judged([*weak, *others], classes=["weak"] * 12 + names, above=0.7, per_class=True)
    assert far.outcome == "fail"


def test_classes_that_all_hold_are_rarely_proven_wrong() -> None:
    rng = np.random.default_rng(1)
    classes = [f"class {row // 10}" for row in range(80)]
    failed = [
        judged(
            rng.beta(4, 4, 80), classes=classes, above=0.5, per_class=True
        ).outcome  # each mean is on the threshold: the worst case
        == "fail"
        for _ in range(40)
    ]
    assert np.mean(failed) <= 0.1  # without the correction 8 classes give 0.18


def test_a_class_without_a_value_has_no_say() -> None:
    values = [0.6, 0.6, math.nan, math.nan]
    judgement = judged(values, classes=["a", "a", "b", "b"], above=0.5, per_class=True, undefined=2)
    assert judgement.passes()
    assert "the only class 'a' 0.600 >= 0.500" in judgement.headline()
    assert [one.name for one in judgement.classes] == ["a"]


def test_per_class_needs_classes() -> None:
    with pytest.raises(ParameterError, match="needs images whose classes are known"):
        judged(VALUES, above=0.45, per_class=True)


# --- the worst class of any gate ---------------------------------------------------------------


def test_a_judgement_has_mean_and_number_of_each_class() -> None:
    found = judged(VALUES, classes=CLASSES, above=0.45).classes
    assert [(one.name, round(one.mean, 9), one.images) for one in found] == [
        ("zebra", 0.312, 4),
        ("cat", 0.6, 6),
        ("dog", 0.7, 10),
    ]


@pytest.mark.parametrize(
    ("metric", "classes", "expected"),
    [
        ("iou", CLASSES, "zebra"),
        ("deletion", CLASSES, "dog"),
        ("iou", ["a"] * 20, None),
        ("iou", ["a"] * 19 + ["b"], None),  # one image is no class to speak of
        ("iou", [f"class {row}" for row in range(20)], None),
        ("iou", None, None),
    ],
)
def test_the_worst_class_of_two_with_two_images_each(
    metric: str, classes: list[str] | None, expected: str | None
) -> None:
    edge = {"above": 0.45} if metric == "iou" else {"below": 0.5}
    worst = judged(VALUES, metric, classes=classes, **edge).worst_class()
    assert (worst.name if worst else None) == expected


def images(names: dict[int, str]) -> ImageSet:
    def entry(row: int) -> Entry:
        pixels = np.random.default_rng(row).integers(256, size=(8, 8, 3), dtype=np.uint8)
        return Entry(f"image_{row}", row % 3, lambda: pixels, None, f"image {row}")

    transform = Resize((8, 8))
    return ImageSet(map(entry, range(6)), name="made", transform=transform, classes=names)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({}, ["0", "1", "2"]),
        ({0: "crane", 1: "cat", 2: "crane"}, ["0", "cat", "2"]),  # ImageNet has two cranes
        ({1: "cat"}, ["0", "cat", "2"]),
    ],
)
def test_classes_go_by_the_names_of_the_image_set_or_their_index(
    names: dict[int, str], expected: list[str]
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    evaluation = Evaluation(TorchClassifier(network.eval(), name="m", size=(8, 8)), images(names))
    judgement = judge(
        evaluation,
        Method("gradcam", GradCAM()),
        METRICS["active_fraction"].configure({}),
        Conditions(above=0.0, per_class=True),
    )
    assert [one.name for one in judgement.classes] == expected


# --- what a gate may not ask -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"above": 0.4, "max_failures": -1}, "`max_failures` is a number of images, 0 or more"),
        ({"beats": ("sobel",), "max_failures": 0}, "`max_failures` needs `above` or `below`"),
        ({"skill_above": 0.1, "per_class": True}, "`per_class` needs `above` or `below`"),
        (
            {"above": 0.4, "mostly": 0.9, "max_failures": 0},
            "`mostly` and `max_failures` exclude each other",
        ),
        (
            {"above": 0.4, "max_failures": 2, "per_class": True},
            "`max_failures` and `per_class` exclude each other",
        ),
    ],
)
def test_impossible_demands_are_refused(conditions: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Conditions(**conditions)
