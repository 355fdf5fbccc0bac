"""From a metric and conditions to a judgement, with as few images as settle it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from xai_core.arrays import Float64
from xai_core.gate import Conditions, Finding, Judgement, judge_values, skill_nulls
from xai_core.gate.findings import edge_of, meets
from xai_core.measurement import Measurement, Method
from xai_core.metrics import ConfiguredMetric
from xai_core.sequential.claims import (
    Claim,
    Draw,
    MeanClaim,
    SkillClaim,
    interval_of,
    outcome_of,
)
from xai_core.sequential.order import ImagesInOrder, needs_all
from xai_core.statistics import Interval, Outcome

About = Literal["set", "population"]
"""What a sequential verdict is about: the mean of the image set, or of what it was drawn from."""


def why_in_full(metric: ConfiguredMetric, conditions: Conditions) -> str | None:
    """Return why a gate measures all images, whatever they say; None where it may stop early."""
    if needs_all(metric, {"whole_set"}):
        return "each value rests on all images"
    if conditions.per_class:
        return "per class"
    of_values = (
        conditions.of_the_mean or bool(conditions.beats) or conditions.skill_above is not None
    )
    if of_values and not all(map(math.isfinite, metric.metric.range)):
        return "its values have no bounds"
    return None


def judge_sequentially(
    images: ImagesInOrder,
    method: Method,
    metric: ConfiguredMetric,
    conditions: Conditions,
    *,
    about: About = "set",
) -> Judgement:
    """Measure ``metric`` of ``method`` until what was measured settles ``conditions``.

    Images come in the order of ``images``, and confidence sequences for bounded means
    [Waudby-Smith & Ramdas 2023] say when to stop: the verdict is wrong with probability (1 -
    confidence) / 2 at most in either direction, however often one looked. A gate is settled when
    one condition is proven wrong, or all are proven right.

    The verdict is about this image set: "its mean is at least the threshold, by some of its
    images". It is the one that the value of all images would give. `xai_core.gate.judge` asks
    something else: whether the population behind the set would pass. What is not settled when all
    images have come is decided by their value, exactly. With ``about="population"`` the sequence
    is that of independent draws, takes more images, and may stay inconclusive.

    Several images of one photograph come together and count as one, with their mean.

    An image without a value takes no side: the rest of the images decide. More of them than
    ``undefined`` allows end the measurement with a failure. Of the images that never came it is
    not known whether they have a value. A skill score is held over every null map, each on the
    images where both have a value, which is the best of them where all have values.

    Args:
        images: of the classifier, in random order.
        method: explainer and post-processing.
        metric: what is measured.
        conditions: what is demanded.
        about: what the verdict is about.

    Returns:
        the judgement of the images measured; where `why_in_full` says why, as `judge` gives it.

    Raises:
        XaiError: the images or the method lack what the metric needs, or a null map or a skill
            score that nothing can be said of.
    """
    of_skill = () if conditions.skill_above is None else skill_nulls(metric)
    names = tuple(dict.fromkeys([*conditions.beats, *of_skill]))
    total = images.looks[-1]
    of_groups = len(images) if len(images) < total else None
    reason = why_in_full(metric, conditions)
    if reason is not None:
        judgement = judge_values(
            images.all(method, metric),
            conditions,
            model=images.model,
            nulls={name: images.all(method, metric, name) for name in names},
            seed=images.seed,
            classes=images.classes_of_all(),
        )
        return replace(judgement, of_images=total, of_groups=of_groups, in_full=reason)
    draw = Draw(len(images), finite=about == "set")
    measurement, nulls = _settling(images, method, metric, names, conditions, draw)
    seen = len(measurement.names)
    exactly = draw.finite and seen == total
    judgement = judge_values(
        # As `judge` adds up all of them: a sum depends on the order, by rounding.
        images.sorted(measurement) if exactly else measurement,
        conditions,
        model=images.model,
        nulls={name: images.sorted(null) if exactly else null for name, null in nulls.items()},
        seed=images.seed,
        classes=images.classes_of_all() if exactly else images.classes(seen),
    )
    findings = judgement.findings
    if exactly:
        findings = tuple(_exact(found) for found in findings)
    elif findings:  # there are none where no image has a value
        claims = _claims(measurement, nulls, conditions, draw.images)
        findings = tuple(
            _by_sequence(found, of_one, outcome, draw, conditions)
            for found, of_one, outcome in zip(
                findings, claims, _outcomes(claims, draw, conditions), strict=True
            )
        )
    # The smallest drop that n images detect is that of an n which was known before.
    return replace(
        judgement, findings=findings, detects=math.nan, of_images=total, of_groups=of_groups
    )


def _settling(
    images: ImagesInOrder,
    method: Method,
    metric: ConfiguredMetric,
    names: Sequence[str],
    conditions: Conditions,
    draw: Draw,
) -> tuple[Measurement, dict[str, Measurement]]:
    """Return the measurements of as many images as settle the conditions, all at most."""
    for seen in images.looks:
        measurement = images.first(seen, method, metric)
        nulls: dict[str, Measurement] = {}
        too_many = len(measurement.undefined) > conditions.undefined
        if not len(measurement.defined):
            if too_many:
                break
            continue
        nulls = {name: images.first(seen, method, metric, name) for name in names}
        if seen == images.looks[-1]:
            break
        settled = too_many or _is_settled(
            _outcomes(_claims(measurement, nulls, conditions, draw.images), draw, conditions)
        )
        if settled and _can_be_shown(measurement, nulls, conditions):
            break
    return measurement, nulls


def _claims(
    measurement: Measurement, nulls: Mapping[str, Measurement], conditions: Conditions, total: int
) -> list[list[Claim]]:
    """Return what each condition claims, in the order in which a gate decides them."""
    metric, values = measurement.metric.metric, measurement.values
    low, high = metric.range
    claims: list[list[Claim]] = []
    if conditions.above is not None or conditions.below is not None:
        units = measurement.of_units(values)
        claims.append([_claim_of_threshold(units, (low, high), conditions, total)])
    sign = 1.0 if metric.better == "higher" else -1.0
    span = high - low
    for name in conditions.beats:
        gains = measurement.of_units(sign * (values - nulls[name].values))
        claims.append([MeanClaim(gains, -span, span, float(np.nextafter(0, 1)), above=True)])
    if conditions.skill_above is not None:
        claims.append(
            [
                SkillClaim(
                    *_losses(measurement, nulls[name]), span=span, threshold=conditions.skill_above
                )
                for name in skill_nulls(measurement.metric)
            ]
        )
    return claims


def _claim_of_threshold(
    values: Float64, bounds: tuple[float, float], conditions: Conditions, total: int
) -> Claim:
    above, threshold = edge_of(conditions)
    if not conditions.of_each_image:
        return MeanClaim(values, *bounds, threshold, above)
    missing = np.isnan(values)
    right = meets(values, conditions)
    if conditions.mostly is not None:
        shares: Float64 = np.where(missing, np.nan, right)
        return MeanClaim(shares, 0.0, 1.0, conditions.mostly, above=True)
    # An image without a value is no failure.
    failures: Float64 = np.where(right | missing, 0.0, float(total))
    return MeanClaim(failures, 0.0, float(total), float(conditions.max_failures or 0), above=False)


def _losses(measurement: Measurement, null: Measurement) -> tuple[Float64, Float64]:
    """Return how far each unit is from perfect, and how far its null map; NaN in both or none."""
    perfect = measurement.metric.metric.perfect
    losses, null_losses = np.abs(perfect - measurement.values), np.abs(perfect - null.values)
    missing = np.isnan(losses) | np.isnan(null_losses)
    losses, null_losses = (np.where(missing, np.nan, one) for one in (losses, null_losses))
    return measurement.of_units(losses), measurement.of_units(null_losses)


def _outcomes(
    claims: Sequence[Sequence[Claim]], draw: Draw, conditions: Conditions
) -> list[Outcome]:
    count = sum(map(len, claims))
    return [
        outcome_of(of_one, draw, confidence=conditions.confidence, of_claims=count)
        for of_one in claims
    ]


def _is_settled(outcomes: Sequence[Outcome]) -> bool:
    return "fail" in outcomes or all(outcome == "pass" for outcome in outcomes)


def _can_be_shown(
    measurement: Measurement, nulls: Mapping[str, Measurement], conditions: Conditions
) -> bool:
    """Return whether what came has a value for every condition.

    Not where no image has a value both of the method and of a null map, nor a skill score where a
    null map is perfect on all that came.
    """
    paired = all(
        (~np.isnan(measurement.values + nulls[name].values)).any() for name in conditions.beats
    )
    if conditions.skill_above is None or not paired:
        return paired
    losses = [_losses(measurement, nulls[name])[1] for name in skill_nulls(measurement.metric)]
    return all(np.nansum(one) > 0 for one in losses)


def _exact(found: Finding) -> Finding:
    """Return a finding on the mean of a set whose images have all come."""
    return replace(
        found,
        interval=Interval(found.value, found.value, found.interval.confidence),
        outcome="pass" if found.holds else "fail",
        settled_by=None,
    )


def _by_sequence(
    found: Finding,
    claims: Sequence[Claim],
    outcome: Outcome,
    draw: Draw,
    conditions: Conditions,
) -> Finding:
    """Return a finding with the interval and the outcome of its sequences."""
    return replace(
        found,
        interval=interval_of(claims, draw, confidence=conditions.confidence),
        outcome=outcome,
        holds=found.holds if outcome == "inconclusive" else outcome == "pass",
        settled_by=None,
    )
