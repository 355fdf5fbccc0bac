"""How many of an image's neighbours have its class, held against a threshold."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xai_core.concepts.neighbours import Distance, Neighbours, nearest, neighbour_agreement
from xai_core.errors import ConceptError
from xai_core.evaluation import Cost, Evaluation, Measurement
from xai_core.gate import Conditions, Judgement, judge_values
from xai_core.imageset import ImageSet
from xai_core.metrics import ConfiguredMetric, Metric
from xai_core.parameters import as_dict, identity, require
from xai_core.progress import Progress

SHOWN = 5

_SETTINGS: dict[str, tuple[Any, Any]] = {
    "reference": (str, ""),
    "k": (int, 5),
    "layer": (str | None, None),
    "distance": (Distance, "cosine"),
    "limit": (int | None, None),
}

NEIGHBOUR_AGREEMENT = Metric(
    name="neighbour_agreement",
    version="v1",
    better="higher",
    range=(0.0, 1.0),
    unit="",
    source="Papernot 2018, Deep k-Nearest Neighbors",
    assertion="neighbours_agree",
    function=neighbour_agreement,
    needs=(),
    settings=_SETTINGS,
)
"""Not among the metrics of heatmaps: no explainer has a part in it."""


@dataclass(frozen=True)
class NeighbourSearch:
    """Among which images the neighbours of an image are looked for, and how.

    Args:
        reference: an image set with labels, as ``[data] path`` takes it.
        k: how many neighbours.
        layer: whose pooled activations are the embedding; None = the classifier's default one.
        distance: ``cosine`` or ``euclidean``.
        limit: the first so many images of the reference, in the order of their names.
    """

    name: ClassVar[str] = "neighbours"

    reference: str
    k: int = 5
    layer: str | None = None
    distance: Distance = "cosine"
    limit: int | None = None

    def __post_init__(self) -> None:
        require(bool(self.reference), "`reference` names no image set")
        require(self.layer != "", "`layer` is empty; leave it out for the classifier's default one")
        require(self.k >= 1, f"`k` must be at least 1, got {self.k}")
        require(
            self.limit is None or self.limit >= self.k,
            f"`limit` leaves {self.limit} images of the reference, fewer than `k` = {self.k}",
        )

    @property
    def identity(self) -> str:
        """The text that names the search with all its parameters."""
        return identity(self.name, self)

    @property
    def metric(self) -> ConfiguredMetric:
        """What is measured."""
        return NEIGHBOUR_AGREEMENT.configure(as_dict(self))


@dataclass(frozen=True)
class NeighbourJudgement:
    """What came of a gate on neighbours.

    Attributes:
        judgement: as of any gate; an image whose class has fewer than ``k`` images in the
            reference is undefined, since its neighbours could not all have it.
        neighbours: of every image.
        search: how they were looked for.
        layer: whose activations were compared.
        images: the images.
        reference: the images that the neighbours are among.
        targets: the class of every image.
    """

    judgement: Judgement
    neighbours: Neighbours
    search: NeighbourSearch
    layer: str
    images: ImageSet
    reference: ImageSet
    targets: tuple[int, ...]

    def notes(self) -> tuple[str, ...]:
        """Return the line that says where the neighbours are from."""
        search = self.search
        return (
            f"neighbours: the nearest {search.k} of the {len(self.reference)} images of "
            f"{search.reference}, at {self.layer}, by {search.distance} distance",
        )

    def beneath(self) -> dict[str, str]:
        """Return, for the name of every image, its class and its nearest neighbours with theirs."""
        names = {**self.reference.classes, **self.images.classes}
        found = {}
        for image, target, others, labels in zip(
            self.images.names,
            self.targets,
            self.neighbours.names,
            self.neighbours.labels,
            strict=True,
        ):
            listed = [
                f"{other} ({_class(names, label)})"
                for other, label in zip(others[:SHOWN], labels[:SHOWN], strict=True)
            ]
            more = f", and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            found[image] = f"{_class(names, target)}, nearest: {', '.join(listed)}{more}"
        return found


def require_labels(reference: ImageSet) -> None:
    """Check that the class of every image of a reference is known.

    Raises:
        ConceptError: an image without a label.
    """
    pairs = zip(reference.names, reference.labels, strict=True)
    unlabelled = [name for name, label in pairs if label is None]
    if unlabelled:
        msg = (
            f"{reference.name}: {len(unlabelled)} of {len(reference)} images have no label, the "
            f"first is {unlabelled[0]!r}; a reference needs the class of every image"
        )
        raise ConceptError(msg)


def judge_neighbours(
    evaluation: Evaluation,
    reference: ImageSet,
    search: NeighbourSearch,
    conditions: Conditions,
    progress: Progress,
) -> NeighbourJudgement:
    """Look up the neighbours of an evaluation's images and judge how many have their class.

    The class of an image is its target: its label, else the predicted class.

    Args:
        evaluation: of a classifier on the images.
        reference: where `require_labels` finds nothing amiss.
        search: how neighbours are looked for.
        conditions: what is demanded of the share of them that have the image's class.
        progress: told how far it is.

    Raises:
        ConceptError: fewer than ``k`` other images in the reference, or an embedding of zero, which
            has no cosine.
        LayerError: the search's layer does not exist or has no space.
        ClassifierError: the classifier's layers cannot be reached (ONNX).
    """
    targets = evaluation.targets
    neighbours = _found(evaluation, reference, search, progress)
    values = (np.array(neighbours.labels) == targets[:, None]).mean(axis=1)
    counts = Counter(reference.labels)
    names = {**reference.classes, **evaluation.images.classes}
    undefined = {
        row: f"{counts[target]} of the reference's images are of its class, "
        f"{_class(names, target)}: fewer than k = {search.k}"
        for row, target in enumerate(targets.tolist())
        if counts[target] < search.k
    }
    values[list(undefined)] = np.nan
    measurement = Measurement(
        search.metric,
        search.name,
        evaluation.images.names,
        values,
        undefined,
        groups=evaluation.images.groups,
    )
    judgement = judge_values(
        measurement, conditions, model=evaluation.classifier.name, nulls={}, seed=evaluation.seed
    )
    return NeighbourJudgement(
        judgement=judgement,
        neighbours=neighbours,
        search=search,
        layer=search.layer or evaluation.classifier.default_layer(),
        images=evaluation.images,
        reference=reference,
        targets=tuple(targets.tolist()),
    )


def _found(
    evaluation: Evaluation, reference: ImageSet, search: NeighbourSearch, progress: Progress
) -> Neighbours:
    """Return the neighbours; what they took is a cost of the evaluation."""
    classifier, images = evaluation.classifier, evaluation.images
    passes, started = classifier.passes, time.perf_counter()
    before = passes.forwards
    title = f"looking up neighbours of {images.name} in {reference.name}"
    with (
        progress.task(title, len(images) + len(reference)) as advance,
        passes.watched(lambda: advance(0, note=f"{passes.forwards - before} passes")),
    ):
        try:
            found = nearest(
                classifier,
                images,
                reference,
                search.k,
                at=search.layer,
                distance=search.distance,
            )
            advance(len(images) + len(reference))
        finally:
            cost = evaluation.costs.setdefault(("measure", NEIGHBOUR_AGREEMENT.name), Cost())
            cost.forwards += passes.forwards - before
            cost.seconds += time.perf_counter() - started
    return found


def _class(names: dict[int, str], label: int | None) -> str:
    """Return the name of a class, its index where it has none."""
    return names.get(-1 if label is None else label, f"class {label}")
