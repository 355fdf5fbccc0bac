"""TCAV as a test: does a class rest on a concept more than on a random set of images?

The score of the original [Kim 2018] is the share of a class's images whose logit rises along the
CAV. It saturates: where the gradients of the images agree, as they do in late layers, a random
set of images scores 0 or 1 as well (0.5 on average, with a standard deviation of 0.36 in the last
block of a ResNet-50). So the score is reported, with its interval and what random sets score, and
the test rests on the *alignment*: the mean cosine between the images' gradients and the CAV.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from xai_core.concepts.cav import CAVKind
from xai_core.concepts.features import FeatureStore, Kind, LayerFeatures, Pooling
from xai_core.concepts.question import Question, two_way_interval
from xai_core.concepts.result import TCAVResult
from xai_core.errors import ConceptError
from xai_core.imageset import ImageSet
from xai_core.parameters import require
from xai_core.statistics import Interval, holm, wilson

FEWEST = 20
"""The fewest images that a concept set may have."""


@dataclass(frozen=True)
class TCAV:
    """How a concept is tested.

    ``runs`` CAVs tell random parts of the concept set from random parts of the counterexamples,
    each fitted on two thirds of ``set_size`` images of each and tried on the rest. The null
    hypothesis is that the concept set is a random set: ``null_sets`` sets of the same size are
    drawn from the counterexamples and put through the same runs against the other
    counterexamples. The unit is the random set, since runs share their images: the alignment of
    the concept is held against the spread of the random sets' by a t-test of one new
    observation, two-sided.

    Args:
        layer: name of the layer; None = the last one that still has space.
        cav: ``logistic``, ``svm`` or ``pattern``; see `fit_cavs`.
        features: what the CAVs are fitted on; the gradients are always those of the activations.
        pooling: ``mean`` over positions, or ``flatten`` to keep them.
        steps: of the features' integrated gradients.
        strength: C of the logistic regression or the SVM.
        runs: number of random counterparts.
        set_size: images in each set; None = as many as the concept has, at most a third of the
            random images and 50, at least 20.
        null_sets: number of random sets that stand for the null hypothesis.
        level: of the two-sided test, and 1 - the confidence of the intervals.
        margin: an effect whose interval lies within +- margin is as good as none.
        seed: of the draws.
    """

    layer: str | None = None
    cav: CAVKind = "logistic"
    features: Kind = "activations"
    pooling: Pooling = "mean"
    steps: int = 20
    strength: float = 1.0
    runs: int = 20
    set_size: int | None = None
    null_sets: int = 100
    level: float = 0.05
    margin: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.runs >= 2, f"`runs` must be 2 or more, got {self.runs}")
        require(self.null_sets >= 10, f"`null_sets` must be 10 or more, got {self.null_sets}")
        require(0 < self.level < 1, f"`level` must lie between 0 and 1, got {self.level}")
        require(self.margin >= 0, f"`margin` must be 0 or more, got {self.margin}")
        require(self.strength > 0, f"`strength` must be positive, got {self.strength}")
        size = self.set_size
        fewest = f"`set_size` must be {FEWEST} or more, got {size}"
        require(size is None or size >= FEWEST, fewest)

    @property
    def protocol(self) -> str:
        """Name and version of what is measured, with everything that a number depends on."""
        size = "" if self.set_size is None else f", set_size={self.set_size}"
        return (
            f"tcav@1(cav={self.cav}, features={self.features}, pooling={self.pooling}, "
            f"runs={self.runs}, null_sets={self.null_sets}{size}, seed={self.seed})"
        )

    def test(
        self,
        store: FeatureStore,
        concept: ImageSet,
        counterexamples: ImageSet,
        images: ImageSet,
        target: int,
        *,
        random: ImageSet | None = None,
    ) -> TCAVResult:
        """Return what the class ``target`` on ``images`` makes of ``concept``.

        Args:
            store: the classifier, and what is known of its layers already.
            concept: images of the idea, 20 or more.
            counterexamples: images of anything else, or of another concept (relative TCAV).
            images: of the class.
            target: index of the class.
            random: what the null hypothesis' sets are drawn from; None = the counterexamples,
                which must then be no concept themselves.

        Raises:
            ConceptError: too few images, or sets that cannot be told apart.
            LayerError: no such layer, or one without space or gradient.
            ClassifierError: the classifier has no such class.
        """
        started, before = time.perf_counter(), store.classifier.passes.total
        at = self.layer or store.classifier.default_layer()
        pool = counterexamples if random is None else random
        size = self._size(concept, counterexamples, pool)
        how = LayerFeatures(self.features, self.pooling, self.steps)
        asked = Question(self, store, concept, counterexamples, images, target, at, how, pool)
        cavs, held = asked.concept_runs(size)
        found = asked.along(cavs)
        null_alignments, null_scores = asked.null(size)
        alignment = float(asked.cosines(found).mean())
        spread = float(null_alignments.std(ddof=1)) * math.sqrt(1 + 1 / len(null_alignments))
        centre = float(null_alignments.mean())
        p, detectable = _t_test(alignment - centre, spread, len(null_alignments), self.level)
        accuracy, tried = asked.accuracy(cavs, held)
        effect, interval, change = asked.effect()
        positive = found > 0
        return TCAVResult(
            tcav=self,
            concept=concept.name,
            against=counterexamples.name,
            model=store.classifier.name,
            target=target,
            layer=at,
            names=images.names,
            concept_images=len(concept),
            counterexamples=len(counterexamples),
            set_size=size,
            score=float(positive.mean()),
            score_interval=two_way_interval(positive.astype(np.float64), self.level, asked.draws),
            null_scores=(float(null_scores.mean()), float(null_scores.std(ddof=1))),
            magnitude_score=float(np.maximum(found, 0).sum() / max(np.abs(found).sum(), 1e-300)),
            sensitivities=found.mean(axis=0),
            alignment=alignment,
            null_alignments=(centre, spread),
            detectable=detectable,
            p=p,
            p_corrected=p,
            tests=1,
            logit_change=change,
            effect=effect,
            effect_interval=interval,
            accuracy=accuracy,
            accuracy_interval=Interval(
                *wilson(accuracy, tried, confidence=1 - self.level), 1 - self.level
            ),
            seconds=time.perf_counter() - started,
            passes=store.classifier.passes.total - before,
        )

    def _size(self, concept: ImageSet, counterexamples: ImageSet, random: ImageSet) -> int:
        if len(concept) < FEWEST:
            msg = (
                f"concept {concept.name!r} has {len(concept)} images; a CAV needs {FEWEST} or "
                "more, 50 are better"
            )
            raise ConceptError(msg)
        there = min(len(concept), len(counterexamples))
        size = self.set_size or min(there, max(FEWEST, min(50, len(random) // 3)))
        for images in (concept, counterexamples):
            if len(images) < size:
                msg = f"{images.name!r} has {len(images)} images; sets of {size} are asked for"
                raise ConceptError(msg)
        if len(random) < 2 * size:
            msg = (
                f"the random images {random.name!r} are {len(random)}; sets of {size} need "
                f"{2 * size} or more, so that a random set has others beside it"
            )
            raise ConceptError(msg)
        return size


def corrected(results: Sequence[TCAVResult], *, failed: int = 0) -> list[TCAVResult]:
    """Return the results with their p-values corrected for their number [Holm 1979].

    The family is everything that is asked together: concepts x layers x classes.

    Args:
        results: of the tests that could be made.
        failed: number of those that could not; each counts as one that found nothing, p = 1.
    """
    tests = len(results) + failed
    p_values = holm([*(result.p for result in results), *[1.0] * failed])
    return [
        replace(result, p_corrected=p, tests=tests)
        for result, p in zip(results, p_values, strict=False)
    ]


def _t_test(difference: float, spread: float, sets: int, level: float) -> tuple[float, float]:
    """Return the two-sided p-value of one new observation, and what shows with power 0.8."""
    from scipy.special import stdtr, stdtrit

    freedom = sets - 1
    detectable = spread * float(stdtrit(freedom, 1 - level / 2) + stdtrit(freedom, 0.8))
    if spread == 0:
        return (1.0 if difference == 0 else 0.0), detectable
    return float(2 * stdtr(freedom, -abs(difference) / spread)), detectable
