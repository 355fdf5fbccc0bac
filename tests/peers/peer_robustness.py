"""Sensitivities and the local Lipschitz estimate beside Quantus's, on the same neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import quantus
from both_sides import classifier, images, network, quantus_scores, targets
from quantus.functions.similarity_func import distance_manhattan

from xai_core.explainers import IntegratedGradients
from xai_core.metrics import average_sensitivity, local_lipschitz, max_sensitivity
from xai_core.seeding import generator_for

RADIUS, SAMPLES = 0.05, 6
CLASSIFIER = classifier(network())


def explain(x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return IntegratedGradients(steps=4).explain(CLASSIFIER, x, classes).heatmaps


def neighbours() -> Callable[..., np.ndarray]:
    """A replacement for their noise that hands out our neighbours, flat, one after another."""
    streams = [generator_for(image, seed=0, purpose="sensitivity") for image in images()]

    def perturbed(arr: np.ndarray, **_: Any) -> np.ndarray:
        drawn = np.stack([stream.random((3, 12, 12), dtype=np.float32) for stream in streams])
        near = np.clip(images() + np.float32(RADIUS) * (2 * drawn - 1), 0, 1)
        return near.reshape(len(near), -1)

    return perturbed


def theirs(metric: Any) -> np.ndarray:
    def explain_func(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        return explain(np.asarray(inputs, dtype=np.float32), np.asarray(targets))[:, None]

    heatmaps = explain(images(), targets())
    return quantus_scores(
        metric, network(), x_batch=images(), a_batch=heatmaps, explain_func=explain_func
    )


def ours(metric: Callable[..., np.ndarray]) -> np.ndarray:
    heatmaps = explain(images(), targets())
    return metric(explain, images(), targets(), heatmaps, radius=RADIUS, samples=SAMPLES)


@pytest.mark.parametrize(
    ("metric", "mine"),
    [
        (quantus.MaxSensitivity, max_sensitivity),
        (quantus.AvgSensitivity, average_sensitivity),
    ],
)
def test_sensitivities_are_theirs_of_the_same_neighbours(metric: Any, mine: Any) -> None:
    found = theirs(metric(nr_samples=SAMPLES, perturb_func=neighbours()))
    assert ours(mine).min() > 0.01
    np.testing.assert_allclose(ours(mine), found, rtol=1e-5)


def test_the_local_lipschitz_estimate_is_theirs_of_maps_that_are_not_normalised() -> None:
    metric = quantus.LocalLipschitzEstimate(
        nr_samples=SAMPLES, perturb_func=neighbours(), normalise=False
    )
    np.testing.assert_allclose(ours(local_lipschitz), theirs(metric), rtol=1e-5)


def test_their_default_divides_maps_by_the_largest_of_the_batch_and_neighbours_by_theirs() -> None:
    """So two maps that differ by a factor alone are equal there, and an estimate of 0."""
    found = theirs(quantus.LocalLipschitzEstimate(nr_samples=SAMPLES, perturb_func=neighbours()))
    assert np.abs(found / ours(local_lipschitz) - 1).min() > 0.05

    def brightness(x: np.ndarray, classes: np.ndarray) -> np.ndarray:
        pattern = np.arange(1, 145, dtype=np.float32).reshape(12, 12)
        return x.mean(axis=(1, 2, 3))[:, None, None] * pattern

    def explain_func(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        return brightness(np.asarray(inputs, dtype=np.float32), targets)[:, None]

    one = images(1)
    scaled = quantus_scores(
        quantus.LocalLipschitzEstimate(nr_samples=3),
        network(),
        x_batch=one,
        a_batch=brightness(one, targets(1)),
        explain_func=explain_func,
    )
    np.testing.assert_allclose(scaled, 0, atol=1e-6)
    mine = local_lipschitz(brightness, one, targets(1), brightness(one, targets(1)), samples=3)
    assert mine[0] > 1


def test_their_noise_leaves_the_range_of_images_and_ours_does_not() -> None:
    """It is a tenth of [0, 1] times as large by default, too: 0.2 against our 0.02."""
    seen: list[np.ndarray] = []

    def watch(x: np.ndarray, classes: np.ndarray) -> np.ndarray:
        seen.append(np.asarray(x))
        return explain(np.clip(np.asarray(x, dtype=np.float32), 0, 1), np.asarray(classes))

    heatmaps = explain(images(), targets())
    max_sensitivity(watch, images(), targets(), heatmaps, radius=0.2, samples=2)
    assert min(x.min() for x in seen) == 0
    assert max(x.max() for x in seen) == 1
    seen.clear()
    quantus_scores(
        quantus.MaxSensitivity(nr_samples=2),
        network(),
        x_batch=images(),
        a_batch=heatmaps,
        explain_func=lambda model, inputs, targets, **_: watch(inputs, targets)[:, None],
    )
    assert min(x.min() for x in seen) < -0.15
    assert max(x.max() for x in seen) > 1.15


def test_another_norm_is_another_estimate() -> None:
    """`distance_manhattan` over the pixels is up to 12 times the Euclidean norm."""
    metric = quantus.LocalLipschitzEstimate(
        nr_samples=SAMPLES,
        perturb_func=neighbours(),
        normalise=False,
        norm_numerator=distance_manhattan,
    )
    ratio = theirs(metric) / ours(local_lipschitz)
    assert ((ratio > 1) & (ratio <= 12)).all()
