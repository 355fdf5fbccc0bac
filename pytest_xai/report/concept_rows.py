"""What a run reports of its concepts, in builtin types only; see `pytest_xai.report.rows`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pytest_xai.concept_gate import ConceptJudgement
    from xai_core.concepts.result import TCAVResult
    from xai_core.statistics import Interval


class Range(TypedDict):
    """A confidence interval."""

    low: float
    high: float
    confidence: float


class Sensitivity(TypedDict):
    """The derivative of the class's logit along the unit CAV on one image, mean over the runs."""

    image: str
    value: float


class ConceptRecord(TypedDict):
    """One test of a concept: the fields of `xai_core.concepts.result.TCAVResult` and its verdict.

    ``concept`` is the name in the threshold file (or that a fixture gave), ``file`` is empty for
    a test of its own, ``class_name`` is the index where the images have no names of classes,
    ``parameters`` are those of `xai_core.concepts.tcav.TCAV`.
    """

    model: str
    data: str
    file: str
    concept: str
    against: str
    target: int
    class_name: str
    layer: str
    protocol: str
    parameters: dict[str, object]
    verdict: str
    learnt: bool
    concept_images: int
    counterexamples: int
    images: int
    set_size: int
    overlap: str
    score: float
    score_interval: Range
    null_score_mean: float
    null_score_deviation: float
    magnitude_score: float
    alignment: float
    null_alignment_mean: float
    null_alignment_deviation: float
    detectable: float
    p: float
    p_corrected: float
    tests: int
    logit_change: float
    effect: float
    effect_interval: Range
    accuracy: float
    accuracy_interval: Range
    sensitivities: list[Sensitivity]
    seconds: float
    passes: int


class ConceptRow(TypedDict):
    """One demand on one concept, class and layer; ``error`` = it could not be tested.

    ``class_name`` and ``layer`` are as the file gives them where nothing was found; ``wanted`` is
    what must be, ``value`` the score or the effect where that is asked.
    """

    model: str
    data: str
    file: str
    line: int
    concept: str
    class_name: str
    layer: str
    gate: str
    condition: str
    protocol: str
    level: str
    wanted: str
    above: float | None
    below: float | None
    passed: bool
    outcome: str
    verdict: str | None
    value: float | None
    score: float | None
    score_interval: Range | None
    effect: float | None
    effect_interval: Range | None
    p: float | None
    tests: int | None
    images: int
    error: str | None


def concept_record(
    found: TCAVResult, *, data: str, file: str, concept: str, class_name: str
) -> ConceptRecord:
    """Return a test as reports hold it."""
    from xai_core.parameters import as_dict

    values = found.sensitivities.tolist()
    return ConceptRecord(
        model=found.model,
        data=data,
        file=file,
        concept=concept,
        against=found.against,
        target=int(found.target),
        class_name=class_name,
        layer=found.layer,
        protocol=found.tcav.protocol,
        parameters=as_dict(found.tcav),
        verdict=found.verdict,
        learnt=bool(found.learnt),
        concept_images=found.concept_images,
        counterexamples=found.counterexamples,
        images=len(found.names),
        set_size=found.set_size,
        overlap=found.overlap,
        score=float(found.score),
        score_interval=_range(found.score_interval),
        null_score_mean=float(found.null_scores[0]),
        null_score_deviation=float(found.null_scores[1]),
        magnitude_score=float(found.magnitude_score),
        alignment=float(found.alignment),
        null_alignment_mean=float(found.null_alignments[0]),
        null_alignment_deviation=float(found.null_alignments[1]),
        detectable=float(found.detectable),
        p=float(found.p),
        p_corrected=float(found.p_corrected),
        tests=found.tests,
        logit_change=float(found.logit_change),
        effect=float(found.effect),
        effect_interval=_range(found.effect_interval),
        accuracy=float(found.accuracy),
        accuracy_interval=_range(found.accuracy_interval),
        sensitivities=[
            Sensitivity(image=name, value=value)
            for name, value in zip(found.names, values, strict=True)
        ],
        seconds=float(found.seconds),
        passes=int(found.passes),
    )


def decided(
    row: ConceptRow, judgement: ConceptJudgement, *, class_name: str, strict: bool
) -> ConceptRow:
    """Return the row with what came of its demand."""
    row, found = row.copy(), judgement.result
    row["class_name"] = class_name
    row["layer"] = found.layer
    row["passed"] = judgement.passes(strict=strict)
    row["outcome"] = judgement.outcome
    row["verdict"] = found.verdict
    row["value"] = None if judgement.value is None else float(judgement.value)
    row["score"] = float(found.score)
    row["score_interval"] = _range(found.score_interval)
    row["effect"] = float(found.effect)
    row["effect_interval"] = _range(found.effect_interval)
    row["p"] = float(found.p_corrected)
    row["tests"] = found.tests
    row["images"] = len(found.names)
    row["error"] = None
    return row


def key_of(record: ConceptRecord) -> str:
    """Return what tells tests apart: everything but what they took, which differs by worker."""
    return repr({**record, "seconds": 0, "passes": 0})


def _range(interval: Interval) -> Range:
    # A fault here is a test's own, not that of the JSON file at the end of the run.
    ends = (interval.low, interval.high)
    if not all(map(math.isfinite, ends)):
        msg = f"an interval that is not finite: {interval}"
        raise ValueError(msg)
    return Range(
        low=float(interval.low), high=float(interval.high), confidence=float(interval.confidence)
    )
