"""CAVs against scikit-learn and closed forms."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from xai_core.concepts.cav import decisions, fit_cavs, gram_matrix
from xai_core.errors import ConceptError, MissingExtraError, ParameterError


def features(dimensions: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(dimensions)
    found = np.abs(rng.normal(size=(90, dimensions))) * scale
    found[:40] += 0.4 * scale * rng.random(dimensions)
    return found


def sets(count: int = 7, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    positives = np.stack([rng.permutation(40)[:size] for _ in range(count)])
    negatives = np.stack([40 + rng.permutation(50)[:size] for _ in range(count)])
    return positives, negatives


def direction(rows: np.ndarray, cavs, index: int) -> np.ndarray:
    return rows[cavs.rows[index]].T @ cavs.weights[index]


@pytest.mark.parametrize(("dimensions", "scale"), [(5, 1.0), (300, 1.0), (300, 8.0), (60, 0.05)])
@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_logistic_cavs_are_scikit_learns(dimensions, scale, strength):
    rows = features(dimensions, scale)
    positives, negatives = sets()
    cavs = fit_cavs(
        gram_matrix(rows, rows), positives, negatives, kind="logistic", strength=strength
    )
    labels = np.repeat([1, 0], [24, 24])
    for index in range(len(positives)):
        model = LogisticRegression(
            C=strength, tol=1e-13, max_iter=10_000, solver="newton-cholesky"
        ).fit(rows[cavs.rows[index]], labels)
        np.testing.assert_allclose(direction(rows, cavs, index), model.coef_[0], rtol=0, atol=1e-7)
        assert cavs.intercepts[index] == pytest.approx(model.intercept_[0], abs=1e-6)


def test_svm_cavs_are_scikit_learns():
    rows = features(80)
    positives, negatives = sets()
    cavs = fit_cavs(gram_matrix(rows, rows), positives, negatives, kind="svm")
    labels = np.repeat([1, -1], [24, 24])
    for index in range(len(positives)):
        model = SVC(kernel="linear", C=1.0, tol=1e-8).fit(rows[cavs.rows[index]], labels)
        np.testing.assert_allclose(direction(rows, cavs, index), model.coef_[0], atol=1e-4)
        assert cavs.intercepts[index] == pytest.approx(model.intercept_[0], abs=1e-4)


def test_pattern_cavs_are_the_difference_of_the_means_halved_between_them():
    rows = features(30)
    positives, negatives = sets()
    cavs = fit_cavs(gram_matrix(rows, rows), positives, negatives, kind="pattern")
    for index in range(len(positives)):
        one, other = rows[positives[index]].mean(axis=0), rows[negatives[index]].mean(axis=0)
        np.testing.assert_allclose(direction(rows, cavs, index), one - other, atol=1e-12)
        middle = (one + other) / 2 @ (one - other)
        assert cavs.intercepts[index] == pytest.approx(-middle)


@pytest.mark.parametrize("kind", ["logistic", "svm", "pattern"])
def test_lengths_decisions_and_projections_are_those_of_the_explicit_vectors(kind):
    rows = features(30)
    positives, negatives = sets()
    gram = gram_matrix(rows, rows)
    cavs = fit_cavs(gram, positives, negatives, kind=kind)
    probes = np.random.default_rng(3).normal(size=(4, 30))
    others = np.stack([np.setdiff1d(np.arange(90), cavs.rows[i])[:11] for i in range(7)])
    along = cavs.along(gram_matrix(probes, rows))
    for index in range(7):
        vector = direction(rows, cavs, index)
        assert cavs.lengths[index] == pytest.approx(np.linalg.norm(vector))
        np.testing.assert_allclose(along[index], probes @ vector / np.linalg.norm(vector))
        expected = rows[others[index]] @ vector + cavs.intercepts[index]
        np.testing.assert_allclose(decisions(cavs, gram, others)[index], expected, atol=1e-9)


def test_a_cav_depends_on_its_own_sets_alone():
    rows = features(300)
    positives, negatives = sets(count=9)
    gram = gram_matrix(rows, rows)
    together = fit_cavs(gram, positives, negatives, kind="logistic")
    alone = fit_cavs(gram, positives[4:5], negatives[4:5], kind="logistic")
    np.testing.assert_allclose(together.weights[4], alone.weights[0], atol=1e-10)


def test_the_gram_matrix_is_summed_in_blocks_of_features(monkeypatch):
    monkeypatch.setattr("xai_core.concepts.cav._AT_ONCE", 24)
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(3, 50)), rng.normal(size=(5, 50))
    np.testing.assert_allclose(gram_matrix(one, other), one @ other.T)


def test_sets_of_the_same_features_have_no_direction():
    rows = np.ones((90, 6))
    with pytest.raises(ConceptError, match="the same features"):
        fit_cavs(gram_matrix(rows, rows), *sets(), kind="pattern")


def test_an_unknown_kind_and_no_strength_are_refused():
    rows = features(5)
    gram = gram_matrix(rows, rows)
    with pytest.raises(ParameterError, match="did you mean 'logistic'"):
        fit_cavs(gram, *sets(), kind="logistics")
    with pytest.raises(ParameterError, match="positive, got 0"):
        fit_cavs(gram, *sets(), kind="svm", strength=0)


def test_an_svm_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    rows = features(5)
    with pytest.raises(MissingExtraError, match=r"pip install 'pytest-xai\[concepts\]'"):
        fit_cavs(gram_matrix(rows, rows), *sets(), kind="svm")
