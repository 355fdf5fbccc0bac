"""Images in random order are measured as the whole set is, each once, and no more than asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from xai_core.cache import DiskCache
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.errors import ImageSetError
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import Explanation, GradCAM
from xai_core.gate import Conditions, judge
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import METRICS, ConfiguredMetric
from xai_core.postprocess import parse_postprocess
from xai_core.sequential import ImagesInOrder, judge_sequentially

SIZE = (8, 8)
COUNT = 44
RNG = np.random.default_rng(8)
IMAGES = RNG.random((COUNT, 3, *SIZE), dtype=np.float32)
MASKS = RNG.random((COUNT, *SIZE)) < 0.4
EXPLAINED: list[bytes] = []


@dataclass(frozen=True)
class Noting:
    """Explains by the red channel, and notes every image."""

    kind: ClassVar[str] = "noting"

    def explain(
        self, classifier: Classifier, images: np.ndarray, targets: np.ndarray
    ) -> Explanation:
        EXPLAINED.extend(image.tobytes() for image in images)
        return Explanation(images[:, 0].copy(), attributions=images.copy())


NOTING = Method("noting", Noting())


@pytest.fixture(autouse=True)
def _nothing_explained() -> None:
    EXPLAINED.clear()


def image_set(reads: list[int] | None = None) -> ImageSet:
    def read(row: int) -> np.ndarray:
        if reads is not None:
            reads.append(row)
        return IMAGES[row]

    entries = [
        Entry(f"image_{row:02}", row % 3, partial(read, row), partial(MASKS.__getitem__, row), "t")
        for row in range(COUNT)
    ]
    return ImageSet(entries, name="many", transform=Resize(SIZE), classes={0: "a", 1: "b", 2: "c"})


def evaluation_of(reads: list[int] | None = None, **keywords: Any) -> Evaluation:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
        )
        nn.init.normal_(net[-1].weight, std=20)
    classifier = TorchClassifier(net, name="small", size=SIZE, batch_size=5)
    return Evaluation(classifier, image_set(reads), **keywords)


def configured(name: str, **settings: object) -> ConfiguredMetric:
    return METRICS[name].configure(settings)


# --- a part of an image set ---------------------------------------------------------------------


def test_a_subset_keeps_names_labels_masks_and_pixels_in_the_order_of_names() -> None:
    whole = image_set()
    part = whole.subset([7, 2, 30])
    assert part.names == ("image_02", "image_07", "image_30")
    assert part.labels == (2, 1, 0)
    assert (part.classes, part.name, part.transform) == (whole.classes, "many", Resize(SIZE))
    assert [part.digest(row) for row in range(3)] == [whole.digest(row) for row in (2, 7, 30)]


def test_a_subset_decodes_nothing_before_it_is_asked() -> None:
    reads: list[int] = []
    part = image_set(reads).subset(range(10))
    assert reads == []
    _ = part[3]
    assert reads == [3]


@pytest.mark.parametrize(
    ("rows", "message"), [([], "no images"), ([3, 3], "'image_03' occurs twice")]
)
def test_a_subset_of_nothing_or_of_an_image_twice_is_refused(rows: list[int], message: str) -> None:
    with pytest.raises(ImageSetError, match=message):
        image_set().subset(rows)


# --- images in order ----------------------------------------------------------------------------


def test_the_order_is_a_shuffle_that_the_seed_alone_decides() -> None:
    orders = [ImagesInOrder(evaluation_of(seed=seed)).order.tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(COUNT)) != orders[0]


@pytest.mark.parametrize("metric", ["iou", "deletion", "faithfulness_gap", "stability"])
def test_what_comes_first_is_measured_as_in_the_whole_set(metric: str) -> None:
    whole, images = evaluation_of(), ImagesInOrder(evaluation_of())
    expected = whole.measure(NOTING, configured(metric))
    found = images.first(16, NOTING, configured(metric))
    rows = images.order[:16]
    assert found.names == tuple(expected.names[row] for row in rows)
    np.testing.assert_allclose(found.values, expected.values[rows], atol=1e-6)
    sorted_again = images.all(NOTING, configured(metric))
    assert sorted_again.names == expected.names
    np.testing.assert_allclose(sorted_again.values, expected.values, atol=1e-6)


@pytest.mark.parametrize("metric", ["mprt_cascading", "smooth_mprt", "input_invariance"])
def test_a_metric_of_other_classifiers_is_the_same_of_few_images(metric: str) -> None:
    method = Method("gradcam", GradCAM())
    expected = evaluation_of().measure(method, configured(metric)).values
    images = ImagesInOrder(evaluation_of())
    found = images.first(16, method, configured(metric))
    np.testing.assert_allclose(found.values, expected[images.order[:16]], atol=1e-5)


def test_an_image_is_explained_once_however_many_gates_ask_and_only_if_it_came() -> None:
    images = ImagesInOrder(evaluation_of())
    images.first(16, NOTING, configured("iou"))
    assert len(EXPLAINED) == 16
    images.first(8, NOTING, configured("precision"))
    images.first(24, NOTING, configured("recall"), "inverted")
    assert len(EXPLAINED) == len(set(EXPLAINED)) == 24
    assert images.seen == 24


def test_a_metric_of_the_whole_set_takes_over_what_was_explained() -> None:
    whole, images = evaluation_of(), ImagesInOrder(evaluation_of())
    smoothed = Method("smoothed", Noting(), (parse_postprocess("gaussian(sigma=1)"),))
    expected = whole.measure(smoothed, configured("sufficiency"))
    EXPLAINED.clear()
    images.first(8, smoothed, configured("iou"))
    found = images.all(smoothed, configured("sufficiency"))
    assert len(EXPLAINED) == len(set(EXPLAINED)) == COUNT
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.names == expected.names


def test_only_images_that_came_are_decoded() -> None:
    reads: list[int] = []
    images = ImagesInOrder(evaluation_of(reads))
    images.first(8, NOTING, configured("iou"))
    assert set(reads) == set(images.order[:8].tolist())


def test_an_undefined_value_keeps_its_image_and_its_reason() -> None:
    images = ImagesInOrder(evaluation_of())
    row = int(images.order[5])
    MASKS[row], kept = False, MASKS[row].copy()
    try:
        found = images.first(8, NOTING, configured("iou"))
    finally:
        MASKS[row] = kept
    assert found.undefined == {5: "the mask is empty"}
    assert found.names[5] == f"image_{row:02}"


def test_the_accuracy_is_of_the_images_that_came() -> None:
    whole = evaluation_of()
    images = ImagesInOrder(evaluation_of())
    assert images.accuracy is None
    images.first(24, NOTING, configured("iou"))
    rows = images.order[:24]
    right = whole.probabilities[rows].argmax(axis=1) == np.arange(COUNT)[rows] % 3
    assert images.accuracy == pytest.approx(right.mean())


def test_classes_follow_the_images() -> None:
    images = ImagesInOrder(evaluation_of())
    assert images.classes(16) == tuple("abc"[row % 3] for row in images.order[:16])
    assert images.classes_of_all() == tuple("abc"[row % 3] for row in range(COUNT))


def test_a_judgement_with_a_cache_is_the_same_and_what_it_measured_is_found_again(
    tmp_path: Path,
) -> None:
    conditions = Conditions(above=0.1, beats=("random",))
    metric = configured("insertion")
    plain = judge_sequentially(ImagesInOrder(evaluation_of()), NOTING, metric, conditions)
    cached, again = (
        ImagesInOrder(evaluation_of(cache=DiskCache(tmp_path / "cache"))) for _ in range(2)
    )
    for images in (cached, again):
        found = judge_sequentially(images, NOTING, metric, conditions)
        assert found.headline() == plain.headline()
        np.testing.assert_array_equal(found.measurement.values, plain.measurement.values)
    assert again.evaluation.classifier.passes.total == 0


def test_a_gate_that_took_all_images_decides_as_one_that_is_not_sequential() -> None:
    mean = evaluation_of().measure(NOTING, configured("iou")).mean
    for edge in (mean, float(np.nextafter(mean, 1))):
        conditions = Conditions(above=edge)
        whole = judge(evaluation_of(), NOTING, configured("iou"), conditions)
        images = ImagesInOrder(evaluation_of())
        found = judge_sequentially(images, NOTING, configured("iou"), conditions)
        assert found.images == COUNT
        assert found.passes() is whole.passes()
        assert found.findings[0].value == whole.findings[0].value
