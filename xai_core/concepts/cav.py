"""Concept activation vectors: the direction in a layer that points to a concept [Kim 2018].

Every vector here is a weighted sum of the images' features, ``v = X^T a``, so hundreds are fitted
at once from one Gram matrix ``X X^T``, whatever the number of features: what a vector says of an
image, its length and its accuracy are products with that matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from xai_core.arrays import Float32, Float64, Int64
from xai_core.errors import ConceptError, MissingExtraError, ParameterError, did_you_mean

CAVKind = Literal["logistic", "svm", "pattern"]

_AT_ONCE = 2**25  # numbers in memory
_MOST_STEPS = 200
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class CAVs:
    """Fitted vectors ``v = X^T a`` with their intercepts.

    Attributes:
        rows: which images each was fitted on, ``[B, m]``.
        weights: ``a`` of those images, float64 ``[B, m]``.
        intercepts: float64 ``[B]``; an image is called a positive where ``v . x + b > 0``.
        lengths: Euclidean length of each ``v``, float64 ``[B]``.
    """

    rows: Int64
    weights: Float64
    intercepts: Float64
    lengths: Float64

    def part(self, start: int, stop: int) -> CAVs:
        """Return some of them."""
        some = slice(start, stop)
        return CAVs(self.rows[some], self.weights[some], self.intercepts[some], self.lengths[some])

    def along(self, products: Float64) -> Float64:
        """Return how far each of N vectors points along each unit CAV, ``[B, N]``.

        Args:
            products: of the N vectors with all images' features, ``[N, M]``.
        """
        found = np.einsum("nbm,bm->bn", products[:, self.rows], self.weights)
        unit: Float64 = found / self.lengths[:, None]
        return unit


def gram_matrix(one: Float32 | Float64, other: Float32 | Float64) -> Float64:
    """Return all inner products of rows, float64 ``[N, M]``, a block of columns at a time.

    Args:
        one: ``[N, d]``.
        other: ``[M, d]``.
    """
    total = np.zeros((len(one), len(other)))
    step = max(1, _AT_ONCE // max(1, len(one) + len(other)))
    for start in range(0, one.shape[1], step):
        block = slice(start, start + step)
        total += one[:, block].astype(np.float64) @ other[:, block].astype(np.float64).T
    return total


def fit_cavs(
    gram: Float64, positives: Int64, negatives: Int64, *, kind: CAVKind, strength: float = 1.0
) -> CAVs:
    """Fit one vector for each pair of a positive and a negative set.

    ``logistic`` minimises ``|v|^2 / 2 + C sum log(1 + exp(-y (v . x + b)))`` (scikit-learn's
    LogisticRegression), all at once by Newton's method; ``svm`` the same with the hinge loss
    (scikit-learn's SVC); ``pattern`` is the difference of the means in closed form
    [Pahde et al. 2022], its intercept half way between them.

    Args:
        gram: inner products of all images' features, ``[M, M]``.
        positives: rows of the positive sets, ``[B, p]``.
        negatives: rows of the negative sets, ``[B, q]``.
        kind: which classifier.
        strength: C, the inverse of the regularisation; ``pattern`` has none.

    Raises:
        ParameterError: no such kind, or a strength that is not positive.
        ConceptError: the two sets of a pair have the same features.
        MissingExtraError: ``svm`` without scikit-learn.
    """
    if kind not in get_args(CAVKind):
        msg = f"`cav`: got {kind!r}; {did_you_mean(str(kind), get_args(CAVKind))}"
        raise ParameterError(msg)
    if not strength > 0:
        msg = f"`strength` must be positive, got {strength}"
        raise ParameterError(msg)
    rows = np.concatenate([positives, negatives], axis=1)
    labels = np.repeat([1.0, -1.0], [positives.shape[1], negatives.shape[1]])
    weights = np.empty(rows.shape)
    intercepts, squares = np.empty(len(rows)), np.empty(len(rows))
    step = max(1, _AT_ONCE // rows.shape[1] ** 2)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        blocks = gram[rows[part, :, None], rows[part, None, :]]
        if kind == "pattern":
            found = _pattern(blocks, labels)
        elif kind == "logistic":
            found = _logistic(blocks, labels, strength)
        else:
            found = _svm(blocks, labels, strength)
        weights[part], intercepts[part] = found
        squares[part] = np.einsum("bi,bij,bj->b", weights[part], blocks, weights[part])
    scale = np.abs(np.diagonal(gram)).max()
    if bool((squares <= 1e-14 * scale).any()):
        msg = (
            "a concept set and its counterexamples have the same features at this layer, so no "
            "direction tells them apart; check that the folders hold different images"
        )
        raise ConceptError(msg)
    return CAVs(rows, weights, intercepts, np.sqrt(squares))


def decisions(cavs: CAVs, gram: Float64, rows: Int64) -> Float64:
    """Return ``v . x + b`` of other images for each vector, ``[B, k]``.

    Args:
        cavs: the vectors.
        gram: as in `fit_cavs`.
        rows: which images, for each vector its own, ``[B, k]``.
    """
    block = gram[rows[:, :, None], cavs.rows[:, None, :]]
    found: Float64 = np.einsum("bkm,bm->bk", block, cavs.weights) + cavs.intercepts[:, None]
    return found


def _pattern(blocks: Float64, labels: Float64) -> tuple[Float64, Float64]:
    weights = np.where(labels > 0, 1.0 / (labels > 0).sum(), -1.0 / (labels < 0).sum())
    scores = blocks @ weights
    middle = (scores[:, labels > 0].mean(axis=1) + scores[:, labels < 0].mean(axis=1)) / 2
    return np.broadcast_to(weights, scores.shape), -middle


def _logistic(blocks: Float64, labels: Float64, strength: float) -> tuple[Float64, Float64]:
    """Return weights and intercepts at the optimum, where ``a = C (t - p)`` and ``sum a = 0``."""
    gram = torch.from_numpy(np.ascontiguousarray(blocks))
    count, size, _ = gram.shape
    targets = torch.from_numpy((labels > 0).astype(np.float64)).expand(count, size)
    weights = torch.zeros(count, size, dtype=torch.float64)
    intercepts = torch.zeros(count, dtype=torch.float64)

    def scores_of(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (gram @ a[..., None])[..., 0] + b[:, None]

    def loss_of(a: torch.Tensor, b: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        penalty = (a * (scores - b[:, None])).sum(dim=1) / 2
        fit = torch.nn.functional.softplus(scores) - targets * scores
        return penalty + strength * fit.sum(dim=1)

    scores = scores_of(weights, intercepts)
    loss = loss_of(weights, intercepts, scores)
    bordered = torch.ones(count, size + 1, size + 1, dtype=torch.float64)
    bordered[:, :size, :size] = gram
    bordered[:, size, size] = 0
    for _ in range(_MOST_STEPS):
        chances = torch.sigmoid(scores)
        residuals = targets - chances
        off = (weights - strength * residuals).abs().amax(dim=1)
        active = off > _TOLERANCE * strength
        if not bool(active.any()):
            return weights.numpy(), intercepts.numpy()
        curvature = (chances * (1 - chances)).clamp_min(1e-12)
        system = bordered.clone()
        system.diagonal(dim1=1, dim2=2)[:, :size] += 1 / (strength * curvature)
        right = torch.cat([scores + residuals / curvature, torch.zeros(count, 1)], dim=1)
        solved = torch.linalg.solve(system, right)
        to_weights, to_intercepts = solved[:, :size], solved[:, size]
        share = active.double()
        for _ in range(40):  # halve the steps that overshoot
            new_weights = weights + share[:, None] * (to_weights - weights)
            new_intercepts = intercepts + share * (to_intercepts - intercepts)
            new_scores = scores_of(new_weights, new_intercepts)
            new_loss = loss_of(new_weights, new_intercepts, new_scores)
            worse = new_loss > loss + 1e-12 * (1 + loss.abs())
            if not bool(worse.any()):
                break
            share = torch.where(worse, share / 2, share)
        weights, intercepts, scores, loss = new_weights, new_intercepts, new_scores, new_loss
    msg = (
        f"logistic regression did not converge in {_MOST_STEPS} steps; use a smaller `strength`, "
        "or cav = 'pattern'"
    )
    raise ConceptError(msg)


def _svm(blocks: Float64, labels: Float64, strength: float) -> tuple[Float64, Float64]:
    try:
        from sklearn.svm import SVC
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("sklearn"):
            raise
        raise MissingExtraError("cav = 'svm'", package="scikit-learn", extra="concepts") from None

    weights, intercepts = np.zeros(blocks.shape[:2]), np.zeros(len(blocks))
    for index, block in enumerate(blocks):
        machine = SVC(kernel="precomputed", C=strength, tol=1e-6).fit(block, labels)
        weights[index, machine.support_] = machine.dual_coef_[0]
        intercepts[index] = machine.intercept_[0]
    return weights, intercepts
