"""A gate: one metric of one method held against a threshold, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xai_core.arrays import Float64
from xai_core.evaluation import Evaluation, Measurement, Method
from xai_core.explainers import NULL_MAPS
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
    smallest_detectable_drop,
    verdict,
)

Level = Literal["fail", "warn"]

WORST_SHOWN = 5


@dataclass(frozen=True)
class Conditions:
    """What a gate demands of a metric; all that are set must hold.

    Args:
        above: the mean over images must be at least this.
        below: the mean over images must be at most this.
        mostly: with ``above`` or ``below``: not the mean, but at least this share of the images
            must each be on the right side.
        beats: null maps that the mean must be better than, on the same images.
        skill_above: the skill score over the best null map must be at least this.
        undefined: how many images may have no value.
        confidence: of the intervals.
    """

    above: float | None = None
    below: float | None = None
    mostly: float | None = None
    beats: tuple[str, ...] = ()
    skill_above: float | None = None
    undefined: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in ("above", "below", "skill_above"):
            value = getattr(self, name)
            require(value is None or math.isfinite(value), f"`{name}` must be a finite number")
        require(
            self.above is None or self.below is None,
            "`above` and `below` exclude each other; make two gates",
        )
        require(
            self.above is not None
            or self.below is not None
            or bool(self.beats)
            or self.skill_above is not None,
            "a gate needs a threshold with its direction: `above`, `below`, `beats` or "
            "`skill_above`",
        )
        require(
            self.mostly is None or 0 < self.mostly <= 1,
            f"`mostly` is a share of the images, above 0 and at most 1, got {self.mostly}",
        )
        require(
            self.mostly is None or self.above is not None or self.below is not None,
            "`mostly` needs `above` or `below` to say what each image must meet",
        )
        for null in self.beats:
            require(null in NULL_MAPS, f"`beats` names null maps {NULL_MAPS}, got {null!r}")
        require(self.undefined >= 0, "`undefined` is a number of images, 0 or more")
        require(0 < self.confidence < 1, "`confidence` must lie between 0 and 1")


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


@dataclass(frozen=True)
class Judgement:
    """What came of a gate.

    Attributes:
        model: name of the classifier; empty for values without one.
        measurement: the values.
        findings: one for each condition.
        images: number of images that have a value.
        detects: the smallest drop of the mean that so many images would have shown.
        too_many_undefined: a sentence where more images have no value than the gate allows.
        nulls: null map -> its mean on the same images, where one was asked for.
    """

    model: str
    measurement: Measurement
    conditions: Conditions
    findings: tuple[Finding, ...]
    detects: float
    too_many_undefined: str | None
    nulls: dict[str, float]

    @property
    def images(self) -> int:
        """Number of images that have a value."""
        return len(self.measurement.defined)

    @property
    def outcome(self) -> Outcome:
        """Fail if anything is proven wrong, pass if all is proven right, else inconclusive."""
        if self.too_many_undefined or any(found.outcome == "fail" for found in self.findings):
            return "fail"
        proven = all(found.outcome == "pass" for found in self.findings)
        return "pass" if proven else "inconclusive"

    def passes(self, *, strict: bool = False) -> bool:
        """Return whether every value is on the right side; ``strict``: whether that is proven."""
        if self.too_many_undefined:
            return False
        if strict:
            return self.outcome == "pass"
        return all(found.holds for found in self.findings)

    def headline(self, *, strict: bool = False) -> str:
        """Return the one line that says what decided: the first finding that fails, or all."""
        subject = f"{self.measurement.metric.metric.name}[{self.measurement.method}]"
        if self.model:
            subject += f" {self.model}"
        if self.too_many_undefined:
            return f"{subject}: {self.too_many_undefined}"
        failing = [
            found
            for found in self.findings
            if not (found.outcome == "pass" if strict else found.holds)
        ]
        shown = failing[:1] or list(self.findings)
        texts = "; ".join(self._with_evidence(found, strict=strict) for found in shown)
        return f"{subject}: {texts}"

    def worst_images(self) -> list[tuple[str, float | None, str]]:
        """Return name, value and remark of the images that speak most against the gate.

        Images without a value come first.
        """
        measurement = self.measurement
        names = measurement.names
        rows: list[tuple[str, float | None, str]] = [
            (names[index], None, why) for index, why in sorted(measurement.undefined.items())
        ]
        order = np.argsort(measurement.values, kind="stable")
        order = order[~np.isnan(measurement.values[order])]
        if measurement.metric.metric.better == "lower":
            order = order[::-1]
        rows += [(names[index], float(measurement.values[index]), "") for index in order]
        return rows[:WORST_SHOWN]

    def _with_evidence(self, found: Finding, *, strict: bool) -> str:
        parts = [str(found.interval), f"n={self.images}"]
        if not math.isnan(self.detects):
            parts.append(f"detects {self.detects:.3f}")
        text = f"{found.text} ({', '.join(parts)})"
        if strict and found.outcome == "inconclusive":
            text += ": not proven"
            if found.settled_by is not None:
                text += f", about {found.settled_by} images would settle it"
        return text


def judge(
    evaluation: Evaluation, method: Method, metric: ConfiguredMetric, conditions: Conditions
) -> Judgement:
    """Measure ``metric`` of ``method`` and hold it against ``conditions``.

    Raises:
        XaiError: the images or the method lack what the metric needs.
    """
    measurement = evaluation.measure(method, metric)
    of_skill = () if conditions.skill_above is None else skill_nulls(metric)
    names = dict.fromkeys([*conditions.beats, *of_skill])
    nulls = {name: evaluation.measure_null(name, method, metric) for name in names}
    return judge_values(
        measurement, conditions, model=evaluation.classifier.name, nulls=nulls, seed=evaluation.seed
    )


def skill_nulls(metric: ConfiguredMetric) -> tuple[str, ...]:
    """Return the null maps that a skill score is over: those that know nothing of the model.

    Where a metric explains anew, the inverted map follows the model as closely as the map itself.
    """
    explains = {"explain", "explained_by"} & set(metric.metric.needs)
    return tuple(name for name in NULL_MAPS if not (explains and name == "inverted"))


def judge_values(
    measurement: Measurement,
    conditions: Conditions,
    *,
    model: str,
    nulls: dict[str, Measurement],
    seed: int = 0,
) -> Judgement:
    """Hold values that were measured already against ``conditions``; see `judge`.

    Args:
        measurement: of the method.
        conditions: what is demanded.
        model: name of the classifier, for the message.
        nulls: null map -> its measurement on the same images, for every null map needed.
        seed: of the intervals' resampling.
    """
    metric = measurement.metric.metric
    undefined = len(measurement.undefined)
    complaint = None
    if undefined > conditions.undefined or len(measurement.defined) == 0:
        index, why = next(iter(sorted(measurement.undefined.items())))
        complaint = (
            f"{undefined} of {len(measurement.values)} images undefined, "
            f"{conditions.undefined} allowed ({measurement.names[index]}: {why})"
        )
    findings: list[Finding] = []
    if len(measurement.defined):
        if conditions.above is not None or conditions.below is not None:
            findings.append(_compare_with_threshold(measurement, conditions, seed))
        findings += [
            _compare_with_null(measurement, nulls[name], conditions, seed)
            for name in conditions.beats
        ]
        if conditions.skill_above is not None:
            known = {name: nulls[name] for name in skill_nulls(measurement.metric) if name in nulls}
            findings.append(_compare_skill(measurement, known, conditions, metric.perfect, seed))
    return Judgement(
        model=model,
        measurement=measurement,
        conditions=conditions,
        findings=tuple(findings),
        detects=smallest_detectable_drop(measurement.defined),
        too_many_undefined=complaint,
        nulls={name: null.mean for name, null in nulls.items()},
    )


def _finding(
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


def _compare_with_threshold(measurement: Measurement, conditions: Conditions, seed: int) -> Finding:
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
        return _finding(value, threshold, interval, len(values), text, above=above)
    meets = (values >= threshold) if above else (values <= threshold)
    share = float(meets.mean())
    interval = mean_interval(
        meets.astype(np.float64), confidence=conditions.confidence, bounds=(0.0, 1.0), seed=seed
    )
    text = (
        f"{share:.3f} of the images {'>=' if above else '<='} {threshold:.3f}, "
        f"{_sign(share, conditions.mostly, above=True)} {conditions.mostly:.3f}"
    )
    return _finding(share, conditions.mostly, interval, len(values), text, above=True)


def _compare_with_null(
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
    return _finding(value, threshold, interval, len(values), text, above=True)


def _compare_skill(
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
    return _finding(value, threshold, interval, len(values), text, above=True)


def _paired(measurement: Measurement, null: Measurement) -> tuple[Float64, Float64]:
    both = ~np.isnan(measurement.values) & ~np.isnan(null.values)
    require(
        bool(both.any()),
        f"no image has a value both for {measurement.method} and for the null map {null.method}",
    )
    return measurement.values[both], null.values[both]
