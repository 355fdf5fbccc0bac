"""Sufficiency, against a plain loop over pairs of images, and what an evaluation gives it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

import pytest_xai
from pytest_xai.assertions import ExplanationError
from xai_core.arrays import Float32, Int64
from xai_core.checks import SmallCNN
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.evaluation import Evaluation, Explained, Method
from xai_core.explainers import CentreMap, Explanation, IntegratedGradients, null_maps
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import METRICS, WholeSet, sufficiency

WHOLE = np.arange(60)


def similar_maps(count: int = 60, kinds: int = 6, noise: float = 0.6) -> np.ndarray:
    """Noisy copies of a few maps, no two of them alike to the pixel."""
    rng = np.random.default_rng(11)
    kind = rng.integers(0, kinds, count)
    maps = rng.normal(size=(kinds, 9, 7))[kind] + noise * rng.normal(size=(count, 9, 7))
    return maps.astype(np.float32)


def one_map(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(9, 7)).astype(np.float32)


def classes_of(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 3, count)


def plain_sufficiency(
    maps: np.ndarray, classes: np.ndarray, share: float, overlap: float
) -> list[float | None]:
    """None where an image has no neighbour; a share's pixels by sorting, sets by Python's."""
    count = round(share * maps[0].size)
    tops = [set(np.argsort(-one, axis=None)[:count].tolist()) for one in maps]
    values: list[float | None] = []
    for i, mine in enumerate(tops):
        near = [
            j for j, other in enumerate(tops)
            if j != i and len(mine & other) / len(mine | other) >= overlap
        ]  # fmt: skip
        alike = sum(classes[i] == classes[j] for j in near)
        values.append(alike / len(near) if near else None)
    return values


@pytest.mark.parametrize(("share", "overlap"), [(0.2, 0.5), (0.1, 0.4), (0.4, 0.5), (0.2, 0.25)])
def test_it_equals_a_plain_loop_over_pairs(share: float, overlap: float) -> None:
    maps, classes = similar_maps(), classes_of(60)
    expected = plain_sufficiency(maps, classes, share, overlap)
    without = {row for row, value in enumerate(expected) if value is None}
    with_value = np.array([row for row in range(60) if row not in without])
    whole = WholeSet(maps, classes, with_value)
    found = sufficiency(maps[with_value], whole, share=share, overlap=overlap)
    np.testing.assert_allclose(found, [expected[row] for row in with_value], rtol=1e-12)
    assert len(set(found)) > 4


def test_an_image_without_a_neighbour_is_undefined_and_the_others_keep_their_values() -> None:
    maps, classes = similar_maps(), classes_of(60)
    expected = plain_sufficiency(maps, classes, 0.2, 0.5)
    without = {row for row, value in enumerate(expected) if value is None}
    assert 5 < len(without) < 55
    whole = WholeSet(maps, classes, WHOLE)
    with pytest.raises(UndefinedMeasurementError, match="no other image") as caught:
        sufficiency(maps, whole)
    assert set(caught.value.reasons) == without
    assert caught.value.values is not None
    for row in set(range(60)) - without:
        assert caught.value.values[row] == pytest.approx(expected[row])


def test_more_maps_than_fit_one_product_give_what_they_give_alone() -> None:
    maps, classes = similar_maps(600, kinds=3, noise=0.2), classes_of(600)
    together = sufficiency(maps, WholeSet(maps, classes, np.arange(600)))
    rows = [0, 255, 256, 511, 512, 599]
    alone = [sufficiency(maps[row], WholeSet(maps, classes, [row]))[0] for row in rows]
    np.testing.assert_array_equal(together[rows], alone)
    expected = plain_sufficiency(maps, classes, 0.2, 0.5)
    np.testing.assert_allclose(together, np.array(expected, dtype=float))


def test_a_value_depends_on_the_set_and_not_on_the_images_it_is_measured_with() -> None:
    maps, classes = similar_maps(noise=0.1), classes_of(60)
    together = sufficiency(maps, WholeSet(maps, classes, WHOLE))
    shuffled = np.random.default_rng(2).permutation(60)
    some = sufficiency(maps[shuffled[:7]], WholeSet(maps, classes, shuffled[:7]))
    np.testing.assert_array_equal(some, together[shuffled[:7]])
    reordered = WholeSet(maps[shuffled], classes[shuffled], WHOLE)
    np.testing.assert_array_equal(sufficiency(maps[shuffled], reordered), together[shuffled])
    halved = sufficiency(maps[::2], WholeSet(maps[::2], classes[::2], WHOLE[:30]))
    assert not np.array_equal(halved, together[::2])


def test_one_map_for_all_images_has_the_share_of_each_class_among_the_others() -> None:
    maps = np.stack([one_map()] * 10)
    classes = np.array([0] * 6 + [1] * 3 + [2])
    found = sufficiency(maps, WholeSet(maps, classes, np.arange(10)))
    np.testing.assert_allclose(found, [5 / 9] * 6 + [2 / 9] * 3 + [0])


def test_a_map_of_its_own_for_each_class_is_sufficient() -> None:
    classes = np.repeat([0, 1, 2], 4)
    maps = np.stack([one_map(kind) for kind in classes])
    np.testing.assert_array_equal(sufficiency(maps, WholeSet(maps, classes, np.arange(12))), 1.0)


def test_only_the_order_of_a_maps_pixels_counts() -> None:
    maps, classes = similar_maps(noise=0.1), classes_of(60)
    scaled = maps.astype(np.float64) * np.random.default_rng(2).uniform(0.1, 9, size=(60, 1, 1)) - 3
    expected = sufficiency(maps, WholeSet(maps, classes, WHOLE))
    np.testing.assert_array_equal(sufficiency(scaled, WholeSet(scaled, classes, WHOLE)), expected)


def test_an_overlap_of_exactly_the_setting_is_near() -> None:
    # Two of four pixels each, one of them shared: an IoU of 1/3.
    maps = np.array([[[9, 8, 0, 0]], [[0, 8, 9, 0]]], dtype=np.float32)
    whole = WholeSet(maps, [1, 1], [0, 1])
    assert sufficiency(maps, whole, share=0.5, overlap=1 / 3).tolist() == [1, 1]
    with pytest.raises(UndefinedMeasurementError, match=r"overlap >= 0.34 of the 50%"):
        sufficiency(maps, whole, share=0.5, overlap=0.34)


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf])
def test_an_image_without_a_usable_map_is_nobodys_neighbour(fill: float) -> None:
    maps = np.stack([one_map()] * 4)
    classes = np.array([0, 0, 1, 1])
    maps[3] = fill
    if not np.isfinite(fill):
        maps[3] = maps[2]
        maps[3, 0, 0] = fill
    rows = np.array([0, 1, 2])
    found = sufficiency(maps[:3], WholeSet(maps, classes, rows))
    np.testing.assert_array_equal(found, [0.5, 0.5, 0])


def test_tied_pixels_are_in_or_out_together() -> None:
    few, many = np.zeros((2, 9, 7), dtype=np.float32)
    few[0, :5], many[:4] = 1, 1
    maps = np.stack([few, few, many, many])
    with pytest.raises(UndefinedMeasurementError, match="20% of the pixels share the") as caught:
        sufficiency(maps, WholeSet(maps, [0, 0, 0, 0], [0, 1, 2, 3]))
    assert set(caught.value.reasons) == {2, 3}
    assert caught.value.values is not None
    assert caught.value.values[:2].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("maps", "classes", "rows", "complaint"),
    [
        (np.ones((3, 2)), [0, 0, 0], [0], "predicted class for each of 1 heatmaps"),
        (np.ones((3, 4, 4)), [0, 0], [0], "got 2 classes"),
        (np.ones((3, 4, 4)), [0, 0, 0], [3], "rows from 0 to 2"),
        (np.ones((3, 4, 4)), [0, 0, 0], [-1], r"rows \[-1\]"),
        (np.ones((3, 4, 4)), [0.5, 0, 0], [0], "whole_set's predictions: expected class"),
        (np.ones((1, 2, 3, 4, 4)), [0], [0], "whole_set's heatmaps: expected one relevance"),
    ],
)
def test_a_set_that_does_not_fit_itself_is_refused(
    maps: np.ndarray, classes: list[int], rows: list[int], complaint: str
) -> None:
    with pytest.raises(ShapeError, match=complaint):
        WholeSet(maps, classes, rows)


def test_maps_that_are_not_of_the_set_are_refused() -> None:
    maps = similar_maps()
    with pytest.raises(ShapeError, match="places of 3 images among maps of 9 x 7, got 2 among"):
        sufficiency(maps[:3], WholeSet(maps, np.zeros(60, int), [0, 1]))
    with pytest.raises(ShapeError, match="maps of 9 x 6, got 2 among maps of 9 x 7"):
        sufficiency(maps[:2, :, :6], WholeSet(maps, np.zeros(60, int), [0, 1]))


@pytest.mark.parametrize(("setting", "value"), [("share", 1.0), ("share", 0), ("overlap", 0.0)])
def test_a_setting_out_of_range_is_refused(setting: str, value: float) -> None:
    with pytest.raises(ParameterError, match=setting):
        METRICS["sufficiency"].configure({setting: value})


SIZE = (16, 16)
COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0.2, 0, 0], [1, 1, 1]])
IMAGES = np.random.default_rng(3).random((7, 3, *SIZE), dtype=np.float32)
IMAGES = (IMAGES * COLOURS[:, :, None, None]).astype(np.float32)


def network() -> TorchClassifier:
    return SmallCNN(classes=3).classifier(batch_size=2)


def evaluation(labels: list[int] | None = None) -> Evaluation:
    entries = [
        Entry(f"image_{row}", label, partial(np.copy, IMAGES[row]), None, "test")
        for row, label in enumerate(labels or [0, 1, 2, 0, 1, 2, 0])
    ]
    return Evaluation(network(), ImageSet(entries, name="seven", transform=Resize(SIZE)))


@dataclass(frozen=True)
class OfBrightness:
    """Two maps, one for the darker images and one for the others; the darkest has none."""

    kind: ClassVar[str] = "of_brightness"

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        means = images.mean(axis=(1, 2, 3))
        every = IMAGES.mean(axis=(1, 2, 3))
        maps = np.where(
            (means > np.median(every))[:, None, None],
            np.arange(256.0).reshape(SIZE),
            -np.arange(256.0).reshape(SIZE),
        ).astype(np.float32)
        maps[means <= every.min() + 1e-6] = 0
        return Explanation(maps)


def test_an_evaluation_gives_the_whole_set_and_the_predicted_classes_not_the_labels() -> None:
    predicted = evaluation().probabilities.argmax(axis=1)
    assert len(set(predicted.tolist())) > 1
    labels = ((predicted + 1) % 3).tolist()  # all of them wrong
    found = evaluation(labels).measure(
        Method("two", OfBrightness()), METRICS["sufficiency"].configure({})
    )
    maps = OfBrightness().explain(network(), IMAGES, predicted).heatmaps
    rows = np.flatnonzero(maps.any(axis=(1, 2)))
    expected = plain_sufficiency(maps[rows], predicted[rows], 0.2, 0.5)
    (dark,) = set(range(7)) - set(rows.tolist())
    assert found.undefined[dark] == "the heatmap is zero everywhere"
    assert set(found.undefined) == {dark}
    np.testing.assert_allclose(found.values[rows], np.array(expected, dtype=float))


@pytest.mark.parametrize("null", ["centre", "inverted", "sobel", "random"])
def test_null_maps_are_measured_among_the_null_maps_of_the_whole_set(null: str) -> None:
    at, method = evaluation(), Method("ig", IntegratedGradients(steps=2))
    settings = {"share": 0.5, "overlap": 0.25}
    found = at.measure_null(null, method, METRICS["sufficiency"].configure(settings))
    classes = at.probabilities.argmax(axis=1)
    maps = IntegratedGradients(steps=2).explain(network(), IMAGES, at.targets).heatmaps
    nulls = null_maps(null, IMAGES, maps, seed=0)
    expected: list[float | None]
    if null == "centre":  # equal maps with tied pixels, which a sort would break
        expected = [(np.sum(classes == one) - 1) / 6 for one in classes]
    else:
        expected = plain_sufficiency(nulls, classes, 0.5, 0.25)
    assert set(found.undefined) == {row for row, value in enumerate(expected) if value is None}
    np.testing.assert_allclose(found.values, np.array(expected, dtype=float), atol=1e-12)
    gradients = {name: cost.gradients for (_, name), cost in at.costs.items()}
    assert gradients.get("sufficiency") == 0
    assert gradients.get("ig", 0) == (14 if null == "inverted" else 0)


def test_the_null_maps_of_a_set_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(name: str, images: Float32, heatmaps: Float32, *, seed: int) -> Float32:
        made.append(len(images))
        return null_maps(name, images, heatmaps, seed=seed)

    monkeypatch.setattr("xai_core.evaluation.null_maps", counted)
    method = Method("ig", IntegratedGradients(steps=2))
    evaluation().measure_null("random", method, METRICS["sufficiency"].configure({"overlap": 0.01}))
    assert made == [2, 2, 2, 1]


def test_an_assertion_takes_the_heatmaps_and_the_predicted_classes_of_a_set() -> None:
    maps = np.stack([one_map(kind) for kind in (0, 0, 0, 1, 1, 1)])
    classes = [0, 0, 0, 1, 1, 2]
    judgement = pytest_xai.assert_sufficiency_above(maps, 0.66, predictions=classes)
    np.testing.assert_allclose(judgement.measurement.values, [1, 1, 1, 0.5, 0.5, 0])
    with pytest.raises(ExplanationError, match=r"sufficiency\[heatmaps\]: 0.667 < 0.700"):
        pytest_xai.assert_sufficiency_above(maps, 0.7, predictions=np.array(classes))
    with pytest.raises(ParameterError, match="also needs predictions="):
        pytest_xai.assert_sufficiency_above(maps, 0.7)
    with pytest.raises(ShapeError, match="predictions: expected 6, one for each"):
        pytest_xai.assert_sufficiency_above(maps, 0.7, predictions=[0, 1])


def test_an_assertion_counts_a_map_that_is_undefined_and_measures_the_others_without_it() -> None:
    maps = np.stack([one_map(kind) for kind in (0, 0, 0, 1, 1, 1)])
    maps[0] = 0
    classes = [0, 0, 1, 1, 1, 2]
    judgement = pytest_xai.assert_sufficiency_below(maps, 0.5, predictions=classes, undefined=1)
    np.testing.assert_allclose(judgement.measurement.values, [np.nan, 0, 0, 0.5, 0.5, 0])


def test_what_the_fixture_gives_is_asserted_with_its_own_set() -> None:
    at = evaluation()
    judgement = pytest_xai.assert_sufficiency_above(
        Explained(at, Method("centre", CentreMap())), 0.0
    )
    classes = at.probabilities.argmax(axis=1)
    expected = [(np.sum(classes == one) - 1) / 6 for one in classes]
    np.testing.assert_allclose(judgement.measurement.values, expected)
