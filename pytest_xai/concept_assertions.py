"""Assertions on what a class rests on: TCAV, verdicts, and the neighbours in the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_xai.concept_gate import Bounds, ConceptJudgement, Condition, Demand
from pytest_xai.concept_items import failure_text
from pytest_xai.failures import ExplanationError
from xai_core.arrays import ArrayLike, Float64
from xai_core.classifier import Classifier
from xai_core.concepts import TCAVResult, corrected
from xai_core.concepts.neighbours import Distance, neighbour_agreement
from xai_core.concepts.result import Verdict
from xai_core.errors import ParameterError, XaiError
from xai_core.gate import WORST_SHOWN
from xai_core.imageset import ImageSet
from xai_core.statistics import exact_mean, mean_interval, verdict


def assert_tcav_above(
    found: TCAVResult | Sequence[TCAVResult], threshold: float, *, strict: bool = False
) -> TCAVResult | Sequence[TCAVResult]:
    """Assert that the TCAV score is at least ``threshold``.

    A score alone proves little: in late layers random sets of images score 0 and 1 too. See
    `assert_concept_present`.

    Args:
        found: what the fixture ``xai_tcav`` or `xai_core.concepts.TCAV.test` gives; several are
            each held against the threshold.
        threshold: in [0, 1].
        strict: pass only what is proven, by the score's interval.

    Returns:
        what was given.

    Raises:
        ExplanationError: the score is lower, or the concept is not learnt.
    """
    __tracebackhide__ = True
    return _check(found, "tcav", Bounds(above=float(threshold)), strict=strict)


def assert_tcav_below(
    found: TCAVResult | Sequence[TCAVResult], threshold: float, *, strict: bool = False
) -> TCAVResult | Sequence[TCAVResult]:
    """Assert that the TCAV score is at most ``threshold``; see `assert_tcav_above`."""
    __tracebackhide__ = True
    return _check(found, "tcav", Bounds(below=float(threshold)), strict=strict)


def assert_concept_present(
    found: TCAVResult | Sequence[TCAVResult],
) -> TCAVResult | Sequence[TCAVResult]:
    """Assert that the class rests on the concept, more than on random sets of images.

    Args:
        found: what the fixture ``xai_tcav`` or `xai_core.concepts.TCAV.test` gives. Several are
            one family: their p-values are corrected for their number [Holm 1979].

    Returns:
        what was given, corrected.

    Raises:
        ExplanationError: the verdict is another one; the message says what it means.
    """
    __tracebackhide__ = True
    return _check(found, "verdict", ("present",))


def assert_concept_absent(
    found: TCAVResult | Sequence[TCAVResult], *, or_not_learnt: bool = False
) -> TCAVResult | Sequence[TCAVResult]:
    """Assert that the concept plays no part in the class: a watermark, a ruler, skin colour.

    Absent is proven, not merely undetected: no more than random sets, and an effect whose
    interval lies within the margin. A concept that speaks against the class plays a part.

    Args:
        found: as `assert_concept_present` takes it.
        or_not_learnt: also pass where the layer does not tell the concept from other images.

    Returns:
        what was given, corrected.

    Raises:
        ExplanationError: the verdict is another one; the message says what it means.
    """
    __tracebackhide__ = True
    wanted: tuple[Verdict, ...] = ("absent", "not learnt") if or_not_learnt else ("absent",)
    return _check(found, "verdict", wanted)


def assert_neighbours_agree_above(
    classifier: Classifier,
    images: ArrayLike | ImageSet,
    threshold: float,
    *,
    targets: ArrayLike,
    reference: ArrayLike | ImageSet,
    reference_labels: ArrayLike | None = None,
    k: int = 5,
    at: str | None = None,
    distance: Distance = "cosine",
    confidence: float = 0.95,
    strict: bool = False,
) -> Float64:
    """Assert that images lie among images of their class in the classifier's embedding.

    Args:
        classifier: what the fixture ``xai_model`` gives, or another.
        images: a set, as the fixture ``xai_images`` gives it, or RGB in [0, 1].
        threshold: at least this share of the ``k`` neighbours has the image's class, on average.
        targets: the class of each image, or one for all.
        reference: the images that neighbours are looked for among, as ``images``.
        reference_labels: their classes; None = the labels of the set.
        k: how many neighbours.
        at: the layer's name; None = the classifier's default layer.
        distance: ``"cosine"`` or ``"euclidean"``.
        confidence: of the interval.
        strict: pass only what is proven.

    Returns:
        the share of each image, float64 ``[N]``.

    Raises:
        ExplanationError: the mean is below the threshold, or, if ``strict``, not proven above it.
    """
    __tracebackhide__ = True
    try:
        shares = neighbour_agreement(
            classifier, images, targets, reference, reference_labels, k, at=at, distance=distance
        )
        interval = mean_interval(shares, confidence=confidence, bounds=(0.0, 1.0))
        outcome = verdict(interval, float(threshold), above=True)
    except XaiError as error:
        raise error.with_traceback(None) from None  # the test's own line says where
    mean = exact_mean(shares)
    if mean >= threshold and (outcome == "pass" or not strict):
        return shares
    names = (
        images.names if isinstance(images, ImageSet) else [f"image {i}" for i in range(len(shares))]
    )
    sign, unproven = (">=", ": not proven") if mean >= threshold else ("<", "")
    lines = [
        f"neighbour_agreement {classifier.name}: {mean:.3f} {sign} {threshold:.3f} "
        f"({interval}, n={len(shares)}, k={k}){unproven}",
        "",
        "worst images:",
        *(
            f"  {shares[index]:>9.3f}  {names[index]}"
            for index in np.argsort(shares, kind="stable")[:WORST_SHOWN]
        ),
    ]
    raise ExplanationError("\n".join(lines))


def _check(
    found: TCAVResult | Sequence[TCAVResult],
    condition: Condition,
    demand: Demand,
    *,
    strict: bool = False,
) -> TCAVResult | Sequence[TCAVResult]:
    __tracebackhide__ = True
    several = _results(found)
    family = corrected(several) if len(several) > 1 else several
    for result in family:
        judgement = ConceptJudgement(result, condition, demand)
        if not judgement.passes(strict=strict):
            title = f"concept {result.concept} [{result.target}, {result.layer}] {result.model}"
            raise ExplanationError(failure_text(judgement, title, strict=strict, again=None))
    return found if isinstance(found, TCAVResult) else family


def _results(found: Any) -> list[TCAVResult]:
    several = [found] if isinstance(found, TCAVResult) else list(found)
    if not several or not all(isinstance(one, TCAVResult) for one in several):
        kinds = ", ".join(dict.fromkeys(type(one).__name__ for one in several)) or "nothing"
        msg = f"expected what the fixture xai_tcav gives, or several of them, got {kinds}"
        raise ParameterError(msg)
    return several
