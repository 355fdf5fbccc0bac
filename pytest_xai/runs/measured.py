"""What a gate measures, as the file of a saved run says it, and which saved measurement is its."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_xai.runs.saved_run import Measured, SavedImage, SavedMeasurement, SavedSubject
from xai_core.measurement import Method
from xai_core.parameters import identity

if TYPE_CHECKING:
    from pytest_xai.neighbour_thresholds import NeighbourSpec
    from pytest_xai.runs.folder import EarlierRun
    from pytest_xai.thresholds import GateSpec
    from xai_core.evaluation import Evaluation


@dataclass(frozen=True)
class Counterpart:
    """The earlier measurement of a gate.

    Attributes:
        measurement: None where there is none that may be compared.
        subject: what it is of.
        known: whether the earlier run had the gate, and measured something else.
        why: why there is none.
    """

    measurement: SavedMeasurement | None
    subject: SavedSubject | None
    known: bool = False
    why: str = ""


def measured_by(gate: GateSpec | NeighbourSpec) -> Measured:
    """Return what a gate measures."""
    metric = gate.metric
    method = gate.method if isinstance(gate.method, Method) else None
    steps = method.postprocess if method else ()
    return Measured(
        method=gate.method.name,
        explainer=method.explainer.kind if method else gate.method.name,
        parameters=method.parameters if method else {},
        postprocess=[identity(step.name, step) for step in steps],
        metric=metric.metric.name,
        protocol=metric.protocol,
        settings=dict(metric.settings),
    ).plain()


def rests_on_what_is_saved(gate: GateSpec | NeighbourSpec) -> bool:
    """Return whether weights, an image and what is measured settle a gate's value of that image.

    They do not where the other images of the set have a part in it, example images of a concept,
    the reference that neighbours are looked for in, or another network: a saved run has none of
    these, so that they may change unseen.
    """
    metric = gate.metric
    elsewhere = {"whole_set", "concept_maps_of"} & set(metric.metric.needs)
    another_network = "explained_by" in metric.metric.needs and "model" in dict(metric.settings)
    return isinstance(gate.method, Method) and not elsewhere and not another_network


def as_measured(saved: SavedMeasurement) -> Measured:
    """Return what a saved measurement measured, without its values."""
    return Measured(**{name: getattr(saved, name) for name in Measured.__struct_fields__})


def counterpart(
    gate: GateSpec | NeighbourSpec, earlier: EarlierRun, model: str, data: str
) -> Counterpart:
    """Return the earlier measurement of a gate: of the same model, set, method and metric."""
    subject = earlier.run.subject(model, data)
    if subject is None:
        there = [f"{one.model} on {one.data}" for one in earlier.run.subjects]
        return Counterpart(
            None, None, why=f"it has nothing of {model} on {data}, but {', '.join(there)}"
        )
    wanted = measured_by(gate)
    of_method = [one for one in subject.measurements if one.method == wanted.method]
    candidates = [one for one in of_method if one.metric == wanted.metric]
    same = [one for one in candidates if not one.differences(wanted)]
    if same:
        # Another seed may be compared, but the same one is there first.
        return Counterpart(max(same, key=lambda one: _agreement(one, wanted)), subject)
    before = [one for one in subject.gates if (one.method, one.gate) == (wanted.method, gate.name)]
    if not before:
        return Counterpart(None, subject, why="it has no such gate")
    as_before = [one for one in of_method if one.protocol == before[0].protocol]
    differences = [one.differences(wanted) for one in as_before or candidates]
    nearest = min(differences, key=len, default=["it was not measured"])
    return Counterpart(None, subject, known=True, why=", ".join(nearest))


def _agreement(one: Measured, other: Measured) -> int:
    return (one.settings == other.settings) + (one.parameters == other.parameters)


def images_of(evaluation: Evaluation) -> list[SavedImage]:
    """Return the images of an evaluation."""
    return [
        SavedImage(name, target, digest)
        for name, target, digest in zip(
            evaluation.images.names,
            evaluation.targets.tolist(),
            evaluation.digests,
            strict=True,
        )
    ]
