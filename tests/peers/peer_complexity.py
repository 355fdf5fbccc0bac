"""Sparseness, entropy and active fraction beside Quantus's; effective complexity is another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import quantus
from both_sides import PIXELS, classifier, images, linear, maps, quantus_scores, targets

from xai_core.metrics import active_fraction, complexity, effective_complexity, sparseness


def theirs(metric: Any, heatmaps: np.ndarray) -> np.ndarray:
    return quantus_scores(metric, x_batch=images(len(heatmaps)), a_batch=heatmaps)


def signed() -> np.ndarray:
    return maps().astype(np.float64) - 0.4


def test_sparseness_is_theirs_up_to_what_they_add_to_every_pixel() -> None:
    """They add 1e-7 before they divide: on maps of a mean of a half, 2e-7 of the value."""
    np.testing.assert_allclose(
        sparseness(signed()), theirs(quantus.Sparseness(), signed()), rtol=1e-6
    )


def test_entropy_is_theirs_up_to_what_they_add_to_every_share() -> None:
    np.testing.assert_allclose(
        complexity(signed()), theirs(quantus.Complexity(), signed()), rtol=1e-6
    )


def test_active_fraction_is_their_effective_complexity_of_each_map_over_its_own_maximum() -> None:
    """Theirs counts pixels above eps; with a normalisation for each image that is ours."""
    alone = quantus.EffectiveComplexity(
        eps=0.5, normalise_func_kwargs={"normalise_axes": [1, 2, 3]}
    )
    ours = active_fraction(signed(), fraction=0.5)
    np.testing.assert_allclose(ours, theirs(alone, signed()) / PIXELS, rtol=0, atol=0)
    assert 0 < ours.min() < 1


@pytest.mark.parametrize(
    ("metric", "ours"),
    [
        (quantus.EffectiveComplexity(eps=0.5), lambda h: active_fraction(h) * PIXELS),
        (quantus.Sparseness(), sparseness),
    ],
)
def test_their_value_of_a_map_depends_on_the_largest_map_beside_it(metric: Any, ours: Any) -> None:
    """They divide by the maximum of the whole batch. Half of these pixels are above a half of
    their map's maximum, and the Gini index of 1, 2 ... n is (n - 1) / 3 n."""
    alone = maps(1).astype(np.float64)
    beside = np.concatenate([alone, 1e10 * alone])
    gini = (PIXELS - 1) / (3 * PIXELS)
    closed = PIXELS / 2 if isinstance(metric, quantus.EffectiveComplexity) else gini
    assert theirs(metric, alone)[0] == pytest.approx(closed, rel=1e-5)
    assert theirs(metric, beside)[0] < 0.01 * closed
    np.testing.assert_allclose(ours(beside), [closed, closed])


def test_their_complexity_without_normalisation_changes_the_callers_heatmaps() -> None:
    """They divide in place; ours leaves the array as it was."""
    heatmaps = 7 * maps().astype(np.float64)[:, None]
    given = heatmaps.copy()
    complexity(given)
    np.testing.assert_array_equal(given, heatmaps)
    theirs(quantus.Complexity(normalise=False, abs=False), given)
    np.testing.assert_allclose(given.sum(axis=(1, 2, 3)), 1)


def test_effective_complexity_asks_the_model_and_theirs_does_not() -> None:
    """The paper's is the smallest share of pixels that keeps the output: two models, two values."""
    given = (images(), maps(), targets())
    values = [effective_complexity(classifier(linear(seed=seed)), *given) for seed in (2, 3)]
    assert not np.array_equal(*values)
    found = [
        quantus_scores(
            quantus.EffectiveComplexity(eps=0.1),
            linear(seed=seed),
            x_batch=images(),
            a_batch=maps(),
        )
        for seed in (2, 3)
    ]
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(found[0], np.sum(maps() > 0.1, axis=(1, 2)))
