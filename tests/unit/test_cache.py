"""What a cache gives back is what was computed, bit by bit, and only the rest is computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cache_cases import (
    CALLS,
    CAM,
    COUNT,
    IG,
    SMOOTH,
    Counting,
    Data,
    classifier_of,
    configured,
    found,
)

from xai_core.cache import DiskCache
from xai_core.cache.keys import is_kept
from xai_core.evaluation import Evaluation, Measurement, Method
from xai_core.explainers import NULL_MAPS, Explanation
from xai_core.metrics import METRICS


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DiskCache]:
    opened = DiskCache(tmp_path / "cache")
    yield opened
    opened.close()


def everything(cache: DiskCache | None) -> tuple[Evaluation, list[Measurement]]:
    """Measure, with a new classifier and new images, what comes by every path."""
    at = Evaluation(classifier_of(), Data.plain().made(), cache=cache)
    names = ("iou", "insertion", "faithfulness_gap", "average_drop", "native_complexity")
    metrics = [configured(name) for name in (*names, "random_logit")]
    metrics += [configured("stability", samples=2), configured("background_class", on="sky")]
    measured = [at.measure(method, metric) for method in (CAM, SMOOTH, IG) for metric in metrics]
    measured.append(at.measure(IG, configured("completeness")))
    for null in NULL_MAPS:
        measured += [at.measure_null(null, IG, metric) for metric in metrics[:2]]
    assert at.accuracy is not None
    return at, measured


def test_values_are_the_same_without_cold_and_warm(cache: DiskCache) -> None:
    without, cold, warm = everything(None), everything(cache), everything(cache)
    for at, measured in (cold, warm):
        assert at.probabilities.tobytes() == without[0].probabilities.tobytes()
        for one, other in zip(measured, without[1], strict=True):
            assert one.values.tobytes() == other.values.tobytes()
            assert (one.metric, one.method, one.undefined, one.names, one.made_by) == (
                *(other.metric, other.method, other.undefined, other.names, other.made_by),
            )
        assert [m.metric.protocol for m in at.measurements] == [
            m.metric.protocol for m in without[0].measurements
        ]
    assert without[0].classifier.passes.total == cold[0].classifier.passes.total > 0
    assert warm[0].classifier.passes.total == 0


def test_costs_count_what_ran_and_what_was_found(cache: DiskCache) -> None:
    cold = everything(cache)[0]
    asked = {key: cost.looked_up for key, cost in cold.costs.items()}
    assert asked["explain", "gradcam"] == asked["classify", "seven"] == COUNT
    assert all(cost.found == 0 for cost in cold.costs.values())
    warm = everything(cache)[0]
    assert ("explain", "gradcam") not in warm.costs  # no map is read where values are there
    for (stage, name), cost in warm.costs.items():
        assert (cost.forwards, cost.gradients) == (0, 0)
        assert cost.found == cost.looked_up == asked[stage, name] > 0


def test_without_a_cache_nothing_is_looked_up() -> None:
    assert {cost.looked_up for cost in everything(None)[0].costs.values()} == {0}


@pytest.mark.parametrize("method", [CAM, SMOOTH, IG], ids=lambda method: method.name)
def test_an_explanation_is_read_bit_by_bit(method: Method, cache: DiskCache) -> None:
    def explained() -> tuple[Evaluation, Explanation]:
        at = Evaluation(classifier_of(), Data.plain().made(), cache=cache)
        return at, at.explain(method)

    (_, cold), (at, warm) = explained(), explained()
    assert found(at, "explain") == (COUNT, COUNT)
    assert at.classifier.passes.total == 0
    for part in ("heatmaps", "attributions", "native"):
        one, other = getattr(cold, part), getattr(warm, part)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype == np.float32
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("known", [(1, 5), (0, 1, 2, 3, 4, 5), (6,)])
def test_only_what_is_missing_is_computed_and_in_full_batches(
    known: tuple[int, ...], cache: DiskCache
) -> None:
    method, metric = Method("counting", Counting()), configured("insertion", steps=4)
    data = Data.plain()
    Evaluation(classifier_of(), data.made(known), cache=cache).measure(method, metric)
    CALLS.clear()
    at = Evaluation(classifier_of(batch=3), data.made(), cache=cache)
    values = at.measure(method, metric).values
    missing = COUNT - len(known)
    full, rest = divmod(missing, 3)
    assert [3] * full + [rest] * (rest > 0) == CALLS
    assert at.costs["measure", "insertion"].forwards == missing * (4 + 1)
    assert found(at, "measure") == (len(known), COUNT)
    alone = Evaluation(classifier_of(), data.made()).measure(method, metric)
    np.testing.assert_allclose(values, alone.values, rtol=1e-5)


def test_the_batch_of_missing_images_has_their_masks_and_backgrounds(cache: DiskCache) -> None:
    data, metric = Data.plain(), configured("background_class", on="sky")
    for rows in ((1, 3, 4), tuple(range(COUNT))):
        at = Evaluation(classifier_of(), data.made(rows), cache=cache)
        values = at.measure(CAM, metric).values
    alone = Evaluation(classifier_of(), data.made()).measure(CAM, metric).values
    np.testing.assert_allclose(values, alone, rtol=1e-5)


def test_images_in_another_order_and_other_batches_are_hits(cache: DiskCache) -> None:
    data = Data.plain()
    at = Evaluation(classifier_of(batch=3), data.made(), cache=cache)
    first = at.measure(CAM, configured("iou")).values
    backwards = Data(data.images[::-1], data.masks[::-1], data.grounds[::-1], data.labels[::-1])
    at = Evaluation(classifier_of(batch=2), backwards.made(), cache=cache)
    assert at.measure(CAM, configured("iou")).values.tolist() == first[::-1].tolist()
    assert found(at, "measure") == (COUNT, COUNT)


def test_predicted_targets_are_found_too(cache: DiskCache) -> None:
    data = Data.plain()
    data.labels = [None] * COUNT
    for _ in range(2):
        at = Evaluation(classifier_of(), data.made(), cache=cache)
        at.measure(CAM, configured("iou"))
    assert at.classifier.passes.total == 0
    assert found(at, "classify") == (COUNT, COUNT)


def test_what_depends_on_more_than_the_image_is_not_kept() -> None:
    assert {name for name, declared in METRICS.items() if not is_kept(declared)} == {
        *("agreement", "concept_correlation", "concept_energy", "concept_iou"),
        *("data_randomization", "implementation_invariance", "input_invariance"),
        *("efficient_mprt", "mprt_cascading", "mprt_independent", "smooth_mprt"),
        "sufficiency",
    }


def test_what_is_not_kept_is_measured_each_time_on_maps_that_are(cache: DiskCache) -> None:
    settings: dict[str, dict[str, object]] = {
        "sufficiency": {"share": 0.5},
        "agreement": {"other": "saliency"},
        "mprt_independent": {"stages": 1},
    }
    runs = []
    for _ in range(2):
        at = Evaluation(classifier_of(), Data.plain().made(), cache=cache)
        runs.append(
            [at.measure(CAM, configured(name, **given)) for name, given in settings.items()]
        )
        assert all(at.costs["measure", name].looked_up == 0 for name in settings)
    assert at.costs["explain", "gradcam"].gradients == 0
    assert at.costs["measure", "mprt_independent"].gradients > 0
    for one, other in zip(*runs, strict=True):
        assert one.values.tobytes() == other.values.tobytes()
        assert one.undefined == other.undefined


def test_undefined_values_survive_with_their_reasons(cache: DiskCache) -> None:
    method, metric = Method("counting", Counting(flat=True)), configured("faithfulness_gap")
    runs = [
        Evaluation(classifier_of(), Data.plain().made(), cache=kept).measure(method, metric)
        for kept in (None, cache, cache)
    ]
    assert 0 < len(runs[0].undefined) < COUNT
    assert set(runs[0].undefined.values()) == {"the heatmap is constant (0.25)"}
    for run in runs[1:]:
        assert run.undefined == runs[0].undefined
        np.testing.assert_array_equal(np.isnan(run.values), np.isnan(runs[0].values))
