"""How far a gate moves with seed and images, how often it cries wolf, and what it could demand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from xai_core.gate import Finding, Judgement
from xai_core.metrics.declaration import Better
from xai_core.parameters import require
from xai_core.statistics import exact_mean, false_alarm_rate_of, proposed_threshold


@dataclass(frozen=True)
class Calibration:
    """One condition of a gate, measured with several seeds.

    Attributes:
        threshold: that the gate has.
        above: whether values must be at least (else at most) the threshold.
        images: of how many images the value is.
        seeds: how many were measured; 1 where nothing is random.
        mean: of the value over the seeds.
        seed_deviation: standard deviation of the value over the seeds; None where nothing is
            random.
        lowest: smallest value of a seed.
        highest: largest value of a seed.
        image_deviation: standard deviation that the value has over draws of images; None of a
            single image.
        stopped: share of the seeds that leave more images without a value than the gate allows,
            which fails it whatever its threshold.
        false_alarm_rate: how probably another draw of seed and images fails the gate; None of a
            single image.
        proposed: the threshold that another draw misses at the rate asked for.
    """

    threshold: float
    above: bool
    images: int
    seeds: int
    mean: float
    seed_deviation: float | None
    lowest: float
    highest: float
    image_deviation: float | None
    stopped: float
    false_alarm_rate: float | None
    proposed: float


def calibrated(
    judgements: Sequence[Judgement], *, rate: float = 0.01, seed: int = 0
) -> tuple[Calibration, ...]:
    """Return what several seeds say of each condition of a gate; nothing where no value exists.

    Args:
        judgements: of one gate on the same images, one for each seed; a single one where nothing
            is random.
        rate: of false alarms, that thresholds are proposed for.
        seed: of the resampling of images.

    Raises:
        ParameterError: no judgement, or a rate outside (0, 1).
    """
    require(len(judgements) > 0, "a calibration needs a judgement")
    require(0 < rate < 1, f"the rate of false alarms must be between 0 and 1, got {rate}")
    measured = [one.findings for one in judgements if one.findings]
    stopped = sum(one.too_many_undefined is not None for one in judgements) / len(judgements)
    return tuple(
        _calibration(of_seeds, stopped=stopped, rate=rate, seed=seed)
        for of_seeds in zip(*measured, strict=True)
        if all(found.units for found in of_seeds)
    )


def largest_difference(first: Judgement, again: Judgement) -> tuple[float, str]:
    """Return by how much two measurements of the same images differ at most, and on which image.

    Infinity where an image has a value in one of them only; 0 on the first image where they are
    equal.
    """
    one, other = first.measurement.values, again.measurement.values
    with np.errstate(invalid="ignore"):
        differences = np.abs(one - other)
    differences[np.isnan(one) & np.isnan(other)] = 0
    differences[np.isnan(one) != np.isnan(other)] = math.inf
    row = int(differences.argmax())
    return float(differences[row]), first.measurement.names[row]


def any_false_alarm(rates: Iterable[float]) -> float:
    """Return the chance of one false alarm or more among gates that do not depend on each other.

    >>> round(any_false_alarm([0.01, 0.02, 0.5]), 4)
    0.5149
    """
    return 1 - math.prod(1 - rate for rate in rates)


def _calibration(
    of_seeds: Sequence[Finding], *, stopped: float, rate: float, seed: int
) -> Calibration:
    values = np.array([found.value for found in of_seeds])
    first, several = of_seeds[0], len(of_seeds) > 1
    alarms = stopped + (1 - stopped) * _false_alarm_rate(of_seeds, seed)
    return Calibration(
        threshold=first.threshold,
        above=first.above,
        images=max(map(len, first.units)) if first.images is None else first.images,
        seeds=len(of_seeds),
        mean=exact_mean(values),
        seed_deviation=float(values.std(ddof=1)) if several else None,
        lowest=float(values.min()),
        highest=float(values.max()),
        image_deviation=_image_deviation(of_seeds),
        stopped=stopped,
        false_alarm_rate=None if math.isnan(alarms) else alarms,
        proposed=threshold_for(of_seeds, rate=rate, seed=seed),
    )


def threshold_for(of_seeds: Sequence[Finding], *, rate: float, seed: int) -> float:
    """Return the threshold that an unchanged model misses at a stated rate.

    Where each of several classes' means must meet it, they meet it together.

    Args:
        of_seeds: one condition of a gate as each seed decides it; one is enough.
        rate: chance that another draw of images misses it.
        seed: of the resampling.
    """
    first = of_seeds[0]
    better: Better = "higher" if first.above else "lower"
    classes = max(len(found.units) for found in of_seeds)
    if classes == 1:
        rows = [[found.units[0] for found in of_seeds]]
    else:  # seeds may differ in the classes that have a value
        rows = [[units] for found in of_seeds for units in found.units]
    proposals = [
        proposed_threshold(
            of_one,
            better=better,
            rate=1 - (1 - rate) ** (1 / classes),
            bounds=first.bounds,
            seed=seed,
        )
        for of_one in rows
    ]
    return min(proposals) if first.above else max(proposals)


def _false_alarm_rate(of_seeds: Sequence[Finding], seed: int) -> float:
    """Return the chance that another draw, with one of the seeds at random, misses the threshold.

    Classes have images of their own, so that they miss it independently of each other.
    """
    rates = []
    for found in of_seeds:
        better: Better = "higher" if found.above else "lower"
        each = [
            false_alarm_rate_of(
                units, found.threshold, better=better, bounds=found.bounds, seed=seed
            )
            for units in found.units
        ]
        rates.append(any_false_alarm(each))
    return sum(rates) / len(rates)


def _image_deviation(of_seeds: Sequence[Finding]) -> float | None:
    """Return the standard error of the mean over images, averaged over the seeds."""
    errors = []
    for found in of_seeds:
        worst = (min if found.above else max)(found.units, key=lambda units: units.mean())
        if len(worst) < 2:
            return None
        errors.append(float(worst.std(ddof=1)) / math.sqrt(len(worst)))
    return sum(errors) / len(errors)
