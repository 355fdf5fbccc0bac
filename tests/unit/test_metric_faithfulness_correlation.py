"""Correlations of relevance with the change of the output, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from linear_classifier import LinearClassifier, looks_at_the_first_cell, some
from scipy.stats import pearsonr, spearmanr

from xai_core.errors import UndefinedMeasurementError
from xai_core.metrics import faithfulness_correlation, monotonicity
from xai_core.seeding import generator_for

SUBSETS = "faithfulness_correlation"


def plain_correlation(
    classifier: LinearClassifier,
    image: np.ndarray,
    heatmap: np.ndarray,
    target: int,
    count: int,
    samples: int,
) -> float:
    whole = classifier.probability(image, target)
    relevance, falls = [], []
    for sample in range(samples):
        stream = generator_for(image, seed=0, purpose=f"{SUBSETS}|{sample}")
        without, total = image.copy(), 0.0
        for pixel in stream.choice(256, count, replace=False):
            row, column = divmod(int(pixel), 16)
            without[:, row, column] = classifier.mean
            total += float(heatmap[row, column])
        relevance.append(total)
        falls.append(whole - classifier.probability(without, target))
    return float(pearsonr(relevance, falls).statistic)


def plain_monotonicity(
    classifier: LinearClassifier,
    image: np.ndarray,
    heatmap: np.ndarray,
    target: int,
    step: int,
    draws: int,
) -> float:
    whole = classifier.probability(image, target)
    order = np.argsort(-np.abs(heatmap), axis=None, kind="stable")
    relevance, effects = [], []
    for start in range(0, 256, step):
        group = [divmod(int(pixel), 16) for pixel in order[start : start + step]]
        relevance.append(np.mean([abs(float(heatmap[place])) for place in group]))
        squares = []
        for draw in range(draws):
            stream = generator_for(image, seed=0, purpose=f"monotonicity|{draw}")
            colours = stream.random(image.shape, dtype=np.float32)
            without = image.copy()
            for row, column in group:
                without[:, row, column] = colours[:, row, column]
            squares.append((whole - classifier.probability(without, target)) ** 2)
        effects.append(np.mean(squares))
    return float(spearmanr(relevance, effects).statistic)


def test_the_correlation_over_subsets_equals_a_plain_loop() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(3)
    found = faithfulness_correlation(classifier, images, heatmaps, targets, subset=0.2, samples=15)
    expected = [
        plain_correlation(classifier, *given, count=51, samples=15)
        for given in zip(images, heatmaps, targets, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("groups", "step"), [(8, 32), (10, 26)])
def test_monotonicity_equals_a_plain_loop(groups: int, step: int) -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(3)
    heatmaps = heatmaps - 100  # of both signs
    found = monotonicity(classifier, images, heatmaps, targets, groups=groups, draws=3)
    expected = [
        plain_monotonicity(classifier, *given, step=step, draws=3)
        for given in zip(images, heatmaps, targets, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert set(classifier.calls[0][:-1]) == {7}


def test_pixels_that_raise_the_probability_in_proportion_correlate_with_their_relevance() -> None:
    images = np.full((1, 3, 16, 16), 0.9, dtype=np.float32)
    heatmaps = np.zeros((1, 16, 16))
    heatmaps[:, :4, :4] = 1  # in a subset, as many of them as the cell loses
    classifier = looks_at_the_first_cell(strength=0.1)
    given = {"subset": 0.3, "samples": 60}
    assert faithfulness_correlation(classifier, images, heatmaps, 1, **given) > 0.999
    assert faithfulness_correlation(classifier, images, -heatmaps, 1, **given) < -0.999


def test_monotonicity_tells_a_map_of_what_counts_from_one_of_what_does_not() -> None:
    images = np.full((1, 3, 16, 16), 0.9, dtype=np.float32)
    down, across = np.mgrid[:16, :16]
    near = -np.maximum(down, across)[None].astype(np.float32)  # the first cell's pixels first
    shown = {"groups": 8, "draws": 2}
    classifier = looks_at_the_first_cell()
    good = monotonicity(classifier, images, near + 16, 1, **shown)
    bad = monotonicity(classifier, images, -near + 1, 1, **shown)
    assert good > 0.5
    assert bad < -0.5


def test_the_sign_of_the_relevance_counts_for_subsets_and_not_for_monotonicity() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(3)
    mixed = heatmaps * np.where(heatmaps % 2, 1, -1)
    np.testing.assert_allclose(
        monotonicity(classifier, images, heatmaps, targets),
        monotonicity(classifier, images, mixed, targets),
    )
    given = {"samples": 10}
    np.testing.assert_allclose(
        faithfulness_correlation(classifier, images, heatmaps, targets, **given),
        -faithfulness_correlation(classifier, images, -heatmaps, targets, **given),
    )


def test_a_classifier_that_does_not_look_is_undefined() -> None:
    deaf = LinearClassifier(np.zeros((48, 3)))
    images, heatmaps, targets = some(2)
    with pytest.raises(UndefinedMeasurementError, match="same without any") as caught:
        faithfulness_correlation(deaf, images, heatmaps, targets, samples=5)
    assert set(caught.value.reasons) == {0, 1}
    with pytest.raises(UndefinedMeasurementError, match="no group of pixels"):
        monotonicity(deaf, images, heatmaps, targets)


def test_maps_without_a_difference_in_what_is_compared_are_undefined() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(3)
    heatmaps[1] = np.where(heatmaps[1] > 100, 1, -1)
    with pytest.raises(UndefinedMeasurementError, match="of one size everywhere") as caught:
        monotonicity(classifier, images, heatmaps, targets)
    assert set(caught.value.reasons) == {1}
    assert caught.value.values is not None
    alone = monotonicity(classifier, images[[0, 2]], heatmaps[[0, 2]], targets[[0, 2]])
    np.testing.assert_allclose(caught.value.values[[0, 2]], alone)
    heatmaps[1] = 0
    heatmaps[1, 3, 3] = 1  # of 2 subsets of one pixel, in none
    with pytest.raises(UndefinedMeasurementError, match="same relevance") as caught:
        faithfulness_correlation(classifier, images, heatmaps, targets, subset=0.001, samples=2)
    assert set(caught.value.reasons) == {1}
