"""``--xai-calibrate``: a gate measured with several seeds instead of held."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_xai.thresholds import GateSpec, ThresholdFile, read_thresholds
from xai_core.calibration import Calibration, calibrated, largest_difference
from xai_core.errors import XaiError
from xai_core.gate import Judgement, judge, skill_nulls
from xai_core.metrics import METRICS

if TYPE_CHECKING:
    from pytest_xai.items import Subject
    from pytest_xai.session import XaiSession


class NotDeterministicError(XaiError):
    """What has no seed gave two results for the same images."""


def calibrate(
    session: XaiSession,
    subject: Subject,
    path: Path,
    plan: ThresholdFile,
    gate: GateSpec,
    first: Judgement,
) -> tuple[Calibration, ...]:
    """Return what a gate does on other seeds, all of them on the same images.

    Each seed is that of everything random that the threshold file gives none. Where nothing is
    random, the gate is measured once more, from nothing, and must give the same.

    Args:
        session: the run's.
        subject: model and image set.
        path: of the threshold file.
        plan: what it says with the run's own seed.
        gate: one of its gates.
        first: what came of it with the run's own seed.

    Raises:
        NotDeterministicError: it did not give the same.
        XaiError: it cannot be measured.
    """
    if not first.findings:
        raise XaiError(first.too_many_undefined or "no image has a value")
    settings, seed = session.settings, session.sources.seed
    others = [
        _gate_of(read_thresholds(path, shown=plan.shown, seed=seed + step), gate)
        for step in range(1, settings.calibrate or 1)
    ]
    seeded_part, random_null = _has_seeded_part(gate), _has_random_null(gate)
    varies = seeded_part or any(_settings_of(other) != _settings_of(gate) for other in others)
    deterministic = not varies and not random_null
    # An explainer without a seed is asked once for all seeds of a metric, unless the seed is the
    # evaluation's own.
    step_of_evaluation = 1 if seeded_part or random_null else 0
    again = []
    for step, other in enumerate(others[:1] if deterministic else others, start=1):
        evaluation = session.evaluation_afresh(
            subject.model, plan, subject.data, seed=seed + step * step_of_evaluation
        )
        again.append(judge(evaluation, other.method, other.metric, other.conditions))
    if not varies:
        _require_equal(first, again[0])
    measured = [first] if deterministic else [first, *again]
    return calibrated(measured, rate=settings.calibrate_rate, seed=seed)


def _require_equal(first: Judgement, again: Judgement) -> None:
    difference, image = largest_difference(first, again)
    if difference:
        means = abs(first.measurement.mean - again.measurement.mean)
        msg = (
            f"not deterministic: it has no seed, yet two measurements of the same images differ, "
            f"by {means:.3g} in the mean and up to {difference:.3g} on an image ({image}); give "
            "what is random in it a `seed`"
        )
        raise NotDeterministicError(msg)


def _gate_of(plan: ThresholdFile, gate: GateSpec) -> GateSpec:
    """Return the same gate as it is with another seed."""
    return next(
        other
        for other in plan.gates
        if (other.method.name, other.name) == (gate.method.name, gate.name)
    )


def _settings_of(gate: GateSpec) -> tuple[object, ...]:
    return gate.method.identity, gate.metric


def _has_random_null(gate: GateSpec) -> bool:
    of_skill = () if gate.conditions.skill_above is None else skill_nulls(gate.metric)
    return "random" in (*gate.conditions.beats, *of_skill)


def _has_seeded_part(gate: GateSpec) -> bool:
    """Return whether the metric is made of one that takes the evaluation's seed."""
    metric = gate.metric
    parts = [need for need in metric.metric.needs if need in METRICS]
    return any(metric.part(need, seed=0) != metric.part(need, seed=1) for need in parts)
