"""The run's tests of concepts: each made once, those of a threshold file as one family."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pytest_xai.concept_sources import ConceptFolders, ConceptSource, CounterexampleError
from pytest_xai.concept_thresholds import Case, ClassName, ConceptSpec
from pytest_xai.once import Once
from pytest_xai.report.concept_rows import ConceptRecord, concept_record
from pytest_xai.report.rows import CostRow
from xai_core.concepts.features import FeatureStore
from xai_core.concepts.result import TCAVResult
from xai_core.concepts.tcav import TCAV, corrected
from xai_core.errors import ConceptError, ImageSetError, LayerError, XaiError, did_you_mean
from xai_core.progress import Progress, Silent

if TYPE_CHECKING:
    from xai_core.classifier import Classifier
    from xai_core.evaluation import Evaluation
    from xai_core.imageset import ImageSet

Tested: TypeAlias = TCAVResult | XaiError
"""What a test found, or why it could not be made."""


@dataclass(frozen=True)
class ConceptSubject:
    """A classifier on an image set, with its concepts."""

    evaluation: Evaluation
    data: str
    source: ConceptSource

    @property
    def images(self) -> ImageSet:
        """The images; those of one class are what a concept is tested on."""
        return self.evaluation.images

    @property
    def classifier(self) -> Classifier:
        """What is tested."""
        return self.evaluation.classifier

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.transform.size

    def target_of(self, of_class: ClassName) -> int:
        """Return the index of a class.

        Raises:
            ConceptError: the images name no such class, or the classifier has none of that index.
        """
        classes, images = self.images.classes, self.images.name
        if isinstance(of_class, int):
            last = self.classifier.num_classes - 1
            if not 0 <= of_class <= last:
                msg = f"no class {of_class}; {self.classifier.name} has the classes 0 to {last}"
                raise ConceptError(msg)
            return of_class
        found = [index for index, name in classes.items() if name == of_class]
        if len(found) == 1:
            return found[0]
        if found:
            msg = f"{images} has several classes called {of_class!r}: {found}; give the index"
        elif classes:
            msg = f"{images} has no class {of_class!r}: {did_you_mean(of_class, classes.values())}"
        else:
            msg = f"{images} has no names of classes; give the index of {of_class!r}"
        raise ConceptError(msg)

    def class_name(self, target: int) -> str:
        """Return the name of a class, its index where it has none."""
        return self.images.classes.get(target, str(target))


class ConceptSession:
    """What gates, fixtures and metrics of one run share of concepts.

    Args:
        root: that the folders of a threshold file are relative to.
        progress: told which test is under way.

    Attributes:
        folders: the concepts.
    """

    def __init__(self, root: Path, progress: Progress | None) -> None:
        self.folders = ConceptFolders(root)
        self._progress = progress or Silent()
        self._once = Once()
        self._records: list[ConceptRecord] = []
        self._costs: list[CostRow] = []

    def family(
        self, subject: ConceptSubject, specs: tuple[ConceptSpec, ...]
    ) -> Mapping[tuple[str, Case], Tested]:
        """Return all tests of a threshold file on one image set, made once.

        They are one family: the p-values are corrected for their number [Holm 1979], whichever of
        them are selected to run. One that could not be made counts as one that found nothing.
        """
        key = ("family", subject.evaluation, subject.source.shown)
        return self._once(key, lambda: self._family(subject, specs))

    def test(
        self, subject: ConceptSubject, concept: str, of_class: ClassName, against: str, tcav: TCAV
    ) -> TCAVResult:
        """Return one test, on its own, made once.

        Raises:
            XaiError: it cannot be made.
        """
        target = subject.target_of(of_class)
        key = ("test", subject.evaluation, subject.source, concept, target, against, tcav)

        def make() -> TCAVResult:
            title = f"testing concept {concept}"
            found = self._tested(subject, concept, target, against, tcav, title)
            self._record(subject, found, concept, file="")
            return found

        return self._once(key, make)

    def report(self) -> tuple[list[ConceptRecord], list[CostRow]]:
        """Return what was tested since the last call, and what it took, in builtin types."""
        found = self._records, self._costs
        self._records, self._costs = [], []
        return found

    def _family(
        self, subject: ConceptSubject, specs: tuple[ConceptSpec, ...]
    ) -> dict[tuple[str, Case], Tested]:
        asked = [(spec, case) for spec in specs for case in spec.cases]
        tested: dict[tuple[str, Case], Tested] = {}
        seen: dict[tuple[str, int, str | None], ClassName] = {}
        for number, (spec, case) in enumerate(asked, start=1):
            title = f"testing concept {spec.name} ({number} of {len(asked)})"
            try:
                tested[spec.name, case] = self._of_spec(subject, spec, case, seen, title)
            except XaiError as error:
                tested[spec.name, case] = error.with_traceback(None)
        made = {key: one for key, one in tested.items() if isinstance(one, TCAVResult)}
        family = corrected(list(made.values()), failed=len(tested) - len(made))
        for key, found in zip(made, family, strict=True):
            tested[key] = found
            self._record(subject, found, key[0], file=subject.source.shown or "")
        return tested

    def _of_spec(
        self,
        subject: ConceptSubject,
        spec: ConceptSpec,
        case: Case,
        seen: dict[tuple[str, int, str | None], ClassName],
        title: str,
    ) -> TCAVResult:
        """Return the test of a threshold file; an error names file, line and key."""
        try:
            target = subject.target_of(case.of_class)
            subject.images.of_label(target)
        except (ConceptError, ImageSetError) as error:
            msg = f"{spec.place('class', 'classes')}: {error}"
            raise ConceptError(msg) from None
        first = seen.setdefault((spec.name, target, case.layer), case.of_class)
        if first != case.of_class:
            msg = (
                f"{spec.place('classes')}: {case.of_class!r} and {first!r} are the same class; "
                "name it once"
            )
            raise ConceptError(msg)
        tcav = replace(spec.tcav, layer=case.layer)
        try:
            return self._tested(subject, spec.name, target, spec.against, tcav, title)
        except LayerError as error:
            msg = f"{spec.place('layer', 'layers')}: {error}"
            raise ConceptError(msg) from None
        except CounterexampleError as error:
            msg = f"{spec.place('against')}: {error}"
            raise ConceptError(msg) from None
        except (ConceptError, ImageSetError) as error:
            msg = f"{spec.place('images')}: {error}"
            raise ConceptError(msg) from None

    def _tested(
        self,
        subject: ConceptSubject,
        concept: str,
        target: int,
        against: str,
        tcav: TCAV,
        title: str,
    ) -> TCAVResult:
        source, size, classifier = subject.source, subject.size, subject.classifier
        images = self.folders.concept(source, concept, size)
        random = self.folders.library(source, size).random
        others = self.folders.counterexamples(source, against, size)
        of_class = subject.images.of_label(target)
        passes, started = classifier.passes, time.perf_counter()
        forwards, gradients = passes.forwards, passes.gradients
        total = len(images) + len(others) + len(of_class)
        try:
            store = self._once(("store", classifier), lambda: FeatureStore(classifier))
            with (
                self._progress.task(title, total) as advance,
                passes.watched(
                    lambda: advance(0, note=f"{passes.total - forwards - gradients} passes")
                ),
            ):
                found = tcav.test(
                    store,
                    images,
                    others,
                    of_class,
                    target,
                    random=None if others is random else random,
                )
                advance(total)
                return found
        finally:
            self._costs.append(
                CostRow(
                    model=classifier.name,
                    data=subject.data,
                    stage="concept",
                    name=concept,
                    forwards=passes.forwards - forwards,
                    gradients=passes.gradients - gradients,
                    seconds=time.perf_counter() - started,
                    looked_up=0,
                    found=0,
                )
            )

    def _record(
        self, subject: ConceptSubject, found: TCAVResult, concept: str, *, file: str
    ) -> None:
        self._records.append(
            concept_record(
                found,
                data=subject.data,
                file=file,
                concept=concept,
                class_name=subject.class_name(found.target),
            )
        )
