"""What the Hypothesis strategies give, and what a person sees when a test with them fails."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from hypothesis import find, given, settings

from pytest_xai.strategies import heatmaps, images, linear_classifiers, masks, small_cnns
from xai_core.arrays import Bool, Float32, as_heatmaps, as_images, as_masks
from xai_core.checks import LinearNetwork, SmallCNN, example_heatmaps, example_images, example_masks
from xai_core.errors import MissingExtraError
from xai_core.explainers import GradCAM
from xai_core.metrics import iou

drawn = settings(parent=settings.get_profile("ci"), max_examples=30)


@drawn
@given(images=images((12, 20), max_count=2))
def test_images_are_images(images: Float32) -> None:
    assert images.shape[1:] == (3, 12, 20)
    assert 1 <= len(images) <= 2
    assert np.array_equal(as_images(images), images)


@drawn
@given(masks=masks((12, 20)) | masks((2, 1)))
def test_masks_are_masks_and_neither_empty_nor_full(masks: Bool) -> None:
    assert masks.shape[1:] in ((12, 20), (2, 1))
    assert as_masks(masks).any(axis=(1, 2)).all()
    assert not as_masks(masks).all(axis=(1, 2)).any()


@drawn
@given(heatmaps=heatmaps((12, 20)))
def test_heatmaps_are_heatmaps_and_constant_only_if_asked_for(heatmaps: Float32) -> None:
    assert as_heatmaps(heatmaps).shape[1:] == (12, 20)
    assert (np.ptp(heatmaps, axis=(1, 2)) > 0).all()


def test_constant_heatmaps_can_be_asked_for() -> None:
    assert np.ptp(find(heatmaps(constant=True), lambda maps: np.ptp(maps) == 0)) == 0


@settings(drawn, max_examples=5)
@given(network=small_cnns(max_width=2), images=images())
def test_a_small_cnn_can_be_explained(network: SmallCNN, images: Float32) -> None:
    targets = np.zeros(len(images), dtype=np.int64)
    explanation = GradCAM().explain(network.classifier(), images, targets)
    assert np.isfinite(explanation.heatmaps).all()


@settings(drawn, max_examples=5)
@given(network=linear_classifiers((8, 10)))
def test_a_linear_classifier_has_the_size_that_was_asked_for(network: LinearNetwork) -> None:
    assert network.classifier().num_classes == network.classes
    assert network.size == (8, 10)


@drawn
@given(maps=heatmaps(max_count=1), mask=masks(max_count=1))
def test_a_metric_can_be_driven_with_them(maps: Float32, mask: Bool) -> None:
    assert 0 <= iou(maps, mask)[0] <= 1


def test_examples_shrink_to_few_flat_and_small() -> None:
    def any_will_do(_: object) -> bool:
        return True

    assert repr(find(images(), any_will_do)) == "example_images(1, 16, 16, 'flat', seed=0)"
    assert repr(find(masks(), any_will_do)) == "example_masks(1, 16, 16, 'rectangle', seed=0)"
    assert repr(find(heatmaps(), any_will_do)) == "example_heatmaps(1, 16, 16, 'blob', seed=0)"
    assert find(small_cnns(), any_will_do) == SmallCNN(width=1, classes=2, seed=0)


def test_a_failing_example_is_printed_as_calls_that_can_be_run() -> None:
    @drawn
    @given(network=small_cnns(), images=images(), masks=masks(), maps=heatmaps())
    def two_images_are_too_many(
        network: SmallCNN, images: Float32, masks: Bool, maps: Float32
    ) -> None:
        assert len(images) < 2

    with pytest.raises(AssertionError) as caught:
        two_images_are_too_many()
    printed = "\n".join(caught.value.__notes__)
    example = printed[printed.index("two_images_are_too_many(") :]
    call = example[: example.index("\n)") + 2]
    shown: dict[str, object] = {}
    names = {
        "SmallCNN": SmallCNN,
        "example_heatmaps": example_heatmaps,
        "example_images": example_images,
        "example_masks": example_masks,
        "two_images_are_too_many": shown.update,
    }
    exec(call, names)
    assert shown["network"] == SmallCNN(width=1, classes=2, seed=0)
    assert repr(shown["images"]) == "example_images(2, 16, 16, 'flat', seed=0)"


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pytest_xai.strategies")
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pytest-xai\[hypothesis\]'"):
        importlib.import_module("pytest_xai.strategies")
