"""ROAD against a plain loop over its shares."""

from __future__ import annotations

import numpy as np
import pytest
from linear_classifier import LinearClassifier, looks_at_the_first_cell, some

from xai_core.metrics import METRICS, road, road_lerf, road_morf
from xai_core.metrics.imputation import NOISE, imputed
from xai_core.seeding import generator_for

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)


def plain_road(
    classifier: LinearClassifier, image: np.ndarray, heatmap: np.ndarray, target: int, seed: int
) -> tuple[float, float]:
    """The mean probabilities without the most, and without the least relevant pixels."""
    stream = generator_for(image, seed=seed, purpose="imputation")
    noise = NOISE * stream.standard_normal(image.shape, dtype=np.float32)
    means = []
    for order in (np.argsort(-heatmap, axis=None), np.argsort(heatmap, axis=None)):
        found = []
        for share in SHARES:
            removed = np.zeros(heatmap.size, dtype=bool)
            removed[order[: round(share * heatmap.size)]] = True
            left = imputed(image, removed.reshape(heatmap.shape), noise)
            found.append(classifier.probability(left, target))
        means.append(sum(found) / len(found))
    return means[0], means[1]


def test_road_equals_a_plain_loop_over_the_authors_shares() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(3)
    expected = np.array(
        [
            plain_road(classifier, *given, seed=2)
            for given in zip(images, heatmaps, targets, strict=True)
        ]
    )
    most = road_morf(classifier, images, heatmaps, targets, seed=2)
    least = road_lerf(classifier, images, heatmaps, targets, seed=2)
    both = road(classifier, images, heatmaps, targets, seed=2)
    np.testing.assert_allclose(most, expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(least, expected[:, 1], atol=1e-6)
    np.testing.assert_allclose(both, (expected[:, 1] - expected[:, 0]) / 2, atol=1e-6)
    assert classifier.calls == [[7, 7, 7]] * 4


def test_the_least_relevant_pixels_first_are_the_inverted_maps_most_relevant() -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(2)
    np.testing.assert_allclose(
        road_lerf(classifier, images, heatmaps, targets),
        road_morf(classifier, images, -heatmaps, targets),
    )
    np.testing.assert_allclose(
        road(classifier, images, heatmaps, targets), -road(classifier, images, -heatmaps, targets)
    )


def test_a_map_of_what_the_classifier_looks_at_beats_its_inverse() -> None:
    classifier = looks_at_the_first_cell()
    images = np.zeros((1, 3, 16, 16), dtype=np.float32)
    images[:, :, :4, :4] = 1.0
    heatmaps = np.zeros((1, 16, 16))
    heatmaps[:, :4, :4] = 1
    good, bad = (road(classifier, images, sign * heatmaps, 1) for sign in (1, -1))
    assert good > 0.2
    assert bad < 0
    assert road_morf(classifier, images, heatmaps, 1) < road_morf(classifier, images, -heatmaps, 1)
    assert road_lerf(classifier, images, heatmaps, 1) > road_lerf(classifier, images, -heatmaps, 1)


@pytest.mark.parametrize("name", ["road", "road_morf", "road_lerf"])
def test_the_seed_is_no_part_of_the_protocol(name: str) -> None:
    assert METRICS[name].configure({"seed": 9}).protocol == f"{name}@rong-2022"
