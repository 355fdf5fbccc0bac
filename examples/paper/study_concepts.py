"""The study's third method: TCAV with CAVs on plain, Grad-CAM- and IG-weighted activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from xai_core import ImageSet
from xai_core.concepts import TCAV, ConceptLibrary, FeatureStore, TCAVResult, corrected
from xai_core.errors import ConceptError, did_you_mean

Features = Literal["activations", "gradcam", "integrated_gradients"]

VARIANTS: dict[Features, str] = {
    "activations": "TCAV",
    "gradcam": "TCAV on Grad-CAM",
    "integrated_gradients": "TCAV on IG",
}
"""What the CAVs are fitted on -> what the study calls it; the first is the original."""

NOTES = (
    "TCAV: share of the class's images whose logit rises along the CAV (logistic regression on "
    "activations averaged over positions, 20 random counterparts), with its 95 % interval, and "
    "what the test says of the concept: present, opposed, absent, undecided, not learnt.",
    "Random sets: the mean and the standard deviation of the score that random sets of images get "
    "at that place. A score says nothing where they reach it too.",
)


@dataclass(frozen=True)
class ConceptLine:
    """One concept, class and variant, model by model.

    Attributes:
        variant: what the CAVs were fitted on.
        label: name of the class.
        concept: name of the concept.
        results: one for each model.
    """

    variant: Features
    label: str
    concept: str
    results: tuple[TCAVResult, ...]


def concept_lines(
    stores: Sequence[FeatureStore],
    images: Sequence[ImageSet],
    libraries: Sequence[ConceptLibrary],
    *,
    labels: Sequence[str],
    concepts: Sequence[str],
    layer: str | None = None,
    steps: int = 20,
    seed: int = 0,
) -> list[ConceptLine]:
    """Test every concept for every class and variant on every model; one family for each model.

    Args:
        stores: one for each model.
        images: what each model sees.
        libraries: concepts at each model's size.
        labels: names of classes; none = the class with the most images.
        concepts: names of concepts; none = all.
        layer: name of the layer; None = each model's default.
        steps: of the layer's integrated gradients.
        seed: of the draws.

    Raises:
        ConceptError: no such class or concept, or too few images.
    """
    chosen = list(labels) or [_commonest(images[0])]
    asked = list(concepts) or list(libraries[0].concepts)
    keys = [
        (variant, label, concept) for label in chosen for concept in asked for variant in VARIANTS
    ]
    columns = []
    for store, own, library in zip(stores, images, libraries, strict=True):
        found = []
        for variant, label, concept in keys:
            target = _index(own, label)
            tcav = TCAV(layer=layer, features=variant, steps=steps, seed=seed)
            found.append(
                tcav.test(
                    store, library.concept(concept), library.random, own.of_label(target), target
                )
            )
        columns.append(corrected(found))
    return [
        ConceptLine(variant, label, concept, tuple(column[index] for column in columns))
        for index, (variant, label, concept) in enumerate(keys)
    ]


def concept_table(lines: Sequence[ConceptLine], titles: Sequence[str]) -> Table:
    """Return the lines as a table for a terminal."""
    table = Table("class", "concept", "method", *map(escape, titles), box=None, pad_edge=False)
    for line in lines:
        table.add_row(
            escape(line.label),
            escape(line.concept),
            VARIANTS[line.variant],
            *(escape(_cell(result)) for result in line.results),
        )
    return table


def concept_markdown(lines: Sequence[ConceptLine], titles: Sequence[str]) -> str:
    """Return the lines as a table in Markdown."""
    head = ["class", "concept", "method", *titles]
    rows = [head, ["---"] * len(head)]
    rows += [
        [line.label, line.concept, VARIANTS[line.variant], *map(_cell, line.results)]
        for line in lines
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def concept_json(lines: Sequence[ConceptLine]) -> list[dict[str, Any]]:
    """Return the lines as builtin types."""
    return [
        {
            "method": VARIANTS[line.variant],
            "class": line.label,
            "concept": line.concept,
            "model": result.model,
            "layer": result.layer,
            "protocol": result.tcav.protocol,
            "score": result.score,
            "low": result.score_interval.low,
            "high": result.score_interval.high,
            "random_sets": list(result.null_scores),
            "alignment": result.alignment,
            "effect": result.effect,
            "p": result.p,
            "p_corrected": result.p_corrected,
            "cav_accuracy": result.accuracy,
            "verdict": result.verdict,
            "images": len(result.names),
        }
        for line in lines
        for result in line.results
    ]


def _cell(result: TCAVResult) -> str:
    score, (centre, spread) = result.score_interval, result.null_scores
    return (
        f"{result.score:.2f} [{score.low:.2f}, {score.high:.2f}], random sets {centre:.2f} ± "
        f"{spread:.2f}: {result.verdict}"
    )


def _commonest(images: ImageSet) -> str:
    counts = Counter(label for label in images.labels if label in images.classes)
    if not counts:
        msg = f"{images.name} names no classes; give --classes, and labels.csv a column `class`"
        raise ConceptError(msg)
    label, _ = counts.most_common(1)[0]
    assert label is not None  # None is never one of the classes
    return images.classes[label]


def _index(images: ImageSet, label: str) -> int:
    indices = {name: index for index, name in images.classes.items()}
    if label not in indices:
        msg = f"--classes: {images.name} has no class {label!r}: {did_you_mean(label, indices)}"
        raise ConceptError(msg)
    return indices[label]
