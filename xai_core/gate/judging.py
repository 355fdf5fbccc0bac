"""From a metric and conditions to a judgement."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from xai_core.evaluation import Evaluation
from xai_core.gate.conditions import Conditions
from xai_core.gate.findings import (
    Finding,
    compare_skill,
    compare_with_null,
    compare_with_threshold,
    skill_nulls,
)
from xai_core.gate.judgement import Judgement
from xai_core.gate.slices import compare_classes, slices_of
from xai_core.measurement import Measurement, Method
from xai_core.metrics import ConfiguredMetric
from xai_core.parameters import require
from xai_core.statistics import mean_interval, smallest_detectable_drop


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
        measurement,
        conditions,
        model=evaluation.classifier.name,
        nulls=nulls,
        seed=evaluation.seed,
        classes=classes_of(evaluation),
    )


def classes_of(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the name of each image's target class: its index where it has no name of its own."""
    known = evaluation.images.classes
    used = Counter(known.values())
    return tuple(
        known[target] if used[known.get(target, "")] == 1 else f"{target}"
        for target in evaluation.targets.tolist()
    )


def judge_values(
    measurement: Measurement,
    conditions: Conditions,
    *,
    model: str,
    nulls: dict[str, Measurement],
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> Judgement:
    """Hold values that were measured already against ``conditions``; see `judge`.

    Args:
        measurement: of the method; images of one group count as one.
        conditions: what is demanded.
        model: name of the classifier, for the message.
        nulls: null map -> its measurement on the same images, for every null map needed.
        seed: of the intervals' resampling.
        classes: name of each image's class; None where they have none.

    Raises:
        ParameterError: ``per_class`` of images without classes, or a null map or a skill score
            that nothing can be said of.
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
        if conditions.per_class:
            require(classes is not None, "`per_class` needs images whose classes are known")
            findings.append(compare_classes(measurement, classes or (), conditions, seed))
        elif conditions.above is not None or conditions.below is not None:
            findings.append(compare_with_threshold(measurement, conditions, seed))
        findings += [
            compare_with_null(measurement, nulls[name], conditions, seed)
            for name in conditions.beats
        ]
        if conditions.skill_above is not None:
            known = {name: nulls[name] for name in skill_nulls(measurement.metric) if name in nulls}
            findings.append(compare_skill(measurement, known, conditions, metric.perfect, seed))
    return Judgement(
        model=model,
        measurement=measurement,
        conditions=conditions,
        findings=tuple(findings),
        detects=_detects(measurement, conditions, findings, seed),
        too_many_undefined=complaint,
        nulls={name: null.mean for name, null in nulls.items()},
        classes=() if classes is None else slices_of(measurement, classes),
    )


def _detects(
    measurement: Measurement, conditions: Conditions, findings: Sequence[Finding], seed: int
) -> float:
    """Return the smallest drop that so many images would prove; NaN of less than two.

    Of what the threshold is about, the mean or how many images are on its right side; of the mean
    where there is no threshold or one for each class. One image of a bounded metric has the whole
    range for an interval: it detects nothing.
    """
    units = measurement.units
    if len(units) < 2:
        return math.nan
    if conditions.of_the_mean or conditions.of_each_image:
        return smallest_detectable_drop(findings[0].interval)
    bounds, confidence = measurement.metric.metric.range, conditions.confidence
    return smallest_detectable_drop(
        mean_interval(units, confidence=confidence, bounds=bounds, seed=seed)
    )
