"""One concept, class and layer, asked with many CAVs: everything as products of few matrices."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from xai_core.arrays import Float64, Int64
from xai_core.concepts.cav import CAVs, decisions, fit_cavs, gram_matrix
from xai_core.concepts.features import FeatureStore, LayerFeatures
from xai_core.imageset import ImageSet
from xai_core.seeding import generator_of
from xai_core.statistics import Interval, wilson

if TYPE_CHECKING:
    from xai_core.concepts.tcav import TCAV

_RESAMPLES = 2000


class Question:
    """One concept, class and layer: everything as products of features and gradients."""

    def __init__(
        self,
        tcav: TCAV,
        store: FeatureStore,
        concept: ImageSet,
        counterexamples: ImageSet,
        images: ImageSet,
        target: int,
        at: str,
        how: LayerFeatures,
        random: ImageSet,
    ) -> None:
        self.tcav, self.store, self.target, self.at, self.how = tcav, store, target, at, how
        self.concept, self.counterexamples, self.random = concept, counterexamples, random
        self.images = images
        self.gradients = store.gradients(images, at, target, tcav.pooling)
        own, others = (store.features(part, at, how, target) for part in (concept, counterexamples))
        self.features = np.concatenate([own, others])
        self.inner = len(own)
        self.draws = generator_of(
            tcav.seed, "tcav", store.digest(concept), store.digest(counterexamples)
        )
        self.gram = gram_matrix(self.features, self.features)
        self.products = gram_matrix(self.gradients.gradients, self.features)

    def along(self, cavs: CAVs) -> Float64:
        """Return the logit's derivatives along unit CAVs, ``[B, N]``."""
        return cavs.along(self.products)

    def concept_runs(self, size: int) -> tuple[CAVs, tuple[Int64, Int64]]:
        """Fit the runs' CAVs; return them and the held-out rows of both sides."""
        total = len(self.features)
        positives = _parts(self.draws, np.arange(self.inner), size, self.tcav.runs)
        negatives = _parts(self.draws, np.arange(self.inner, total), size, self.tcav.runs)
        train = _trained_on(size)
        cavs = self._fit(self.gram, positives[:, :train], negatives[:, :train])
        return cavs, (positives[:, train:], negatives[:, train:])

    def null(self, size: int) -> tuple[Float64, Float64]:
        """Return the alignments and the scores of random sets, one for each."""
        tcav, store, pool = self.tcav, self.store, self.random
        key = (
            "null",
            store.digest(pool),
            store.digest(self.images),
            self.target,
            self.at,
            size,
            replace(tcav, layer=None, level=0.5, margin=0.0, set_size=None),
        )

        def compute() -> tuple[Float64, Float64]:
            rows = store.features(pool, self.at, self.how, self.target)
            draws = generator_of(tcav.seed, "null", store.digest(pool), size)
            train = _trained_on(size)
            positives, negatives = [], []
            for _ in range(tcav.null_sets):
                order = draws.permutation(len(rows))
                own, others = order[:size], order[size:]
                positives.append(_parts(draws, own, size, tcav.runs)[:, :train])
                negatives.append(_parts(draws, others, size, tcav.runs)[:, :train])
            cavs = self._fit(
                gram_matrix(rows, rows), np.concatenate(positives), np.concatenate(negatives)
            )
            products = gram_matrix(self.gradients.gradients, rows)
            alignments, scores = np.empty(tcav.null_sets), np.empty(tcav.null_sets)
            for index in range(tcav.null_sets):
                found = cavs.part(index * tcav.runs, (index + 1) * tcav.runs).along(products)
                alignments[index] = self.cosines(found).mean()
                scores[index] = (found > 0).mean()
            return alignments, scores

        return store.once(key, compute)

    def cosines(self, along: Float64) -> Float64:
        """Return the cosines of derivatives along unit CAVs ``[B, N]``; 0 without a gradient."""
        lengths = np.linalg.norm(self.gradients.gradients, axis=1)
        found: Float64 = np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0)
        return found

    def accuracy(self, cavs: CAVs, held: tuple[Int64, Int64]) -> tuple[float, int]:
        """Return the balanced accuracy on held-out images, and how many of them there were."""
        right = [
            (sign * decisions(cavs, self.gram, rows) > 0).mean()
            for sign, rows in zip((1, -1), held, strict=True)
        ]
        tried = min(len(np.unique(rows)) for rows in held)
        return float(np.mean(right)), 2 * tried

    def effect(self) -> tuple[float, Interval, float]:
        """Return the effect with its interval, and the change of the logit it stands for."""
        store, level = self.store, self.tcav.level
        plain = LayerFeatures(pooling=self.tcav.pooling)
        own, others = (
            store.features(part, self.at, plain) for part in (self.concept, self.counterexamples)
        )
        gradients = self.gradients.gradients
        of_own, of_others = gram_matrix(gradients, own), gram_matrix(gradients, others)
        change = float(of_own.mean() - of_others.mean())
        elsewhere = store.logits(self.counterexamples)[:, self.target]
        spread = _spread(self.gradients.logits, elsewhere)
        weights = [
            bootstrap_weights(self.draws, count)
            for count in (len(gradients), len(own), len(others))
        ]
        resampled = ((weights[0] @ of_own) * weights[1]).sum(axis=1)
        resampled -= ((weights[0] @ of_others) * weights[2]).sum(axis=1)
        low, high = np.quantile(resampled / spread, [level / 2, 1 - level / 2])
        return change / spread, Interval(float(low), float(high), 1 - level), change

    def _fit(self, gram: Float64, positives: Int64, negatives: Int64) -> CAVs:
        tcav = self.tcav
        return fit_cavs(gram, positives, negatives, kind=tcav.cav, strength=tcav.strength)


def _trained_on(size: int) -> int:
    return round(2 * size / 3)


def _parts(draws: np.random.Generator, pool: Int64, size: int, runs: int) -> Int64:
    """Return ``runs`` sets of ``size``, ``[runs, size]``; disjoint where there is room."""
    if size * runs <= len(pool):
        return draws.permutation(pool)[: size * runs].reshape(runs, size)
    return np.stack([draws.permutation(pool)[:size] for _ in range(runs)])


def _spread(logits: Float64, elsewhere: Float64) -> float:
    """Return the standard deviation of both, weighed equally."""
    middle = (logits.mean() + elsewhere.mean()) / 2
    squares = ((logits - middle) ** 2).mean(), ((elsewhere - middle) ** 2).mean()
    return max(math.sqrt(sum(squares) / 2), 1e-12)


def bootstrap_weights(draws: np.random.Generator, count: int) -> Float64:
    """Return how much each of ``count`` counts in each resample, ``[B, count]``, rows sum to 1."""
    found: Float64 = draws.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES) / count
    return found


def two_way_interval(values: Float64, level: float, draws: np.random.Generator) -> Interval:
    """Return the interval of the mean of ``[runs, images]``, both resampled; Wilson's if equal."""
    confidence = 1 - level
    mean = float(values.mean())
    if bool((values == values.flat[0]).all()):
        return Interval(*wilson(mean, values.shape[1], confidence=confidence), confidence)
    runs = bootstrap_weights(draws, values.shape[0])
    images = bootstrap_weights(draws, values.shape[1])
    resampled = ((runs @ values) * images).sum(axis=1)
    low, high = np.quantile(resampled, [level / 2, 1 - level / 2])
    return Interval(float(low), float(high), confidence)
