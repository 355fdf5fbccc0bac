"""The conditions of a gate, decided one by one: a threshold, a null map, a skill score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xai_core.arrays import Float64
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
    """

    value: float
    threshold: float
    above: bool
    interval: Interval
    outcome: Outcome
    holds: bool
    text: str
    settled_by: int | None = None


def skill_nulls(metric: ConfiguredMetric) -> tuple[str, ...]:
    """Return the null maps that a skill score is over: those that know nothing of the model.

    Where a metric explains anew, the inverted map follows the model as closely as the map itself.
    """
    explains = {"explain", "explained_by"} & set(metric.metric.needs)
    return tuple(name for name in NULL_MAPS if not (explains and name == "inverted"))


def _decided(
    value: float, threshold: float, interval: Interval, n: int, text: str, *, above: bool
) -> Finding:
    holds = value >= threshold if above else value <= threshold
    outcome = verdict(interval, threshold, above=above)
    settled = images_to_settle(interval, value, threshold, n) if outcome == "inconclusive" else None
    return Finding(value, threshold, above, interval, outcome, holds, text, settled)


def _sign(value: float, threshold: float, *, above: bool) -> str:
    """Return the comparison that is true, as it reads when the gate's own is meant."""
    if above:
        return ">=" if value >= threshold else "<"
    return "<=" if value <= threshold else ">"


def compare_with_threshold(measurement: Measurement, conditions: Conditions, seed: int) -> Finding:
    metric, values = measurement.metric.metric, measurement.defined
    above = conditions.above is not None
    threshold = conditions.above if conditions.above is not None else conditions.below
    if threshold is None:
        msg = "a threshold comparison without a threshold"
        raise ValueError(msg)
    if conditions.mostly is None:
        value = exact_mean(values)
        interval = mean_interval(
            values, confidence=conditions.confidence, bounds=metric.range, seed=seed
        )
        text = f"{value:.3f} {_sign(value, threshold, above=above)} {threshold:.3f}"
        return _decided(value, threshold, interval, len(values), text, above=above)
    meets = (values >= threshold) if above else (values <= threshold)
    share = float(meets.mean())
    interval = mean_interval(
        meets.astype(np.float64), confidence=conditions.confidence, bounds=(0.0, 1.0), seed=seed
    )
    text = (
        f"{share:.3f} of the images {'>=' if above else '<='} {threshold:.3f}, "
        f"{_sign(share, conditions.mostly, above=True)} {conditions.mostly:.3f}"
    )
    return _decided(share, conditions.mostly, interval, len(values), text, above=True)


def compare_with_null(
    measurement: Measurement, null: Measurement, conditions: Conditions, seed: int
) -> Finding:
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
    return _decided(value, threshold, interval, len(values), text, above=True)


def compare_skill(
    measurement: Measurement,
    nulls: dict[str, Measurement],
    conditions: Conditions,
    perfect: float,
    seed: int,
) -> Finding:
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
        f"{null_values.mean():.3f}) {_sign(value, threshold, above=True)} {threshold:.3f}"
    )
    return _decided(value, threshold, interval, len(values), text, above=True)


def _paired(measurement: Measurement, null: Measurement) -> tuple[Float64, Float64]:
    both = ~np.isnan(measurement.values) & ~np.isnan(null.values)
    require(
        bool(both.any()),
        f"no image has a value both for {measurement.method} and for the null map {null.method}",
    )
    return measurement.values[both], null.values[both]
