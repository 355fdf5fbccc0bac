"""What an evaluation supplies to metrics beyond heatmaps: native maps, other explainers, other models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from xai_core.arrays import Float32, Float64, Int64
from xai_core.checks import SmallCNN
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.errors import ParameterError, UndefinedMeasurementError
from xai_core.evaluation import Evaluation, Method, measure_rows
from xai_core.explainers import CentreMap, Explanation, GradCAM, IntegratedGradients, null_maps
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import ConfiguredMetric, Metric
from xai_core.postprocess import Gaussian

SIZE = (16, 16)
IMAGES = np.random.default_rng(3).random((5, 3, *SIZE), dtype=np.float32)
TARGETS = np.array([0, 1, 2, 0, 1])


def network(seed: int = 0, batch_size: int | None = 2) -> TorchClassifier:
    return SmallCNN(classes=3, seed=seed).classifier(batch_size=batch_size)


def evaluation() -> Evaluation:
    entries = [
        Entry(f"image_{row}", int(TARGETS[row]), partial(np.copy, IMAGES[row]), None, "test")
        for row in range(len(IMAGES))
    ]
    return Evaluation(network(), ImageSet(entries, name="five", transform=Resize(SIZE)))


def metric_of(function: Callable[..., Float64], *needs: str) -> ConfiguredMetric:
    """A metric that is not declared, so that no list of metrics sees it."""
    kept = {"version": "v1", "unit": "", "source": "test", "assertion": "odd", "settings": {}}
    odd = Metric(
        name="odd", better="higher", range=(-9.0, 9.0), function=function, needs=needs, **kept
    )
    return ConfiguredMetric(odd, ())


@dataclass(frozen=True)
class Coarse:
    """The image's mean on a grid of 4 x 4, enlarged without interpolation."""

    kind: ClassVar[str] = "coarse"

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        native = images.mean(axis=1).reshape(len(images), 4, 4, 4, 4).mean(axis=(2, 4))
        return Explanation(native.repeat(4, axis=1).repeat(4, axis=2), native=native)


def test_native_maps_are_those_before_enlargement_and_post_processing() -> None:
    seen: list[Float32] = []

    def keep(native_heatmaps: Float32) -> Float64:
        seen.append(native_heatmaps)
        return np.zeros(len(native_heatmaps))

    method = Method("smooth", Coarse(), (Gaussian(sigma=2),))
    evaluation().measure(method, metric_of(keep, "native_heatmaps"))
    expected = IMAGES.mean(axis=1).reshape(5, 4, 4, 4, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(np.concatenate(seen), expected, rtol=1e-6)


def test_a_method_that_works_at_the_images_resolution_has_its_heatmaps_as_native_maps() -> None:
    measured: list[Float32] = []

    def keep(native_heatmaps: Float32) -> Float64:
        measured.append(native_heatmaps)
        return np.zeros(len(native_heatmaps))

    at = evaluation()
    method = Method("ig", IntegratedGradients(steps=2))
    at.measure(method, metric_of(keep, "native_heatmaps"))
    np.testing.assert_array_equal(np.concatenate(measured), at.explain(method).heatmaps)


def test_another_explainers_maps_are_those_of_the_same_images_and_computed_once() -> None:
    at = evaluation()

    def compare(heatmaps: Float32, heatmaps_of: Callable[[str], Float32]) -> Float64:
        other = heatmaps_of("integrated_gradients(steps=2)")
        assert other.shape == heatmaps.shape
        return np.array([float(np.abs(one).max()) for one in other])

    gradcam = Method("gradcam", GradCAM())
    found = at.measure(gradcam, metric_of(compare, "heatmaps", "heatmaps_of"))
    expected = IntegratedGradients(steps=2).explain(network(), IMAGES, TARGETS).heatmaps
    np.testing.assert_allclose(found.values, np.abs(expected).max(axis=(1, 2)), rtol=1e-4)
    (cost,) = [c for (stage, name), c in at.costs.items() if name.startswith("integrated_")]
    assert (cost.forwards, cost.gradients) == (0, 5 * 2)


def test_a_wrong_name_of_another_explainer_gets_the_nearest() -> None:
    def ask(heatmaps_of: Callable[[str], Float32]) -> Float64:
        return heatmaps_of("gradcan").mean(axis=(1, 2))

    with pytest.raises(ParameterError, match="did you mean 'gradcam'"):
        evaluation().measure(Method("centre", CentreMap()), metric_of(ask, "heatmaps_of"))


@pytest.mark.parametrize("null", [None, "centre", "inverted", "sobel", "random"])
def test_maps_under_another_model_are_those_of_the_explainer_and_of_nulls(null: str | None) -> None:
    other = network(seed=9, batch_size=None)
    steps = (Gaussian(sigma=1),)
    seen: list[tuple[Float32, Float32]] = []

    def keep(heatmaps: Float32, explained_by: Any) -> Float64:
        seen.append((heatmaps, explained_by(other, lambda images: 1 - images)))
        return np.zeros(len(heatmaps))

    at, method = evaluation(), Method("gradcam", GradCAM(), steps)
    metric = metric_of(keep, "heatmaps", "explained_by")
    if null is None:
        at.measure(method, metric)
    else:
        at.measure_null(null, method, metric)
    ((own, changed),) = seen  # all images at once, in batches of two

    def plain(classifier: Classifier, images: Float32) -> Float32:
        maps = GradCAM().explain(classifier, images, TARGETS).heatmaps
        maps = np.stack([steps[0](one[None])[0] for one in maps])
        return maps if null is None else null_maps(null, images, maps, seed=0)

    np.testing.assert_allclose(own, plain(network(), IMAGES), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(changed, plain(other, 1 - IMAGES), rtol=1e-4, atol=1e-6)


def test_only_images_that_are_still_measured_are_explained_by_another_model() -> None:
    sizes: list[int] = []

    def first_is_undefined(heatmaps: Float32, explained_by: Any) -> Float64:
        sizes.append(len(explained_by(network())))
        if len(heatmaps) == 5:
            raise UndefinedMeasurementError({0: "it is the first"})
        return np.ones(len(heatmaps))

    method = Method("centre", CentreMap())
    found = evaluation().measure(method, metric_of(first_is_undefined, "heatmaps", "explained_by"))
    assert sizes == [5, 4]
    assert found.undefined == {0: "it is the first"}
    np.testing.assert_array_equal(found.values, [np.nan, 1, 1, 1, 1])


def test_values_that_come_with_an_undefined_image_are_not_measured_again() -> None:
    calls: list[int] = []

    def measure(heatmaps: Float32) -> Float64:
        calls.append(len(heatmaps))
        values = np.arange(len(heatmaps), dtype=np.float64)
        raise UndefinedMeasurementError({1: "it is the second"}, values)

    rows = np.array([4, 6, 8])
    values, undefined = measure_rows(
        metric_of(measure, "heatmaps"), lambda rows: {"heatmaps": rows}, rows
    )
    assert calls == [3]
    assert undefined == {6: "it is the second"}
    np.testing.assert_array_equal(values, [0, np.nan, 2])


def test_what_an_evaluation_costs_is_charged_to_whoever_asked() -> None:
    at = evaluation()
    gradcam, path = Method("gradcam", GradCAM()), Method("ig", IntegratedGradients(steps=3))
    at.explain(gradcam)
    at.measure(path, metric_of(lambda heatmaps: heatmaps.mean(axis=(1, 2)), "heatmaps"))
    assert at.accuracy is not None
    spent = {key: (cost.forwards, cost.gradients) for key, cost in at.costs.items()}
    assert spent == {
        ("explain", "gradcam"): (0, 5),
        ("explain", "ig"): (0, 5 * 3),
        ("measure", "odd"): (0, 0),
        ("classify", "five"): (5, 0),
    }
    passes = at.classifier.passes
    assert (passes.forwards, passes.gradients) == (5, 5 + 15)
