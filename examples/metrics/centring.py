"""Ask how the ranking of explainers changes once the objects are off the centre.

    python examples/metrics/centring.py --data demo --model demo
    python examples/metrics/centring.py --data FOLDER --model resnet50 \\
        --weights resnet50.safetensors

A photographer puts the object in the middle, so a blob in the middle finds it. `off-center-crop`
cuts the same images so that the object lies elsewhere; the same crop for every explainer. See the
README beside this file for what it found.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from xai_core import METRICS, Evaluation, Method, XaiError, load_classifier, load_imageset
from xai_core.explainers import NULL_MAPS, parse_explainer
from xai_core.progress import RichProgress
from xai_core.statistics import skill

TRANSFORMS = ("resize", "off-center-crop")
EXPLAINERS = (
    "gradcam",
    "gradcam_plus_plus",
    "hirescam",
    "layercam",
    "integrated_gradients(steps=20)",
    "smoothgrad(samples=10)",
    "saliency",
    "gradient_x_input",
)
_SHOWN = "(default: %(default)s)"


@dataclass(frozen=True)
class Line:
    """One explainer or null map.

    Attributes:
        name: of it.
        values: its mean for each transform.
        skills: its skill over the best null map for each transform; None for a null map.
        ranks: its place among the explainers for each transform, 1 is the best; None for a null.
    """

    name: str
    values: tuple[float, ...]
    skills: tuple[float, ...] | None
    ranks: tuple[int, ...] | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 where what the user gave cannot be used."""
    given = _arguments(argv)
    try:
        found = run(given)
    except XaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for name, lines in found.items():
        console.print(table(name, lines), "")
    if given.markdown:
        text = "\n".join(as_markdown(name, lines) for name, lines in found.items())
        given.markdown.write_text(text, encoding="utf-8")
    return 0


def run(given: argparse.Namespace) -> dict[str, list[Line]]:
    """Return the lines of each metric."""
    classifier = load_classifier(given.model, weights=given.weights, seed=given.seed)
    methods = [Method(text, parse_explainer(text)) for text in given.explainers]
    metrics = [METRICS[name].configure({}) for name in given.metrics]
    evaluations = [
        Evaluation(
            classifier,
            load_imageset(given.data, transform=transform, size=classifier.size, limit=given.limit),
            seed=given.seed,
            progress=RichProgress(Console(stderr=True)),
        )
        for transform in TRANSFORMS
    ]
    found = {}
    for metric in metrics:
        higher = metric.metric.better == "higher"
        own = {
            method.name: tuple(one.measure(method, metric).mean for one in evaluations)
            for method in methods
        }
        # `inverted` is a null of one explainer; these are the same for all.
        nulls = {
            name: tuple(one.measure_null(name, methods[0], metric).mean for one in evaluations)
            for name in NULL_MAPS
            if name != "inverted"
        }
        best = [(max if higher else min)(column) for column in zip(*nulls.values(), strict=True)]
        ranked = [
            sorted(own, key=lambda name: own[name][place], reverse=higher)
            for place in range(len(TRANSFORMS))
        ]
        found[metric.metric.name] = [
            Line(
                name,
                values,
                tuple(
                    _skill(value, null, metric.metric.perfect)
                    for value, null in zip(values, best, strict=True)
                ),
                tuple(order.index(name) + 1 for order in ranked),
            )
            for name, values in own.items()
        ]
        found[metric.metric.name] += [
            Line(f"null {name}", values, None, None) for name, values in nulls.items()
        ]
    return found


def _skill(value: float, null: float, perfect: float) -> float:
    """Return the skill; NaN where a null map is perfect already, which leaves nothing to gain."""
    return math.nan if null == perfect else skill(value, null, perfect=perfect)


def table(name: str, lines: Sequence[Line]) -> Table:
    """Return the lines of a metric as a table for a terminal."""
    head, rows = _cells(name, lines)
    shown = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*row)
    return shown


def as_markdown(name: str, lines: Sequence[Line]) -> str:
    """Return the lines of a metric as a table in Markdown."""
    head, rows = _cells(name, lines)
    listed = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in listed)


def _cells(name: str, lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    head = [name, *(f"{what} {how}" for how in TRANSFORMS for what in ("value", "skill", "rank"))]
    rows = []
    for line in lines:
        row = [line.name]
        for place, value in enumerate(line.values):
            row.append(f"{value:.3f}")
            known = line.skills is not None and not math.isnan(line.skills[place])
            row.append(f"{line.skills[place]:+.3f}" if line.skills and known else "-")
            row.append("-" if line.ranks is None else str(line.ranks[place]))
        rows.append(row)
    return head, rows


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--data", required=True, help="folder with images/, masks/ and labels.csv; or 'demo'")
    add("--model", default="demo", help=_SHOWN)
    add("--weights", help="file of weights, or 'random'")
    add("--explainers", nargs="+", default=[*EXPLAINERS], metavar="NAME")
    add(
        "--metrics",
        nargs="+",
        default=["iou", "pointing_game", "energy_pointing_game"],
        choices=[name for name, metric in METRICS.items() if "masks" in metric.needs],
        metavar="NAME",
        help="metrics that look at masks",
    )
    add("--limit", type=int, default=30, help=f"images, the first {_SHOWN}")
    add("--markdown", type=Path, metavar="FILE")
    add("--seed", type=int, default=0, help=_SHOWN)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
