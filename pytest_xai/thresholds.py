"""The threshold file: which images, explainers, gates, concepts and neighbours.

Read with every name and type checked; an error names file, line and key, and the nearest valid
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pytest_xai.concept_thresholds import ConceptSpec, read_concepts
from pytest_xai.image_sources import SET_NAME
from pytest_xai.neighbour_thresholds import NeighbourSpec, read_neighbours
from pytest_xai.toml_source import TomlSource, blamed, read_toml
from xai_core.classifier import Normalization
from xai_core.errors import ParameterError, did_you_mean
from xai_core.evaluation import Method
from xai_core.explainers import EXPLAINERS, Explainer, build_explainer, parse_explainer
from xai_core.gate import Conditions
from xai_core.metrics import METRICS, ConfiguredMetric, Metric
from xai_core.parameters import from_table, require
from xai_core.postprocess import PostProcess, parse_postprocess

_TABLES = ("model", "data", "explainers", "gates", "concepts", "neighbours")
NO_GATES_YET = frozenset({"model", "data"})
"""The tables of a file in which ``--xai-update`` may put the first gates."""
_CONDITIONS = tuple(Conditions.__dataclass_fields__)
_GATE_KEYS = (*_CONDITIONS, "metric", "protocol", "level")


@dataclass(frozen=True)
class ModelTable:
    """``[model]``: how the model of this file is built, where its name alone does not say.

    Args:
        spec: as ``--xai-model`` takes it; None = the name of the file.
        weights: file or name; a path is relative to pytest's root directory.
        normalization: ``imagenet``, ``none``, or ``{mean = [...], std = [...]}``.
        size: height and width.
        num_classes: for random weights.
    """

    spec: str | None = None
    weights: str | None = None
    normalization: Literal["imagenet", "none"] | Normalization | None = None
    size: tuple[int, int] | None = None
    num_classes: int | None = None


@dataclass(frozen=True)
class DataTable:
    """``[data]``: the images.

    Args:
        path: a folder, a COCO file, ``package.module:function`` or ``demo``; a path is relative
            to pytest's root directory.
        paths: instead of ``path``, several of them by the names of their image sets; every gate
            is held on each set.
        limit: the first so many images in the fixed order.
        transform: ``resize``, ``center-crop`` or ``center-crop(resize=256)``.
        images: folder of a COCO file's photographs; image sets of another kind beside it, and
            those that --xai-data puts in its place, do without.
        labels: name of a COCO category -> class index; likewise.
        concepts: a folder with one folder of images for each concept, or ``demo``; a path is
            relative to pytest's root directory. --xai-concepts overrides.
        predicted_masks: folder of a Segment Anything checkpoint, whose masks stand in for missing
            ones; a path is relative to pytest's root directory.
    """

    path: str | None = None
    paths: dict[str, str] | None = None
    limit: int | None = None
    transform: str = "resize"
    images: str | None = None
    labels: dict[str, int] | None = None
    concepts: str | None = None
    predicted_masks: str | None = None

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, "`limit` must be at least 1")
        require(self.predicted_masks != "", "`predicted_masks` names no folder of a checkpoint")
        if self.paths is None:
            return
        require(bool(self.paths), '`paths` names no image set; give { photos = "data/photos" }')
        require(self.path is None, "`paths` and `path` exclude each other")
        for name in self.paths:
            require(
                bool(SET_NAME.fullmatch(name)),
                "`paths`: the name of an image set has letters, digits, '.', '_', '+' and '-', "
                f"got {name!r}",
            )


@dataclass(frozen=True)
class GateSpec:
    """One gate of a threshold file.

    Attributes:
        name: the key in the file: the metric's name, or any other with ``metric = "..."``.
        method: the explainer it belongs to.
        metric: what is measured.
        conditions: what is demanded.
        level: whether a failure fails the test or only warns.
        line: in the file.
    """

    name: str
    method: Method
    metric: ConfiguredMetric
    conditions: Conditions
    level: Literal["fail", "warn"]
    line: int


@dataclass(frozen=True)
class Tolerances:
    """The conditions that a gate may have before it has a threshold; see `Conditions`."""

    per_class: bool = False
    undefined: int = 0
    confidence: float = 0.95
    not_worse_by: float | None = None
    reproducible: bool = True


@dataclass(frozen=True)
class NewGate:
    """A gate of a threshold file that has no threshold yet: it fails until it has one.

    Attributes:
        name: as of a `GateSpec`, like the others.
        conditions: all that stands there of them.
    """

    name: str
    method: Method
    metric: ConfiguredMetric
    conditions: Tolerances
    level: Literal["fail", "warn"]
    line: int


@dataclass(frozen=True)
class ThresholdFile:
    """What a threshold file says, checked.

    Attributes:
        shown: how messages call it.
        gates: those that have a threshold.
        new_gates: those that have none yet.
        digest: of what the file was when it was read.
        places: key of ``[data]`` -> file, line and key, for errors that show when a test runs.
    """

    shown: str
    model: ModelTable = field(default_factory=ModelTable)
    data: DataTable = field(default_factory=DataTable)
    methods: Mapping[str, Method] = field(default_factory=dict)
    gates: tuple[GateSpec, ...] = ()
    concepts: tuple[ConceptSpec, ...] = ()
    neighbours: NeighbourSpec | None = None
    places: Mapping[str, str] = field(default_factory=dict, repr=False)
    new_gates: tuple[NewGate, ...] = ()
    digest: str = field(default="", repr=False)

    @property
    def gates_in_order(self) -> list[GateSpec | NewGate]:
        """All gates on explainers in the order of the file."""
        return sorted([*self.gates, *self.new_gates], key=lambda gate: gate.line)


def read_thresholds(path: Path, *, shown: str, seed: int) -> ThresholdFile:
    """Return what the threshold file at ``path`` says.

    Args:
        path: of the file.
        shown: how messages call it.
        seed: for every explainer and metric that has one and does not set it.

    Raises:
        ThresholdFileError: anything in it that is unknown, mistyped or incomplete.
    """
    source = read_toml(path, shown=shown)
    for key in source.data:
        if key not in _TABLES:
            raise source.error([key], f"unknown table: {did_you_mean(key, _TABLES)}")
    tables = {name: source.table([name], source.data.get(name, {})) for name in _TABLES}
    model = source.read(["model"], ModelTable, tables["model"])
    data = source.read(["data"], DataTable, tables["data"])
    methods = {
        name: _method(source, name, source.table(["explainers", name], table), seed)
        for name, table in tables["explainers"].items()
    }
    texts = {name: _text(name, table) for name, table in tables["explainers"].items()}
    found = []
    for name, table in tables["gates"].items():
        where = ["gates", name]
        if name not in methods:
            known = did_you_mean(name, methods) if methods else "there is none"
            hint = f" (or add an empty table [explainers.{name}])" if name in EXPLAINERS else ""
            raise source.error(where, f"no [explainers.{name}] in this file: {known}{hint}")
        for key, gate in source.table(where, table).items():
            found.append(_gate(source, [*where, key], methods[name], gate, seed, texts))
    gates = tuple(gate for gate in found if isinstance(gate, GateSpec))
    new_gates = tuple(gate for gate in found if isinstance(gate, NewGate))
    concepts = read_concepts(source, tables["concepts"], seed=seed)
    neighbours = None
    if "neighbours" in source.data:
        neighbours = read_neighbours(source, tables["neighbours"])
        if "neighbours" in tables["gates"]:
            msg = "an explainer beside the table [neighbours] cannot have its name; rename it"
            raise source.error(["gates", "neighbours"], msg)
    if not found and not concepts and neighbours is None:
        msg = "no gates; add e.g. [gates.gradcam] iou = { above = 0.4 }"
        if NO_GATES_YET.issuperset(source.data):
            msg += ", or have a few measured and added with --xai-update"
        raise source.error(["gates"], msg)
    places = {key: source.place_of(["data", key]) for key in tables["data"]}
    return ThresholdFile(
        shown,
        model,
        data,
        methods,
        gates,
        concepts,
        neighbours,
        places,
        new_gates,
        source.digest,
    )


def seeded_explainer(kind: str, parameters: Mapping[str, object], seed: int) -> Explainer:
    """Return the explainer ``kind``, with the run's ``seed`` if it takes one and has none.

    Raises:
        ParameterError: an unknown kind or parameter, a wrong type.
    """
    explainer = build_explainer(kind, parameters)
    if "seed" in getattr(explainer, "__dataclass_fields__", {}) and "seed" not in parameters:
        return build_explainer(kind, {**parameters, "seed": seed})
    return explainer


def _method(source: TomlSource, name: str, table: dict[str, Any], seed: int) -> Method:
    where = ["explainers", name]
    parameters = dict(table)
    kind = parameters.pop("kind", name)
    if not isinstance(kind, str):
        raise source.error([*where, "kind"], f"expected the name of an explainer, got {kind!r}")
    steps = parameters.pop("postprocess", [])
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        msg = f'expected a list of texts such as ["gaussian(sigma=3)"], got {steps!r}'
        raise source.error([*where, "postprocess"], msg)
    try:
        chain: tuple[PostProcess, ...] = tuple(parse_postprocess(step) for step in steps)
    except ParameterError as error:
        raise source.error([*where, "postprocess"], str(error)) from None
    try:
        return Method(name, seeded_explainer(kind, parameters, seed), chain)
    except ParameterError as error:
        key = blamed(parameters, error) or (["kind"] if "kind" in table else [])
        raise source.error([*where, *key], str(error)) from None


def _text(name: str, table: Mapping[str, object]) -> str | None:
    """Return the explainer of a table as a text; None where it is post-processed."""
    parameters = {key: value for key, value in table.items() if key not in ("kind", "postprocess")}
    listed = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    kind = table.get("kind", name)
    return None if table.get("postprocess") else f"{kind}({listed})" if listed else f"{kind}"


def _gate(
    source: TomlSource,
    where: list[str],
    method: Method,
    value: object,
    seed: int,
    texts: Mapping[str, str | None],
) -> GateSpec | NewGate:
    name = where[-1]
    if not isinstance(value, dict):
        msg = (
            f"a threshold needs its direction: expected {{ above = {value!r} }} or "
            f"{{ below = {value!r} }}, got {value!r}"
        )
        raise source.error(where, msg)
    table = dict(value)
    metric_name = table.pop("metric", name)
    if metric_name not in METRICS:
        raise source.error(
            where, f"no metric {metric_name!r}: {did_you_mean(str(metric_name), METRICS)}"
        )
    metric = METRICS[metric_name]
    level = table.pop("level", "fail")
    if level not in ("fail", "warn"):
        raise source.error(where, f"`level` must be 'fail' or 'warn', got {level!r}")
    protocol = table.pop("protocol", None)
    conditions = {key: table.pop(key) for key in _CONDITIONS if key in table}
    if isinstance(conditions.get("beats"), str):
        conditions["beats"] = [conditions["beats"]]
    for key in table:
        if key not in metric.settings:
            known = did_you_mean(key, [*_GATE_KEYS, *metric.settings])
            raise source.error(where, f"unknown key {key!r} of a gate on {metric_name}: {known}")
    if "seed" in metric.settings:
        table.setdefault("seed", seed)
    try:
        configured = metric.configure(_with_other(metric, table, texts))
        metric.checked(dict(configured.settings))  # a default may say that a value must be given
        checked: Conditions | Tolerances = (
            _tolerances(metric, conditions)
            if all(key in Tolerances.__dataclass_fields__ for key in conditions)
            else from_table(Conditions, conditions, what="the gate")
        )
    except ParameterError as error:
        raise source.error(where, str(error)) from None
    if protocol is not None and protocol != configured.protocol:
        msg = f"this version measures {configured.protocol!r}, the file pins {protocol!r}"
        raise source.error(where, msg)
    line = source.line_of(where)
    if isinstance(checked, Tolerances):
        return NewGate(name, method, configured, checked, level, line)
    return GateSpec(name, method, configured, checked, level, line)


def _tolerances(metric: Metric, conditions: Mapping[str, object]) -> Tolerances:
    """Return what a gate without a threshold tolerates, checked as it will be beside one.

    Raises:
        ParameterError: a value that cannot be.
    """
    edge = "above" if metric.better == "higher" else "below"
    complete = from_table(Conditions, {**conditions, edge: 0.0}, what="the gate")
    return Tolerances(
        complete.per_class,
        complete.undefined,
        complete.confidence,
        complete.not_worse_by,
        complete.reproducible,
    )


def _with_other(
    metric: Metric, settings: dict[str, Any], texts: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return the settings of a metric of two explainers with ``other`` as a text, checked.

    Raises:
        ParameterError: no such explainer, or one of this file that is post-processed.
    """
    other = settings.get("other")
    if "heatmaps_of" not in metric.needs or not isinstance(other, str) or not other:
        return settings
    text = texts.get(other, other)
    if text is None:
        msg = (
            f"`other` = {other!r} is post-processed, and {metric.name} compares with maps as they "
            "are: name an explainer without `postprocess`"
        )
        raise ParameterError(msg)
    try:
        parse_explainer(text)
    except ParameterError as error:
        own = f"; this file has {', '.join(texts)}" if other.isidentifier() else ""
        msg = f"`other`: {error}{own}"
        raise ParameterError(msg) from None
    return {**settings, "other": text}
