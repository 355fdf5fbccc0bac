"""Print the study's table and draw its figures: published figures beside ours.

    python examples/paper/study.py --data demo --models demo demo-shortcut
    python examples/paper/study.py --data FOLDER --weights resnet50=resnet50.safetensors

See the README beside this file for what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path

import numpy as np
from rich.console import Console
from study_concepts import NOTES as CONCEPT_NOTES
from study_concepts import (
    ConceptLine,
    concept_json,
    concept_lines,
    concept_markdown,
    concept_table,
)
from study_figures import Panel, draw, file_name, require_matplotlib
from study_rows import EXPLAINERS, MODELS, Row, rows
from study_table import CHAIN, PLAIN, Block, Cell, Column, StudyTable

from xai_core import (
    METRICS,
    Evaluation,
    Explainer,
    GradCAM,
    ImageSet,
    IntegratedGradients,
    Method,
    XaiError,
    load_classifier,
    load_imageset,
)
from xai_core.arrays import Bool, Float32
from xai_core.classifier import weights_by_model
from xai_core.concepts import FeatureStore, load_concepts
from xai_core.errors import did_you_mean
from xai_core.imageset import Entry, Resize
from xai_core.postprocess import Clahe, Gaussian, PostProcess
from xai_core.progress import RichProgress

OUT = Path(__file__).parent / "out"
STUDY_CHAIN: tuple[PostProcess, ...] = (Gaussian(sigma=3.0), Clahe())
_RANDOM = "random"
_SHOWN = "(default: %(default)s)"
_CATS = range(281, 286)  # ImageNet's domestic cats; the study shows one


@dataclass(frozen=True)
class Subject:
    """One model of the table with its images.

    Attributes:
        model: name that it was loaded by.
        title: name in the table.
        untrained: whether its weights are random.
        evaluation: the model on the images.
    """

    model: str
    title: str
    untrained: bool
    evaluation: Evaluation


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 where what the user gave cannot be used."""
    chosen = _arguments(argv)
    logging.basicConfig(format="%(message)s")  # xai_core says there what it fetches
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every pipe takes an arrow
    try:
        run(chosen, log=Console(stderr=True, highlight=False))
    except XaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(chosen: argparse.Namespace, *, log: Console) -> None:
    """Measure, print the table, write it and the figures into the folder asked for."""
    if chosen.figures:
        require_matplotlib()
    weights = weights_by_model(chosen.weights, chosen.models, option="--weights")
    variants = {CHAIN: STUDY_CHAIN, PLAIN: ()} if chosen.raw else {CHAIN: STUDY_CHAIN}
    kinds: tuple[Explainer, ...] = (GradCAM(), IntegratedGradients(steps=chosen.steps))
    explainers = dict(zip(EXPLAINERS, kinds, strict=True))
    lines = rows(samples=chosen.samples, seed=chosen.seed)
    subjects, found = [], {}
    for model in chosen.models:
        subject = _subject(model, weights.get(model), chosen, log)
        subjects.append(subject)
        for name, explainer in explainers.items():
            started = time.perf_counter()
            methods = {
                variant: Method(name, explainer, steps) for variant, steps in variants.items()
            }
            found[name, model] = [
                tuple(_cell(row, subject, variant, method) for variant, method in methods.items())
                for row in lines
            ]
            seconds = time.perf_counter() - started
            log.print(f"{subject.title}, {name}: measured in {seconds:.0f} s")
    table = _table(chosen, subjects, lines, found)
    titles = [subject.title for subject in subjects]
    lines_of_concepts = _concepts(chosen, subjects, log)
    console = Console(highlight=False)
    console.print(table.for_terminal())
    if lines_of_concepts:
        console.print("", concept_table(lines_of_concepts, titles), *CONCEPT_NOTES, sep="\n")
    _write(table, lines_of_concepts, titles, chosen.out)
    for variant in variants if chosen.figures else ():
        _draw(subjects, explainers, variant, variants[variant], chosen)
    log.print(f"written to {chosen.out}")


def _concepts(
    chosen: argparse.Namespace, subjects: Sequence[Subject], log: Console
) -> list[ConceptLine]:
    """Return the lines of TCAV; none where no concepts were given.

    The class's images are all of the set, whatever --limit and --images say of the heatmaps: TCAV
    takes one gradient an image, and its intervals need them.
    """
    if chosen.concepts is None:
        return []
    started = time.perf_counter()
    classifiers = [subject.evaluation.classifier for subject in subjects]
    found = concept_lines(
        [FeatureStore(classifier) for classifier in classifiers],
        [load_imageset(chosen.data, size=classifier.size) for classifier in classifiers],
        [load_concepts(chosen.concepts, size=classifier.size) for classifier in classifiers],
        labels=chosen.classes,
        concepts=chosen.ask,
        layer=chosen.layer,
        seed=chosen.seed,
    )
    log.print(f"TCAV: {len(found)} lines in {time.perf_counter() - started:.0f} s")
    return found


def only(images: ImageSet, names: Sequence[str]) -> ImageSet:
    """Return the images called ``names`` as a set of their own.

    Raises:
        XaiError: the set has no image of that name.
    """
    for name in names:
        if name not in images.names:
            msg = f"--images: {images.name} has no {name!r}: {did_you_mean(name, images.names)}"
            raise XaiError(msg)
    entries = []
    for name in dict.fromkeys(names):
        index = images.names.index(name)
        read_mask = partial(_mask, images, index) if images.has_masks else None
        read_image = partial(_image, images, index)
        entries.append(Entry(name, images.labels[index], read_image, read_mask, images.name))
    # The pixels come transformed; a resize to the size that they have leaves them alone.
    done = Resize(size=images.transform.size)
    return ImageSet(entries, name=images.name, transform=done, classes=images.classes)


def _image(images: ImageSet, index: int) -> Float32:
    return images[index].image


def _mask(images: ImageSet, index: int) -> Bool:
    mask = images[index].mask
    assert mask is not None  # asked for only where the set has masks
    return mask


def _subject(model: str, weights: str | None, chosen: argparse.Namespace, log: Console) -> Subject:
    classifier = load_classifier(model, weights=weights, device=chosen.device, seed=chosen.seed)
    images = load_imageset(chosen.data, size=classifier.size)
    images = only(images, chosen.images) if chosen.images else images.head(chosen.limit)
    images.check_labels(classifier.num_classes)
    evaluation = Evaluation(classifier, images, seed=chosen.seed, progress=RichProgress(log))
    return Subject(model, MODELS.get(model, model), weights == _RANDOM, evaluation)


def _cell(row: Row, subject: Subject, variant: str, method: Method) -> Cell:
    metric = METRICS[row.metric].configure(row.settings)
    maskless = "masks" in metric.metric.needs and not subject.evaluation.images.has_masks
    measurement = None if maskless else subject.evaluation.measure(method, metric)
    return Cell(variant, method.identity, measurement)


def _table(
    chosen: argparse.Namespace,
    subjects: Sequence[Subject],
    lines: Sequence[Row],
    found: dict[tuple[str, str], list[tuple[Cell, ...]]],
) -> StudyTable:
    columns = [
        Column(name, subject.model, subject.title, subject.untrained, subject.evaluation.accuracy)
        for name in EXPLAINERS
        for subject in subjects
    ]
    blocks = []
    for index, row in enumerate(lines):
        metric = METRICS[row.metric].configure(row.settings)
        cells = tuple(found[column.explainer, column.model][index] for column in columns)
        centre = _centre(row, subjects[0])
        blocks.append(Block(row, metric.protocol, metric.metric.better, cells, centre))
    images = subjects[0].evaluation.images
    shares = [sample.mask.mean() for sample in images if sample.mask is not None]
    return StudyTable(
        data=images.name,
        names=images.names,
        mask_share=float(np.mean(shares)) if shares else None,
        columns=tuple(columns),
        blocks=tuple(blocks),
        notes=_notes(chosen),
        settings={
            "models": {
                subject.model: {
                    "weights": "random" if subject.untrained else "trained",
                    "fingerprint": subject.evaluation.classifier.fingerprint,
                    "size": list(subject.evaluation.classifier.size),
                }
                for subject in subjects
            },
            "steps": chosen.steps,
            "samples": chosen.samples,
            "seed": chosen.seed,
        },
    )


def _centre(row: Row, subject: Subject) -> float | None:
    """Return what the null map ``centre`` gets where a metric looks at masks alone."""
    metric = METRICS[row.metric].configure(row.settings)
    evaluation = subject.evaluation
    if "masks" not in metric.metric.needs or not evaluation.images.has_masks:
        return None
    found = evaluation.measure_null("centre", Method("centre", GradCAM()), metric)
    return found.mean if len(found.defined) else None


def _notes(chosen: argparse.Namespace) -> tuple[str, ...]:
    plain = (
        'Lines that begin with "plain" are the maps as the explainer gives them.'
        if chosen.raw
        else "--raw adds the maps as the explainer gives them."
    )
    return (
        "Ours: the mean over the images, with its 95 % confidence interval over images.",
        "Explained: the class of the label, the predicted one where there is none.",
        "A blob in the middle: what a map gets on these images that never looks at them.",
        f"Maps: the study's chain, Gaussian (sigma 3), then CLAHE (tiles of an eighth of the "
        f"side, clip limit 0.01); Otsu's threshold for IoU, precision and recall. {plain}",
        f"IG: {chosen.steps} gradients (Gauss-Legendre) from black, absolute sum over channels.",
        f"Stability: sigma 0.05, {chosen.samples} noisy "
        f"{'copy' if chosen.samples == 1 else 'copies'} of each image, each explained in full: "
        f"for IG {chosen.samples} x {chosen.steps} more gradients an image. "
        "--samples 5 is the metric's own default.",
        "TCAV, the study's third method, has a table of its own below."
        if chosen.concepts
        else "TCAV, the study's third method: --concepts FOLDER.",
    )


def _write(
    table: StudyTable, concepts: Sequence[ConceptLine], titles: Sequence[str], out: Path
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    markdown, found = table.as_markdown(), table.as_json()
    if concepts:
        notes = "".join(f"- {note}\n" for note in CONCEPT_NOTES)
        markdown += f"\n## TCAV\n\n{concept_markdown(concepts, titles)}\n{notes}"
        found["tcav"] = concept_json(concepts)
    (out / "table.md").write_text(markdown, encoding="utf-8")
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    (out / "table.json").write_text(text + "\n", encoding="utf-8")


def _draw(
    subjects: Sequence[Subject],
    explainers: dict[str, Explainer],
    variant: str,
    steps: tuple[PostProcess, ...],
    chosen: argparse.Namespace,
) -> None:
    """Draw the cats among the images first, then the others in their order."""
    images = subjects[0].evaluation.images
    order = sorted(range(len(images)), key=lambda index: images.labels[index] not in _CATS)
    for index in order[: chosen.figures]:
        panels = [
            _panel(subject, Method(name, explainer, steps), index)
            for subject in subjects
            for name, explainer in explainers.items()
        ]
        target = int(subjects[0].evaluation.targets[index])
        named = images.classes.get(target, f"class {target}").replace("_", " ")
        shown = "the study's post-processing" if variant == CHAIN else "plain maps"
        draw(
            panels,
            title=f"{images.names[index]}: {named}; {shown}",
            path=chosen.out / file_name(images.names[index], variant),
        )


def _panel(subject: Subject, method: Method, index: int) -> Panel:
    evaluation = subject.evaluation
    sample = evaluation.images[index]
    iou = None
    if sample.mask is not None:
        value = evaluation.measure(method, METRICS["iou"].configure({})).values[index]
        iou = None if np.isnan(value) else float(value)
    untrained = "\nrandom weights" if subject.untrained else ""
    return Panel(
        label=f"{method.name}\n{subject.title}{untrained}",
        image=sample.image,
        mask=sample.mask,
        heatmap=evaluation.explain(method).heatmaps[index],
        probability=float(evaluation.probabilities[index, evaluation.targets[index]]),
        iou=iou,
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data",
        required=True,
        help="folder with images/, masks/ and labels.csv; 'package.module:function'; or 'demo'",
    )
    parser.add_argument("--models", nargs="+", default=[*MODELS], metavar="NAME", help=_SHOWN)
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="weights of a model, or NAME=random; torchvision's published ones otherwise",
    )
    parser.add_argument("--limit", type=int, default=10, help=f"images, the first {_SHOWN}")
    parser.add_argument("--images", nargs="+", metavar="NAME", help="only these images")
    parser.add_argument(
        "--concepts",
        metavar="FOLDER",
        help="one folder of images for each concept and one called 'random', or 'demo', for TCAV",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="classes that TCAV asks about (default: the one with the most images)",
    )
    parser.add_argument(
        "--ask", nargs="+", default=[], metavar="CONCEPT", help="concepts (default: all)"
    )
    parser.add_argument("--layer", metavar="NAME", help="of TCAV (default: the last with space)")
    parser.add_argument("--raw", action="store_true", help="the maps without post-processing too")
    parser.add_argument("--steps", type=int, default=50, help=f"gradients of IG {_SHOWN}")
    parser.add_argument(
        "--samples", type=int, default=2, help=f"noisy copies an image, for stability {_SHOWN}"
    )
    parser.add_argument("--figures", type=int, default=3, help=f"images to draw {_SHOWN}")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for what is written")
    parser.add_argument("--device", default="cpu", help=f"torch device, or 'auto' {_SHOWN}")
    parser.add_argument("--seed", type=int, default=0, help=f"of everything random {_SHOWN}")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
