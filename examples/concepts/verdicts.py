"""Ask which concepts a class rests on, layer by layer; draw where in the images they are.

    python examples/concepts/verdicts.py --model demo-shortcut --labels striped_disc \\
        --ask striped watermark_striped_disc --layers body features
    python examples/concepts/verdicts.py --model resnet50 --weights resnet50.safetensors \\
        --data FOLDER --concepts FOLDER --labels zebra --ask striped bubbly chequered \\
        --layers layer2 layer3 layer4 --maps striped

See the README beside this file for what it found.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from xai_core import Classifier, ImageSet, XaiError, load_classifier, load_imageset
from xai_core.concepts import (
    TCAV,
    ConceptLibrary,
    FeatureStore,
    TCAVResult,
    corrected,
    interaction,
    load_concepts,
)
from xai_core.concepts.map_fitting import ConceptMaps
from xai_core.errors import ConceptError, MissingExtraError, did_you_mean

_SHOWN = "(default: %(default)s)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 where what the user gave cannot be used."""
    given = _arguments(argv)
    try:
        run(given)
    except XaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(given: argparse.Namespace) -> list[TCAVResult]:
    """Test, print the table, and write what was asked for; all tests are one family."""
    started = time.perf_counter()
    log = Console(stderr=True, highlight=False)
    classifier = load_classifier(given.model, weights=given.weights)
    images = load_imageset(given.data, size=classifier.size, num_classes=classifier.num_classes)
    library = load_concepts(given.concepts, size=classifier.size)
    log.print(str(library))
    store = FeatureStore(classifier)
    asked = given.ask or [name for name in library.concepts if name != "random"]
    layers = given.layers or [classifier.default_layer()]
    classes = {label: class_images(images, label) for label in given.labels}
    results = []
    for layer in layers:
        tcav = TCAV(
            layer=layer,
            cav=given.cav,
            features=given.features,
            pooling=given.pooling,
            runs=given.runs,
            null_sets=given.null_sets,
            seed=given.seed,
        )
        for own, target in classes.values():
            for name in asked:
                concept = library.concept(name)
                results.append(tcav.test(store, concept, library.random, own, target))
                log.print(f"{layer}: {name} of class {target}, {results[-1].seconds:.1f} s")
    results = corrected(results)
    titles = {target: label for label, (_, target) in classes.items()}
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(
        _table(results, titles)
    )
    print(f"\n{results[0].overlap}; {classifier.passes}, {time.perf_counter() - started:.0f} s")
    for pair in given.pairs:
        _print_interactions(pair, store, library, classes, layers, given.seed)
    if given.json:
        text = json.dumps([_builtin(result) for result in results], indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")
    for name in given.maps:
        for label, (own, target) in classes.items():
            for layer in layers:
                path = given.out / f"{_safe(name)}-{_safe(label)}-{_safe(layer)}.png"
                draw(classifier, library, name, layer, own, target, path)
                log.print(f"written to {path}")
    return results


def draw(
    classifier: Classifier,
    library: ConceptLibrary,
    concept: str,
    layer: str,
    images: ImageSet,
    target: int,
    path: Path,
) -> None:
    """Write a PNG of the concept's maps on the images of a class, at most six of them.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConceptError: the layer does not tell the concept from the counterexamples.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("--maps", package="matplotlib", extra="examples") from None
    mapper = ConceptMaps(library).mapper(classifier, concept, layer)
    batch = images.batch(0, 6)
    maps = mapper.maps(batch.images)
    shares = mapper.attributions(batch.images, target)
    figure = Figure(figsize=(2.2 * len(maps), 4.8), layout="constrained")
    for index, (image, found) in enumerate(zip(batch.images, maps, strict=True)):
        plain, overlaid = (
            figure.add_subplot(2, len(maps), row * len(maps) + index + 1) for row in (0, 1)
        )
        plain.imshow(np.moveaxis(image, 0, -1))
        plain.set_title(batch.names[index][:22], fontsize=6)
        overlaid.imshow(np.moveaxis(image, 0, -1).mean(axis=-1), cmap="gray")
        overlaid.imshow(found, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
        overlaid.set_title(f"attribution {shares[index]:.3f}", fontsize=7)
        for axes in (plain, overlaid):
            axes.set_axis_off()
    figure.suptitle(f"{concept} at {layer} of {classifier.name}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path)


def class_images(images: ImageSet, label: str) -> tuple[ImageSet, int]:
    """Return the images of the class called ``label``, and its index.

    Raises:
        ConceptError: the set has no class of that name.
    """
    indices = {name: index for index, name in images.classes.items()}
    if label not in indices:
        msg = f"{images.name}: no class {label!r}: {did_you_mean(label, indices)}"
        raise ConceptError(msg)
    return images.of_label(indices[label]), indices[label]


def _table(results: Sequence[TCAVResult], titles: dict[int, str]) -> Table:
    head = (
        "class (images)",
        "layer",
        "concept",
        "verdict",
        "score (95% CI)",
        "random sets",
        "alignment",
        "detects",
        "p",
        "p (Holm)",
        "effect (95% CI)",
        "CAV accuracy",
    )
    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for found in results:
        score, effect, accuracy = found.score_interval, found.effect_interval, found.accuracy
        table.add_row(
            f"{titles[found.target]} ({len(found.names)})",
            found.layer,
            f"{found.concept} ({found.concept_images})",
            found.verdict,
            f"{found.score:.2f} ({score.low:.2f}..{score.high:.2f})",
            f"{found.null_scores[0]:.2f} +- {found.null_scores[1]:.2f}",
            f"{found.alignment:+.3f}",
            f"{found.detectable:.3f}",
            f"{found.p:.2g}",
            f"{found.p_corrected:.2g}",
            f"{found.effect:+.2f} ({effect.low:+.2f}..{effect.high:+.2f})",
            f"{accuracy:.2f} ({found.accuracy_interval.low:.2f}..)",
        )
    return table


def _print_interactions(
    pair: str,
    store: FeatureStore,
    library: ConceptLibrary,
    classes: dict[str, tuple[ImageSet, int]],
    layers: Sequence[str],
    seed: int,
) -> None:
    one, plus, other = pair.partition("+")
    if not plus:
        msg = f"--pairs {pair}: expected two concepts, such as striped+fur"
        raise ConceptError(msg)
    concepts = library.concept(one), library.concept(other)
    for label, (own, target) in classes.items():
        for layer in layers:
            found = interaction(
                store, *concepts, library.random, own, target, layer=layer, seed=seed
            )
            print(f"{label}, {layer}: {found.headline()}")


def _builtin(result: TCAVResult) -> dict[str, Any]:
    found = dataclasses.asdict(result)
    found["sensitivities"] = result.sensitivities.tolist()
    return {**found, "verdict": result.verdict, "protocol": result.tcav.protocol}


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--model", default="demo", help=_SHOWN)
    add("--weights", help="file of weights, or 'random'")
    add("--data", default="demo", help=f"image set with the classes {_SHOWN}")
    add("--concepts", default="demo", help=f"folder of concept folders, or 'demo' {_SHOWN}")
    add("--labels", nargs="+", required=True, metavar="CLASS", help="names of classes")
    add("--ask", nargs="+", default=[], metavar="CONCEPT", help="(default: all)")
    add("--layers", nargs="+", default=[], metavar="NAME", help="(default: the last with space)")
    add("--pairs", nargs="+", default=[], metavar="A+B", help="test what two do together")
    add("--cav", default="logistic", choices=("logistic", "svm", "pattern"), help=_SHOWN)
    add(
        "--features",
        default="activations",
        choices=("activations", "gradcam", "integrated_gradients"),
        help=_SHOWN,
    )
    add("--pooling", default="mean", choices=("mean", "flatten"), help=_SHOWN)
    add("--runs", type=int, default=20, help=_SHOWN)
    add("--null-sets", type=int, default=100, help=_SHOWN)
    add("--maps", nargs="+", default=[], metavar="CONCEPT", help="draw their maps")
    add("--out", type=Path, default=Path(__file__).parent / "out", help=_SHOWN)
    add("--json", type=Path, metavar="FILE")
    add("--seed", type=int, default=0, help=_SHOWN)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
