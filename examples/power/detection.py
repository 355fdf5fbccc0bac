"""From records to rates: bounds by a rule that saw no defect, what they catch, what is enough.

Of many networks, each is judged by bounds made from the others alone: a threshold is what one more
good network would cross with a small, stated chance (Student's prediction bound), and so is the
margin of a comparison with the last release. Of one network on many sets of images, each set is
judged by margins of the same kind, made from what harmless changes did on the other sets. What the
same weights must reproduce has no bound to make: `xai_core.statistics.reproduction` has it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

import numpy as np
from candidate_gates import Candidate
from rates import Pair
from scipy.special import stdtrit
from scipy.stats import betabinom

from xai_core.arrays import Float64
from xai_core.statistics import Reproduction, mean_interval, reproduction

GOOD = "good"
ANOTHER_SEED = "another seed of training"
SUBTLE = 0.02
Way = Literal["threshold", "other training", "same training", "reproduction"]
WAYS: tuple[Way, ...] = ("threshold", "other training", "same training", "reproduction")
"""How a gate can fail: its mean beyond a threshold; its mean loss against the last release beyond
the margin that another training run needs, or beyond the smaller one of the same training run; more
than half of its images not reproduced, where weights, images and masks are the last release's."""

_LEAST_SLACK = 0.002


@dataclass(frozen=True)
class Recorded:
    """What was measured under one condition; see `study.measure` and `Condition.code_only`."""

    seed: int
    condition: str
    harmful: bool
    retrained: bool
    accuracy: dict[str, float]
    values: dict[str, Float64] = field(repr=False)
    code_only: bool = False


class Study:
    """Records of many networks, and what gates say of each.

    Args:
        records: of all networks and conditions; networks without a good record are left out.
        candidates: the gates.
        alpha: chance of a false alarm of all gates together, on one more good network.
    """

    unit = "networks"

    def __init__(
        self, records: Iterable[Recorded], candidates: Sequence[Candidate], *, alpha: float
    ) -> None:
        self.alpha = alpha
        self._records = {(one.seed, one.condition): one for one in records}
        self.seeds = sorted(seed for seed, condition in self._records if condition == GOOD)
        present = [one.values for one in self._records.values() if one.condition == GOOD]
        self.candidates = [one for one in candidates if all(one.measure in row for row in present)]
        self.harmful = self._conditions(harmful=True)
        self.harmless = self._conditions(harmful=False)
        self.threshold = cache(self._threshold)
        self.margin = cache(self._margin)
        self.caught_by = cache(self._caught_by)

    def _conditions(self, *, harmful: bool) -> list[str]:
        names = [
            one.condition
            for one in self._records.values()
            if one.harmful == harmful and one.condition != GOOD
        ]
        return list(dict.fromkeys(names))

    def images(self, seed: int) -> int:
        """Return how many images a network was measured on."""
        return len(next(iter(self._records[seed, GOOD].values.values())))

    def pairs(self, conditions: Collection[str]) -> list[Pair]:
        """Return every network under each of these conditions."""
        own = {(seed, condition) for seed, condition in self._records if seed in self.seeds}
        own |= {(seed, ANOTHER_SEED) for seed in self.seeds}
        return [Pair(*one) for one in sorted(own) if one[1] in conditions]

    def accuracy_change(self, pair: Pair, kind: str = "as trained") -> float:
        """Return how much accuracy the condition costs, negative for a loss."""
        if pair.condition == ANOTHER_SEED:
            now, earlier = self._records[pair.seed, GOOD], self._records[self._last(pair), GOOD]
            return now.accuracy.get(kind, 0.0) - earlier.accuracy.get(kind, 0.0)
        changed, good = self._records[pair.seed, pair.condition], self._records[pair.seed, GOOD]
        if kind not in changed.accuracy or kind not in good.accuracy:
            return 0.0
        return changed.accuracy[kind] - good.accuracy[kind]

    def is_subtle(self, pair: Pair) -> bool:
        """Return whether a test of the accuracy would not see it: a loss below two points."""
        return self.accuracy_change(pair) > -SUBTLE

    def ways(self, pair: Pair) -> tuple[Way, ...]:
        """Return how a gate is asked: small margins are not for another training run.

        Nor is any change but one of the code asked to reproduce what was.
        """
        if pair.condition == ANOTHER_SEED or self._record(pair).retrained:
            return WAYS[:2]
        return WAYS if self._record(pair).code_only else WAYS[:3]

    def fails(self, pair: Pair, gate: Candidate, way: Way) -> bool:
        """Return whether a gate says no, in one of the ways, because of the condition.

        Where the good network is beyond its threshold, that is one false alarm, another seed's,
        and no detection.
        """
        if way not in self.ways(pair):
            return False
        values, good = self._values(pair, gate), self._good(gate, pair.seed)
        if np.isnan(values).sum() > np.isnan(good).sum():
            return True
        sign = 1 if gate.higher else -1
        if way == "threshold":
            bound = sign * self.threshold(gate, pair.seed)
            holds_if_good = sign * _mean(good) >= bound or pair.condition == ANOTHER_SEED
            return holds_if_good and not sign * _mean(values) >= bound
        if way == "reproduction":
            again = self.reproduced(pair, gate)
            return again is None or not again.holds
        last = self._last(pair)
        gain = sign * (values - self._good(gate, last))
        return not _mean(gain) >= -self.margin(gate, frozenset({pair.seed, last}), way)

    def _caught_by(self, pair: Pair, ways: tuple[Way, ...] = WAYS) -> frozenset[str]:
        """Return the names of the gates that fail in one of these ways."""
        return frozenset(
            gate.name
            for gate in self.candidates
            if any(self.fails(pair, gate, way) for way in ways)
        )

    def reproduced(self, pair: Pair, gate: Candidate) -> Reproduction | None:
        """Return how the values lie beside the good ones, where a condition must not move them.

        Of the images with a value in both; None where there are none.
        """
        good = self._records[pair.seed, GOOD].values[gate.measure]
        values = self._record(pair).values.get(gate.measure, good)
        both = np.isfinite(values) & np.isfinite(good)
        if not both.any():
            return None
        metric = gate.configured.metric
        return reproduction(values[both], good[both], bounds=metric.range, scale=metric.scale)

    def most_moved(self, pair: Pair) -> float:
        """Return the share of images that moved, in the gate where most did; NaN without values."""
        found = [self.reproduced(pair, gate) for gate in self.candidates]
        shares = [again.moved / again.images for again in found if again is not None]
        return max(shares, default=math.nan)

    def means(self, pair: Pair) -> dict[str, float]:
        """Return the mean of every gate."""
        return {gate.name: _mean(self._values(pair, gate)) for gate in self.candidates}

    def movement(self, pair: Pair) -> float:
        """Return how much a condition moves images' values, in harmless changes of the network.

        The median over the gates measured; 1: as much as the harmless change that moves a gate
        most. NaN where none is known, as where the condition leaves no gate a value.
        """
        ratios = []
        for gate in self.candidates:
            if gate.measure not in self._record(pair).values:
                continue
            harmless = [
                self._moved(gate, Pair(pair.seed, name))
                for name in self.harmless
                if (pair.seed, name) in self._records
            ]
            moved = self._moved(gate, pair)
            if harmless and max(harmless) > 0 and not math.isnan(moved):
                ratios.append(moved / max(harmless))
        return float(np.median(ratios)) if ratios else math.nan

    def _moved(self, gate: Candidate, pair: Pair) -> float:
        changes = np.abs(self._values(pair, gate) - self._good(gate, self._last(pair)))
        return _mean(changes)

    def _threshold(self, gate: Candidate, seed: int) -> float:
        """Return the bound that this network crosses with a chance of alpha over tests, if good.

        ``mean -+ t * sd * sqrt(1 + 1/n)`` over the means of the other good networks; of hits and
        misses, the beta-binomial's quantile after the others' hits (Jeffreys' prior).
        """
        means = self._good_means(gate, frozenset({seed}))
        if gate.per_image:
            return float(means.mean()) - self._slack_of_hits(gate, means)
        sign = 1 if gate.higher else -1
        return float(means.mean()) - sign * self._slack(gate, means, math.sqrt(1 + 1 / len(means)))

    def _margin(self, gate: Candidate, judged: frozenset[int], way: Way) -> float:
        """Return the largest loss that a sound change makes, by networks that are not judged.

        Of another training run: the bound of a difference between two good networks, which has
        sqrt(2) of their spread.
        """
        if way == "other training":
            means = self._good_means(gate, judged)
            if gate.per_image:
                return math.sqrt(2) * self._slack_of_hits(gate, means)
            return self._slack(gate, means, math.sqrt(2))
        return self._margin_of_same(gate, judged)

    def _margin_of_same(self, gate: Candidate, judged: frozenset[int]) -> float:
        """Return the widest of the harmless changes' bounds."""
        bounds = [self._least(gate)]
        for condition in self.harmless:
            losses = np.array([_mean(one) for one in self._losses(gate, condition, judged)])
            if len(losses) > 1:
                spread = self._slack(gate, losses, math.sqrt(1 + 1 / len(losses)))
                bounds.append(float(losses.mean()) + spread)
        return max(bounds)

    def _good_means(self, gate: Candidate, without: frozenset[int]) -> Float64:
        seeds = [seed for seed in self.seeds if seed not in without]
        return np.array([_mean(self._good(gate, seed)) for seed in seeds])

    def _losses(self, gate: Candidate, condition: str, without: frozenset[int]) -> list[Float64]:
        """Return each image's loss under a harmless change of the same network, for every one."""
        sign = 1 if gate.higher else -1
        return [
            sign * (self._good(gate, seed) - self._values(Pair(seed, condition), gate))
            for seed in self.seeds
            if seed not in without and (seed, condition) in self._records
        ]

    def _slack(self, gate: Candidate, numbers: Float64, widening: float) -> float:
        if len(numbers) < 2:
            return math.inf
        t = float(stdtrit(len(numbers) - 1, 1 - self.alpha / self._tests))
        return max(self._least(gate), t * float(numbers.std(ddof=1)) * widening)

    def _slack_of_hits(self, gate: Candidate, shares: Float64) -> float:
        """Return how far below the mean share of hits one more good network may lie."""
        images = len(self._good(gate, self.seeds[0]))
        hits, of = images * float(shares.sum()), images * len(shares)
        predicted = betabinom(images, hits + 0.5, of - hits + 0.5)
        fewest = np.flatnonzero(predicted.cdf(np.arange(images + 1)) > self.alpha / self._tests)[0]
        return max(self._least(gate), float(shares.mean()) - float(fewest) / images)

    @property
    def _tests(self) -> int:
        """Number of bounds that a run is held against: two for each gate."""
        return 2 * len(self.candidates)

    def _least(self, gate: Candidate) -> float:
        """Return what a bound leaves at least: one image of hits and misses, else rounding."""
        return 1 / len(self._good(gate, self.seeds[0])) if gate.per_image else _LEAST_SLACK

    def _last(self, pair: Pair) -> int:
        """Return which network is the last release: the same one, or the next."""
        if pair.condition != ANOTHER_SEED:
            return pair.seed
        place = self.seeds.index(pair.seed)
        return self.seeds[(place + 1) % len(self.seeds)]

    def _record(self, pair: Pair) -> Recorded:
        condition = GOOD if pair.condition == ANOTHER_SEED else pair.condition
        return self._records[pair.seed, condition]

    def _good(self, gate: Candidate, seed: int) -> Float64:
        return gate.judged(self._records[seed, GOOD].values[gate.measure])

    def _values(self, pair: Pair, gate: Candidate) -> Float64:
        """Return what a gate measured; what the condition cannot move is the good network's."""
        good = self._records[pair.seed, GOOD].values
        return gate.judged(self._record(pair).values.get(gate.measure, good[gate.measure]))


class OneNetworkStudy(Study):
    """Records of one network on several sets of images, and what gates say on each.

    Its threshold is the end of the 95 % interval over the set's own images, as gates are first set.
    Its margin is the loss that the mean of so many more images would have by chance under a
    harmless change, by the images of all other sets.
    """

    unit = "sets of images"

    def ways(self, pair: Pair) -> tuple[Way, ...]:
        """Return how a gate is asked; there is no other training run."""
        return tuple(way for way in super().ways(pair) if way != "other training")

    def accuracy_change(self, pair: Pair, kind: str = "as trained") -> float:
        """Return how much accuracy the condition costs; it was taken once, with the first set."""
        return super().accuracy_change(replace(pair, seed=self.seeds[0]), kind)

    def _threshold(self, gate: Candidate, seed: int) -> float:
        values = self._good(gate, seed)
        interval = mean_interval(values[~np.isnan(values)], bounds=gate.configured.metric.range)
        return interval.low if gate.higher else interval.high

    def _margin_of_same(self, gate: Candidate, judged: frozenset[int]) -> float:
        """Return the widest of the harmless changes' bounds, of a mean of images."""
        bounds = [self._least(gate)]
        judged_images = min(self.images(seed) for seed in judged)
        for condition in self.harmless:
            losses = np.concatenate([[], *self._losses(gate, condition, judged)])
            losses = losses[~np.isnan(losses)]
            if len(losses) > 1:
                widening = math.sqrt(1 / judged_images + 1 / len(losses))
                bounds.append(float(losses.mean()) + self._slack(gate, losses, widening))
        return max(bounds)


def together(records: Iterable[Recorded], count: int) -> list[Recorded]:
    """Return records of ``count`` times fewer sets, each of the images of so many.

    The first is that of the first, and has its accuracy. A condition that a set still lacks is
    left out of those with that set.
    """
    found = {(one.seed, one.condition): one for one in records}
    seeds = sorted({seed for seed, _ in found})
    sets = len(seeds) // count
    joined = []
    for number in range(sets):
        members = seeds[number::sets]
        for condition in dict.fromkeys(condition for _, condition in found):
            parts = [found[seed, condition] for seed in members if (seed, condition) in found]
            if len(parts) < len(members):
                continue
            values = {
                name: np.concatenate([part.values[name] for part in parts])
                for name in parts[0].values
            }
            joined.append(replace(parts[0], seed=number + 1, values=values))
    return joined


def _mean(values: Float64) -> float:
    """Return the mean over the images that have a value; NaN if none has."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
