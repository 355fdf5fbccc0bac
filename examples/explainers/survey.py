"""Print a table of all explainers on your models: works or refused, passes, seconds, metrics.

    python examples/explainers/survey.py --data demo
    python examples/explainers/survey.py --data FOLDER --models resnet50 vit_b_16 --quick \\
        --weights resnet50=resnet50.safetensors --weights vit_b_16=random \\
        --metrics pointing_game iou deletion --json survey.json

See the README beside this file for what the figures mean.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console
from survey_cells import Subject, survey
from survey_explainers import CAPTUM, QUICK, chosen, everything
from survey_table import SurveyTable

from xai_core import METRICS, Evaluation, XaiError, load_classifier, load_imageset
from xai_core.classifier import weights_by_model
from xai_core.errors import ParameterError, did_you_mean
from xai_core.metrics import ConfiguredMetric
from xai_core.parameters import parse_call
from xai_core.progress import RichProgress

_RANDOM = "random"
_SHOWN = "(default: %(default)s)"
_WIDTH_OF_A_FILE = 160  # what is piped into a file need not fit a terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 where an explainer has a defect, 2 where what the user gave is wrong."""
    given = _arguments(argv)
    logging.basicConfig(format="%(message)s")  # xai_core says there what it fetches
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every pipe takes an arrow
    try:
        table = run(given, log=Console(stderr=True, highlight=False, soft_wrap=True))
    except XaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    Console(highlight=False, width=width).print(table.for_terminal())
    return 1 if any(cell.result == "error" for cell in table.cells) else 0


def run(given: argparse.Namespace, *, log: Console) -> SurveyTable:
    """Survey every explainer on every model; files asked for are written after each cell."""
    explainers = chosen(given.explainers, quick=given.quick)
    metrics = tuple(_metric(text) for text in given.metrics)
    weights = weights_by_model(given.weights, given.models, option="--weights")
    if not given.explainers and CAPTUM[0] not in everything():
        log.print("left out, because captum is not installed:", ", ".join(CAPTUM))
    subjects = tuple(
        _subject(model, weights.get(model), given, log) for model in dict.fromkeys(given.models)
    )
    settings = {"quick": given.quick, "device": given.device, "seed": given.seed}
    table = SurveyTable(subjects, metrics, settings, rows=len(explainers))
    for number, explainer in enumerate(explainers, start=1):
        for subject in subjects:
            cell = survey(explainer, subject, metrics)
            table.cells.append(cell)
            table.write(json_file=given.json, markdown_file=given.markdown)
            place = f"[{number}/{len(explainers)}]"
            log.print(f"{place} {cell.explainer}, {cell.model}: {cell.verdict}", markup=False)
            if cell.trace:
                log.print(cell.trace, markup=False)
    return table


def _metric(text: str) -> ConfiguredMetric:
    name, settings = parse_call(text)
    if name not in METRICS:
        msg = f"--metrics {text}: no such metric: {did_you_mean(name, METRICS)}"
        raise ParameterError(msg)
    return METRICS[name].configure(settings)


def _subject(model: str, weights: str | None, given: argparse.Namespace, log: Console) -> Subject:
    classifier = load_classifier(model, weights=weights, device=given.device, seed=given.seed)
    images = load_imageset(given.data, size=classifier.size, limit=given.limit)
    images.check_labels(classifier.num_classes)
    evaluation = Evaluation(classifier, images, seed=given.seed, progress=RichProgress(log))
    # What is looked up or decoded once, and a first pass, which is slow, are charged to nobody.
    _ = evaluation.probabilities, evaluation.targets
    with suppress(XaiError):  # the explainers that need a layer will say so
        classifier.default_layer()
    return Subject(model, weights == _RANDOM, evaluation)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data",
        required=True,
        help="folder with images/, masks/ and labels.csv; 'package.module:function'; or 'demo'",
    )
    parser.add_argument("--models", nargs="+", default=["demo"], metavar="NAME", help=_SHOWN)
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="weights of a model, or NAME=random; torchvision's published ones otherwise",
    )
    parser.add_argument(
        "--explainers",
        nargs="+",
        default=[],
        metavar="NAME",
        help="such as gradcam or 'integrated_gradients(steps=20)' (default: all)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"fewer steps, samples and masks for names without parameters: {', '.join(QUICK)}",
    )
    parser.add_argument("--limit", type=int, default=4, help=f"images, the first {_SHOWN}")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="NAME",
        help="such as iou or 'deletion(steps=14)' (default: none)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after each cell")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="written after each cell")
    parser.add_argument("--device", default="cpu", help=f"torch device, or 'auto' {_SHOWN}")
    parser.add_argument("--seed", type=int, default=0, help=f"of everything random {_SHOWN}")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
