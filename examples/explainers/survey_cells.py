"""One explainer on one model: whether it works, what it costs, what the metrics say."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from survey_explainers import title

from xai_core import Evaluation, Explainer, Explanation, Method, XaiError
from xai_core.metrics import ConfiguredMetric

Result = Literal["works", "refused", "error"]


@dataclass(frozen=True)
class Subject:
    """One model with its images.

    Attributes:
        model: name that it was loaded by.
        untrained: whether its weights are random.
        evaluation: the model on the images.
    """

    model: str
    untrained: bool
    evaluation: Evaluation


@dataclass(frozen=True)
class Score:
    """What one metric says of one explainer.

    Attributes:
        mean: over the images that have a value; None where none has.
        values: of the images; None where the metric has no value.
        undefined: name of an image -> why it has none.
        reason: why the metric could not be asked at all.
    """

    mean: float | None = None
    values: tuple[float | None, ...] = ()
    undefined: dict[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Cell:
    """One explainer on one model.

    Attributes:
        explainer: what the table calls it.
        identity: kind and all parameters.
        model: name that the model was loaded by.
        result: ``error`` is anything but maps or a refusal, and a defect of the library.
        reason: the whole message of a refusal or an error.
        trace: of an error.
        forwards: images scored without gradients, all images together; of a refusal until then.
        gradients: images whose gradient was taken.
        seconds: of the explanations alone, without the metrics.
        flat: how many heatmaps are the same everywhere.
        scores: protocol of a metric -> what it says.
    """

    explainer: str
    identity: str
    model: str
    result: Result
    reason: str = ""
    trace: str = ""
    forwards: int = 0
    gradients: int = 0
    seconds: float = 0.0
    flat: int = 0
    scores: dict[str, Score] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The cell of the table."""
        if self.result == "refused":
            return f"refused: {first_sentence(self.reason)}"
        if self.result == "error":
            return f"ERROR {first_sentence(self.reason)}"
        counts = ((self.forwards, "f"), (self.gradients, "g"))
        passes = " + ".join(f"{count} {kind}" for count, kind in counts if count) or "no pass"
        flat = f", {self.flat} flat" if self.flat else ""
        return f"works: {passes}, {shown_seconds(self.seconds)}{flat}"


def survey(explainer: Explainer, subject: Subject, metrics: Sequence[ConfiguredMetric]) -> Cell:
    """Explain all images of ``subject``, then measure the maps."""
    method = Method(explainer.kind, explainer)
    cell = Cell(title(explainer), method.identity, subject.model, "works")
    passes = subject.evaluation.classifier.passes
    forwards, gradients, started = passes.forwards, passes.gradients, time.perf_counter()
    found: Explanation | None = None
    try:
        found = subject.evaluation.explain(method)
    except XaiError as error:
        cell = replace(cell, result="refused", reason=str(error))
    except Exception as error:  # that an explainer raises anything else is what is looked for
        cell = _defect(cell, error)
    cell = replace(
        cell,
        forwards=passes.forwards - forwards,
        gradients=passes.gradients - gradients,
        seconds=time.perf_counter() - started,
    )
    if found is None:
        return cell
    broken = not_finite(found)
    if broken:
        return replace(cell, result="error", reason=broken)
    heatmaps = found.heatmaps
    cell = replace(cell, flat=int((np.ptp(heatmaps, axis=(1, 2)) == 0).sum()))
    for metric in metrics:
        try:
            score = _score(subject.evaluation, method, metric)
        except Exception as error:
            return _defect(cell, error, doing=f"measuring {metric.metric.name}: ")
        cell.scores[metric.protocol] = score
    return cell


def not_finite(found: Explanation) -> str:
    """Say how many maps hold NaN or infinity; nothing where none does.

    The metrics would call them undefined, as they do a flat map; but a flat map can be right.
    """
    for what, maps in (("heatmaps", found.heatmaps), ("attributions", found.attributions)):
        if maps is not None:
            broken = int((~np.isfinite(maps)).reshape(len(maps), -1).any(axis=1).sum())
            if broken:
                return f"{broken} of {len(maps)} {what} are not finite"
    return ""


def first_sentence(text: str) -> str:
    """Return what a message says first, on one line.

    >>> first_sentence("lrp has no rule for attention (vit_b_16, ...), see there; use `ig`")
    'lrp has no rule for attention (vit_b_16, ...), see there'
    """
    line = " ".join(text.split())
    return re.split(r";\s|(?<=\w[\w)'`\"])\.\s(?=[A-Z])", line, maxsplit=1)[0].rstrip(".")


def shown_seconds(seconds: float) -> str:
    """Return seconds with as many digits as a shared machine can repeat."""
    digits = 2 if seconds < 1 else 1 if seconds < 10 else 0
    return f"{seconds:.{digits}f} s"


def _score(evaluation: Evaluation, method: Method, metric: ConfiguredMetric) -> Score:
    if "masks" in metric.metric.needs and not evaluation.images.has_masks:
        return Score(reason="no masks")
    try:
        found = evaluation.measure(method, metric)
    except XaiError as error:
        return Score(reason=str(error))
    return Score(
        mean=found.mean if len(found.defined) else None,
        values=tuple(None if np.isnan(value) else float(value) for value in found.values),
        undefined={found.names[index]: why for index, why in found.undefined.items()},
    )


def _defect(cell: Cell, error: Exception, doing: str = "") -> Cell:
    reason = f"{doing}{type(error).__name__}: {error}"
    return replace(cell, result="error", reason=reason, trace=traceback.format_exc())
