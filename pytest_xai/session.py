"""The run's classifiers, images and evaluations: each built once, shared by gates and fixtures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_xai.concept_session import ConceptSession, ConceptSubject
from pytest_xai.concept_sources import ConceptSource
from pytest_xai.distribution.threads import share_threads
from pytest_xai.image_sources import ImageSource
from pytest_xai.neighbour_session import judged_at
from pytest_xai.once import Once
from pytest_xai.progress import terminal_progress
from pytest_xai.report.rows import cost_rows, model_facts, records
from pytest_xai.settings import Settings, project_root, read_settings
from pytest_xai.sources import Sources
from pytest_xai.threshold_files import threshold_file_of
from pytest_xai.thresholds import (
    DataTable,
    GateSpec,
    ModelTable,
    ThresholdFile,
    read_thresholds,
    seeded_explainer,
)
from xai_core.cache import DEFAULT_LIMIT, DiskCache
from xai_core.classifier import Classifier
from xai_core.concepts.tcav import TCAV
from xai_core.errors import ParameterError, XaiError, did_you_mean
from xai_core.evaluation import Evaluation, Explained, Measurement, Method
from xai_core.explainers import EXPLAINERS, Explainer, split_explainer
from xai_core.gate import Judgement, judge
from xai_core.imageset import ImageSet, load_imageset
from xai_core.parameters import from_table
from xai_core.postprocess import parse_postprocess
from xai_core.sequential import ImagesInOrder, judge_sequentially

if TYPE_CHECKING:
    from pytest_xai.concept_thresholds import Case, ConceptSpec
    from pytest_xai.neighbour_gate import NeighbourJudgement
    from pytest_xai.neighbour_thresholds import NeighbourSpec
    from xai_core.arrays import Float32
    from xai_core.concepts.result import TCAVResult
    from xai_core.evaluation import ConceptSource as ConceptMapSource
    from xai_core.evaluation import Cost, Stage
    from xai_core.progress import Progress


@dataclass(eq=False)
class _Opened:
    """A model on an image set, and what of it was reported.

    Attributes:
        evaluation: of the model on the images.
        data: what the image set is called.
        repeats: whether it only repeats what another one measured: its costs are reported, its
            measurements are not.
        reported: how many of its measurements were.
        costs: the costs that were.
        order: whose part it is, in a sequential run.
    """

    evaluation: Evaluation
    data: str
    repeats: bool = False
    reported: int = 0
    costs: dict[tuple[Stage, str], Cost] = field(default_factory=dict)
    order: ImagesInOrder | None = None


class XaiSession:
    """What gates and fixtures of one run share.

    Where a method takes ``data``, it is the name of one of the model's `Sources.image_sources`;
    None is the first, which usually is the only one.
    """

    def __init__(self, settings: Settings, root: Path, progress: Progress | None) -> None:
        self.settings = settings
        self.root = root
        self.sources = Sources(settings, root)
        self._progress = progress
        self._once = Once()
        self._opened: list[_Opened] = []
        self._beside: list[tuple[_Opened, Measurement]] = []  # what no evaluation lists
        self._concepts = ConceptSession(root, progress)

    def concept_test(
        self,
        model: str,
        thresholds: ThresholdFile,
        spec: ConceptSpec,
        case: Case,
        data: str | None = None,
    ) -> tuple[TCAVResult, str]:
        """Return one of a threshold file's concept tests, and the name of its class.

        Raises:
            XaiError: it cannot be made.
        """
        subject = self._concept_subject(model, thresholds, data)
        found = self._concepts.family(subject, thresholds.concepts)[spec.name, case]
        if isinstance(found, XaiError):
            raise found.with_traceback(None)
        return found, subject.class_name(found.target)

    def tcav(
        self,
        model: str,
        concept: str,
        of_class: str | int,
        against: str,
        parameters: Mapping[str, object],
        data: str | None = None,
    ) -> TCAVResult:
        """Return a test of a concept; see the fixture ``xai_tcav``.

        Raises:
            XaiError: an unknown concept, class, layer or parameter, or too few images.
        """
        tcav = from_table(TCAV, {"seed": self.sources.seed, **parameters}, what="xai_tcav")
        subject = self._concept_subject(model, self.thresholds_of(model), data)
        return self._concepts.test(subject, concept, of_class, against, tcav)

    def evaluation(
        self, model: str, thresholds: ThresholdFile | None, data: str | None = None
    ) -> Evaluation:
        """Return the evaluation of ``model`` on the images of ``thresholds``, built once.

        Raises:
            XaiError: the model or the images cannot be loaded.
        """
        found = self._open(model, thresholds, data).evaluation
        _ = found.accuracy  # reports show it; an error belongs to the test that asks first
        return found

    def evaluation_afresh(
        self, model: str, thresholds: ThresholdFile, data: str | None = None, *, seed: int
    ) -> Evaluation:
        """Return another evaluation of ``model`` on the same images, built once for each seed.

        Raises:
            XaiError: the model or the images cannot be loaded.
        """
        opened = self._open(model, thresholds, data)

        def start() -> Evaluation:
            again = _Opened(opened.evaluation.afresh(seed=seed), opened.data, repeats=True)
            self._opened.append(again)
            return again.evaluation

        found: Evaluation = self._once(("afresh", opened, seed), start)
        return found

    def judge(
        self, model: str, thresholds: ThresholdFile, gate: GateSpec, data: str | None = None
    ) -> Judgement:
        """Return what comes of a gate.

        Raises:
            XaiError: it cannot be measured.
        """
        if self.settings.sequential is not None:
            return self._judge_sequentially(model, thresholds, gate, data)
        evaluation = self.evaluation(model, thresholds, data)
        judgement = judge(evaluation, gate.method, gate.metric, gate.conditions)
        found = judgement.measurement
        if not any(found is measured for measured in evaluation.measurements):
            # Measured once, asked for by two names.
            self._beside.append((self._open(model, thresholds, data), found))
        return judgement

    def judge_neighbours(
        self,
        model: str,
        thresholds: ThresholdFile,
        gate: NeighbourSpec,
        data: str | None = None,
    ) -> NeighbourJudgement:
        """Return what comes of the gate on neighbours, looked up once.

        Raises:
            XaiError: the reference cannot be loaded, or it cannot be measured.
        """
        evaluation = self.evaluation(model, thresholds, data)
        opened = self._open(model, thresholds, data)

        def judge_once() -> NeighbourJudgement:
            path = self.sources.under_root(gate.method.reference)
            coco = path.endswith(".json")
            found = judged_at(
                gate,
                evaluation,
                lambda: load_imageset(
                    path,
                    transform=thresholds.data.transform,
                    size=evaluation.classifier.size,
                    limit=gate.method.limit,
                    num_classes=evaluation.classifier.num_classes,
                    **(
                        self.sources.coco_options(thresholds.data, ImageSource.of(path))
                        if coco
                        else {}
                    ),
                ),
                self._progress,
            )
            self._beside.append((opened, found.judgement.measurement))
            return found

        return self._once(("neighbours", evaluation, thresholds.shown), judge_once)

    def images(
        self, model: str, thresholds: ThresholdFile | None, data: str | None = None
    ) -> ImageSet:
        """Return the images of ``thresholds`` as ``model`` sees them.

        Raises:
            XaiError: the model or the images cannot be loaded.
        """
        return self._open(model, thresholds, data).evaluation.images

    def classifier(self, model: str, thresholds: ThresholdFile | None) -> Classifier:
        """Return the classifier called ``model``, loaded once.

        Raises:
            XaiError: it cannot be loaded.
        """
        table = thresholds.model if thresholds else ModelTable()
        found: Classifier = self._once(
            ("model", model, table), lambda: self.sources.load_classifier(model, table)
        )
        return found

    def thresholds(self, path: Path) -> ThresholdFile:
        """Return what the threshold file at ``path`` says, read once.

        Raises:
            ThresholdFileError: the file is wrong.
        """
        shown = os.fspath(path.relative_to(self.root) if path.is_relative_to(self.root) else path)
        found: ThresholdFile = self._once(
            ("file", path), lambda: read_thresholds(path, shown=shown, seed=self.sources.seed)
        )
        return found

    def thresholds_of(self, model: str) -> ThresholdFile | None:
        """Return what the threshold file of ``model`` says; None without one.

        Raises:
            ThresholdFileError: the file is wrong.
        """
        path = threshold_file_of(model, self.settings, self.root)
        return None if path is None else self.thresholds(path.absolute())

    def explained(
        self,
        model: str,
        explainer: str | Explainer,
        postprocess: Sequence[str],
        parameters: Mapping[str, object],
        data: str | None = None,
    ) -> Explained:
        """Return the explanations of the images of ``model``; see the fixture ``xai_explain``.

        Raises:
            XaiError: an unknown explainer, or parameters for one that has its own.
        """
        thresholds = self.thresholds_of(model)
        evaluation = self.evaluation(model, thresholds, data)
        steps = tuple(parse_postprocess(step) for step in postprocess)
        if not isinstance(explainer, str):
            return Explained(evaluation, Method(explainer.kind, explainer, steps))
        named = thresholds.methods if thresholds else {}
        if explainer in named and not parameters:
            method = named[explainer]
            return Explained(evaluation, replace(method, postprocess=steps or method.postprocess))
        if thresholds and explainer in named and explainer not in EXPLAINERS:
            msg = (
                f"{explainer!r} has its parameters in {thresholds.shown}, got {list(parameters)}; "
                f"for others name the kind, {named[explainer].explainer.kind!r}"
            )
            raise ParameterError(msg)
        if ":" not in explainer and explainer not in EXPLAINERS:
            msg = f"no explainer {explainer!r}: {did_you_mean(explainer, [*named, *EXPLAINERS])}"
            raise ParameterError(msg)
        built = seeded_explainer(explainer, parameters, self.sources.seed)
        return Explained(evaluation, Method(explainer, built, steps))

    def explainer(self, text: str) -> Explainer:
        """Return the explainer that ``text`` names, with the run's seed where it sets none.

        Raises:
            ParameterError: it names none, or parameters that it does not have.
        """
        kind, parameters = split_explainer(text)
        return seeded_explainer(kind, parameters, self.sources.seed)

    def report(self) -> dict[str, Any]:
        """Return what was measured and tested since the last call, in builtin types."""
        found: dict[str, Any] = {"records": [], "models": []}
        found["concepts"], found["costs"] = self._concepts.report()
        tested = {(record["model"], record["data"]) for record in found["concepts"]}
        fresh, self._beside = self._beside, []
        for opened in self._opened:
            evaluation, data = opened.evaluation, opened.data
            found["costs"] += cost_rows(evaluation, opened.costs, data=data)
            opened.costs = {key: replace(cost) for key, cost in evaluation.costs.items()}
            if opened.repeats:
                continue
            measured = evaluation.measurements[opened.reported :]
            opened.reported += len(measured)
            fresh += [(opened, measurement) for measurement in measured]
            reported = any(one is opened for one, _ in fresh)
            if reported or (evaluation.classifier.name, data) in tested:
                whole = evaluation if opened.order is None else opened.order.evaluation
                found["models"].append(model_facts(whole, data=data, order=opened.order))
        for opened, measurement in fresh:
            found["records"] += records(opened.evaluation, measurement, data=opened.data)
        return found

    def _judge_sequentially(
        self, model: str, thresholds: ThresholdFile, gate: GateSpec, data: str | None
    ) -> Judgement:
        images = self._images_in_order(self._open(model, thresholds, data))
        judgement = judge_sequentially(
            images,
            gate.method,
            gate.metric,
            gate.conditions,
            about=self.settings.sequential or "set",
        )
        opened = {id(one.evaluation): one for one in self._opened}
        for part, measured in images.behind(judgement, gate.method):
            if not any(measured is known for known in part.measurements):
                # Measured once, asked for by two names.
                self._beside.append((opened[id(part)], measured))
        return judgement

    def _images_in_order(self, opened: _Opened) -> ImagesInOrder:
        """Return the images of an evaluation in the order of a sequential run, made once."""

        def report_part(part: Evaluation) -> None:
            _ = part.accuracy  # reports show it; an error belongs to the test that asks first
            self._opened.append(_Opened(part, opened.data, order=found))

        found: ImagesInOrder = self._once(
            ("in order", opened.evaluation),
            lambda: ImagesInOrder(opened.evaluation, opened=report_part),
        )
        return found

    def _open(self, model: str, thresholds: ThresholdFile | None, data: str | None) -> _Opened:
        """Return ``model`` on one of its image sets, opened once."""
        table = thresholds.data if thresholds else DataTable()
        classifier = self.classifier(model, thresholds)
        source = self.sources.image_source(model, thresholds, data)
        concepts = self.sources.concept_source(model, thresholds)
        # As text, because the labels of a COCO file are a dict.
        key = (
            ("images", model, thresholds.model if thresholds else None, repr(table), source),
            (concepts.library, concepts.own),
        )
        found: _Opened = self._once(
            key, lambda: self._evaluate(classifier, thresholds, source, concepts)
        )
        return found

    def _evaluate(
        self,
        classifier: Classifier,
        thresholds: ThresholdFile | None,
        source: ImageSource,
        concepts: ConceptSource,
    ) -> _Opened:
        images = self.sources.load_images(classifier, thresholds, source)
        evaluation = Evaluation(
            classifier,
            images,
            seed=self.sources.seed,
            progress=self._progress,
            concept_source=self._concept_maps(concepts, classifier.size),
            cache=self._cache(),
        )
        opened = _Opened(evaluation, source.name)
        self._opened.append(opened)
        return opened

    def _cache(self) -> DiskCache | None:
        """Return the run's cache, opened once.

        Raises:
            CacheError: it cannot be opened.
        """
        folder, limit = self.settings.cache, self.settings.cache_limit
        if folder is None:
            return None
        limit_bytes = DEFAULT_LIMIT if limit is None else limit * 2**20
        return self._once("cache", lambda: DiskCache(folder, limit_bytes=limit_bytes))

    def _concept_maps(
        self, concepts: ConceptSource, size: tuple[int, int]
    ) -> ConceptMapSource | None:
        """Return what makes the maps of concepts, which are loaded when first asked for."""
        if concepts.library is None and not concepts.own:
            return None

        def maps(classifier: Classifier, concept: str, layer: str, images: Float32) -> Float32:
            return self._concepts.folders.maps(concepts, size)(classifier, concept, layer, images)

        return maps

    def _concept_subject(
        self, model: str, thresholds: ThresholdFile | None, data: str | None
    ) -> ConceptSubject:
        _ = self.evaluation(model, thresholds, data)  # knows the accuracy, which reports show
        opened = self._open(model, thresholds, data)
        source = self.sources.concept_source(model, thresholds)
        return ConceptSubject(opened.evaluation, opened.data, source)


SESSION = pytest.StashKey[XaiSession]()


def session_of(config: pytest.Config) -> XaiSession:
    """Return the run's session, made when first asked for."""
    if SESSION not in config.stash:
        share_threads(config)
        config.stash[SESSION] = XaiSession(
            read_settings(config), project_root(config), terminal_progress(config)
        )
    return config.stash[SESSION]
