"""What a test reports of its gates and measurements, in builtin types only.

Workers of pytest-xdist send it to the controller as an attribute of the test's report; NumPy
scalars would end the run there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypedDict

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_xai.neighbour_thresholds import NeighbourSpec
    from pytest_xai.thresholds import GateSpec
    from xai_core.evaluation import Cost, Evaluation, Measurement, Stage
    from xai_core.gate import Judgement

    CostKey: TypeAlias = tuple[Stage, str]


Subject: TypeAlias = tuple[str, str]
"""A model and an image set, by their names."""


class GateRow(TypedDict):
    """One gate, as the table and the JSON file show it; ``error`` = it could not be measured.

    ``data`` names the image set here and elsewhere, ``explainer`` the explainer with all its
    parameters and post-processing.
    """

    model: str
    data: str
    file: str
    line: int
    method: str
    explainer: str
    gate: str
    metric: str
    protocol: str
    level: str
    passed: bool
    outcome: str
    demands: list[Demand]
    mean: float | None
    images: int
    undefined: int
    undefined_allowed: int
    detects: float | None
    error: str | None


class Demand(TypedDict):
    """One condition of a gate; ``of`` says what was compared where it is not the mean."""

    of: str
    value: float
    threshold: float
    above: bool
    low: float | None
    high: float | None
    outcome: str
    holds: bool
    text: str


class Record(TypedDict):
    """One measurement: one metric of one explainer on one image."""

    model: str
    data: str
    image: str
    target: int
    method: str
    explainer: str
    parameters: dict[str, object]
    postprocess: list[str]
    metric: str
    protocol: str
    settings: dict[str, object]
    value: float | None
    undefined: str | None


class ModelFacts(TypedDict):
    """What is known of a model and its images.

    ``masks_from`` is what predicted the masks, None where they are annotated or there are none.
    """

    name: str
    fingerprint: str
    classes: int
    device: str
    data: str
    images: int
    accuracy: float | None
    transform: str
    masks_from: str | None


class CostRow(TypedDict):
    """What explaining with a method, or measuring a metric, took; workers' rows are added up.

    ``looked_up`` results of single images were looked for in the cache, and ``found`` of them were
    there.
    """

    model: str
    data: str
    stage: str
    name: str
    forwards: int
    gradients: int
    seconds: float
    looked_up: int
    found: int


class CacheUse(TypedDict):
    """How much of a run came from a cache: of how many results of single images, and which."""

    folder: str
    looked_up: int
    found: int


def unmeasured(
    model: str, gate: GateSpec | NeighbourSpec, *, data: str, file: str, error: str
) -> GateRow:
    """Return the row of a gate that could not be measured."""
    return GateRow(
        model=model,
        data=data,
        file=file,
        line=gate.line,
        method=gate.method.name,
        explainer=gate.method.identity,
        gate=gate.name,
        metric=gate.metric.metric.name,
        protocol=gate.metric.protocol,
        level=gate.level,
        passed=False,
        outcome="error",
        demands=[],
        mean=None,
        images=0,
        undefined=0,
        undefined_allowed=gate.conditions.undefined,
        detects=None,
        error=error,
    )


def judged(row: GateRow, judgement: Judgement, *, strict: bool) -> GateRow:
    """Return the row with what came of its gate."""
    row = row.copy()
    row["passed"] = judgement.passes(strict=strict)
    row["outcome"] = judgement.outcome
    row["demands"] = _demands(judgement)
    row["mean"] = _finite(judgement.measurement.mean)
    row["images"] = judgement.images
    row["undefined"] = len(judgement.measurement.undefined)
    row["detects"] = _finite(judgement.detects)
    row["error"] = None
    return row


def _demands(judgement: Judgement) -> list[Demand]:
    conditions = judgement.conditions
    labels: list[str] = []  # in the order in which a gate decides its conditions
    if conditions.mostly is not None:
        above = conditions.above is not None
        side = f">= {conditions.above:.3f}" if above else f"<= {conditions.below:.3f}"
        labels.append(f"each {side}")
    elif conditions.above is not None or conditions.below is not None:
        labels.append("")
    labels += [f"over {null}" for null in conditions.beats]
    labels += ["skill"] if conditions.skill_above is not None else []
    return [
        Demand(
            of=label,
            value=float(found.value),
            threshold=float(found.threshold),
            above=found.above,
            low=_finite(found.interval.low),
            high=_finite(found.interval.high),
            outcome=found.outcome,
            holds=found.holds,
            text=found.text,
        )
        # No findings at all where no image has a value.
        for label, found in zip(labels, judgement.findings, strict=bool(judgement.findings))
    ]


def records(evaluation: Evaluation, measurement: Measurement, *, data: str) -> list[Record]:
    """Return one record for each image of a measurement."""
    from xai_core.parameters import as_dict, identity

    configured, method = measurement.metric, measurement.made_by
    explainer = method.explainer if method else None
    steps = method.postprocess if method else ()
    return [
        Record(
            model=evaluation.classifier.name,
            data=data,
            image=name,
            target=int(evaluation.targets[index]),
            method=measurement.method,
            explainer=explainer.kind if explainer else measurement.method,
            parameters=as_dict(explainer) if explainer else {},
            postprocess=[identity(step.name, step) for step in steps],
            metric=configured.metric.name,
            protocol=configured.protocol,
            settings=dict(configured.settings),
            value=_finite(float(measurement.values[index])),
            undefined=measurement.undefined.get(index),
        )
        for index, name in enumerate(measurement.names)
    ]


def model_facts(evaluation: Evaluation, *, data: str) -> ModelFacts:
    """Return what is known of the model and the images of an evaluation."""
    return ModelFacts(
        name=evaluation.classifier.name,
        fingerprint=evaluation.classifier.fingerprint,
        classes=int(evaluation.classifier.num_classes),
        device=evaluation.classifier.device,
        data=data,
        images=len(evaluation.images),
        accuracy=evaluation.accuracy,
        transform=str(evaluation.images.transform),
        masks_from=evaluation.images.masks_from,
    )


def masks_note(masks_from: str) -> str:
    """Return the words that mark predicted masks.

    >>> masks_note("Segment Anything, models/sam, at the middle of the image")
    'masks predicted by Segment Anything, models/sam, at the middle of the image, not drawn'
    """
    return f"masks predicted by {masks_from}, not drawn"


def cost_rows(
    evaluation: Evaluation, reported: Mapping[CostKey, Cost], *, data: str
) -> list[CostRow]:
    """Return what the parts of an evaluation took beyond what was ``reported``."""
    from xai_core.evaluation import Cost

    rows = []
    for (stage, name), cost in evaluation.costs.items():
        before = reported.get((stage, name), Cost())
        if cost != before:
            row = CostRow(
                model=evaluation.classifier.name,
                data=data,
                stage=stage,
                name=name,
                forwards=cost.forwards - before.forwards,
                gradients=cost.gradients - before.gradients,
                seconds=cost.seconds - before.seconds,
                looked_up=cost.looked_up - before.looked_up,
                found=cost.found - before.found,
            )
            rows.append(row)
    return rows


def added_up(rows: Iterable[CostRow]) -> list[CostRow]:
    """Return one row for each part of each evaluation, however many workers had a share in it."""
    total: dict[tuple[str, ...], CostRow] = {}
    for row in rows:
        key = (row["model"], row["data"], row["stage"], row["name"])
        if key not in total:
            total[key] = row.copy()
            continue
        known = total[key]
        known["forwards"] += row["forwards"]
        known["gradients"] += row["gradients"]
        known["seconds"] += row["seconds"]
        known["looked_up"] += row["looked_up"]
        known["found"] += row["found"]
    return list(total.values())


def cache_use(costs: Iterable[CostRow], folder: Path | None) -> CacheUse | None:
    """Return how much came from the cache in ``folder``; None without one."""
    if folder is None:
        return None
    counts = [(cost["looked_up"], cost["found"]) for cost in costs]
    return CacheUse(
        folder=str(folder),
        looked_up=sum(looked_up for looked_up, _ in counts),
        found=sum(found for _, found in counts),
    )


def _finite(value: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
