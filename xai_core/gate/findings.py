"""The conditions of a gate, decided one by one: a threshold, a null map, a skill score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from xai_core.arrays import Bool, Float64
from xai_core.explainers import NULL_MAPS
from xai_core.gate.conditions import Conditions
from xai_core.measurement import Measurement
from xai_core.metrics import ConfiguredMetric
from xai_core.parameters import require
from xai_core.statistics import (
    Interval,
    Outcome,
    exact_mean,
    images_to_settle,
    mean_interval,
    skill,
    skill_interval,
    verdict,
)


@dataclass(frozen=True)
class Finding:
    """One condition of a gate, decided.

    Attributes:
        value: what was compared: a mean, a share, a difference or a skill score.
        threshold: what it was compared with.
        above: whether the value must be at least (else at most) the threshold.
        interval: confidence interval of ``value``.
        outcome: what the interval proves.
        holds: whether the value itself is on the right side.
        text: the comparison as a person reads it, e.g. ``"0.412 < 0.450"``.
        settled_by: about how many images would settle an inconclusive outcome.
        images: of how many images (or groups of them) the value is, where not of all that have one.
        units: what ``value`` is the mean of, one number per image or group of images, float64
            ``[n]``; several where
            each must meet the threshold, and ``value`` is the worst of their means.
        bounds: smallest and largest possible value.
    """

    value: float
    threshold: float
    above: bool
    interval: Interval
    outcome: Outcome
    holds: bool
    text: str
    settled_by: int | None = None
    images: int | None = None
    units: tuple[Float64, ...] = field(default=(), repr=False, compare=False)
    bounds: tuple[float, float] = (-math.inf, math.inf)


def skill_nulls(metric: ConfiguredMetric) -> tuple[str, ...]:
    """Return the null maps that a skill score is over: those that know nothing of the model.

    Where a metric explains anew, the inverted map follows the model as closely as the map itself.
    """
    explains = {"explain", "explained_by"} & set(metric.metric.needs)
    return tuple(name for name in NULL_MAPS if not (explains and name == "inverted"))


def edge_of(conditions: Conditions) -> tuple[bool, float]:
    """Return whether values must be at least (else at most) the threshold, and the threshold."""
    if conditions.above is not None:
        return True, conditions.above
    if conditions.below is not None:
        return False, conditions.below
    msg = "a threshold comparison without a threshold"
    raise ValueError(msg)


def meets(values: Float64, conditions: Conditions) -> Bool:
    """Return whether each value is on the right side of the threshold; one that is NaN is not."""
    above, threshold = edge_of(conditions)
    return values >= threshold if above else values <= threshold


def _decided(
    value: float,
    threshold: float,
    interval: Interval,
    text: str,
    *,
    above: bool,
    units: Float64,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Finding:
    holds = value >= threshold if above else value <= threshold
    outcome = verdict(interval, threshold, above=above)
    settled = None
    if outcome == "inconclusive":
        settled = images_to_settle(interval, value, threshold, len(units))
    return Finding(
        value,
        threshold,
        above,
        interval,
        outcome,
        holds,
        text,
        settled,
        units=(units,),
        bounds=bounds,
    )


def sign_of(value: float, threshold: float, *, above: bool) -> str:
    """Return the comparison that is true, as it reads when the gate's own is meant."""
    if above:
        return ">=" if value >= threshold else "<"
    return "<=" if value <= threshold else ">"


def compare_with_threshold(measurement: Measurement, conditions: Conditions, seed: int) -> Finding:
    """Hold the mean, or each image, against ``above`` or ``below``."""
    metric, values = measurement.metric.metric, measurement.units
    above, threshold = edge_of(conditions)
    if conditions.of_each_image:
        noun = "group" if measurement.in_groups else "image"
        return _compare_each(values, conditions, seed, noun=noun)
    value = exact_mean(values)
    interval = mean_interval(
        values, confidence=conditions.confidence, bounds=metric.range, seed=seed
    )
    text = f"{value:.3f} {sign_of(value, threshold, above=above)} {threshold:.3f}"
    return _decided(
        value, threshold, interval, text, above=above, units=values, bounds=metric.range
    )


def _compare_each(values: Float64, conditions: Conditions, seed: int, *, noun: str) -> Finding:
    """Hold each value against the threshold, and their share or number against what is allowed."""
    above, threshold = edge_of(conditions)
    right = meets(values, conditions)
    if conditions.mostly is not None:
        share, bounds = float(right.mean()), (0.0, 1.0)
        units = right.astype(np.float64)
        interval = mean_interval(units, confidence=conditions.confidence, bounds=bounds, seed=seed)
        text = (
            f"{share:.3f} of the {noun}s {'>=' if above else '<='} {threshold:.3f}, "
            f"{sign_of(share, conditions.mostly, above=True)} {conditions.mostly:.3f}"
        )
        return _decided(
            share, conditions.mostly, interval, text, above=True, units=units, bounds=bounds
        )
    allowed, failures = float(conditions.max_failures or 0), float((~right).sum())
    # The share of failures on a scale of images: its interval is as exact as that of a share.
    bounds = (0.0, float(len(values)))
    units = np.where(right, *bounds)
    interval = mean_interval(units, confidence=conditions.confidence, bounds=bounds, seed=seed)
    text = (
        f"{failures:.0f} {noun}{'' if failures == 1 else 's'} {'<' if above else '>'} "
        f"{threshold:.3f}, {allowed:.0f} allowed"
    )
    return _decided(failures, allowed, interval, text, above=False, units=units, bounds=bounds)


def compare_with_null(
    measurement: Measurement, null: Measurement, conditions: Conditions, seed: int
) -> Finding:
    """Hold the gain over a null map on the same images against 0."""
    values, null_values = _paired(measurement, null)
    better = 1.0 if measurement.metric.metric.better == "higher" else -1.0
    gain: Float64 = better * (values - null_values)
    value = exact_mean(gain)
    interval = mean_interval(gain, confidence=conditions.confidence, seed=seed)
    # Equal is not better: the smallest number above zero makes the comparison strict.
    threshold = float(np.nextafter(0, 1))
    text = (
        f"{values.mean():.3f} {'beats' if value > 0 else 'does not beat'} {null.method} "
        f"{null_values.mean():.3f}, gain {value:+.3f}"
    )
    return _decided(value, threshold, interval, text, above=True, units=gain)


def compare_skill(
    measurement: Measurement,
    nulls: dict[str, Measurement],
    conditions: Conditions,
    perfect: float,
    seed: int,
) -> Finding:
    """Hold the skill score over the best of ``nulls`` against ``skill_above``."""
    sign = 1.0 if measurement.metric.metric.better == "higher" else -1.0
    measured = [null for null in nulls.values() if len(null.defined)]
    require(bool(measured), "no null map has a value on any image, so there is no skill score")
    best = max(measured, key=lambda null: sign * null.mean)
    values, null_values = _paired(measurement, best)
    threshold = conditions.skill_above if conditions.skill_above is not None else math.nan
    value = skill(float(values.mean()), float(null_values.mean()), perfect=perfect)
    interval = skill_interval(
        values, null_values, perfect=perfect, confidence=conditions.confidence, seed=seed
    )
    text = (
        f"skill {value:.3f} over {best.method} ({values.mean():.3f} against "
        f"{null_values.mean():.3f}) {sign_of(value, threshold, above=True)} {threshold:.3f}"
    )
    # The skill score is no mean, but near its value it moves as the mean of these does.
    possible = perfect - null_values
    units = value + (values - null_values - value * possible) / possible.mean()
    return _decided(value, threshold, interval, text, above=True, units=units)


def _paired(measurement: Measurement, null: Measurement) -> tuple[Float64, Float64]:
    both = ~np.isnan(measurement.values) & ~np.isnan(null.values)
    require(
        bool(both.any()),
        f"no image has a value both for {measurement.method} and for the null map {null.method}",
    )
    paired = (
        measurement.of_units(np.where(both, one.values, np.nan)) for one in (measurement, null)
    )
    values, null_values = (one[~np.isnan(one)] for one in paired)
    return values, null_values
