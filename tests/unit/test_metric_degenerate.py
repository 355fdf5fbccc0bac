"""One outcome for each degenerate input, the same in every metric that is declared.

A new metric is met here without a line of its own; one whose settings have no usable default is
listed in ``REQUIRED``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
from torch import nn

from xai_core.arrays import Float32
from xai_core.checks import SmallCNN
from xai_core.classifier import Classifier
from xai_core.errors import ShapeError, UndefinedMeasurementError
from xai_core.evaluation import measure_rows
from xai_core.explainers import GradCAM, IntegratedGradients, Saliency
from xai_core.imageset import Background
from xai_core.metrics import METRICS, ConfiguredMetric, WholeSet
from xai_core.metrics.declaration import NOT_ARRAYS

REQUIRED: dict[str, dict[str, object]] = {
    "agreement": {"other": "saliency"},
    "background_class": {"on": "grass"},
    "concept_correlation": {"concept": "striped"},
    "concept_energy": {"concept": "striped"},
    "concept_iou": {"concept": "striped"},
    "data_randomization": {"model": f"{__name__}:another_network"},
    "sufficiency": {"share": 0.5, "overlap": 0.1},  # three images have few neighbours
}
CLASSIFIER = SmallCNN().classifier()
HEIGHT, WIDTH = CLASSIFIER.size
IMAGES = np.random.default_rng(17).random((3, 3, HEIGHT, WIDTH), dtype=np.float32)
TARGETS = np.array([0, 1, 2])
OF_PIXELS = ("images", "heatmaps", "masks", "background", "attributions")
"""The needs that must be of the image's size."""

WITHOUT_A_VALUE = {
    ("heatmaps", "constant"): "constant",
    ("heatmaps", "zero"): "zero everywhere",
    ("heatmaps", "nan"): "not finite",
    ("heatmaps", "infinity"): "not finite",
    ("native_heatmaps", "constant"): "constant",
    ("native_heatmaps", "zero"): "zero everywhere",
    ("native_heatmaps", "nan"): "not finite",
    ("native_heatmaps", "infinity"): "not finite",
    ("attributions", "nan"): "not finite",
    ("attributions", "infinity"): "not finite",
    ("masks", "zero"): "mask is empty",
    ("masks", "full"): "mask covers the whole image",
    ("background", "zero"): "no pixel outside the mask is annotated as 'grass'",
}
"""What an image's array is, and the reason why no metric has a value for the image."""


def another_network() -> nn.Module:
    return SmallCNN(seed=9).module()


@cache
def explained() -> dict[str, Any]:
    gradcam = GradCAM().explain(CLASSIFIER, IMAGES, TARGETS)
    path = IntegratedGradients(steps=2)
    masks = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
    masks[:, 5:15, 9:21] = True
    indices = np.zeros(masks.shape, dtype=np.uint8)
    indices[:, :8] = 3
    assert gradcam.native is not None
    attributions = path.explain(CLASSIFIER, IMAGES, TARGETS).attributions
    assert attributions is not None
    return {
        "images": IMAGES,
        "targets": TARGETS,
        "heatmaps": gradcam.heatmaps,
        "native_heatmaps": gradcam.native,
        "attributions": attributions,
        "differences": path.differences(CLASSIFIER, IMAGES, TARGETS),
        "masks": masks,
        "background": Background(indices, {3: "grass", 4: "sky"}),
    }


def configured(name: str) -> ConfiguredMetric:
    return METRICS[name].configure(REQUIRED.get(name, {}))


def arrays_of(name: str) -> dict[str, Any]:
    """The arrays that a metric needs, all of them sound; another metric's values are shares."""
    needs = [need for need in METRICS[name].needs if need not in NOT_ARRAYS]
    values = np.array([0.2, 0.5, 0.8])
    return {need: deepcopy(explained().get(need, values)) for need in needs}


def measure(name: str, arrays: dict[str, Any], rows: list[int] | None = None) -> np.ndarray:
    rows = [0, 1, 2] if rows is None else rows
    images, targets = IMAGES[rows], TARGETS[rows]

    def explained_by(
        classifier: Classifier, change: Callable[[Float32], Float32] | None = None, /
    ) -> Float32:
        changed = images if change is None else change(images)
        return GradCAM().explain(classifier, changed, targets).heatmaps

    functions = {
        "classifier": CLASSIFIER,
        "explain": lambda given, classes: GradCAM().explain(CLASSIFIER, given, classes).heatmaps,
        "heatmaps_of": lambda _: Saliency().explain(CLASSIFIER, images, targets).heatmaps,
        "concept_maps_of": lambda *_: images.mean(axis=1),
        "explained_by": explained_by,
        "whole_set": WholeSet(explained()["heatmaps"], [0, 1, 1], rows),
    }
    given = {need: functions[need] for need in METRICS[name].needs if need in NOT_ARRAYS}
    return configured(name)(**given, **arrays)


@cache
def sound_values(name: str) -> np.ndarray:
    return measure(name, arrays_of(name))


def spoilt(array: Any, how: str) -> Any:
    """The same array with the second image's part spoilt."""
    if isinstance(array, Background):
        return Background(spoilt(array.indices, how), array.classes)
    if how in ("constant", "zero", "full"):
        array[1] = {"constant": 0.7, "zero": 0, "full": 1}[how]
    else:
        array[1].ravel()[3] = {"nan": np.nan, "infinity": np.inf}[how]
    return array


@pytest.mark.parametrize("name", METRICS)
def test_sound_inputs_have_one_value_for_each_image_in_the_declared_range(name: str) -> None:
    values = sound_values(name)
    low, high = METRICS[name].range
    assert values.dtype == np.float64
    assert values.shape == (3,)
    assert np.isfinite(values).all()
    assert ((values >= low) & (values <= high)).all()


@pytest.mark.parametrize("name", METRICS)
def test_one_image_without_its_batch_axis_is_a_batch_of_one(name: str) -> None:
    alone = measure(name, {need: array[2] for need, array in arrays_of(name).items()}, rows=[2])
    assert alone.shape == (1,)
    np.testing.assert_allclose(alone, sound_values(name)[[2]], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "need", "how"),
    [(n, need, how) for need, how in WITHOUT_A_VALUE for n in METRICS if need in METRICS[n].needs],
)
def test_an_image_without_a_value_is_named_and_the_others_keep_theirs(
    name: str, need: str, how: str
) -> None:
    arrays = arrays_of(name)
    arrays[need] = spoilt(arrays[need], how)
    with pytest.raises(UndefinedMeasurementError, match=WITHOUT_A_VALUE[need, how]) as caught:
        measure(name, arrays)
    assert set(caught.value.reasons) == {1}

    def inputs(rows: np.ndarray) -> dict[str, Any]:
        return {"rows": rows.tolist(), "arrays": {key: arrays[key][rows] for key in arrays}}

    values, reasons = measure_rows(
        lambda rows, arrays: measure(name, arrays, rows),
        inputs,
        np.arange(3),
    )
    assert set(reasons) == {1}
    assert np.isnan(values[1])
    np.testing.assert_allclose(values[[0, 2]], sound_values(name)[[0, 2]], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("how", ["nan", "infinity"])
@pytest.mark.parametrize(
    ("name", "need"),
    [
        (n, need)
        for n, m in METRICS.items()
        for need in m.needs
        if need in (*METRICS, "differences")
    ],
)
def test_a_value_that_is_not_finite_gives_none(name: str, need: str, how: str) -> None:
    arrays = arrays_of(name)
    arrays[need][1] = {"nan": np.nan, "infinity": np.inf}[how]
    with pytest.raises(UndefinedMeasurementError) as caught:
        measure(name, arrays)
    assert set(caught.value.reasons) == {1}


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if "images" in m.needs])
@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0, -1.0])
def test_images_that_are_no_rgb_in_0_to_1_are_refused(name: str, value: float) -> None:
    arrays = arrays_of(name)
    arrays["images"][1, 0, 3, 3] = value
    with pytest.raises(ShapeError, match="images: expected RGB"):
        measure(name, arrays)


@pytest.mark.parametrize(
    ("name", "need"),
    [
        (n, need)
        for n, m in METRICS.items()
        for need in m.needs
        if need in (*OF_PIXELS, "native_heatmaps")
    ],
)
def test_images_of_different_sizes_in_one_batch_are_refused(name: str, need: str) -> None:
    ragged: dict[str, Any] = arrays_of(name)
    first, second, third = ragged[need]
    ragged[need] = [first, second[..., :-2], third]
    with pytest.raises(ShapeError, match=f"{need}: arrays of different sizes"):
        measure(name, ragged)


@pytest.mark.parametrize(
    ("name", "need"),
    [
        (n, need)
        for n, m in METRICS.items()
        for need in m.needs
        if need in OF_PIXELS and len(set(m.needs) & set(OF_PIXELS)) > 1
    ],
)
@pytest.mark.parametrize("cut", ["one image", "one column"])
def test_arrays_that_do_not_fit_each_other_are_refused(name: str, need: str, cut: str) -> None:
    arrays = arrays_of(name)
    arrays[need] = arrays[need][:-1] if cut == "one image" else arrays[need][..., :-1]
    with pytest.raises(ShapeError, match="differ in number or size"):
        measure(name, arrays)


@pytest.mark.parametrize(
    ("name", "need"),
    [
        (n, need)
        for n, m in METRICS.items()
        for need in m.needs
        if need not in NOT_ARRAYS and need not in OF_PIXELS and len(set(m.needs)) > 1
    ],
)
def test_a_value_too_few_is_refused(name: str, need: str) -> None:
    arrays = arrays_of(name)
    arrays[need] = arrays[need][:-1]
    with pytest.raises(ShapeError, match="expected"):
        measure(name, arrays)
