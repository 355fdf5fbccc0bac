"""From a metric and conditions to a judgement."""

from __future__ import annotations

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
from xai_core.measurement import Measurement, Method
from xai_core.metrics import ConfiguredMetric
from xai_core.statistics import smallest_detectable_drop


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
        detects=smallest_detectable_drop(measurement.defined, confidence=conditions.confidence),
        too_many_undefined=complaint,
        nulls={name: null.mean for name, null in nulls.items()},
    )
