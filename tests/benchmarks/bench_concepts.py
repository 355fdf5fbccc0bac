"""Speed of the CAVs against scikit-learn in the same run: a ratio, never seconds."""

from __future__ import annotations

import numpy as np
from references import interleaved, middle
from sklearn.linear_model import LogisticRegression

from xai_core.concepts import fit_cavs, gram_matrix


def test_two_hundred_cavs_at_once_are_five_times_as_fast_as_scikit_learn_one_by_one(benchmark):
    """50 images a side, 2048 features: the pooled last block of a ResNet-50."""
    rng = np.random.default_rng(0)
    rows = np.abs(rng.normal(size=(250, 2048)))
    rows[:100] += 0.2 * rng.random(2048)
    positives = np.stack([rng.permutation(100)[:33] for _ in range(200)])
    negatives = np.stack([100 + rng.permutation(150)[:33] for _ in range(200)])
    labels = np.repeat([1, 0], 33)
    found = {}

    def ours():
        gram = gram_matrix(rows, rows)
        found["cavs"] = fit_cavs(gram, positives, negatives, kind="logistic")

    def one_by_one():
        found["coefficients"] = [
            LogisticRegression(max_iter=1000).fit(rows[own], labels).coef_[0]
            for own in np.concatenate([positives, negatives], axis=1)
        ]

    ours(), one_by_one()  # warm-up
    ratios = interleaved(one_by_one, ours, rounds=7)
    benchmark.extra_info["scikit-learn / ours"] = ratios
    benchmark.pedantic(ours, rounds=1)
    cavs = found["cavs"]
    for index in range(0, 200, 20):
        vector = rows[cavs.rows[index]].T @ cavs.weights[index]
        reference = found["coefficients"][index]
        # Its default tolerance leaves a thousandth.
        assert vector @ reference > 0.999 * np.linalg.norm(vector) * np.linalg.norm(reference)
    print(f"\nscikit-learn / ours: {middle(ratios):.1f} of {np.round(ratios, 1)}")
    assert middle(ratios) >= 5
