"""How often a random set of images passes for a concept: the type I error of the TCAV test.

    python examples/concepts/type_one.py --model demo
    python examples/concepts/type_one.py --model resnet50 --weights resnet50.safetensors \\
        --data FOLDER --label zebra --random FOLDER/random --layers layer2 layer3 layer4

Each replicate draws a "concept" and a pool of counterexamples from the same random images, and
asks for p < level. See the README beside this file for what it found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from verdicts import class_images

from xai_core import XaiError, load_classifier, load_imageset
from xai_core.arrays import Float32
from xai_core.concepts import TCAV, FeatureStore, concept_set, load_concept
from xai_core.demo.scenes import concept_images
from xai_core.errors import ConceptError
from xai_core.statistics import wilson


@dataclass(frozen=True)
class Row:
    """How often random sets were taken for a concept at one layer.

    Attributes:
        layer: its name.
        replicates: how many were tried.
        significant: share with p < level, whatever the CAVs' accuracy.
        interval: Wilson's, of that share.
        reported: share that a gate would have called present or opposed.
    """

    layer: str
    replicates: int
    significant: float
    interval: tuple[float, float]
    reported: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 where what the user gave cannot be used."""
    given = _arguments(argv)
    try:
        rows = run(given)
    except XaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = Table(box=None, header_style="bold")
    for column in ("layer", "replicates", f"p < {given.level}", "95% CI", "called a concept"):
        table.add_column(column)
    for row in rows:
        low, high = row.interval
        table.add_row(
            row.layer,
            str(row.replicates),
            f"{row.significant:.3f}",
            f"{low:.3f}..{high:.3f}",
            f"{row.reported:.3f}",
        )
    Console(highlight=False).print(table)
    return 0


def run(given: argparse.Namespace) -> list[Row]:
    """Return one row for each layer."""
    classifier = load_classifier(given.model, weights=given.weights)
    store = FeatureStore(classifier)
    images = load_imageset(given.data, size=classifier.size, num_classes=classifier.num_classes)
    images, target = class_images(images, given.label)
    pool = _random_images(given, classifier.size)
    if len(pool) < given.set_size * 3:
        msg = f"{len(pool)} random images; sets of {given.set_size} need {3 * given.set_size}"
        raise ConceptError(msg)
    rows = []
    for layer in given.layers or [classifier.default_layer()]:
        tcav = TCAV(
            layer=layer,
            cav=given.cav,
            set_size=given.set_size,
            runs=given.runs,
            null_sets=given.null_sets,
            level=given.level,
        )
        draws = np.random.default_rng(given.seed)
        significant = reported = 0
        for _ in track(range(given.replicates), layer, console=Console(stderr=True)):
            some = pool[draws.permutation(len(pool))[: given.pool + given.set_size]]
            concept = concept_set("concept", some[: given.set_size])
            others = concept_set("random", some[given.set_size :])
            found = tcav.test(store, concept, others, images, target)
            significant += found.p < given.level
            reported += found.verdict in ("present", "opposed")
        share = significant / given.replicates
        rows.append(
            Row(
                layer,
                given.replicates,
                share,
                wilson(share, given.replicates),
                reported / given.replicates,
            )
        )
    return rows


def _random_images(given: argparse.Namespace, size: tuple[int, int]) -> Float32:
    if given.random == "demo":
        return concept_images("random", 1000, size=max(size), seed=1000)
    images = load_concept(given.random, size=size)
    return images.batch(0, len(images)).images


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    shown = "(default: %(default)s)"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--model", default="demo", help=shown)
    add("--weights", help="file of weights, or 'random'")
    add("--data", default="demo", help=f"image set with the class {shown}")
    add("--label", default="striped_disc", help=f"name of the class {shown}")
    add("--random", default="demo", help=f"folder of random images, or 'demo' {shown}")
    add("--layers", nargs="+", default=[], metavar="NAME", help="(default: the last with space)")
    add("--cav", default="logistic", choices=("logistic", "svm", "pattern"), help=shown)
    add("--replicates", type=int, default=200, help=shown)
    add("--set-size", type=int, default=30, help=f"images of a concept {shown}")
    add("--pool", type=int, default=120, help=f"random images beside it {shown}")
    add("--runs", type=int, default=20, help=f"counterparts of a concept {shown}")
    add("--null-sets", type=int, default=40, help=shown)
    add("--level", type=float, default=0.05, help=shown)
    add("--seed", type=int, default=0, help=shown)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
