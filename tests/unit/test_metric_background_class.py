"""Relevance on an annotated class of the background."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_core.checks import SmallCNN
from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError, XaiError
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import CentreMap, GradCAM
from xai_core.imageset import Background, Entry, ImageSet, Resize
from xai_core.metrics import METRICS, background_class, energy_pointing_game

RNG = np.random.default_rng(43)
SHAPE = (5, 17, 23)
CLASSES = {2: "grass", 5: "sky", 9: "person"}
HEATMAPS = RNG.normal(size=SHAPE).astype(np.float32)
MASKS = RNG.random(SHAPE) < 0.3
INDICES = RNG.choice([0, 2, 5, 9], size=SHAPE)
BACKGROUND = Background(INDICES, CLASSES)


def plain_share(heatmap: np.ndarray, mask: np.ndarray, indices: np.ndarray, index: int) -> float:
    """The definition, pixel by pixel."""
    on, everywhere = [], []
    for place in np.ndindex(heatmap.shape):
        positive = max(float(heatmap[place]), 0.0)
        everywhere.append(positive)
        if indices[place] == index and not mask[place]:
            on.append(positive)
    return math.fsum(on) / math.fsum(everywhere)


@pytest.mark.parametrize(("index", "name"), CLASSES.items())
def test_the_share_equals_a_plain_loop(index: int, name: str) -> None:
    maps = zip(HEATMAPS, MASKS, INDICES, strict=True)
    expected = [plain_share(*arrays, index) for arrays in maps]
    found = background_class(HEATMAPS, MASKS, BACKGROUND, on=name)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, (4, 5), elements=st.integers(-3, 6).map(float)),
    hnp.arrays(bool, (4, 5)),
    hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 2, 9])),
)
def test_the_share_of_odd_images_equals_a_plain_loop_or_is_undefined(
    heatmap: np.ndarray, mask: np.ndarray, indices: np.ndarray
) -> None:
    background = Background(indices, CLASSES)
    usable = heatmap.max() > max(heatmap.min(), 0) and mask.any() and not mask.all()
    if usable and ((indices == 9) & ~mask).any():
        expected = plain_share(heatmap, mask, indices, 9)
        assert background_class(heatmap, mask, background, on="person")[0] == pytest.approx(
            expected
        )
    else:
        with pytest.raises(UndefinedMeasurementError):
            background_class(heatmap, mask, background, on="person")


def test_object_classes_and_what_is_not_annotated_share_all_relevance() -> None:
    rest = Background(np.where(INDICES == 0, 1, INDICES), {**CLASSES, 1: "rest"})
    shares = [background_class(HEATMAPS, MASKS, rest, on=name) for name in rest.classes.values()]
    on_object = energy_pointing_game(HEATMAPS, MASKS)
    np.testing.assert_allclose(on_object + np.sum(shares, axis=0), 1.0, rtol=1e-6)


def test_an_annotation_on_the_object_does_not_count() -> None:
    everywhere = Background(np.full(SHAPE, 2), CLASSES)
    found = background_class(HEATMAPS, MASKS, everywhere, on="grass")
    np.testing.assert_allclose(found, 1 - energy_pointing_game(HEATMAPS, MASKS), rtol=1e-6)


@pytest.mark.parametrize("hidden", [False, True])
def test_an_image_without_the_class_outside_its_mask_has_no_value(hidden: bool) -> None:
    indices = INDICES.copy()
    indices[3][indices[3] == 5] = 0
    if hidden:
        indices[3][MASKS[3]] = 5
    message = "no pixel outside the mask is annotated as 'sky'"
    with pytest.raises(UndefinedMeasurementError, match=message) as caught:
        background_class(HEATMAPS, MASKS, Background(indices, CLASSES), on="sky")
    assert set(caught.value.reasons) == {3}


def test_a_map_without_positive_relevance_has_no_value() -> None:
    heatmaps = HEATMAPS.copy()
    heatmaps[1] = -np.abs(heatmaps[1])
    with pytest.raises(UndefinedMeasurementError, match="no positive relevance") as caught:
        background_class(heatmaps, MASKS, BACKGROUND, on="sky")
    assert set(caught.value.reasons) == {1}


def test_an_unknown_class_gets_the_nearest_and_all_names() -> None:
    with pytest.raises(ParameterError, match=r"'gras': did you mean 'grass'.* grass, person, sky"):
        background_class(HEATMAPS, MASKS, BACKGROUND, on="gras")


def test_the_class_has_no_default() -> None:
    with pytest.raises(ParameterError, match="setting 'on': expected the name of a class of backg"):
        background_class(HEATMAPS, MASKS, BACKGROUND)


def test_the_protocol_names_the_class() -> None:
    configured = METRICS["background_class"].configure({"on": "watermark"})
    assert configured.protocol == "background_class@v1(on=watermark)"


def test_a_list_of_single_images_will_do_and_plain_indices_will_not() -> None:
    expected = background_class(HEATMAPS, MASKS, BACKGROUND, on="sky")
    singles = [BACKGROUND[index] for index in range(5)]
    np.testing.assert_array_equal(background_class(HEATMAPS, MASKS, singles, on="sky"), expected)
    with pytest.raises(ShapeError, match=r"background: expected a Background\(indices, classes\)"):
        background_class(HEATMAPS, MASKS, INDICES, on="sky")


def test_scale_and_negative_relevance_change_nothing() -> None:
    expected = background_class(HEATMAPS, MASKS, BACKGROUND, on="person")
    larger = background_class(HEATMAPS * 64, MASKS, BACKGROUND, on="person")
    np.testing.assert_allclose(larger, expected, rtol=1e-12)
    deeper = np.where(HEATMAPS < 0, HEATMAPS * 3 - 1, HEATMAPS)
    found = background_class(deeper, MASKS, BACKGROUND, on="person")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_value_does_not_depend_on_batch_mates_or_order() -> None:
    together = background_class(HEATMAPS, MASKS, BACKGROUND, on="sky")
    backwards = background_class(HEATMAPS[::-1], MASKS[::-1], BACKGROUND[::-1], on="sky")
    alone = [background_class(HEATMAPS[i], MASKS[i], BACKGROUND[i], on="sky")[0] for i in range(5)]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, backwards[::-1])


SIZE = (16, 16)
IMAGES = RNG.random((5, 3, *SIZE), dtype=np.float32)
SMALL_MASKS = RNG.random((5, *SIZE)) < 0.3
SMALL = RNG.choice([0, 2, 5], size=(5, *SIZE)).astype(np.uint8)
SMALL[2] = 2  # the third image shows no sky


def evaluation(*, annotated: bool = True) -> Evaluation:
    entries = [
        Entry(
            f"image_{row}",
            row % 3,
            partial(np.copy, IMAGES[row]),
            partial(np.copy, SMALL_MASKS[row]),
            "test",
            partial(np.copy, SMALL[row]) if annotated else None,
        )
        for row in range(5)
    ]
    images = ImageSet(
        entries,
        name="five",
        transform=Resize(SIZE),
        background_classes=CLASSES if annotated else None,
    )
    return Evaluation(SmallCNN(classes=3).classifier(batch_size=2), images)


@pytest.mark.parametrize("null", [None, "centre", "inverted"])
def test_an_evaluation_gives_each_image_its_own_background(null: str | None) -> None:
    at, metric = evaluation(), METRICS["background_class"].configure({"on": "sky"})
    method = Method("gradcam", GradCAM())
    measured = at.measure_null(null, method, metric) if null else at.measure(method, metric)
    heatmaps = at.explain(method).heatmaps
    if null == "inverted":
        heatmaps = heatmaps.max(axis=(1, 2), keepdims=True) - heatmaps
    if null == "centre":
        heatmaps = CentreMap().explain(at.classifier, IMAGES, np.arange(5) % 3).heatmaps
    assert measured.undefined == {2: "no pixel outside the mask is annotated as 'sky'"}
    for row in (0, 1, 3, 4):
        expected = plain_share(heatmaps[row], SMALL_MASKS[row], SMALL[row], 5)
        assert measured.values[row] == pytest.approx(expected, rel=1e-4)


def test_a_class_that_no_image_shows_leaves_all_without_a_value() -> None:
    metric = METRICS["background_class"].configure({"on": "person"})
    found = evaluation().measure(Method("gradcam", GradCAM()), metric)
    assert len(found.undefined) == 5


def test_an_unknown_class_of_a_set_gets_the_names_that_the_set_has() -> None:
    metric = METRICS["background_class"].configure({"on": "skyy"})
    with pytest.raises(ParameterError, match=r"'skyy': did you mean 'sky'.* grass, person, sky"):
        evaluation().measure(Method("gradcam", GradCAM()), metric)


def test_a_set_without_annotation_is_an_error_that_names_it() -> None:
    metric = METRICS["background_class"].configure({"on": "sky"})
    with pytest.raises(XaiError, match="needs the classes of the background, and five annotates n"):
        evaluation(annotated=False).measure(Method("gradcam", GradCAM()), metric)
