"""Pixel flipping, effective complexity and average gain, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_classifier import LinearClassifier, looks_at_the_first_cell, some

from xai_core.errors import UndefinedMeasurementError
from xai_core.metrics import (
    average_drop,
    average_gain,
    deletion,
    effective_complexity,
    insertion_curve,
    pixel_flipping,
)


def plain_flipping(
    classifier: LinearClassifier, image: np.ndarray, heatmap: np.ndarray, target: int, step: int
) -> float:
    order = np.argsort(-heatmap, axis=None)
    logits = [classifier.logit(image, target)]
    flipped = image.copy()
    for start in range(0, 256, step):
        for pixel in order[start : start + step]:
            row, column = divmod(int(pixel), 16)
            flipped[:, row, column] = 1 - image[:, row, column]
        logits.append(classifier.logit(flipped, target))
    widths = [min(step, 256 - start) / 256 for start in range(0, 256, step)]
    below = sum(w * (a + b) / 2 for w, a, b in zip(widths, logits, logits[1:], strict=False))
    return logits[0] - below


@pytest.mark.parametrize(("steps", "step"), [(28, 10), (16, 16), (1, 256)])
def test_pixel_flipping_equals_a_plain_loop_that_turns_pixels_to_their_negative(
    steps: int, step: int
) -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(3)
    expected = [
        plain_flipping(classifier, *given, step=step)
        for given in zip(images, heatmaps, targets, strict=True)
    ]
    found = pixel_flipping(classifier, images, heatmaps, targets, steps=steps)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pixel_flipping_hardly_depends_on_the_number_of_steps() -> None:
    classifier, given = LinearClassifier(), some(3)
    few, many = (pixel_flipping(classifier, *given, steps=steps) for steps in (16, 128))
    np.testing.assert_allclose(few, many, atol=0.05)


def test_a_sure_classifier_falls_in_its_logit_before_it_does_in_its_probability() -> None:
    images = np.full((1, 3, 16, 16), 1.0, dtype=np.float32)
    heatmaps = np.zeros((1, 16, 16))
    heatmaps[:, :4, :4] = 1
    sure = looks_at_the_first_cell(strength=60.0)
    given = {"steps": 32, "substrate": "black"}
    fall = pixel_flipping(sure, images, heatmaps, 1, **given)
    # The cell's 16 pixels go in the first two steps of 32; the logit is 180 before, 0 after.
    assert fall == pytest.approx(180 * (1 - 1 / 32), rel=1e-4)
    assert pixel_flipping(sure, images, -heatmaps, 1, **given) == pytest.approx(180 / 32, rel=1e-4)
    # One step of the two is still sure: the probability falls from 1 to 1/3 at once.
    assert deletion(sure, images, heatmaps, 1, **given) > 1 / 32


def plain_effective_complexity(shares: np.ndarray, curve: np.ndarray, epsilon: float) -> float:
    for share, probability in zip(shares, curve, strict=True):
        if (curve[-1] - probability) / curve[-1] <= epsilon:
            return float(share)
    raise AssertionError


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5])
def test_effective_complexity_is_the_first_share_that_loses_no_more_than_epsilon(
    epsilon: float,
) -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(8)
    shares, curves = insertion_curve(classifier, images, heatmaps, targets, substrate="black")
    expected = [plain_effective_complexity(shares, curve, epsilon) for curve in curves]
    found = effective_complexity(
        classifier, images, heatmaps, targets, epsilon=epsilon, substrate="black"
    )
    np.testing.assert_array_equal(found, expected)
    assert len(set(expected)) > 2


def test_a_map_of_what_the_classifier_looks_at_needs_few_pixels() -> None:
    images = np.full((1, 3, 16, 16), 1.0, dtype=np.float32)
    heatmaps = np.zeros((1, 16, 16))
    heatmaps[:, :4, :4] = 1
    classifier = looks_at_the_first_cell(strength=1)
    given = {"steps": 32, "substrate": "black"}
    assert effective_complexity(classifier, images, heatmaps, 1, **given) == 2 / 32
    assert effective_complexity(classifier, images, -heatmaps, 1, **given) == 1


def test_nothing_is_needed_where_the_substrate_keeps_the_probability() -> None:
    deaf = LinearClassifier(np.zeros((48, 3)))
    images, heatmaps, targets = some(2)
    assert effective_complexity(deaf, images, heatmaps, targets).tolist() == [0, 0]


def test_no_share_of_a_probability_of_zero_can_be_kept() -> None:
    weights = np.zeros((48, 3))
    weights[:, 1] = 1000.0 / 48
    images, heatmaps, _ = some(3)
    classifier = LinearClassifier(weights)
    with pytest.raises(UndefinedMeasurementError, match="probability on the image is 0") as caught:
        effective_complexity(classifier, images, heatmaps, [1, 0, 1])
    assert set(caught.value.reasons) == {1}
    assert caught.value.values is not None
    alone = effective_complexity(classifier, images[[0, 2]], heatmaps[[0, 2]], [1, 1])
    np.testing.assert_array_equal(caught.value.values[[0, 2]], alone)


def test_average_gain_equals_a_plain_loop() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(12)
    targets[::2] = classifier.scores(torch.from_numpy(images)).numpy().argmax(axis=1)[::2]
    expected = []
    for image, heatmap, target in zip(images, heatmaps, targets, strict=True):
        whole = classifier.probability(image, target)
        shaded = classifier.probability(image * (heatmap / 255), target)
        expected.append(max(0.0, shaded - whole) / (1 - whole) * 100)
    found = average_gain(classifier, images, heatmaps, targets)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert min(expected) == 0 < max(expected)


def test_an_image_has_a_drop_or_a_gain_and_never_both() -> None:
    classifier, given = LinearClassifier(), some(12)
    given[2][::2] = classifier.scores(torch.from_numpy(given[0])).numpy().argmax(axis=1)[::2]
    drops, gains = average_drop(classifier, *given), average_gain(classifier, *given)
    assert ((drops == 0) ^ (gains == 0)).all()
    assert 0 < (drops == 0).sum() < 12


def test_where_the_probability_is_one_there_is_nothing_to_gain() -> None:
    class Sure(LinearClassifier):
        def scores(self, images: object) -> torch.Tensor:
            found = super().scores(images)  # type: ignore[arg-type]
            found[2] = torch.tensor([0.0, 1.0, 0.0])  # of the second image as it is
            return found

    images, heatmaps, _ = some(3)
    with pytest.raises(UndefinedMeasurementError, match="nothing to gain") as caught:
        average_gain(Sure(), images, heatmaps, [1, 1, 1])
    assert set(caught.value.reasons) == {1}
    assert caught.value.values is not None
    alone = average_gain(LinearClassifier(), images[[0, 2]], heatmaps[[0, 2]], [1, 1])
    np.testing.assert_allclose(caught.value.values[[0, 2]], alone, rtol=1e-5)
