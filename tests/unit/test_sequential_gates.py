"""Sequential gates: how often they are wrong, what they cost, and when they measure everything."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from xai_core.errors import ParameterError
from xai_core.evaluation import Measurement, Method
from xai_core.explainers import GradCAM
from xai_core.gate import Conditions, Judgement, judge_values
from xai_core.metrics import METRICS
from xai_core.sequential import judge_sequentially, why_in_full
from xai_core.sequential.order import looks_at
from xai_core.statistics import ConfidenceSequence, exact_mean, mean_interval, resampling

GRADCAM = Method("gradcam", GradCAM())
CENTRES = ("random", "centre", "sobel", "inverted")


class Values:
    """Images in random order whose values are given, and how many of them were asked for."""

    model = "densenet121"

    def __init__(self, values: Any, *, seed: int = 0, **nulls: Any) -> None:
        self.values = {None: np.asarray(values, dtype=np.float64)}
        self.values |= {name: np.asarray(null, dtype=np.float64) for name, null in nulls.items()}
        self.seed = seed
        self.looks = looks_at(len(self))
        self.order = np.random.default_rng(seed).permutation(len(self))

    def __len__(self) -> int:
        return len(self.values[None])

    def first(self, images: int, method: Method, metric: Any, null: Any = None) -> Measurement:
        return self._measurement(self.order[:images], metric, null)

    def all(self, method: Method, metric: Any, null: Any = None) -> Measurement:
        return self._measurement(np.arange(len(self)), metric, null)

    def sorted(self, measurement: Measurement) -> Measurement:
        null = None if measurement.method == "gradcam" else measurement.method
        return self.all(GRADCAM, measurement.metric, null)

    def classes(self, images: int) -> tuple[str, ...]:
        return tuple("ab"[row % 2] for row in self.order[:images])

    def classes_of_all(self) -> tuple[str, ...]:
        return tuple("ab"[row % 2] for row in range(len(self)))

    def _measurement(self, rows: np.ndarray, metric: Any, null: Any) -> Measurement:
        found = self.values[null][rows]
        undefined = dict.fromkeys(np.flatnonzero(np.isnan(found)).tolist(), "no value")
        names = tuple(f"image_{row}" for row in rows)
        return Measurement(metric, null or "gradcam", names, found, undefined)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """No verdict here rests on the bootstrap, whose intervals those of sequences replace."""
    monkeypatch.setattr(resampling, "RESAMPLES", 99)


def sequential(
    images: Values, conditions: Conditions, metric: str = "iou", **keywords: Any
) -> Judgement:
    configured = METRICS[metric].configure({})
    return judge_sequentially(images, GRADCAM, configured, conditions, **keywords)  # type: ignore[arg-type]


def in_full(images: Values, conditions: Conditions, metric: str = "iou") -> Judgement:
    configured = METRICS[metric].configure({})
    nulls = {name: images.all(GRADCAM, configured, name) for name in images.values if name}
    return judge_values(
        images.all(GRADCAM, configured),
        conditions,
        model=images.model,
        nulls=nulls,
        classes=images.classes_of_all(),
    )


def beta(mean: float, images: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(8 * mean, 8 * (1 - mean), images)


# --- how often they are wrong -------------------------------------------------------------------


def wrong_where_the_mean_is_just_wrong(values: np.ndarray, orders: int, metric: str) -> float:
    """The rate of passes over orders of a set that fails by the smallest margin."""
    higher = METRICS[metric].better == "higher"
    edge = values.mean() + (1e-9 if higher else -1e-9)
    conditions = Conditions(**{"above" if higher else "below": edge}, confidence=0.5)
    passes = [
        sequential(Values(values, seed=seed), conditions, metric).passes() for seed in range(orders)
    ]
    assert not in_full(Values(values), conditions, metric).passes()
    return float(np.mean(passes))


@pytest.mark.parametrize("metric", ["iou", "deletion"])
@pytest.mark.parametrize("shape", ["spread", "skewed", "hits"])
def test_a_set_that_is_just_on_the_wrong_side_passes_at_most_as_often_as_stated(
    shape: str, metric: str
) -> None:
    values = {
        "spread": beta(0.5, 120),
        "skewed": beta(0.08, 120),
        "hits": (np.arange(120) < 18).astype(float),
    }[shape]
    wrong = wrong_where_the_mean_is_just_wrong(values, 200, metric)
    assert 0 < wrong <= 0.25  # each side has half of what the confidence leaves out


def test_a_usual_interval_with_as_many_looks_passes_far_more_often_than_stated() -> None:
    """Which is why the test above can fail."""
    values, passes = beta(0.5, 120), []
    edge = values.mean() + 1e-9
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(values)
        intervals = [mean_interval(order[:look], confidence=0.5) for look in looks_at(120)[:-1]]
        first = next((one for one in intervals if not one.low < edge <= one.high), None)
        passes.append(first is not None and first.low >= edge)
    assert np.mean(passes) > 0.3


def conditions_of(kind: str, edge: float) -> dict[str, Any]:
    return {
        "above": {"above": edge},
        "below": {"below": edge},
        "mostly": {"above": edge - 0.2, "mostly": 0.9},
        "max_failures": {"above": edge - 0.25, "max_failures": 4},
        "beats": {"beats": ("centre", "random")},
        "skill": {"skill_above": 0.05},
        "several": {"above": edge, "beats": ("centre",), "skill_above": 0.02},
        "undefined": {"above": edge, "undefined": 40},
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["above", "below", "mostly", "max_failures", "beats", "skill", "several", "undefined"],
)
def test_the_verdict_is_that_of_all_images_but_for_the_stated_rate(kind: str) -> None:
    rng, sets, differing, saved = np.random.default_rng(3), 30, 0, 0
    for seed in range(sets):
        values = beta(0.5, 160, seed)
        gain = rng.uniform(-0.05, 0.1)
        nulls = {name: np.clip(values - gain + rng.normal(0, 0.1, 160), 0, 1) for name in CENTRES}
        if kind == "undefined":
            values[rng.random(160) < 0.1] = np.nan
        images = Values(values, seed=seed, **nulls)
        conditions = Conditions(
            **conditions_of(kind, 0.5 + rng.choice([-1, 1]) * rng.uniform(0.02, 0.12)),
            confidence=0.8,
        )
        metric = "deletion" if kind == "below" else "iou"
        found = sequential(images, conditions, metric)
        assert found.outcome == ("pass" if found.passes() else "fail")
        assert found.passes(strict=True) is found.passes()
        differing += found.passes() != in_full(images, conditions, metric).passes()
        saved += 160 - len(found.measurement.names)
    assert differing / sets <= 0.2
    assert saved / sets > 20


def test_a_metric_where_lower_is_better_fails_when_it_rises() -> None:
    conditions = Conditions(below=0.3)
    good = sequential(Values(beta(0.1, 400)), conditions, "deletion")
    collapsed = sequential(Values(beta(0.6, 400)), conditions, "deletion")
    assert (good.outcome, collapsed.outcome) == ("pass", "fail")
    assert len(good.measurement.names) < 60
    assert len(collapsed.measurement.names) < 60


def test_equal_to_a_null_map_on_every_image_is_not_better() -> None:
    values = beta(0.5, 60)
    found = sequential(Values(values, centre=values), Conditions(beats=("centre",)))
    assert found.outcome == "fail"
    assert found.images == 60


def test_one_condition_proven_wrong_is_enough_and_all_must_be_proven_right() -> None:
    values = beta(0.5, 400)
    nulls = {"centre": np.clip(values - 0.2, 0, 1)}
    near = float(values.mean()) - 0.003
    fails = sequential(Values(values, **nulls), Conditions(above=0.9, beats=("centre",)))
    assert fails.outcome == "fail"
    assert fails.images <= 16
    passes = sequential(Values(values, **nulls), Conditions(above=near, beats=("centre",)))
    assert passes.outcome == "pass"
    assert passes.images == 400


# --- what they cost -----------------------------------------------------------------------------


@pytest.mark.parametrize(("distance", "images"), [(0.2, 200), (0.1, 200), (0.05, 600)])
def test_ten_times_as_many_images_cost_less_than_half_more(distance: float, images: int) -> None:
    values, costs = beta(0.5, images), []
    conditions = Conditions(above=float(values.mean()) - distance)
    for copies in (1, 10):
        seen = [
            sequential(Values(np.tile(values, copies), seed=seed), conditions).images
            for seed in range(15)
        ]
        costs.append(float(np.mean(seen)))
    assert costs[0] < images / 3
    assert costs[1] < 1.5 * costs[0]


def test_a_far_threshold_costs_less_than_a_near_one() -> None:
    values = beta(0.5, 2000)
    costs = [
        sequential(Values(values), Conditions(above=values.mean() - distance)).images
        for distance in (0.3, 0.1, 0.05)
    ]
    assert costs == sorted(costs)
    assert costs[0] <= 32
    assert costs[2] > 3 * costs[0]


@pytest.mark.parametrize("images", [1, 7, 8, 9, 60, 1000])
def test_looks_end_with_the_last_image_and_overshoot_by_a_quarter_at_most(images: int) -> None:
    looks = looks_at(images)
    assert looks[-1] == images
    for before, after in itertools.pairwise(looks):
        assert 0 < after - before <= max(8, before / 4)
    assert looks_at(10 * images)[: len(looks) - 1] == looks[:-1]


# --- what they say ------------------------------------------------------------------------------


def test_the_headline_says_of_how_many_images_and_no_drop_that_they_detect() -> None:
    found = sequential(Values(beta(0.4, 400)), Conditions(above=0.6))
    seen = found.images
    assert found.of_images == 400
    interval = found.findings[0].interval
    assert found.headline() == (
        f"iou[gradcam] densenet121: {found.measurement.mean:.3f} < 0.600 "
        f"(95% CI {interval.low:.3f}..{interval.high:.3f}, n={seen} of 400)"
    )


def test_the_interval_is_that_of_the_confidence_sequence() -> None:
    images = Values(beta(0.4, 400), seed=5)
    found = sequential(images, Conditions(above=0.6, confidence=0.9))
    seen = found.measurement.values
    expected = ConfidenceSequence(0.0, 1.0, 0.9, 400).after(seen).interval
    interval = found.findings[0].interval
    assert interval.low == pytest.approx(expected.low, abs=1e-6)
    assert interval.high == pytest.approx(expected.high, abs=1e-6)
    assert interval.confidence == 0.9


def test_the_interval_of_a_skill_score_holds_that_of_the_set_as_often_as_stated() -> None:
    missed, widths, sets = 0, [], 25
    for seed in range(sets):
        values = beta(0.6, 150, seed)
        rng = np.random.default_rng(seed + 1000)
        nulls = {name: beta(0.3, 150, seed) * rng.uniform(0.3, 1) for name in CENTRES}
        best = max(null.mean() for null in nulls.values())
        truth = (values.mean() - best) / (1 - best)
        found = sequential(
            Values(values, seed=seed, **nulls), Conditions(skill_above=0.25, confidence=0.8)
        )
        interval = found.findings[0].interval
        missed += not interval.low <= truth <= interval.high
        widths.append(interval.high - interval.low)
        assert found.passes()
    assert missed / sets <= 0.2
    assert np.median(widths) < 0.45


def test_when_all_images_have_come_their_mean_decides_exactly() -> None:
    values = beta(0.5, 30)
    mean = exact_mean(values)
    for edge, outcome in ((mean, "pass"), (np.nextafter(mean, 1), "fail")):
        found = sequential(Values(values), Conditions(above=float(edge)))
        assert found.outcome == outcome
        assert found.findings[0].interval.low == found.findings[0].interval.high == mean
    few = sequential(Values(values[:3]), Conditions(above=0.99))
    assert (few.images, few.outcome) == (3, "fail")


def test_a_threshold_at_the_end_of_the_range_is_settled_at_the_first_look() -> None:
    values = np.zeros(200)
    assert sequential(Values(values), Conditions(above=0.0)).images == 8
    assert sequential(Values(values), Conditions(below=1.0)).images == 8
    assert sequential(Values(values), Conditions(above=1.5)).images == 8


def test_about_the_population_takes_more_images_and_may_stay_open() -> None:
    values = beta(0.5, 60)
    near = Conditions(above=values.mean() - 0.01)
    of_set, of_population = (
        sequential(Values(values), near, about=about) for about in ("set", "population")
    )
    assert of_set.outcome == "pass"
    assert of_population.outcome == "inconclusive"
    assert of_population.passes()
    assert not of_population.passes(strict=True)
    assert of_population.headline(strict=True).endswith(": not proven")
    far = Conditions(above=values.mean() - 0.25)
    costs = [sequential(Values(values), far, about=about).images for about in ("set", "population")]
    assert costs[0] <= costs[1] < 60


def test_the_same_seed_gives_the_same_judgement_and_another_another() -> None:
    values, conditions = beta(0.5, 300), Conditions(above=0.4)
    first, again, other = (sequential(Values(values, seed=seed), conditions) for seed in (1, 1, 2))
    assert first.headline() == again.headline() != other.headline()
    assert first.measurement.names == again.measurement.names != other.measurement.names


# --- images without a value ---------------------------------------------------------------------


def test_more_images_without_a_value_than_allowed_end_it_at_once() -> None:
    values = beta(0.9, 200)
    images = Values(values)
    images.values[None][images.order[[3, 20]]] = np.nan
    found = sequential(images, Conditions(above=0.88, undefined=1))
    assert found.outcome == "fail"
    assert len(found.measurement.names) == 24
    assert found.headline() == (
        "iou[gradcam] densenet121: 2 of 24 images undefined, 1 allowed "
        f"(image_{images.order[3]}: no value)"
    )
    allowed = sequential(images, Conditions(above=0.5, undefined=2))
    assert allowed.outcome == "pass"


def test_no_value_on_any_image_fails() -> None:
    found = sequential(Values([math.nan] * 20), Conditions(above=0.5, undefined=20))
    assert found.outcome == "fail"
    assert "20 of 20 images undefined" in found.headline()


@pytest.mark.parametrize("allowed", [True, False])
def test_images_without_a_value_take_no_side(allowed: bool) -> None:
    """A worst value in their place would fail the set, and a best one pass it."""
    values = beta(0.5, 300)
    values[np.random.default_rng(1).choice(300, 90, replace=False)] = np.nan
    edge = float(np.nanmean(values)) + (-0.06 if allowed else 0.06)
    found = sequential(Values(values), Conditions(above=edge, undefined=90))
    assert found.outcome == ("pass" if allowed else "fail")
    assert found.images < 210
    interval = found.findings[0].interval
    assert interval.low <= np.nanmean(values) <= interval.high


def test_a_null_map_that_is_perfect_on_all_that_came_waits_for_images_where_it_is_not() -> None:
    nulls = {name: np.ones(64) for name in CENTRES}
    images = Values(np.full(64, 0.2), **nulls)
    with pytest.raises(ParameterError, match="null map is perfect already"):
        sequential(images, Conditions(skill_above=0.5))
    for name in CENTRES:
        images.values[name][images.order[20]] = 0.0
    found = sequential(images, Conditions(skill_above=0.5))
    assert (found.outcome, found.images) == ("fail", 24)


# --- what cannot stop early ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "conditions", "reason"),
    [
        ("completeness", {"below": 0.1}, "its values have no bounds"),
        ("pixel_flipping", {"beats": ("random",)}, "its values have no bounds"),
        ("irof", {"above": 0.1, "mostly": 0.9, "beats": ("random",)}, "its values have no bounds"),
        ("irof", {"above": 0.1, "mostly": 0.9}, None),
        ("completeness", {"below": 0.1, "max_failures": 3}, None),
        ("iou", {"above": 0.1, "per_class": True}, "per class"),
        ("sufficiency", {"above": 0.1}, "each value rests on all images"),
        ("mprt_cascading", {"below": 0.4}, None),
        ("iou", {"above": 0.1, "beats": ("centre",), "skill_above": 0.1}, None),
    ],
)
def test_why_a_gate_measures_all_images(
    metric: str, conditions: dict[str, Any], reason: str | None
) -> None:
    assert why_in_full(METRICS[metric].configure({}), Conditions(**conditions)) == reason


@pytest.mark.parametrize(
    ("metric", "conditions"),
    [("completeness", {"below": 0.4}), ("iou", {"above": 0.4, "per_class": True})],
)
def test_a_gate_that_measures_all_images_is_judged_as_without(
    metric: str, conditions: dict[str, Any]
) -> None:
    images = Values(beta(0.5, 50))
    found = sequential(images, Conditions(**conditions), metric)
    plain = in_full(images, Conditions(**conditions), metric)
    assert found.findings == plain.findings
    assert found.headline() == plain.headline()
    assert found.in_full
    assert found.of_images == 50


# --- the side of a threshold --------------------------------------------------------------------


def test_a_side_that_was_proven_stays_whatever_comes_after() -> None:
    empty = ConfidenceSequence(0.0, 1.0)
    values = [1.0] * 20
    assert empty.side_of(0.5) is None
    assert empty.after(values).side_of(0.5) == "above"
    assert empty.after([*values, *[0.0] * 200]).side_of(0.5) == "above"
    assert empty.after([*[0.0] * 20, *[1.0] * 200]).side_of(0.5) == "below"
    assert (empty.side_of(-0.1), empty.side_of(1.1)) == ("above", "below")


def test_a_value_that_misses_its_range_by_rounding_counts_as_its_end() -> None:
    values = np.full(100, 1 + 1e-8)
    assert sequential(Values(values), Conditions(above=0.5)).outcome == "pass"
    with pytest.raises(ParameterError, match=r"value 0 of the sequence is 1\.01, expected"):
        sequential(Values(np.full(100, 1.01)), Conditions(above=0.5))
