"""What came of a gate, and how it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xai_core.gate.conditions import Conditions
from xai_core.gate.findings import Finding
from xai_core.measurement import Measurement
from xai_core.statistics import Outcome

WORST_SHOWN = 5


@dataclass(frozen=True)
class Judgement:
    """What came of a gate.

    Attributes:
        model: name of the classifier; empty for values without one.
        measurement: the values.
        findings: one for each condition.
        images: number of images that have a value.
        detects: the smallest drop of the mean that so many images would have shown.
        too_many_undefined: a sentence where more images have no value than the gate allows.
        nulls: null map -> its mean on the same images, where one was asked for.
    """

    model: str
    measurement: Measurement
    conditions: Conditions
    findings: tuple[Finding, ...]
    detects: float
    too_many_undefined: str | None
    nulls: dict[str, float]

    @property
    def images(self) -> int:
        """Number of images that have a value."""
        return len(self.measurement.defined)

    @property
    def outcome(self) -> Outcome:
        """Fail if anything is proven wrong, pass if all is proven right, else inconclusive."""
        if self.too_many_undefined or any(found.outcome == "fail" for found in self.findings):
            return "fail"
        proven = all(found.outcome == "pass" for found in self.findings)
        return "pass" if proven else "inconclusive"

    def passes(self, *, strict: bool = False) -> bool:
        """Return whether every value is on the right side; ``strict``: whether that is proven."""
        if self.too_many_undefined:
            return False
        if strict:
            return self.outcome == "pass"
        return all(found.holds for found in self.findings)

    def headline(self, *, strict: bool = False) -> str:
        """Return the one line that says what decided: the first finding that fails, or all."""
        subject = f"{self.measurement.metric.metric.name}[{self.measurement.method}]"
        if self.model:
            subject += f" {self.model}"
        if self.too_many_undefined:
            return f"{subject}: {self.too_many_undefined}"
        failing = [
            found
            for found in self.findings
            if not (found.outcome == "pass" if strict else found.holds)
        ]
        shown = failing[:1] or list(self.findings)
        texts = "; ".join(self._with_evidence(found, strict=strict) for found in shown)
        return f"{subject}: {texts}"

    def worst_images(self) -> list[tuple[str, float | None, str]]:
        """Return name, value and remark of the images that speak most against the gate.

        Images without a value come first.
        """
        measurement = self.measurement
        names = measurement.names
        rows: list[tuple[str, float | None, str]] = [
            (names[index], None, why) for index, why in sorted(measurement.undefined.items())
        ]
        order = np.argsort(measurement.values, kind="stable")
        order = order[~np.isnan(measurement.values[order])]
        if measurement.metric.metric.better == "lower":
            order = order[::-1]
        rows += [(names[index], float(measurement.values[index]), "") for index in order]
        return rows[:WORST_SHOWN]

    def _with_evidence(self, found: Finding, *, strict: bool) -> str:
        parts = [str(found.interval), f"n={self.images}"]
        if not math.isnan(self.detects):
            parts.append(f"detects {self.detects:.3f}")
        text = f"{found.text} ({', '.join(parts)})"
        if strict and found.outcome == "inconclusive":
            text += ": not proven"
            if found.settled_by is not None:
                text += f", about {found.settled_by} images would settle it"
        return text
