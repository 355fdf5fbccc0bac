"""Several images of one photograph are one unit: a gate judges the means of its photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from torch import nn

from xai_core.arrays import Float64
from xai_core.calibration import calibrated
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.evaluation import Evaluation, Measurement, Method
from xai_core.explainers import Explanation
from xai_core.gate import Conditions, Judgement, judge, judge_values
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import METRICS
from xai_core.sequential import ImagesInOrder, judge_sequentially
from xai_core.statistics import cluster_means, defined_cluster_means

PHOTOGRAPHS, CROPS = 20, 3
RNG = np.random.default_rng(5)
OF_PHOTOGRAPH = RNG.uniform(0.3, 0.8, PHOTOGRAPHS)
# Crops of one photograph resemble each other; the order of the images is not that of the groups.
ORDER = RNG.permutation(PHOTOGRAPHS * CROPS)
CROPPED = np.clip(np.repeat(OF_PHOTOGRAPH, CROPS) + RNG.normal(0, 0.02, 60), 0, 1)[ORDER]
NULL = np.clip(CROPPED - RNG.uniform(0.0, 0.2, 60), 0, 1)
GROUPS = tuple(f"photograph_{row // CROPS}" for row in ORDER)
CLASSES = tuple("zebra" if int(group.split("_")[1]) % 4 else "cat" for group in GROUPS)


def measured(
    values: Any, groups: Any = None, *, method: str = "gradcam", metric: str = "iou"
) -> Measurement:
    array = np.asarray(values, dtype=np.float64)
    undefined = {int(row): "no value" for row in np.flatnonzero(np.isnan(array))}
    names = tuple(f"image_{row}" for row in range(len(array)))
    configured = METRICS[metric].configure({})
    groups = None if groups is None else tuple(groups)
    return Measurement(configured, method, names, array, undefined, groups=groups)


def judged(
    values: Any, groups: Any = None, *, null: Any = None, classes: Any = None, **conditions: Any
) -> Judgement:
    nulls = {} if null is None else {"centre": measured(null, groups, method="centre")}
    nulls |= {} if null is None else {"random": measured(null / 2, groups, method="random")}
    return judge_values(
        measured(values, groups),
        Conditions(**conditions),
        model="m",
        nulls=nulls,
        classes=classes,
    )


def means_by_hand(values: Any) -> Float64:
    """One plain mean for each photograph, in the order in which they come first."""
    names = list(dict.fromkeys(GROUPS))
    rows = {name: [row for row, group in enumerate(GROUPS) if group == name] for name in names}
    return np.array([sum(values[row] for row in rows[name]) / CROPS for name in names])


CONDITIONS: list[dict[str, Any]] = [
    {"above": 0.5},
    {"below": 0.55},
    {"above": 0.4, "mostly": 0.8},
    {"above": 0.4, "max_failures": 3},
    {"above": 0.5, "beats": ("centre",)},
    {"skill_above": 0.1},
]


@pytest.mark.parametrize("conditions", CONDITIONS, ids=repr)
def test_crops_of_photographs_are_judged_as_the_means_of_the_photographs(
    conditions: dict[str, Any],
) -> None:
    grouped = judged(CROPPED, GROUPS, null=NULL, **conditions)
    by_hand = judged(means_by_hand(CROPPED), null=means_by_hand(NULL), **conditions)
    assert grouped.units == PHOTOGRAPHS
    assert grouped.images == PHOTOGRAPHS * CROPS
    assert grouped.outcome == by_hand.outcome
    assert grouped.detects == pytest.approx(by_hand.detects, abs=1e-12)
    assert grouped.nulls == pytest.approx(by_hand.nulls, abs=1e-12)
    for found, expected in zip(grouped.findings, by_hand.findings, strict=True):
        assert found.value == pytest.approx(expected.value, abs=1e-12)
        assert found.interval.low == pytest.approx(expected.interval.low, abs=1e-12)
        assert found.interval.high == pytest.approx(expected.interval.high, abs=1e-12)
        assert (found.holds, found.settled_by) == (expected.holds, expected.settled_by)
        np.testing.assert_allclose(found.units[0], expected.units[0], atol=1e-12)


def test_the_interval_is_wider_than_if_every_crop_were_a_photograph() -> None:
    grouped, apart = (judged(CROPPED, groups, above=0.5).findings[0] for groups in (GROUPS, None))
    widths = [one.interval.high - one.interval.low for one in (grouped, apart)]
    assert widths[0] > 1.5 * widths[1]  # sqrt(3) with equal crops


def test_groups_of_one_image_change_nothing() -> None:
    names = [f"photograph_{row}" for row in range(60)]
    grouped, plain = judged(CROPPED, names, above=0.5), judged(CROPPED, above=0.5)
    assert grouped.headline() == plain.headline()
    assert grouped.findings == plain.findings


def test_lines_say_that_they_count_groups() -> None:
    head = judged(CROPPED, GROUPS, above=0.9).headline()
    assert head.startswith("iou[gradcam] m: ")
    assert ", n=20 groups, detects " in head
    unproven = judged(CROPPED, GROUPS, above=float(OF_PHOTOGRAPH.mean()) - 0.01)
    assert " groups would settle it" in unproven.headline(strict=True)
    allowed = judged(CROPPED, GROUPS, above=0.9, max_failures=2).headline()
    assert "20 groups < 0.900, 2 allowed" in allowed
    share = judged(CROPPED, GROUPS, above=0.9, mostly=0.9).headline()
    assert "0.000 of the groups >= 0.900" in share


def test_the_worst_are_images() -> None:
    rows = judged(CROPPED, GROUPS, above=0.9).worst_images()
    expected = sorted(enumerate(CROPPED), key=lambda one: one[1])[:5]
    assert [(name, value) for name, value, _ in rows] == [
        (f"image_{row}", value) for row, value in expected
    ]


def test_an_image_without_a_value_leaves_the_mean_of_its_group() -> None:
    values = [0.2, math.nan, 0.6, 0.8, math.nan]
    judgement = judged(values, "aabbc", above=0.1, undefined=2)
    assert judgement.findings[0].value == pytest.approx((0.2 + 0.7) / 2)
    assert (judgement.units, judgement.images) == (2, 3)
    assert judgement.passes()
    too_many = judged(values, "aabbc", above=0.1, undefined=1)
    assert too_many.headline().endswith("2 of 5 images undefined, 1 allowed (image_1: no value)")


def test_a_null_map_is_compared_on_the_images_where_both_have_a_value() -> None:
    null = measured([0.1, 0.0, math.nan, 0.3], "aabb", method="centre")
    judgement = judge_values(
        measured([0.5, math.nan, 0.9, 0.4], "aabb"),
        Conditions(beats=("centre",), undefined=1),
        model="",
        nulls={"centre": null},
    )
    assert judgement.findings[0].value == pytest.approx(((0.5 - 0.1) + (0.4 - 0.3)) / 2)


def test_a_class_has_as_many_units_as_photographs() -> None:
    judgement = judged(CROPPED, GROUPS, classes=CLASSES, above=0.9, per_class=True)
    assert {one.name: one.images for one in judgement.classes} == {"zebra": 15, "cat": 5}
    means = means_by_hand(CROPPED)
    of_group = dict(zip(GROUPS, CLASSES, strict=True))
    names = [of_group[group] for group in dict.fromkeys(GROUPS)]
    by_hand = judged(means, classes=names, above=0.9, per_class=True)
    found, expected = judgement.findings[0], by_hand.findings[0]
    assert found.value == pytest.approx(expected.value, abs=1e-12)
    assert found.interval.low == pytest.approx(expected.interval.low, abs=1e-12)
    assert found.text == expected.text
    assert f"n={found.images} groups)" in judgement.headline()


def test_a_photograph_of_two_classes_counts_once_in_each() -> None:
    judgement = judged(
        [0.1, 0.3, 0.8, 0.6], "aaab", classes=("cat", "cat", "dog", "dog"), above=0.5
    )
    assert {one.name: (one.mean, one.images) for one in judgement.classes} == {
        "cat": (pytest.approx(0.2), 1),
        "dog": (pytest.approx(0.7), 2),
    }


def test_calibration_counts_and_proposes_by_photographs() -> None:
    (grouped,) = calibrated([judged(CROPPED, GROUPS, above=0.45)])
    (by_hand,) = calibrated([judged(means_by_hand(CROPPED), above=0.45)])
    assert (grouped.images, grouped.proposed) == (20, by_hand.proposed)
    assert grouped.image_deviation == pytest.approx(by_hand.image_deviation)
    assert grouped.false_alarm_rate == pytest.approx(by_hand.false_alarm_rate)


def test_cluster_means_of_what_exists_keep_the_place_of_a_group_without_any() -> None:
    values = np.array([math.nan, 0.4, math.nan, 0.1, 0.3])
    found = defined_cluster_means(values, ["b", "a", "b", "c", "a"])
    np.testing.assert_allclose(found, [math.nan, 0.35, 0.1])
    np.testing.assert_allclose(
        defined_cluster_means(CROPPED, GROUPS), cluster_means(CROPPED, GROUPS)
    )


# --- from the images of an evaluation ----------------------------------------------------------

SIZE = (8, 8)
IMAGES = RNG.random((60, 3, *SIZE), dtype=np.float32)
MASKS = RNG.random((60, *SIZE)) < 0.4


@dataclass(frozen=True)
class Red:
    """The red channel."""

    kind: ClassVar[str] = "red"

    def explain(
        self, classifier: Classifier, images: np.ndarray, targets: np.ndarray
    ) -> Explanation:
        return Explanation(images[:, 0].copy())


METHOD = Method("red", Red())


def evaluation(*, groups: bool = True) -> Evaluation:
    network = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)
    ).eval()
    entries = [
        Entry(
            f"image_{row:02}",
            row % 3,
            partial(IMAGES.__getitem__, row),
            partial(MASKS.__getitem__, row),
            "test",
            group=GROUPS[row] if groups else None,
        )
        for row in range(60)
    ]
    images = ImageSet(entries, name="crops", transform=Resize(SIZE))
    return Evaluation(TorchClassifier(network, name="tiny", size=SIZE), images)


def test_a_measurement_knows_the_groups_of_the_image_set() -> None:
    iou = METRICS["iou"].configure({})
    whole = evaluation()
    judgement = judge(whole, METHOD, iou, Conditions(above=0.0, beats=("centre",)))
    assert judgement.measurement.groups == whole.images.groups == GROUPS
    plain = evaluation(groups=False).measure(METHOD, iou)
    assert plain.groups is None
    assert judgement.findings[0].value == pytest.approx(means_by_hand(plain.values).mean())
    null = evaluation(groups=False).measure_null("centre", METHOD, iou)
    gain = means_by_hand(plain.values) - means_by_hand(null.values)
    assert judgement.findings[1].value == pytest.approx(gain.mean())


def test_in_random_order_the_crops_of_a_photograph_come_together() -> None:
    images = ImagesInOrder(evaluation())
    assert len(images) == PHOTOGRAPHS
    assert images.looks == (24, 48, 60)  # 8, 16 and 20 photographs
    assert sorted(images.order.tolist()) == list(range(60))
    drawn = [GROUPS[row] for row in images.order]
    assert all(len(set(drawn[at : at + CROPS])) == 1 for at in range(0, 60, CROPS))
    first = images.first(24, METHOD, METRICS["iou"].configure({}))
    assert first.groups == tuple(drawn[:24])
    assert len(first.units) == 8


def test_in_random_order_the_exact_verdict_is_about_the_mean_over_photographs() -> None:
    iou = METRICS["iou"].configure({})
    means = means_by_hand(evaluation(groups=False).measure(METHOD, iou).values)
    edge = float(means.mean())
    for step, passes in ((-1e-9, True), (1e-9, False)):
        images = ImagesInOrder(evaluation())
        found = judge_sequentially(images, METHOD, iou, Conditions(above=edge + step))
        assert found.passes() is passes
        assert (found.of_images, found.of_groups, found.images) == (60, 20, 60)
        assert "n=20 of 20 groups" in found.headline()


def test_in_random_order_a_settled_gate_counts_photographs() -> None:
    iou = METRICS["iou"].configure({})
    found = judge_sequentially(ImagesInOrder(evaluation()), METHOD, iou, Conditions(above=0.95))
    assert not found.passes()
    assert (found.images, found.units) == (24, 8)
    assert "n=8 of 20 groups" in found.headline()
