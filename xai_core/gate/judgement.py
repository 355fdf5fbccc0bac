"""What came of a gate, and how it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xai_core.gate.conditions import Conditions
from xai_core.gate.findings import Finding
from xai_core.gate.slices import ClassSlice, worst_slice
from xai_core.measurement import Measurement
from xai_core.statistics import Outcome, Reproduction

WORST_SHOWN = 5


@dataclass(frozen=True)
class Judgement:
    """What came of a gate.

    Attributes:
        model: name of the classifier; empty for values without one.
        measurement: the values.
        findings: one for each condition.
        images: number of images that have a value.
        units: likewise, several images of one photograph counted once.
        detects: the smallest drop of what the threshold is about that so many images would have
            shown: of the mean, of the share or the number of images.
        too_many_undefined: a sentence where more images have no value than the gate allows.
        nulls: null map -> its mean on the same images, where one was asked for.
        classes: mean and number of images of each class, where the images have classes.
        against: the earlier run that the last finding is about; empty without one.
        reproduction: how the values lie beside those of the earlier run, where nothing is known to
            be otherwise that could move them.
        of_images: how many images the set has, where a gate may stop before it measured all.
        of_groups: how many photographs they are of, where several are of one.
        in_full: why it measured all nevertheless.
    """

    model: str
    measurement: Measurement
    conditions: Conditions
    findings: tuple[Finding, ...]
    detects: float
    too_many_undefined: str | None
    nulls: dict[str, float]
    classes: tuple[ClassSlice, ...] = ()
    against: str = ""
    reproduction: Reproduction | None = None
    of_images: int | None = None
    in_full: str | None = None
    of_groups: int | None = None

    @property
    def images(self) -> int:
        """Number of images that have a value."""
        return len(self.measurement.defined)

    @property
    def units(self) -> int:
        """Number of images that have a value, several of one photograph counted once."""
        return len(self.measurement.units)

    @property
    def in_groups(self) -> bool:
        """Whether several images are of one photograph, which then is what is counted."""
        return self.of_groups is not None or self.measurement.in_groups

    def counted(self, units: int) -> str:
        """Return a number of units, marked where they are groups."""
        return f"{units} groups" if self.in_groups else f"{units}"

    @property
    def outcome(self) -> Outcome:
        """Fail if anything is proven wrong, pass if all is proven right, else inconclusive."""
        if self._refuted or any(found.outcome == "fail" for found in self.findings):
            return "fail"
        proven = all(found.outcome == "pass" for found in self.findings)
        return "pass" if proven else "inconclusive"

    def passes(self, *, strict: bool = False) -> bool:
        """Return whether every value is on the right side; ``strict``: whether that is proven."""
        if self._refuted:
            return False
        if strict:
            return self.outcome == "pass"
        return all(found.holds for found in self.findings)

    def headline(self, *, strict: bool = False) -> str:
        """Return the one line that says what decided: the first finding that fails, or all."""
        subject = f"{self.measurement.metric.metric.name}[{self.measurement.method}]"
        if self.model:
            subject += f" {self.model}"
        if self._refuted:
            return f"{subject}: {self._refuted}"
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

    def worst_class(self) -> ClassSlice | None:
        """Return the class with the worst mean.

        None where fewer than two have two images, and where the headline is about one already.
        """
        if self.conditions.per_class:
            return None
        higher = self.measurement.metric.metric.better == "higher"
        return worst_slice(self.classes, higher_is_better=higher)

    @property
    def _refuted(self) -> str:
        """A sentence where the gate fails whatever its findings say; empty where it does not."""
        again = self.reproduction
        if self.too_many_undefined:
            return self.too_many_undefined
        if again is None or again.holds:
            return ""
        return (
            f"moved on {again.moved} of {again.images} images, by {again.median:.3g} at the "
            f"median, though weights, images and settings are those of {self.against}"
        )

    def _with_evidence(self, found: Finding, *, strict: bool) -> str:
        stops = self.of_images is not None and self.in_full is None
        of_all = f" of {self.of_groups or self.of_images}" if stops else ""
        groups = " groups" if self.in_groups else ""
        parts = [str(found.interval), f"n={found.images or self.units}{of_all}{groups}"]
        if found.images is None and not math.isnan(self.detects):
            parts.append(f"detects {self.detects:.3f}")
        text = f"{found.text} ({', '.join(parts)})"
        if strict and found.outcome == "inconclusive":
            text += ": not proven"
            if found.settled_by is not None:
                settled_by = f"{found.settled_by}{groups or ' images'}"
                text += f", about {settled_by} would settle it"
        return text
