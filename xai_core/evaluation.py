"""Classifier x images x explainers x metrics -> measurements: the only place that loops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from xai_core.arrays import Float32, Float64, Int64, as_numpy
from xai_core.cache import DiskCache
from xai_core.cache.entries import (
    VALUES,
    Form,
    ImageExplanation,
    Value,
    explanations_of,
    probabilities_of,
)
from xai_core.cache.kept import KeptResults
from xai_core.cache.keys import Keys, Subject, is_kept
from xai_core.classifier import Classifier
from xai_core.decoding import MOST_DECODED_BYTES, Decoding
from xai_core.errors import UndefinedMeasurementError, XaiError
from xai_core.explainers import Complete, Explanation, null_maps, parse_explainer
from xai_core.imageset import Batch, ImageSet
from xai_core.measurement import Cost, Measurement, Method, Stage
from xai_core.metrics import METRICS, ConfiguredMetric, WholeSet
from xai_core.postprocess import apply
from xai_core.progress import Progress, Silent

__all__ = [
    "ConceptSource",
    "Cost",
    "Evaluation",
    "Explained",
    "Measurement",
    "Method",
    "Stage",
    "measure_rows",
]

T = TypeVar("T")

ConceptSource: TypeAlias = Callable[[Classifier, str, str, Float32], Float32]
"""Maps a classifier, a concept's name, a layer's name and images ``[N, 3, H, W]`` to the concept's
maps ``[N, H, W]``."""

Computed: TypeAlias = Iterator[tuple[Int64, Sequence[T]]]
"""Rows of images, and one result for each."""

AT_ONCE = {"explained_by", "whole_set"}
"""The needs of metrics that get all images of the set in one call."""


@dataclass(frozen=True)
class Explained:
    """The explanations of one method in an evaluation, made when first asked for.

    Attributes:
        evaluation: classifier and images.
        method: explainer and post-processing.
    """

    evaluation: Evaluation
    method: Method

    @property
    def heatmaps(self) -> Float32:
        """Relevance per pixel after post-processing, float32 ``[N, H, W]``."""
        return self.evaluation.explain(self.method).heatmaps

    @property
    def attributions(self) -> Float32 | None:
        """Signed attributions, float32 ``[N, 3, H, W]``; None where the method has none."""
        return self.evaluation.explain(self.method).attributions


class Evaluation:
    """One classifier on one image set; every explanation and measurement is computed once.

    The target of an image is its label, or the predicted class where it has none. Images are
    decoded, explained and measured a batch at a time; kept are the heatmaps and attributions,
    16 bytes for each pixel of each method.

    Args:
        classifier: what is explained.
        images: on which images.
        seed: of everything random that does not set its own.
        progress: told how far it is.
        concept_source: gives the maps of a concept, ``(classifier, concept, layer, images)`` to
            float32 ``[N, H, W]``, such as `xai_core.concepts.map_fitting.ConceptMaps`; only
            metrics of concepts need it.
        cache: results of earlier runs; what an image, the classifier and a method settle is looked
            up there before it is computed, and kept there afterwards: class probabilities, raw
            explanations, and the values of the metrics that `xai_core.cache.keys.is_kept` names.
        most_decoded_bytes: images that take more memory are decoded anew for every pass.

    Attributes:
        costs: stage and name (of a method or a metric, null maps counted in) -> what it took so
            far; what a metric asks of a method is the method's.

    Raises:
        XaiError: a label that the classifier has no class for.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: ImageSet,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        concept_source: ConceptSource | None = None,
        cache: DiskCache | None = None,
        most_decoded_bytes: int = MOST_DECODED_BYTES,
    ) -> None:
        self.classifier = classifier
        self.images = images
        self.seed = seed
        self._progress = progress or Silent()
        self._concept_source = concept_source
        self._concept_maps: dict[tuple[str, str], Float32] = {}
        self._explanations: dict[str, Explanation] = {}
        self._measurements: dict[tuple[str, ConfiguredMetric], Measurement] = {}
        self._differences: dict[str, dict[int, float]] = {}
        self._decoding = Decoding(
            images, classifier.batch_size(*classifier.size), most_bytes=most_decoded_bytes
        )
        self._cache = cache
        self._kept = None if cache is None else KeptResults(cache, classifier)
        self.costs: dict[tuple[Stage, str], Cost] = {}
        self._charged = Cost()
        for name, label in zip(images.names, images.labels, strict=True):
            if label is not None and label >= classifier.num_classes:
                msg = (
                    f"{images.name}: image {name!r} has label {label}, but {classifier.name} has "
                    f"{classifier.num_classes} classes (0 to {classifier.num_classes - 1})"
                )
                raise XaiError(msg)

    def afresh(self, *, seed: int) -> Evaluation:
        """Return an evaluation of the same images that knows no result yet, and no cache."""
        return Evaluation(
            self.classifier,
            self.images,
            seed=seed,
            progress=self._progress,
            concept_source=self._concept_source,
        )

    def part(
        self, rows: Iterable[int], *, most_decoded_bytes: int = MOST_DECODED_BYTES
    ) -> Evaluation:
        """Return an evaluation of some of the images, that knows no result yet.

        Args:
            rows: places of the images.
            most_decoded_bytes: images that take more memory are decoded anew for every pass.
        """
        return Evaluation(
            self.classifier,
            self.images.subset(rows),
            seed=self.seed,
            progress=self._progress,
            concept_source=self._concept_source,
            cache=self._cache,
            most_decoded_bytes=most_decoded_bytes,
        )

    def adopt(self, method: Method, explanation: Explanation) -> None:
        """Take the explanations of all images by ``method``, instead of computing them."""
        self._explanations[method.identity] = explanation

    @property
    def measurements(self) -> list[Measurement]:
        """Everything measured so far, in order."""
        return list(self._measurements.values())

    @property
    def digests(self) -> list[str]:
        """SHA-256 of every image with its mask and background; names have no part."""
        return self._decoding.digests

    @cached_property
    def probabilities(self) -> Float32:
        """Softmax probabilities of the images, float32 ``[N, K]``."""

        def classify(rows: Int64) -> Computed[Float32]:
            for chunk, batch in self._batches(f"classifying {self.images.name}", rows):
                scores = self.classifier.scores(torch.from_numpy(batch.images))
                yield chunk, list(scores.cpu().numpy())

        with self._charge("classify", self.images.name) as cost:
            form = probabilities_of(self.classifier.num_classes)
            found = self._through_cache(cost, self._keys_of_probabilities, form, classify)
        return np.stack(found)

    @cached_property
    def targets(self) -> Int64:
        """The class that is explained, for every image: its label, else the predicted class."""
        labels = self.images.labels
        if any(label is None for label in labels):
            predicted = self.probabilities.argmax(axis=1)
            labels = tuple(
                int(guess) if label is None else label
                for label, guess in zip(labels, predicted, strict=True)
            )
        return np.asarray(labels, dtype=np.int64)

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled images that the classifier gets right; None without labels."""
        labels = np.asarray([-1 if label is None else label for label in self.images.labels])
        labelled = labels >= 0
        if not labelled.any():
            return None
        predicted = self.probabilities.argmax(axis=1)
        return float((predicted == labels)[labelled].mean())

    def explain(self, method: Method) -> Explanation:
        """Return the explanations of all images by ``method``, computed once."""
        if method.identity not in self._explanations:
            raw = Method(method.name, method.explainer)
            if method.postprocess:
                plain = self.explain(raw)
                heatmaps = apply(plain.heatmaps, method.postprocess)
                explanation = Explanation(heatmaps, plain.attributions, plain.native)
            else:
                _ = self.targets  # charged where they belong
                with self._charge("explain", method.name) as cost:
                    explanation = self._explain_all(method, cost)
            self._explanations[method.identity] = explanation
        return self._explanations[method.identity]

    def concept_maps(self, concept: str, layer: str = "") -> Float32:
        """Return the maps of a concept on all images ``[N, H, W]``, computed once.

        Args:
            concept: its name.
            layer: name of the layer; ``""`` = the classifier's default one.

        Raises:
            XaiError: no concepts were given, or maps of another shape.
        """
        if self._concept_source is None:
            msg = (
                f"the maps of the concept {concept!r} need its example images, and no concepts are "
                "given; give a folder with one folder of images for each: --xai-concepts DIR"
            )
            raise XaiError(msg)
        key = (concept, layer or self.classifier.default_layer())
        if key not in self._concept_maps:
            parts = []
            with self._charge("explain", f"concept {concept}"):
                for _, batch in self._batches(f"mapping the concept {concept}", self._rows):
                    found = self._concept_source(self.classifier, *key, batch.images)
                    expected = (len(batch.names), *batch.images.shape[-2:])
                    if found.shape != expected:
                        msg = (
                            f"the maps of the concept {concept!r} have the shape {found.shape}, "
                            f"expected {expected}"
                        )
                        raise XaiError(msg)
                    parts.append(found)
            self._concept_maps[key] = np.concatenate(parts)
        return self._concept_maps[key]

    def measure(self, method: Method, metric: ConfiguredMetric) -> Measurement:
        """Return ``metric`` of ``method`` on every image, computed once.

        Raises:
            XaiError: the images or the method lack what the metric needs.
        """
        key = (method.identity, metric)
        if key not in self._measurements:
            self._measurements[key] = self._measure_all(method, metric, null=None)
        found = self._measurements[key]
        # The same explainer may go by two names.
        same = found.method == method.name
        return found if same else replace(found, method=method.name, made_by=method)

    def measure_null(self, null: str, method: Method, metric: ConfiguredMetric) -> Measurement:
        """Return ``metric`` of the null map called ``null`` on every image, computed once.

        Args:
            null: one of `xai_core.explainers.NULL_MAPS`.
            method: whose heatmaps ``inverted`` turns upside down.
            metric: what is measured; a metric of attributions has no null.
        """
        key = (f"{null} of {method.identity}" if null == "inverted" else null, metric)
        if key not in self._measurements:
            self._measurements[key] = self._measure_all(method, metric, null=null)
        return self._measurements[key]

    def _through_cache(
        self,
        cost: Cost,
        make_keys: Callable[[Keys], list[bytes]],
        form: Form[T],
        compute: Callable[[Int64], Computed[T]],
    ) -> list[T]:
        """Return the results of all images: those that are kept, and the others computed."""
        keys = self._kept.keys(make_keys) if self._kept else []
        found: dict[int, T] = {}
        if self._kept and keys:
            found = self._kept.find(keys, form)
            cost.looked_up += len(keys)
            cost.found += len(found)
        missing = self._rows[[row not in found for row in range(len(self.images))]]
        for chunk, results in compute(missing) if len(missing) else ():
            new = dict(zip(chunk.tolist(), results, strict=True))
            found |= new
            if self._kept and keys:
                self._kept.keep({keys[row]: result for row, result in new.items()}, form)
        return [found[row] for row in range(len(self.images))]

    def _keys_of_probabilities(self, keys: Keys) -> list[bytes]:
        return keys.probabilities(self._decoding.digests)

    def _keys_of_explanations(self, method: Method, keys: Keys) -> list[bytes]:
        return keys.explanations(
            method.identity, method.explainer, self._decoding.digests, self.targets.tolist()
        )

    def _keys_of_values(
        self, method: Method, metric: ConfiguredMetric, null: str | None, keys: Keys
    ) -> list[bytes]:
        if not is_kept(metric.metric):
            return []
        of_method = null in (None, "inverted")
        subject = Subject(
            identity=method.identity if of_method else "",
            parts=(method.explainer, *method.postprocess) if of_method else (),
            null=null or "",
        )
        digests, targets = self._decoding.digests, self.targets.tolist()
        return keys.values(metric, subject, self.seed, digests, targets)

    def _explain_all(self, method: Method, cost: Cost) -> Explanation:
        def explain(rows: Int64) -> Computed[ImageExplanation]:
            for chunk, batch in self._batches(f"explaining with {method.name}", rows):
                found = method.explainer.explain(self.classifier, batch.images, self.targets[chunk])
                expected = (len(batch.names), *batch.images.shape[-2:])
                if found.heatmaps.shape != expected:
                    msg = (
                        f"{method.name} gave heatmaps of shape {found.heatmaps.shape} for "
                        f"{batch.names[0]!r} and others, expected {expected}"
                    )
                    raise XaiError(msg)
                nothing = [None] * len(chunk)
                attributions = nothing if found.attributions is None else found.attributions
                native = nothing if found.native is None else found.native
                columns = (found.heatmaps, attributions, native)
                yield chunk, [ImageExplanation(*row) for row in zip(*columns, strict=True)]

        def joined(maps: Iterable[Float32 | None]) -> Float32 | None:
            there = [one for one in maps if one is not None]
            return np.stack(there) if there else None

        keys = partial(self._keys_of_explanations, method)
        form = explanations_of(self.images.transform.size)
        found = self._through_cache(cost, keys, form, explain)
        return Explanation(
            np.stack([one.heatmap for one in found]),
            joined(one.attributions for one in found),
            joined(one.native for one in found),
        )

    def _measure_all(
        self, method: Method, metric: ConfiguredMetric, null: str | None
    ) -> Measurement:
        without: dict[int, str] = {}
        for need in metric.metric.needs:
            if need in METRICS:  # a metric of other metrics' values
                part = metric.part(need, seed=self.seed)
                if null is None:
                    without |= self.measure(method, part).undefined
                else:
                    without |= self.measure_null(null, method, part).undefined
        subject = null or method.name

        def measure(rows: Int64) -> Computed[Value]:
            for chunk, batch in self._measured_batches(metric, subject, rows):
                defined = chunk[[row not in without for row in chunk.tolist()]]
                inputs = partial(self._inputs, method, metric, null, batch, chunk)
                values, undefined = measure_rows(metric, inputs, defined)
                numbers = dict(zip(defined.tolist(), values.tolist(), strict=True))
                reasons = without | undefined
                yield (
                    chunk,
                    [Value(numbers.get(row, np.nan), reasons.get(row)) for row in chunk.tolist()],
                )

        with self._charge("measure", metric.metric.name) as cost:
            keys = partial(self._keys_of_values, method, metric, null)
            found = self._through_cache(cost, keys, VALUES, measure)
        return Measurement(
            metric=metric,
            method=subject,
            names=self.images.names,
            values=np.array([one.number for one in found], dtype=np.float64),
            undefined={
                row: one.undefined for row, one in enumerate(found) if one.undefined is not None
            },
            made_by=method if null is None else None,
            groups=self.images.groups,
        )

    def _measured_batches(
        self, metric: ConfiguredMetric, subject: str, rows: Int64
    ) -> Iterable[tuple[Int64, Batch]]:
        """Return the batches that a metric is measured in; those of `AT_ONCE` in a single one."""
        if not AT_ONCE & set(metric.metric.needs):
            return self._batches(f"measuring {metric.metric.name} of {subject}", rows)
        if {"images", "masks", "background", "explain"} & set(metric.metric.needs):
            return [(self._rows, self.images.batch(0, len(self.images)))]
        nothing = np.empty((len(self.images), 0, 0, 0), dtype=np.float32)
        return [(self._rows, Batch(self.images.names, nothing, None, self.images.labels))]

    def _inputs(
        self,
        method: Method,
        metric: ConfiguredMetric,
        null: str | None,
        batch: Batch,
        chunk: Int64,
        rows: Int64,
    ) -> dict[str, object]:
        """Return what ``metric`` needs, for some ``rows`` of a batch that holds ``chunk``."""
        local = np.searchsorted(chunk, rows)
        name = metric.metric.name
        images, targets = batch.images[local], self.targets[rows]

        @cache
        def heatmaps_of_set() -> Float32:
            if null is None:
                return self.explain(method).heatmaps
            return self._null_of_all(null, method)

        def heatmaps() -> Float32:
            if AT_ONCE & set(metric.metric.needs):
                return heatmaps_of_set()[rows]
            if null is None or null == "inverted":
                explained = self.explain(method).heatmaps[rows]
                return explained if null is None else self._null(null, images, explained)
            return self._null(null, images, images[:, 0])

        def masks() -> object:
            if batch.masks is None:
                msg = f"{name} needs masks, and {self.images.name} has none"
                raise XaiError(msg)
            return batch.masks[local]

        def background() -> object:
            if batch.background is None:
                msg = (
                    f"{name} needs the classes of the background, and {self.images.name} annotates "
                    "none; add background/ and background.csv to its folder"
                )
                raise XaiError(msg)
            return batch.background[local]

        def attributions() -> object:
            found = None if null is not None else self.explain(method).attributions
            if found is None:
                msg = f"{name} needs signed attributions, and {null or method.name} gives none"
                raise XaiError(msg)
            return found[rows]

        def differences() -> Float64:
            if null is not None or not isinstance(method.explainer, Complete):
                msg = (
                    f"{name} needs a method that promises completeness (such as "
                    f"integrated_gradients), and {null or method.name} does not"
                )
                raise XaiError(msg)
            known = self._differences.setdefault(Method("", method.explainer).identity, {})
            new = [index for index, row in enumerate(rows.tolist()) if row not in known]
            if new:
                found = as_numpy(
                    method.explainer.differences(self.classifier, images[new], targets[new])
                )
                if found.shape != (len(new),):
                    msg = f"{method.name} gave {found.shape} differences, expected {len(new)}"
                    raise XaiError(msg)
                known.update(zip(rows[new].tolist(), found.tolist(), strict=True))
            return np.array([known[row] for row in rows.tolist()])

        def other(need: str) -> Float64:
            part = metric.part(need, seed=self.seed)
            if null is None:
                return self.measure(method, part).values[rows]
            return self.measure_null(null, method, part).values[rows]

        def explain(inputs: Float32, classes: Int64) -> Float32:
            explained = inputs[:, 0]
            if null is None or null == "inverted":
                found = method.explainer.explain(self.classifier, inputs, classes)
                explained = apply(found.heatmaps, method.postprocess)
            return explained if null is None else self._null(null, inputs, explained)

        def native_heatmaps() -> Float32:
            native = None if null is not None else self.explain(method).native
            return heatmaps() if native is None else native[rows]

        def heatmaps_of(text: str) -> Float32:
            return self.explain(Method(text, parse_explainer(text))).heatmaps[rows]

        def concept_maps_of(concept: str, layer: str) -> Float32:
            return self.concept_maps(concept, layer)[rows]

        def explained_by(
            classifier: Classifier, change: Callable[[Float32], Float32] | None = None, /
        ) -> Float32:
            return self._explained_by(classifier, change, method, null, rows)

        def whole_set() -> WholeSet:
            return WholeSet(heatmaps_of_set(), self.probabilities.argmax(axis=1), rows)

        sources: dict[str, Callable[[], object]] = {
            "classifier": lambda: self.classifier,
            "images": lambda: images,
            "targets": lambda: targets,
            "heatmaps": heatmaps,
            "masks": masks,
            "background": background,
            "attributions": attributions,
            "differences": differences,
            "explain": lambda: explain,
            "native_heatmaps": native_heatmaps,
            "heatmaps_of": lambda: heatmaps_of,
            "concept_maps_of": lambda: concept_maps_of,
            "explained_by": lambda: explained_by,
            "whole_set": whole_set,
        }
        return {
            need: sources[need]() if need in sources else other(need)
            for need in metric.metric.needs
        }

    def _explained_by(
        self,
        classifier: Classifier,
        change: Callable[[Float32], Float32] | None,
        method: Method,
        null: str | None,
        rows: Int64,
    ) -> Float32:
        """Return the heatmaps of the images ``rows`` as ``classifier`` is explained."""
        wanted = set(rows.tolist())
        parts = []
        what = f"explaining {classifier.name} with {method.name}"
        for chunk, batch in self._batches(what, self._rows):
            asked = [place in wanted for place in chunk.tolist()]
            places = chunk[asked]
            if not len(places):
                continue
            images = batch.images[asked]
            images = images if change is None else change(images)
            heatmaps = images[:, 0]
            if null is None or null == "inverted":
                found = method.explainer.explain(classifier, images, self.targets[places])
                heatmaps = apply(found.heatmaps, method.postprocess)
            parts.append(heatmaps if null is None else self._null(null, images, heatmaps))
        return np.concatenate(parts)

    def _null_of_all(self, null: str, method: Method) -> Float32:
        """Return the null maps of all images of the set."""
        inverted = self.explain(method).heatmaps if null == "inverted" else None
        parts = []
        for rows, batch in self._batches(f"making {null} maps", self._rows):
            heatmaps = batch.images[:, 0] if inverted is None else inverted[rows]
            parts.append(self._null(null, batch.images, heatmaps))
        return np.concatenate(parts)

    def _null(self, null: str, images: Float32, heatmaps: Float32) -> Float32:
        return null_maps(null, images, heatmaps, seed=self.seed)

    @contextmanager
    def _charge(self, stage: Stage, name: str) -> Iterator[Cost]:
        """Add to the cost called ``name`` what happens inside and is not charged there already."""
        passes, charged = self.classifier.passes, self._charged

        def uncharged() -> tuple[int, int, float]:
            return (
                passes.forwards - charged.forwards,
                passes.gradients - charged.gradients,
                time.perf_counter() - charged.seconds,
            )

        before = uncharged()
        total = self.costs.setdefault((stage, name), Cost())
        try:
            yield total
        finally:
            own = [after - start for start, after in zip(before, uncharged(), strict=True)]
            for cost in (total, charged):
                cost.forwards += int(own[0])
                cost.gradients += int(own[1])
                cost.seconds += own[2]

    @property
    def _rows(self) -> Int64:
        """All images."""
        return np.arange(len(self.images))

    def _batches(self, what: str, rows: Int64) -> Iterator[tuple[Int64, Batch]]:
        passes = self.classifier.passes
        before = passes.total
        with (
            self._progress.task(what, len(rows)) as advance,
            passes.watched(lambda: advance(0, note=f"{passes.total - before} passes")),
        ):
            for chunk, batch in self._decoding.batches(rows):
                yield chunk, batch
                advance(len(batch.names))


def measure_rows(
    metric: ConfiguredMetric, inputs: Callable[[Int64], dict[str, Any]], rows: Int64
) -> tuple[Float64, dict[int, str]]:
    """Measure ``metric`` on ``rows``; those that it is undefined for are NaN, with the reason.

    Args:
        metric: what is measured.
        inputs: gives what the metric needs, for the rows it is asked for.
        rows: which images.

    Returns:
        one value for each row, and row -> why it has none.
    """
    values = np.full(len(rows), np.nan)
    undefined: dict[int, str] = {}
    left = np.arange(len(rows))
    while len(left):
        try:
            values[left] = metric(**inputs(rows[left]))
        except UndefinedMeasurementError as error:
            undefined |= {int(rows[left[index]]): why for index, why in error.reasons.items()}
            measured, without = error.values, list(error.reasons)
            if measured is not None:
                values[left] = measured
                values[left[without]] = np.nan
            left = np.delete(left, without)
            if measured is not None:
                break
        else:
            break
    for index in left[~np.isfinite(values[left])]:
        given = "NaN" if np.isnan(values[index]) else "infinity"
        undefined[int(rows[index])] = f"{metric.metric.name} gave {given}"
        values[index] = np.nan
    return values, undefined
