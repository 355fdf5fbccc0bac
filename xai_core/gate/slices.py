"""The mean of every class: which is the worst, and whether each meets the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xai_core.arrays import Float64
from xai_core.gate.conditions import Conditions
from xai_core.gate.findings import Finding, edge_of, sign_of
from xai_core.measurement import Measurement
from xai_core.statistics import (
    defined_cluster_means,
    exact_mean,
    holm,
    images_to_settle,
    verdict,
)
from xai_core.statistics.intervals import mean_evidence

_TELLING = 2
"""A class of fewer images is no slice whose mean is worth a word."""


@dataclass(frozen=True)
class ClassSlice:
    """The images of one class that have a value.

    Attributes:
        name: of the class.
        mean: of its images.
        images: their number, several of one photograph counted once.
    """

    name: str
    mean: float
    images: int


def slices_of(measurement: Measurement, classes: Sequence[str]) -> tuple[ClassSlice, ...]:
    """Return the classes that have images with a value, in the order of their first image.

    Args:
        measurement: of a metric.
        classes: name of each image's class.
    """
    return tuple(
        ClassSlice(name, exact_mean(values), len(values))
        for name, values in _by_class(measurement, classes).items()
    )


def worst_slice(slices: Sequence[ClassSlice], *, higher_is_better: bool) -> ClassSlice | None:
    """Return the class with the worst mean of those with two images or more.

    None where fewer than two classes have as many.
    """
    telling = [one for one in slices if one.images >= _TELLING]
    if len(telling) < 2:
        return None
    worst = min if higher_is_better else max
    return worst(telling, key=lambda one: one.mean)


def compare_classes(
    measurement: Measurement, classes: Sequence[str], conditions: Conditions, seed: int
) -> Finding:
    """Hold the mean of every class against the threshold.

    Proven right where each class is at the gate's confidence: an intersection-union test, which
    needs no correction. Proven wrong where one class is after Holm's correction for the number of
    classes [Holm 1979].
    """
    above, threshold = edge_of(conditions)
    by_class = _by_class(measurement, classes)
    bounds, confidence = measurement.metric.metric.range, conditions.confidence
    evidence = {
        name: mean_evidence(values, bounds=bounds, seed=seed) for name, values in by_class.items()
    }
    intervals = {name: found.interval(confidence) for name, found in evidence.items()}
    outcomes = {
        name: verdict(interval, threshold, above=above) for name, interval in intervals.items()
    }
    wrong: Literal["greater", "less"] = "less" if above else "greater"
    against = holm([one.p_value(threshold, alternative=wrong) for one in evidence.values()])
    means = {name: exact_mean(values) for name, values in by_class.items()}
    in_order = sorted(means, key=lambda name: means[name] if above else -means[name])
    name, unproven = in_order[0], [one for one in in_order if outcomes[one] != "pass"]
    mean, interval, n = means[name], intervals[name], len(by_class[name])
    holds = mean >= threshold if above else mean <= threshold
    of_several = f"worst of {len(means)} classes " if len(means) > 1 else "the only class "
    text = (
        f"{of_several}{name!r} {mean:.3f} {sign_of(mean, threshold, above=above)} {threshold:.3f}"
    )
    if holds and unproven and unproven[0] != name:
        other = unproven[0]
        groups = " groups" if measurement.in_groups else ""
        text += f", least proven {other!r} {means[other]:.3f} (n={len(by_class[other])}{groups})"
    proven_wrong = any(p <= (1 - confidence) / 2 for p in against)
    return Finding(
        value=mean,
        threshold=threshold,
        above=above,
        interval=interval,
        outcome="fail" if proven_wrong else "inconclusive" if unproven else "pass",
        holds=holds,
        text=text,
        settled_by=(
            images_to_settle(interval, mean, threshold, n) if unproven[:1] == [name] else None
        ),
        images=n,
        units=tuple(by_class.values()),
        bounds=bounds,
    )


def _by_class(measurement: Measurement, classes: Sequence[str]) -> dict[str, Float64]:
    rows: dict[str, list[int]] = {}
    for row, (name, value) in enumerate(zip(classes, measurement.values.tolist(), strict=True)):
        if not np.isnan(value):
            rows.setdefault(name, []).append(row)
    groups = measurement.groups
    return {
        name: defined_cluster_means(
            measurement.values[members],
            None if groups is None else [groups[row] for row in members],
        )
        for name, members in rows.items()
    }
