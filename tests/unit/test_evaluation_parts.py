"""What one measurement has computed, another does not compute again."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from xai_core.arrays import Float64
from xai_core.checks import SmallCNN
from xai_core.errors import XaiError
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import GradCAM, IntegratedGradients
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import METRICS, ConfiguredMetric, Metric
from xai_core.postprocess import Gaussian

SIZE = (16, 16)
IMAGES = np.random.default_rng(6).random((5, 3, *SIZE), dtype=np.float32)


def evaluation(images: np.ndarray = IMAGES, *, seed: int = 0) -> Evaluation:
    entries = [
        Entry(f"image_{row}", row % 3, partial(np.copy, image), None, "test")
        for row, image in enumerate(images)
    ]
    made = ImageSet(entries, name="five", transform=Resize(SIZE))
    return Evaluation(SmallCNN(classes=3).classifier(batch_size=2), made, seed=seed)


def as_a_gate(name: str, seed: int, **settings: object) -> ConfiguredMetric:
    """A metric as a gate has it: with the run's seed, where it has one and sets none."""
    if "seed" in METRICS[name].settings:
        settings.setdefault("seed", seed)
    return METRICS[name].configure(settings)


def composite(**settings: tuple[object, object]) -> ConfiguredMetric:
    """A metric of other metrics' values with settings of its own, not declared."""

    def difference(insertion: Float64, deletion: Float64, **_: object) -> Float64:
        return insertion - deletion

    metric = Metric(
        name="difference",
        version="v1",
        better="higher",
        range=(-1.0, 1.0),
        unit="",
        source="test",
        assertion="difference",
        function=difference,
        needs=("insertion", "deletion"),
        settings=settings,
    )
    return metric.configure({})


METHOD = Method("gradcam", GradCAM())


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("first", ["parts", "whole"])
@pytest.mark.parametrize("null", [None, "sobel"])
def test_a_gate_on_a_metric_and_gates_on_its_parts_share_their_passes(
    null: str | None, first: str, seed: int
) -> None:
    at = evaluation(seed=seed)

    def forwards(*names: str) -> int:
        before = at.classifier.passes.forwards
        for name in names:
            metric = as_a_gate(name, seed)
            if null is None:
                at.measure(METHOD, metric)
            else:
                at.measure_null(null, METHOD, metric)
        return at.classifier.passes.forwards - before

    parts, whole = ("insertion", "deletion"), ("faithfulness_gap",)
    once, again = (parts, whole) if first == "parts" else (whole, parts)
    assert forwards(*once) == 5 * (26 + 1) * 2  # steps of 10 of the 256 pixels
    assert forwards(*again) == 0


def test_a_part_has_the_settings_that_the_whole_shares_with_it() -> None:
    at = evaluation(seed=7)
    whole = composite(steps=(int, 4), other=(int, 9))
    values = at.measure(METHOD, whole).values
    before = at.classifier.passes.forwards
    insertion, deletion = (
        at.measure(METHOD, as_a_gate(name, 7, steps=4)).values for name in ("insertion", "deletion")
    )
    assert at.classifier.passes.forwards == before == 5 * (4 + 1) * 2
    np.testing.assert_array_equal(values, insertion - deletion)


def test_a_seed_that_the_whole_sets_is_its_parts() -> None:
    assert dict(composite(seed=(int, 3)).part("deletion", seed=7).settings)["seed"] == 3
    assert dict(composite().part("deletion", seed=7).settings)["seed"] == 7


PATH = Method("ig", IntegratedGradients(steps=3))


@pytest.mark.parametrize("batch", [0, 1])
def test_an_image_without_a_difference_costs_the_others_no_second_pass(batch: int) -> None:
    images = IMAGES.copy()
    images[2 * batch] = 0  # the baseline itself: f(x) - f(x') is 0
    at = evaluation(images)
    at.explain(PATH)
    before = at.classifier.passes.forwards
    found = at.measure(PATH, METRICS["completeness"].configure({}))
    assert at.classifier.passes.forwards - before == 2 * 5  # image and baseline, once
    assert list(found.undefined) == [2 * batch]
    alone = evaluation().measure(PATH, METRICS["completeness"].configure({}))
    kept = [row for row in range(5) if row != 2 * batch]
    np.testing.assert_allclose(found.values[kept], alone.values[kept], rtol=1e-3)


def test_post_processing_asks_for_no_difference_again() -> None:
    at = evaluation()
    completeness = METRICS["completeness"].configure({})
    raw = at.measure(PATH, completeness)
    before = at.classifier.passes.forwards
    smooth = at.measure(Method("smooth", PATH.explainer, (Gaussian(sigma=1),)), completeness)
    assert at.classifier.passes.forwards == before
    np.testing.assert_array_equal(raw.values, smooth.values)


def test_differences_that_are_too_few_are_an_error_that_names_the_method() -> None:
    class Short(IntegratedGradients):
        def differences(self, *arguments: object) -> np.ndarray:
            return np.ones(1)

    with pytest.raises(XaiError, match=r"short gave \(1,\) differences, expected 2"):
        evaluation().measure(Method("short", Short(steps=2)), METRICS["completeness"].configure({}))
