"""Axioms as numbers, against closed forms and plain loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from torch import nn

from xai_core import load_classifier
from xai_core.arrays import Float32, Int64
from xai_core.checks import LinearNetwork, SmallCNN, TinyTransformer
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.errors import ClassifierError, ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import (
    Explanation,
    GradCAM,
    GradientTimesInput,
    IntegratedGradients,
    Saliency,
)
from xai_core.imageset import load_imageset
from xai_core.metrics import METRICS, completeness, implementation_invariance, input_invariance

RNG = np.random.default_rng(2)
IMAGES = RNG.random((4, 3, 24, 32)).astype(np.float32)
TARGETS = np.array([0, 1, 2, 0])


def explained_with(
    method: Any, images: np.ndarray = IMAGES, targets: np.ndarray = TARGETS
) -> Callable[..., np.ndarray]:
    def maps(classifier: Classifier, change: Any = None, /) -> np.ndarray:
        changed = images if change is None else change(images)
        return method.explain(classifier, changed, targets).heatmaps

    return maps


@dataclass(frozen=True)
class FirstWeights:
    """A map of the form of the network: the image weighted with its first kernel's first row."""

    kind: ClassVar[str] = "first_weights"

    def explain(self, classifier: TorchClassifier, images: Float32, targets: Int64) -> Explanation:
        model = classifier.private_module().get_submodule("model")
        weights = next(model.parameters()).detach()[0, :, 0, 0].numpy()
        return Explanation(np.einsum("nchw,c->nhw", images, weights))


def test_attributions_of_a_linear_function_are_complete() -> None:
    weights, image, baseline = RNG.normal(size=(3, 2, 3, 4, 4))
    difference = (weights * image).sum(axis=(1, 2, 3)) - (weights * baseline).sum(axis=(1, 2, 3))
    attributions = (weights * (image - baseline)).astype(np.float32)
    np.testing.assert_allclose(completeness(attributions, difference), 0.0, atol=1e-6)


def test_the_gap_is_relative_to_the_size_of_the_difference() -> None:
    attributions = np.zeros((3, 3, 2, 2), dtype=np.float32)
    attributions[:, 1, 0, 1] = (5.0, -3.0, 0.0)
    attributions[:, 2, 1, 1] = (-1.0, -3.0, 0.0)
    np.testing.assert_allclose(completeness(attributions, [2.0, -4.0, 8.0]), [1.0, 0.5, 1.0])


def test_many_small_attributions_are_summed_in_double_precision() -> None:
    attributions = np.full((1, 3, 64, 64), 0.1, dtype=np.float32)
    attributions[0, 0, 0, 0] = 1e6
    total = 1e6 + float(np.float32(0.1)) * (3 * 64 * 64 - 1)
    assert completeness(attributions, [total])[0] < 1e-12


@pytest.mark.parametrize("difference", [0.0, 9e-7, -9e-7, np.nan, np.inf])
def test_a_difference_that_is_no_measure_is_undefined(difference: float) -> None:
    with pytest.raises(UndefinedMeasurementError, match=r"f\(x\) - f\(x'\)") as caught:
        completeness(RNG.normal(size=(2, 3, 4, 4)), [1.0, difference])
    assert set(caught.value.reasons) == {1}


def test_attributions_that_are_not_finite_are_undefined() -> None:
    attributions = np.ones((2, 3, 4, 4), dtype=np.float32)
    attributions[0, 0, 0, 0] = np.nan
    with pytest.raises(UndefinedMeasurementError, match="not finite") as caught:
        completeness(attributions, [1.0, 1.0])
    assert set(caught.value.reasons) == {0}


def test_differences_of_another_number_are_refused() -> None:
    with pytest.raises(ShapeError, match="one value for each of 2 images"):
        completeness(np.ones((2, 3, 4, 4), dtype=np.float32), [1.0, 2.0, 3.0])


def test_a_value_does_not_depend_on_batch_mates() -> None:
    attributions = RNG.normal(size=(4, 3, 21, 17)).astype(np.float32)
    differences = RNG.normal(size=4)
    alone = [completeness(attributions[i], differences[i])[0] for i in range(4)]
    np.testing.assert_array_equal(completeness(attributions, differences), alone)


@pytest.mark.parametrize(
    ("network", "method"),
    [
        (SmallCNN(), GradCAM()),
        (SmallCNN(), Saliency()),
        (SmallCNN(), IntegratedGradients(steps=3)),
        (TinyTransformer(), Saliency()),
    ],
)
def test_methods_that_see_the_function_alone_give_twins_one_map(network: Any, method: Any) -> None:
    images = RNG.random((4, 3, *network.size)).astype(np.float32)
    classifier, explain = network.classifier(), explained_with(method, images)
    assert (implementation_invariance(classifier, explain(classifier), explain) < 1e-3).all()


def test_a_map_of_the_networks_form_differs_by_its_largest_gap_over_the_twins() -> None:
    classifier, explain = SmallCNN().classifier(), explained_with(FirstWeights())
    kernels = SmallCNN().module()[0].weight.detach().numpy()
    expected = []
    for image in IMAGES:
        own, reordered = (np.einsum("chw,c->hw", image, w[:, 0, 0]) for w in kernels[[0, -1]])
        # The twin without folding has the same weights, so the other one decides.
        expected.append(np.abs(own - reordered).max() / np.abs(own).max())
    found = implementation_invariance(classifier, explain(classifier), explain)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (found > 0.1).all()
    alone = [
        implementation_invariance(classifier, one(classifier), one)[0]
        for one in (explained_with(FirstWeights(), IMAGES[[i]], TARGETS[[i]]) for i in range(4))
    ]
    np.testing.assert_allclose(alone, found, rtol=1e-5)
    larger = implementation_invariance(
        classifier, 5 * explain(classifier), lambda *given: 5 * explain(*given)
    )
    np.testing.assert_allclose(larger, found, rtol=1e-5)


@pytest.mark.parametrize("shift", [-1.0, 0.25])
def test_what_a_constant_changes_in_gradient_x_input_is_the_gradient_times_it(shift: float) -> None:
    network = LinearNetwork(height=24, width=32)
    classifier, weights = network.classifier(), network.weights().numpy()
    explain = explained_with(GradientTimesInput(reduce="sum"))
    expected = []
    for image, target in zip(IMAGES, TARGETS, strict=True):
        own = (weights[target] * image).sum(axis=0)
        expected.append(np.abs(shift * weights[target].sum(axis=0)).max() / np.abs(own).max())
    found = input_invariance(classifier, explain(classifier), explain, shift=shift)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    backwards = explained_with(
        GradientTimesInput(reduce="sum"), IMAGES[::-1].copy(), TARGETS[::-1].copy()
    )
    again = input_invariance(classifier, backwards(classifier), backwards, shift=shift)
    np.testing.assert_allclose(again[::-1], found, rtol=1e-5)
    larger = input_invariance(
        classifier, 5 * explain(classifier), lambda *given: 5 * explain(*given), shift=shift
    )
    np.testing.assert_allclose(larger, found, rtol=1e-5)


def test_gradients_do_not_see_a_constant_and_a_reference_image_does() -> None:
    classifier = SmallCNN().classifier()
    for method, invariant in (
        (Saliency(), True),
        (GradCAM(), True),
        (IntegratedGradients(steps=3), False),
    ):
        explain = explained_with(method)
        found = input_invariance(classifier, explain(classifier), explain)
        assert (found < 1e-4).all() if invariant else (found > 0.1).all()


@pytest.mark.parametrize("measure", [implementation_invariance, input_invariance])
def test_a_changed_map_that_is_not_finite_is_undefined(measure: Any) -> None:
    classifier, explain = SmallCNN().classifier(), explained_with(Saliency())

    def broken(other: Classifier, change: Any = None, /) -> np.ndarray:
        maps = explain(other, change)
        maps[2, 0, 0] = np.nan
        return maps

    with pytest.raises(UndefinedMeasurementError, match="not finite") as caught:
        measure(classifier, explain(classifier), broken)
    assert set(caught.value.reasons) == {2}
    assert caught.value.values is not None
    assert (caught.value.values[[0, 1, 3]] < 1e-3).all()
    with pytest.raises(ShapeError, match="explained_by"):
        measure(classifier, explain(classifier), lambda *given: explain(*given)[1:])


def test_a_classifier_without_another_form_is_refused() -> None:
    class BlackBox:
        name = "box.onnx"

    heatmaps = RNG.random((4, 24, 32))
    explain = explained_with(Saliency())
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    classifier = TorchClassifier(module, name="plain", size=(24, 32))
    with pytest.raises(ClassifierError, match="plain has no twin"):
        implementation_invariance(classifier, heatmaps, explain)
    for measure in (implementation_invariance, input_invariance):
        with pytest.raises(ClassifierError, match=r"box\.onnx .* torch module"):
            measure(BlackBox(), heatmaps, explain)
    with pytest.raises(ParameterError, match="shift"):
        METRICS["input_invariance"].configure({"shift": -1.5})


def test_an_evaluation_measures_both_and_null_maps_of_the_image_alone_are_invariant() -> None:
    classifier = load_classifier("demo")
    evaluation = Evaluation(classifier, load_imageset("demo", size=classifier.size, limit=6))
    for name in ("implementation_invariance", "input_invariance"):
        metric, method = METRICS[name].configure({}), Method("gradcam", GradCAM())
        assert evaluation.measure(method, metric).values.max() < 1e-4
        for null in ("centre", "sobel"):
            assert evaluation.measure_null(null, method, metric).values.max() < 1e-4
