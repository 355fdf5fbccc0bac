"""IROF against a plain loop over superpixels."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from linear_classifier import LinearClassifier, looks_at_the_first_cell, some

from xai_core.errors import UndefinedMeasurementError
from xai_core.metrics import irof
from xai_core.superpixels import superpixels


def plain_irof(
    classifier: LinearClassifier,
    image: np.ndarray,
    heatmap: np.ndarray,
    target: int,
    labels: np.ndarray,
) -> float:
    relevance = {
        label: heatmap[labels == label].astype(float).mean() for label in np.unique(labels)
    }
    left = image.copy()
    ratios = [1.0]
    whole = classifier.probability(image, target)
    for label in sorted(relevance, key=lambda label: (-relevance[label], label)):
        left[:, labels == label] = np.float32(classifier.mean)[:, None]
        ratios.append(classifier.probability(left, target) / whole)
    below = sum((ratios[i] + ratios[i + 1]) / 2 for i in range(len(ratios) - 1))
    return 1 - below / (len(ratios) - 1)


def cut(image: np.ndarray) -> np.ndarray:
    return superpixels(image, segments=10, compactness=10.0)


def test_irof_equals_a_plain_loop_that_removes_superpixels_to_the_mean_colour() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(4)
    found = irof(classifier, images, heatmaps, targets, segments=10)
    expected = [
        plain_irof(classifier, image, heatmap, target, cut(image))
        for image, heatmap, target in zip(images, heatmaps, targets, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert min(expected) < 0 < max(expected)


def test_superpixels_are_of_the_rgb_image_and_share_full_batches() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(4)
    irof(classifier, images, heatmaps, targets, segments=10)
    forwards = sum(int(cut(image).max()) + 2 for image in images)
    assert classifier.forwards == forwards
    assert set(classifier.calls[0][:-1]) == {7}


def test_equally_relevant_superpixels_go_in_the_order_of_their_names() -> None:
    classifier, (images, _, targets) = LinearClassifier(), some(1)
    labels = cut(images[0])
    tied = (labels == 2).astype(np.float32)[None]
    ordered = np.where(labels == 2, 100.0, -labels.astype(float))[None]
    np.testing.assert_allclose(
        irof(classifier, images, tied, targets, segments=10),
        irof(classifier, images, ordered, targets, segments=10),
    )


def test_a_map_of_what_the_classifier_looks_at_beats_its_inverse() -> None:
    images = np.full((1, 3, 16, 16), 0.5, dtype=np.float32)
    images[:, :, :4, :4] = 1.0
    heatmaps = np.zeros((1, 16, 16))
    heatmaps[:, :4, :4] = 1
    good, bad = (
        irof(looks_at_the_first_cell(), images, sign * heatmaps, 1, segments=16, substrate="black")
        for sign in (1, -1)
    )
    assert good > bad + 0.2
    assert good > 0.5


def test_a_probability_of_zero_is_undefined_and_the_others_keep_theirs() -> None:
    weights = np.zeros((48, 3))
    weights[:, 1] = 1000.0 / 48
    images, heatmaps, _ = some(3)
    with pytest.raises(UndefinedMeasurementError, match="probability on the image is 0") as caught:
        irof(LinearClassifier(weights), images, heatmaps, [1, 0, 1], segments=10)
    assert set(caught.value.reasons) == {1}
    alone = irof(LinearClassifier(weights), images[[0, 2]], heatmaps[[0, 2]], 1, segments=10)
    assert caught.value.values is not None
    np.testing.assert_allclose(caught.value.values[[0, 2]], alone)


def test_an_image_of_one_superpixel_is_undefined(monkeypatch: pytest.MonkeyPatch) -> None:
    images, heatmaps, targets = some(2)

    def first_uncut(image: np.ndarray, **_: object) -> np.ndarray:
        return cut(image) * (not np.array_equal(image, images[0]))

    room = importlib.import_module("xai_core.metrics.irof")  # the metric has its name
    monkeypatch.setattr(room, "superpixels", first_uncut)
    with pytest.raises(UndefinedMeasurementError, match="one superpixel") as caught:
        irof(LinearClassifier(), images, heatmaps, targets)
    assert set(caught.value.reasons) == {0}
