"""The images of a set in a seeded random order, measured as far as somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from xai_core.arrays import Float32, Int64
from xai_core.decoding import MOST_DECODED_BYTES, decoded_bytes
from xai_core.evaluation import AT_ONCE, Evaluation
from xai_core.explainers import Explanation
from xai_core.gate import Judgement, classes_of
from xai_core.measurement import Measurement, Method
from xai_core.metrics import METRICS, ConfiguredMetric
from xai_core.seeding import generator_of

_FIRST = 8
_GROWTH = 4


def looks_at(images: int) -> tuple[int, ...]:
    """Return after how many images, or groups of them, one looks whether a gate is settled.

    After each `_FIRST`, then ever more rarely, so that looking costs little and at most a
    quarter too many are measured. It does not depend on the size of the set.

    >>> looks_at(60)
    (8, 16, 24, 32, 40, 48, 56, 60)
    """
    looks = []
    seen = 0
    while seen < images:
        step = seen // _GROWTH // _FIRST * _FIRST
        seen = min(images, seen + max(_FIRST, step))
        looks.append(seen)
    return tuple(looks)


class ImagesInOrder:
    """The images of an evaluation in a random order that its seed decides.

    Measured a few at a time, each once however many gates ask, with the cache and the progress of
    the evaluation. Images of one photograph come together, as one: the length is the number of
    what comes in random order, photographs where several images are of one.

    Args:
        evaluation: of all images; nothing is computed in it unless a metric needs all at once.
        opened: called with each evaluation of some of them.

    Attributes:
        order: places of the images in the evaluation, in the order in which they come.
        looks: after how many one looks.
    """

    def __init__(
        self, evaluation: Evaluation, *, opened: Callable[[Evaluation], None] | None = None
    ) -> None:
        self.evaluation = evaluation
        self._groups = evaluation.images.groups
        together: dict[object, list[int]] = {}
        for row in range(len(evaluation.images)):
            together.setdefault(row if self._groups is None else self._groups[row], []).append(row)
        drawn = generator_of(evaluation.seed, "order of images").permutation(len(together))
        groups = list(together.values())
        self.order: Int64 = np.concatenate([groups[place] for place in drawn.tolist()])
        ends = np.cumsum([len(groups[place]) for place in drawn.tolist()])
        self.looks = tuple(int(ends[seen - 1]) for seen in looks_at(len(groups)))
        self._length = len(groups)
        self._opened = opened
        self._parts: list[Evaluation] = []
        self._bytes_left = MOST_DECODED_BYTES

    def __len__(self) -> int:
        return self._length

    @property
    def model(self) -> str:
        """Name of the classifier."""
        return self.evaluation.classifier.name

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.evaluation.seed

    @property
    def seen(self) -> int:
        """How many images came so far."""
        return self.looks[len(self._parts) - 1] if self._parts else 0

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled images that came so far that the classifier gets right."""
        shares = [
            (part.accuracy, sum(label is not None for label in part.images.labels))
            for part in self._parts
        ]
        labelled = sum(count for _, count in shares)
        if not labelled:
            return None
        return sum(right * count for right, count in shares if right is not None) / labelled

    def first(
        self, images: int, method: Method, metric: ConfiguredMetric, null: str | None = None
    ) -> Measurement:
        """Return a metric of the images that come first.

        Args:
            images: how many, one of ``looks``.
            method: whose heatmaps are measured.
            metric: what is measured.
            null: null map that is measured in their place.

        Raises:
            XaiError: the images or the method lack what the metric needs.
        """
        found = _joined(
            (self._places_in(index), _measured(part, method, metric, null))
            for index, part in enumerate(self._until(images))
        )
        if self._groups is None:
            return found
        return replace(found, groups=tuple(self._groups[row] for row in self.order[:images]))

    def behind(self, judgement: Judgement, method: Method) -> list[tuple[Evaluation, Measurement]]:
        """Return the measurements that a judgement rests on, with the evaluations they are of.

        Args:
            judgement: on these images.
            method: what was judged.
        """
        metric = judgement.measurement.metric
        of_all = judgement.in_full is not None and needs_all(metric, AT_ONCE)
        images = len(judgement.measurement.names)
        parts = [self.evaluation] if of_all else self._until(images)
        return [(part, part.measure(method, metric)) for part in parts]

    def all(self, method: Method, metric: ConfiguredMetric, null: str | None = None) -> Measurement:
        """Return a metric of all images, in the order of the evaluation."""
        if needs_all(metric, AT_ONCE):
            if null is None or null == "inverted":
                self._give_explanations(method)
            return _measured(self.evaluation, method, metric, null)
        return self.sorted(self.first(len(self.order), method, metric, null))

    def sorted(self, measurement: Measurement) -> Measurement:
        """Return a measurement of all images in the order of the evaluation."""
        found = _joined([(np.argsort(self.order), measurement)])
        return replace(found, groups=self._groups)

    def classes(self, images: int) -> tuple[str, ...]:
        """Return the name of the target class of each of the images that come first."""
        found: list[str] = []
        for index, part in enumerate(self._until(images)):
            names = classes_of(part)
            found += [names[place] for place in self._places_in(index)]
        return tuple(found)

    def classes_of_all(self) -> tuple[str, ...]:
        """Return the name of the target class of each image, in the order of the evaluation."""
        found = self.classes(len(self.order))
        return tuple(found[place] for place in np.argsort(self.order).tolist())

    def _until(self, images: int) -> list[Evaluation]:
        """Return the evaluations of the images that come first."""
        wanted = self.looks.index(images) + 1
        while len(self._parts) < wanted:
            part = self.evaluation.part(
                self._rows(len(self._parts)).tolist(), most_decoded_bytes=self._bytes_left
            )
            taken = decoded_bytes(part.images)
            self._bytes_left = max(0, self._bytes_left - taken)
            if self._opened:
                self._opened(part)
            self._parts.append(part)
        return self._parts[:wanted]

    def _rows(self, index: int) -> Int64:
        """Return the places in the evaluation of the images of a part, in their order."""
        start = self.looks[index - 1] if index else 0
        return self.order[start : self.looks[index]]

    def _places_in(self, index: int) -> Int64:
        """Return where the images of a part stand in it, whose own order is that of names."""
        rows = self._rows(index)
        places: Int64 = np.searchsorted(np.sort(rows), rows)
        return places

    def _give_explanations(self, method: Method) -> None:
        """Explain all images, each once, for the evaluation of all."""
        raw = Method(method.name, method.explainer)
        places = np.argsort(self.order)
        found = [
            (self._places_in(index), part.explain(raw))
            for index, part in enumerate(self._until(len(self.order)))
        ]

        def of_all(maps: Iterable[tuple[Int64, Float32 | None]]) -> Float32 | None:
            there = [one[order] for order, one in maps if one is not None]
            return np.concatenate(there)[places] if there else None

        heatmaps = of_all((order, one.heatmaps) for order, one in found)
        if heatmaps is not None:
            attributions = of_all((order, one.attributions) for order, one in found)
            native = of_all((order, one.native) for order, one in found)
            self.evaluation.adopt(raw, Explanation(heatmaps, attributions, native))


def needs_all(metric: ConfiguredMetric, needs: Iterable[str]) -> bool:
    """Return whether a metric, or one that it is made of, has one of ``needs``."""
    return any(
        need in needs or (need in METRICS and needs_all(metric.part(need), needs))
        for need in metric.metric.needs
    )


def _measured(
    part: Evaluation, method: Method, metric: ConfiguredMetric, null: str | None
) -> Measurement:
    if null is None:
        return part.measure(method, metric)
    return part.measure_null(null, method, metric)


def _joined(parts: Iterable[tuple[Int64, Measurement]]) -> Measurement:
    """Return one measurement of several, each in an order of its own."""
    measured = [(order.tolist(), part) for order, part in parts]
    first = measured[0][1]
    names = [part.names[place] for order, part in measured for place in order]
    values = [part.values[place] for order, part in measured for place in order]
    reasons = [part.undefined.get(place) for order, part in measured for place in order]
    return replace(
        first,
        names=tuple(names),
        values=np.array(values, dtype=np.float64),
        undefined={row: why for row, why in enumerate(reasons) if why is not None},
    )
