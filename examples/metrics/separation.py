"""Ask of every metric what it tells apart: true maps from null maps, a sound model from another.

    python examples/metrics/separation.py --data demo --models demo demo-shortcut
    python examples/metrics/separation.py --data FOLDER --models resnet50 \\
        --weights resnet50=resnet50.safetensors --limit 30

See the README beside this file for what it found.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import TextIOWrapper
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from xai_core import (
    METRICS,
    Evaluation,
    Measurement,
    Method,
    XaiError,
    load_classifier,
    load_imageset,
)
from xai_core.classifier import weights_by_model
from xai_core.concepts import load_concepts
from xai_core.concepts.map_fitting import ConceptMaps
from xai_core.errors import ParameterError, did_you_mean
from xai_core.explainers import NULL_MAPS, parse_explainer
from xai_core.metrics import ConfiguredMetric
from xai_core.parameters import parse_call
from xai_core.progress import RichProgress
from xai_core.statistics import Interval, mean_interval

SETTINGS: dict[str, dict[str, object]] = {
    "agreement": {"other": "integrated_gradients(steps=10)"},
    "average_sensitivity": {"samples": 3},
    "background_class": {"on": "watermark"},
    "local_lipschitz": {"samples": 3},
    "max_sensitivity": {"samples": 3},
    "stability": {"samples": 3},
}
"""Settings that a metric cannot do without, or that make it affordable for every explainer."""

_SHOWN = "(default: %(default)s)"


@dataclass
class Row:
    """What one metric told apart.

    Attributes:
        metric: its name.
        protocol: with its settings.
        better: ``higher`` or ``lower``.
        values: method -> mean on the first model.
        nulls: null map -> mean on the same images.
        over_nulls: null map -> method -> interval of the mean gain over it, larger is better.
        over_other: method -> interval of the mean gain of the first model over the second.
        refused: method (of another model) or null map -> why the metric has no value for it.
    """

    metric: str
    protocol: str
    better: str
    values: dict[str, float] = field(default_factory=dict)
    nulls: dict[str, float] = field(default_factory=dict)
    over_nulls: dict[str, dict[str, Interval]] = field(default_factory=dict)
    over_other: dict[str, Interval] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 where what the user gave cannot be used."""
    given = _arguments(argv)
    logging.basicConfig(format="%(message)s")  # xai_core says there what it fetches
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every pipe takes every sign
    try:
        rows = run(given, log=Console(stderr=True, highlight=False, soft_wrap=True))
    except XaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console(highlight=False, width=None if sys.stdout.isatty() else 180).print(table(rows))
    return 0


def run(given: argparse.Namespace, *, log: Console) -> list[Row]:
    """Measure everything; files asked for are written after each metric."""
    weights = weights_by_model(given.weights, given.models, option="--weights")
    methods = [Method(text, parse_explainer(text)) for text in given.explainers]
    metrics = [_metric(name) for name in given.metrics or METRICS]
    evaluations = []
    for model in given.models:
        classifier = load_classifier(
            model, weights=weights.get(model), device=given.device, seed=given.seed
        )
        images = load_imageset(given.data, size=classifier.size, limit=given.limit)
        images.check_labels(classifier.num_classes)
        concepts = None
        if given.concepts:
            concepts = ConceptMaps(load_concepts(given.concepts, size=classifier.size))
        evaluations.append(
            Evaluation(
                classifier,
                images,
                seed=given.seed,
                progress=RichProgress(log),
                concept_source=concepts,
            )
        )
    rows = []
    for number, metric in enumerate(metrics, start=1):
        rows.append(measured(metric, methods, evaluations, nulls=given.nulls))
        log.print(f"[{number}/{len(metrics)}] {rows[-1].protocol}", markup=False)
        if given.json:
            written = json.dumps([asdict(row) for row in rows], indent=1)
            given.json.write_text(written + "\n", encoding="utf-8")
        if given.markdown:
            given.markdown.write_text(as_markdown(rows), encoding="utf-8")
    return rows


def measured(
    metric: ConfiguredMetric,
    methods: Sequence[Method],
    evaluations: Sequence[Evaluation],
    *,
    nulls: Sequence[str] = NULL_MAPS,
) -> Row:
    """Measure one metric of all methods and null maps on one model, and of a second model."""
    first, *others = evaluations
    row = Row(metric.metric.name, metric.protocol, metric.metric.better)
    own: dict[str, Measurement] = {}
    for method in methods:
        try:
            own[method.name] = first.measure(method, metric)
        except XaiError as error:
            row.refused[method.name] = str(error)
            continue
        row.values[method.name] = own[method.name].mean
        for other in others:
            try:
                found = _gain(own[method.name], other.measure(method, metric))
            except XaiError as error:
                row.refused[f"{method.name} of {other.classifier.name}"] = str(error)
                continue
            if found is not None:
                row.over_other[method.name] = found
    for null in nulls if own else ():
        for method in methods:
            if method.name not in own:
                continue
            try:
                of_null = first.measure_null(null, method, metric)
            except XaiError as error:
                row.refused[null] = str(error)
                break
            row.nulls.setdefault(null, of_null.mean)
            found = _gain(own[method.name], of_null)
            if found is not None:
                row.over_nulls.setdefault(null, {})[method.name] = found
    return row


def table(rows: Iterable[Row]) -> Table:
    """Return the rows as a table for a terminal."""
    head, lines = _cells(list(rows))
    shown = Table(*head, box=None, pad_edge=False, header_style="bold")
    for line in lines:
        shown.add_row(*line)
    return shown


def as_markdown(rows: Iterable[Row]) -> str:
    """Return the rows as a table in Markdown."""
    head, lines = _cells(list(rows))
    listed = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in listed)


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    methods = list(dict.fromkeys(name for row in rows for name in row.values))
    nulls = [null for null in NULL_MAPS if any(null in row.nulls for row in rows)]
    two = any(row.over_other for row in rows)
    head = ["metric", "better", *methods, *nulls, *(f"beats {null}" for null in nulls)]
    head += ["tells the models apart"] if two else []
    lines = []
    for row in rows:
        line = [row.metric, row.better]
        line += [_number(row.values.get(name)) for name in methods]
        line += [_number(row.nulls.get(null)) for null in nulls]
        line += [_proven(row.over_nulls.get(null, {})) for null in nulls]
        line += [_proven(row.over_other)] if two else []
        lines.append(line)
    return head, lines


def _proven(gains: Mapping[str, Interval]) -> str:
    """Return for how many methods the gain is proven: its interval lies above zero."""
    if not gains:
        return "-"
    return f"{sum(gain.low > 0 for gain in gains.values())} of {len(gains)}"


def _number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"


def _gain(one: Measurement, other: Measurement) -> Interval | None:
    """Return the interval of the mean gain of one over the other, paired by image."""
    both = ~np.isnan(one.values) & ~np.isnan(other.values)
    if not both.any():
        return None
    sign = 1.0 if one.metric.metric.better == "higher" else -1.0
    return mean_interval(sign * (one.values - other.values)[both])


def _metric(text: str) -> ConfiguredMetric:
    name, settings = parse_call(text)
    if name not in METRICS:
        msg = f"--metrics {name}: no such metric: {did_you_mean(name, METRICS)}"
        raise ParameterError(msg)
    return METRICS[name].configure({**SETTINGS.get(name, {}), **settings})


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--data", required=True, help="folder with images/, masks/ and labels.csv; or 'demo'")
    add(
        "--models",
        nargs="+",
        default=["demo", "demo-shortcut"],
        metavar="NAME",
        help=f"a sound model, and one that is not {_SHOWN}",
    )
    add(
        "--weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="weights of a model, or NAME=random; torchvision's published ones otherwise",
    )
    add(
        "--explainers",
        nargs="+",
        default=["gradcam", "integrated_gradients", "smoothgrad"],
        metavar="NAME",
        help=f"such as 'integrated_gradients(steps=20)' {_SHOWN}",
    )
    add(
        "--metrics",
        nargs="+",
        default=[],
        metavar="NAME",
        help="such as deletion or 'irof(segments=25)' (default: all)",
    )
    add(
        "--nulls",
        nargs="+",
        default=list(NULL_MAPS),
        choices=NULL_MAPS,
        metavar="NAME",
        help="null maps; 'inverted' of a metric that explains anew costs as much as the map itself",
    )
    add(
        "--concepts",
        metavar="FOLDER",
        help="of example images, or 'demo': for 'concept_iou(concept=\"striped\")' and its kin",
    )
    add("--limit", type=int, default=30, help=f"images, the first {_SHOWN}")
    add("--json", type=Path, metavar="FILE", help="written after each metric")
    add("--markdown", type=Path, metavar="FILE", help="written after each metric")
    add("--device", default="cpu", help=f"torch device, or 'auto' {_SHOWN}")
    add("--seed", type=int, default=0, help=f"of everything random {_SHOWN}")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
