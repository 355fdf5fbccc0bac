"""What the planted defects are shown to: metrics of methods, measured as a gate would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from xai_core import METRICS, Evaluation, Method
from xai_core.arrays import Float64
from xai_core.errors import UndefinedMeasurementError
from xai_core.metrics import ConfiguredMetric

CURVE_STEPS = 14
DEMO_IG_STEPS, PHOTOGRAPH_IG_STEPS = 16, 8
_ITSELF = "another ig"


@dataclass(frozen=True)
class Candidate:
    """One metric of one method that might become a gate.

    Attributes:
        method: ``gradcam`` or ``ig``.
        metric: its name.
        settings: what differs from the metric's defaults.
        of: where two candidates share method and metric, what tells them apart.
        per_image: whether each image is a hit or a miss.
        within: not the mean, but the share of images whose value is at most this.
    """

    method: str
    metric: str
    settings: dict[str, object] = field(default_factory=dict, hash=False)
    of: str = ""
    per_image: bool = False
    within: float | None = None

    @property
    def measure(self) -> str:
        """How records call what it looks at, e.g. ``"gradcam iou"``."""
        return f"{self.method} {self.metric}" + (f" with {self.of}" if self.of else "")

    @property
    def name(self) -> str:
        """How tables call it; where it is a share of images, with the bound."""
        return self.measure if self.within is None else f"{self.measure} ≤ {self.within:g}"

    def judged(self, values: Float64) -> Float64:
        """Return what its mean is taken over: the values, or whether each is small enough."""
        if self.within is None:
            return values
        return np.where(np.isnan(values), np.nan, values <= self.within)

    @property
    def configured(self) -> ConfiguredMetric:
        """The metric with its settings."""
        return METRICS[self.metric].configure(self.settings)

    @property
    def higher(self) -> bool:
        """Whether more is better."""
        return self.within is not None or METRICS[self.metric].better == "higher"

    @property
    def with_itself(self) -> bool:
        """Whether a method is held against a second implementation of its own."""
        return self.of == _ITSELF

    @property
    def needs(self) -> frozenset[str]:
        """What the metric looks at."""
        return frozenset(METRICS[self.metric].needs)


def _localization(method: str, tolerance: int | None = None) -> list[Candidate]:
    near: dict[str, object] = {} if tolerance is None else {"tolerance": tolerance}
    return [
        Candidate(method, "iou"),
        Candidate(method, "precision"),
        Candidate(method, "recall"),
        Candidate(method, "relevance_rank"),
        Candidate(method, "energy_pointing_game"),
        Candidate(method, "pointing_game", near, per_image=True),
        Candidate(method, "far_background"),
    ]


def _agreement(method: str, other: str, of: str) -> Candidate:
    return Candidate(method, "agreement", {"other": other}, of=of)


def _agreement_with_ig(method: str, steps: int, of: str) -> Candidate:
    return _agreement(method, f"integrated_gradients(steps={steps})", of)


CURVES = (
    Candidate("gradcam", "insertion", {"steps": CURVE_STEPS}),
    Candidate("gradcam", "deletion", {"steps": CURVE_STEPS}),
    Candidate("gradcam", "faithfulness_gap"),
)
GRADCAM = (
    Candidate("gradcam", "average_drop"),
    Candidate("gradcam", "active_fraction"),
    Candidate("gradcam", "sparseness"),
    Candidate("gradcam", "complexity"),
    Candidate("gradcam", "random_logit"),
    _agreement("gradcam", "hirescam", "hirescam"),
)
IG = (
    # Relative to f(x) - f(x'), which may be next to nothing: one image can outweigh all others.
    Candidate("ig", "completeness", per_image=True, within=0.25),
    Candidate("ig", "sparseness"),
)
DEMO = (
    *_localization("gradcam", 4),
    *GRADCAM,
    Candidate("gradcam", "stability", {"samples": 2}),
    *CURVES,
    Candidate("gradcam", "background_class", {"on": "watermark"}),
    _agreement_with_ig("gradcam", DEMO_IG_STEPS, "ig"),
    *_localization("ig", 4),
    *IG,
    Candidate("ig", "background_class", {"on": "watermark"}),
    _agreement_with_ig("ig", DEMO_IG_STEPS, _ITSELF),
)
PHOTOGRAPHS = (
    *_localization("gradcam"),
    *GRADCAM,
    *_localization("ig"),
    *IG,
    _agreement_with_ig("ig", PHOTOGRAPH_IG_STEPS, _ITSELF),
)


def measured(
    candidates: Iterable[Candidate], evaluation: Evaluation, methods: Sequence[Method]
) -> dict[str, Float64]:
    """Return what every candidate of these methods looks at, float64 ``[N]``.

    A candidate without a value on any image has NaN for all.
    """
    by_name = {method.name: method for method in methods}
    found: dict[str, Float64] = {}
    for one in candidates:
        if one.method not in by_name:
            continue
        if one.metric == "faithfulness_gap":  # of the curves with fewer steps
            found[one.measure] = found["gradcam insertion"] - found["gradcam deletion"]
            continue
        try:
            values = evaluation.measure(by_name[one.method], one.configured).values
        except UndefinedMeasurementError:
            values = np.full(len(evaluation.images), np.nan)
        found[one.measure] = values
    return found
