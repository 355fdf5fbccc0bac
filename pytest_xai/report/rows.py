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
    from pytest_xai.thresholds import GateSpec, NewGate
    from xai_core.evaluation import Cost, Evaluation, Measurement, Stage
    from xai_core.gate import Judgement
    from xai_core.sequential import ImagesInOrder

    CostKey: TypeAlias = tuple[Stage, str]


COUNTED = ("images", "groups")
"""The first word of what a demand is of where it is a number of images, or of groups of them."""

Subject: TypeAlias = tuple[str, str]
"""A model and an image set, by their names."""


class GateKey(TypedDict):
    """Which gate a row is about, and where it stands.

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


class GateRow(GateKey):
    """One gate, as the table and the JSON file show it; ``error`` = it could not be measured.

    ``outcome`` is ``new`` where the gate has no threshold yet; a demand is then what was proposed.
    ``of_images`` is how many images there are, in a sequential
    run, and ``in_full`` says why a gate measured all of them nevertheless. ``groups`` and
    ``of_groups`` are the same numbers of photographs, None where no two images are of one.
    """

    passed: bool
    outcome: str
    demands: list[Demand]
    mean: float | None
    images: int
    groups: int | None
    undefined: int
    undefined_allowed: int
    detects: float | None
    classes: dict[str, ClassMean]
    of_images: int | None
    of_groups: int | None
    in_full: str | None
    moved: int | None
    moved_of: int | None
    error: str | None


class ClassMean(TypedDict):
    """The images of one class that have a value, several of one photograph counted once."""

    mean: float
    images: int


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
    """One measurement: one metric of one explainer on one image.

    ``digest`` is of the image's pixels, mask and background, and of no name. ``group`` is the
    photograph that the image is of, None where the image set says nothing of that.
    """

    model: str
    data: str
    image: str
    group: str | None
    digest: str
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

    ``accuracy`` is over the ``classified`` images, all but in a sequential run. ``masks_from`` is
    what predicted the masks, None where they are annotated or there are none. ``groups`` is the
    number of photographs, None where no two images are of one. ``weights`` is a digest of the
    weights alone, None of a model that has none or does not show them.
    """

    name: str
    fingerprint: str
    weights: str | None
    normalisation: str
    classes: int
    device: str
    data: str
    images: int
    groups: int | None
    classified: int
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
    model: str,
    gate: GateSpec | NewGate | NeighbourSpec,
    *,
    data: str,
    file: str,
    error: str,
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
        groups=None,
        undefined=0,
        undefined_allowed=gate.conditions.undefined,
        detects=None,
        classes={},
        of_images=None,
        of_groups=None,
        in_full=None,
        moved=None,
        moved_of=None,
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
    row["groups"] = judgement.units if judgement.in_groups else None
    row["undefined"] = len(judgement.measurement.undefined)
    row["detects"] = _finite(judgement.detects)
    row["classes"] = {
        one.name: ClassMean(mean=one.mean, images=one.images) for one in judgement.classes
    }
    row["of_images"] = judgement.of_images
    row["of_groups"] = judgement.of_groups
    row["in_full"] = judgement.in_full
    again = judgement.reproduction
    row["moved"] = None if again is None else again.moved
    row["moved_of"] = None if again is None else again.images
    row["error"] = None
    return row


def _demands(judgement: Judgement) -> list[Demand]:
    conditions = judgement.conditions
    labels: list[str] = []  # in the order in which a gate decides its conditions
    if conditions.mostly is not None:
        above = conditions.above is not None
        side = f">= {conditions.above:.3f}" if above else f"<= {conditions.below:.3f}"
        labels.append(f"each {side}")
    elif conditions.max_failures is not None:
        above = conditions.above is not None
        side = f"< {conditions.above:.3f}" if above else f"> {conditions.below:.3f}"
        images, groups = COUNTED
        labels.append(f"{groups if judgement.measurement.in_groups else images} {side}")
    elif conditions.per_class:
        labels.append("worst class")
    elif conditions.above is not None or conditions.below is not None:
        labels.append("")
    labels += [f"over {null}" for null in conditions.beats]
    labels += ["skill"] if conditions.skill_above is not None else []
    labels += [f"against {judgement.against}"] if judgement.against else []
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
    groups = measurement.groups
    return [
        Record(
            model=evaluation.classifier.name,
            data=data,
            image=name,
            group=None if groups is None else groups[index],
            digest=evaluation.digests[index],
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


def measured_of(record: Record) -> str:
    """Return what tells a measurement from others, whatever it came to."""
    return repr([value for key, value in record.items() if key not in ("value", "undefined")])


def model_facts(
    evaluation: Evaluation, *, data: str, order: ImagesInOrder | None = None
) -> ModelFacts:
    """Return what is known of the model and the images of an evaluation.

    Args:
        evaluation: of all images.
        data: what the image set is called.
        order: the images as they came in a sequential run.
    """
    from xai_core.classifier import normalisation_text, weights_digest

    groups = len(set(evaluation.images.groups or evaluation.images.names))
    return ModelFacts(
        name=evaluation.classifier.name,
        fingerprint=evaluation.classifier.fingerprint,
        weights=weights_digest(evaluation.classifier),
        normalisation=normalisation_text(evaluation.classifier),
        classes=int(evaluation.classifier.num_classes),
        device=evaluation.classifier.device,
        data=data,
        images=len(evaluation.images),
        groups=None if groups == len(evaluation.images) else groups,
        classified=len(evaluation.images) if order is None else order.seen,
        accuracy=evaluation.accuracy if order is None else order.accuracy,
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
