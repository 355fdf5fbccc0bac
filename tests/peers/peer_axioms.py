"""Completeness and input invariance: yes or no with Quantus, a number here."""

from __future__ import annotations

from typing import Any

import numpy as np
import quantus
from both_sides import Linear, classifier, images, network, quantus_scores, targets
from torch import nn

from xai_core.classifier import Classifier
from xai_core.explainers import Explainer, IntegratedGradients, Saliency
from xai_core.metrics import completeness, input_invariance

PLAIN = {"abs": False, "normalise": False}


def whole_numbers(seed: int = 4) -> tuple[Linear, np.ndarray]:
    """A model and black and white images on which no sum is rounded."""
    weights = np.random.default_rng(seed).integers(-2, 3, size=(3, 3, 12, 12)).astype(float)
    x = (np.random.default_rng(seed + 1).random((4, 3, 12, 12)) < 0.5).astype(np.float32)
    return Linear(weights), x


def shares(module: Linear, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = x * module.weights.detach().numpy()[targets()]
    return found.astype(np.float32)


def gaps(module: Linear, x: np.ndarray, attributions: np.ndarray) -> np.ndarray:
    zero = np.zeros((1, 3, 12, 12), dtype=np.float32)
    logits = [quantus.PyTorchModel(module, softmax=False).predict(given) for given in (x, zero)]
    rows = np.arange(len(x))
    differences = logits[0][rows, targets()] - logits[1][0, targets()]
    return completeness(attributions, differences)


def theirs(metric: Any, module: nn.Module, x: np.ndarray, attributions: np.ndarray) -> np.ndarray:
    return quantus_scores(metric, module, x_batch=x, a_batch=attributions.copy(), softmax=False)


def test_a_gap_of_zero_is_their_true_where_nothing_is_rounded() -> None:
    module, x = whole_numbers()
    exact = shares(module, x)
    exact[3, 0, 0, 0] += 1
    found = theirs(quantus.Completeness(**PLAIN), module, x, exact)
    assert found.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(gaps(module, x, exact) == 0, found)


def test_rounding_is_false_there_and_a_small_number_here() -> None:
    """They ask two sums of floats to be equal to the last bit."""
    module, _ = whole_numbers()
    module.weights.data.mul_(0.1)
    exact = shares(module, images())
    assert gaps(module, images(), exact).max() < 1e-5
    darkest = quantus.Completeness(perturb_baseline=0.0, **PLAIN)
    assert not theirs(darkest, module, images(), exact).all()


def test_their_default_makes_complete_attributions_incomplete() -> None:
    """It divides them by their maximum, and holds the sum against an image of its darkest value."""
    module, x = whole_numbers()
    assert gaps(module, x, shares(module, x)).max() == 0
    assert not theirs(quantus.Completeness(), module, x, shares(module, x)).any()
    bright = 0.5 + x / 2
    found = theirs(quantus.Completeness(**PLAIN), module, bright, shares(module, bright))
    assert gaps(module, bright, shares(module, bright)).max() < 1e-6
    assert not found.all()


def invariance(explainer: Explainer, module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Their answers, and our numbers, for images that are shifted by -1."""
    own = classifier(module)

    def explain(of: Classifier, x: np.ndarray) -> np.ndarray:
        return explainer.explain(of, np.asarray(x, dtype=np.float32), targets()).heatmaps

    def explain_func(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> Any:
        return explain(classifier(model), inputs)[:, None]

    heatmaps = explain(own, images())
    found = quantus_scores(
        quantus.InputInvariance(),
        module,
        x_batch=images(),
        a_batch=heatmaps,
        explain_func=explain_func,
    )
    changed = input_invariance(
        own,
        heatmaps,
        lambda of, change=None, /: explain(of, images() if change is None else change(images())),
    )
    return found, changed


def test_input_invariance_is_theirs_of_a_network_that_does_not_pad() -> None:
    found, ours = invariance(Saliency(), network())
    assert found.tolist() == [True] * 4
    assert ours.max() < 1e-3
    found, ours = invariance(IntegratedGradients(steps=4), network())
    assert found.tolist() == [False] * 4
    assert ours.min() > 0.1


def test_a_network_that_pads_is_not_the_same_network_there() -> None:
    """They take off the smallest answer to a shifted blank image, which is the one of a corner:
    gradients, which are invariant, are not. Ours puts the shift into the normalisation."""
    found, ours = invariance(Saliency(), network(padding=1))
    assert found.tolist() == [False] * 4
    assert ours.max() < 1e-3
