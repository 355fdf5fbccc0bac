"""Infidelity against plain loops, and against linear classifiers, whose slopes are known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from linear_classifier import CLASSES, LinearClassifier, some

from xai_core.errors import ShapeError, UndefinedMeasurementError
from xai_core.metrics import heatmap_infidelity, infidelity, infidelity_noise
from xai_core.metrics.infidelity import _drawn_squares
from xai_core.seeding import generator_for


class Curved(LinearClassifier):
    """Not linear: the logits' squares and products count too."""

    def _of_cells(self, images: torch.Tensor) -> torch.Tensor:
        logits = super()._of_cells(images)
        return logits + 0.3 * logits**2 - 0.2 * logits.roll(1, dims=1)


def slopes(classifier: LinearClassifier, targets: np.ndarray, size: int = 16) -> np.ndarray:
    """The gradient of the targets' logits of a linear classifier, ``[N, 3, size, size]``."""
    cell = size // 4
    weights = classifier.weights.numpy().T[targets].reshape(-1, 3, 4, 4) / cell**2
    return weights.repeat(cell, axis=2).repeat(cell, axis=3).astype(np.float32)


def plain_infidelity(
    classifier: LinearClassifier,
    image: np.ndarray,
    relevance: np.ndarray,
    target: int,
    *,
    samples: int,
    scale: str = "none",
) -> float:
    """Square after square to black; ``scale`` is none, best, or positive."""
    forecasts, falls = [], []
    for top, bottom, left, right in _drawn_squares(image, samples, 0.36, seed=0):
        without, forecast = image.copy(), 0.0
        for row in range(top, bottom):
            for column in range(left, right):
                without[:, row, column] = 0
                forecast += float(relevance[..., row, column].sum())
        forecasts.append(forecast)
        falls.append(classifier.logit(image, target) - classifier.logit(without, target))
    return plain_error(forecasts, falls, scale)


def plain_error(forecasts: list[float], falls: list[float], scale: str) -> float:
    factor = 1.0
    if scale != "none":
        products = sum(a * d for a, d in zip(forecasts, falls, strict=True))
        factor = products / sum(a * a for a in forecasts)
    if scale == "positive":
        factor = max(factor, 0.0)
    return sum((factor * a - d) ** 2 for a, d in zip(forecasts, falls, strict=True)) / len(falls)


@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_equals_a_plain_loop_over_squares(scaled: bool) -> None:
    classifier, (images, _, targets) = Curved(), some(3)
    attributions = np.random.default_rng(4).normal(size=images.shape).astype(np.float32)
    found = infidelity(classifier, images, attributions, targets, samples=20, scaled=scaled)
    scale = "best" if scaled else "none"
    expected = [
        plain_infidelity(classifier, *given, samples=20, scale=scale)
        for given in zip(images, attributions, targets, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_heatmap_infidelity_equals_a_plain_loop_with_a_positive_scale() -> None:
    classifier, (images, heatmaps, targets) = Curved(), some(3)
    heatmaps = heatmaps - 128
    found = heatmap_infidelity(classifier, images, heatmaps, targets, samples=20)
    expected = [
        plain_infidelity(classifier, *given, samples=20, scale="positive")
        for given in zip(images, heatmaps, targets, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("scaled", [False, True])
def test_noise_infidelity_equals_a_plain_loop_over_noisy_baselines(scaled: bool) -> None:
    classifier, (images, _, targets) = Curved(), some(2)
    attributions = np.random.default_rng(4).normal(size=images.shape).astype(np.float32)
    found = infidelity_noise(
        classifier, images, attributions, targets, samples=6, sigma=0.3, scaled=scaled, seed=1
    )
    for index, (image, slope, target) in enumerate(zip(images, attributions, targets, strict=True)):
        forecasts, falls = [], []
        for draw in range(6):
            stream = generator_for(image, seed=1, purpose=f"infidelity_noise|{draw}")
            noise = np.float32(0.3) * stream.standard_normal(image.shape, dtype=np.float32)
            left = np.minimum(np.maximum(noise, 0), 1)
            forecasts.append(float(((image - left).astype(float) * slope).sum()))
            falls.append(classifier.logit(image, target) - classifier.logit(left, target))
        expected = plain_error(forecasts, falls, "best" if scaled else "none")
        assert found[index] == pytest.approx(expected, rel=1e-4)


def test_a_linear_classifiers_slopes_have_no_infidelity() -> None:
    classifier, (images, _, targets) = LinearClassifier(), some(3)
    gradients = slopes(classifier, targets)
    given = (classifier, images, gradients * images, targets)
    np.testing.assert_allclose(infidelity(*given), 0, atol=1e-9)
    np.testing.assert_allclose(
        infidelity_noise(classifier, images, gradients, targets), 0, atol=1e-9
    )
    one_channel = (gradients * images).sum(axis=1)
    np.testing.assert_allclose(
        heatmap_infidelity(classifier, images, 50 * one_channel, targets), 0, atol=1e-9
    )


def test_doubled_relevance_misses_by_the_squared_fall_unless_it_is_scaled() -> None:
    classifier, (images, _, targets) = LinearClassifier(), some(3)
    attributions = slopes(classifier, targets) * images
    nothing = infidelity(classifier, images, 0 * attributions, targets)  # mean squared fall
    twice = infidelity(classifier, images, 2 * attributions, targets)
    np.testing.assert_allclose(twice, nothing, rtol=1e-4)
    scaled = infidelity(classifier, images, 2 * attributions, targets, scaled=True)
    np.testing.assert_allclose(scaled, 0, atol=1e-9)


def test_relevance_upside_down_scores_as_a_heatmap_that_says_nothing() -> None:
    classifier = LinearClassifier(np.abs(LinearClassifier().weights.numpy()))
    images, _, targets = some(3)
    right = (slopes(classifier, targets) * images).sum(axis=1)
    nothing = infidelity(classifier, images, 0 * images, targets)
    wrong = heatmap_infidelity(classifier, images, -right, targets)
    np.testing.assert_allclose(wrong, nothing)
    assert (heatmap_infidelity(classifier, images, right, targets) < 1e-6 * wrong).all()


def test_one_channel_of_attributions_serves_all_three() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(2)
    one, three = heatmaps[:, None] - 128, np.repeat(heatmaps[:, None] - 128, 3, axis=1)
    given = {"samples": 5}
    np.testing.assert_allclose(
        infidelity_noise(classifier, images, one, targets, **given),
        infidelity_noise(classifier, images, three, targets, **given),
    )
    np.testing.assert_allclose(
        infidelity(classifier, images, one, targets, **given),
        infidelity(classifier, images, three / 3, targets, **given),
        rtol=1e-4,
    )
    with pytest.raises(ShapeError, match="1 or 3 channels, got 2"):
        infidelity_noise(classifier, images, three[:, :2], targets)


def test_every_square_is_as_likely_as_any_other() -> None:
    image = np.zeros((3, 5, 6), dtype=np.float32)
    drawn = _drawn_squares(image, 40_000, 0.4, seed=0)
    found = Counter(map(tuple, drawn.tolist()))
    possible = {
        (top, top + side, left, left + side)
        for side in (1, 2)
        for top in range(5 - side + 1)
        for left in range(6 - side + 1)
    }
    assert set(found) == possible  # 30 of one pixel, 20 of two by two
    counts = np.array(list(found.values()))
    expected = 40_000 / 50
    # Chi-squared of 49 degrees of freedom: mean 49, standard deviation 9.9.
    assert ((counts - expected) ** 2 / expected).sum() < 49 + 4 * 9.9


def test_relevance_of_zero_cannot_be_scaled() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(3)
    attributions = np.ones_like(images)
    attributions[1] = 0
    for measured in (infidelity, infidelity_noise):
        with pytest.raises(UndefinedMeasurementError, match="no relevance") as caught:
            measured(classifier, images, attributions, targets, samples=5, scaled=True)
        assert set(caught.value.reasons) == {1}
        assert caught.value.values is not None
        alone = measured(
            classifier,
            images[[0, 2]],
            attributions[[0, 2]],
            targets[[0, 2]],
            samples=5,
            scaled=True,
        )
        np.testing.assert_allclose(caught.value.values[[0, 2]], alone)
    heatmaps[2] = 0
    heatmaps[2, 15, 15] = 1  # met by no square of this seed
    with pytest.raises(UndefinedMeasurementError, match="no relevance") as caught:
        heatmap_infidelity(classifier, images, heatmaps, targets, samples=2)
    assert set(caught.value.reasons) == {2}


def test_there_are_classes_enough_to_tell_targets_apart() -> None:
    classifier, (images, heatmaps, _) = LinearClassifier(), some(1)
    values = {
        float(heatmap_infidelity(classifier, images, heatmaps, target)[0])
        for target in range(CLASSES)
    }
    assert len(values) == CLASSES
