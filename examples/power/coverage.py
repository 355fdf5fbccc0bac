"""How often intervals, comparisons and confidence sequences are wrong, against what they say.

    python examples/power/coverage.py
    python examples/power/coverage.py --only means shares --replicates 200

Prints one table for each question; the README beside this file has the full result and what was
decided by it. Everything is at confidence .95, so each end may be missed in .025 of all cases.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Column, Table
from scipy.special import stdtrit
from scipy.stats import binom

from xai_core.arrays import Float64
from xai_core.seeding import generator_of
from xai_core.statistics import (
    ConfidenceSequence,
    clopper_pearson,
    compare_with_earlier,
    mean_interval,
    wilson,
)
from xai_core.statistics.resampling import bootstrap_mean
from xai_core.statistics.shares import share_interval

Draw = Callable[[np.random.Generator, int], Float64]
Row = tuple[str, ...]

SIZES = (5, 10, 20, 50, 200, 500)
RESAMPLES = 999
TAIL = 0.025
VALUES: dict[str, tuple[Draw, float]] = {
    "Beta(2, 5)": (lambda g, n: g.beta(2, 5, n), 2 / 7),
    "Beta(8, 2)": (lambda g, n: g.beta(8, 2, n), 0.8),
    "skewed: Beta(.3, 3)": (lambda g, n: g.beta(0.3, 3, n), 0.3 / 3.3),
    "Beta(5, 3), 3 of 10 are 0": (lambda g, n: g.beta(5, 3, n) * (g.random(n) > 0.3), 0.4375),
    "two values: .7, 1 of 5 is .2": (lambda g, n: np.where(g.random(n) < 0.2, 0.2, 0.7), 0.6),
    "constant": (lambda _, n: np.full(n, 0.3), 0.3),
}
HITS: Draw = lambda g, n: (g.random(n) < 0.9).astype(np.float64)  # noqa: E731


def _hits(generator: np.random.Generator, n: int) -> tuple[Float64, Float64]:
    """Draw hits of .85 now and .9 earlier, on the same images."""
    earlier = HITS(generator, n)
    kept, won = generator.random(n) < 0.92, generator.random(n) < 0.22
    return np.where(earlier, kept, won).astype(np.float64), earlier


def _lost(loss: Draw) -> Callable[[np.random.Generator, int], tuple[Float64, Float64]]:
    def draw(generator: np.random.Generator, n: int) -> tuple[Float64, Float64]:
        earlier = generator.beta(5, 5, n)
        return earlier - loss(generator, n), earlier

    return draw


PAIRS = {
    "loss normal, sd .1": _lost(lambda g, n: g.normal(0.05, 0.1, n)),
    "loss skewed: Beta(.3, 3)": _lost(lambda g, n: g.beta(0.3, 3, n) + 0.05 - 0.3 / 3.3),
    "hits: .85, .9 earlier": _hits,
}


def means(replicates: int, seed: int) -> Iterator[Row]:
    """Coverage of the bootstrap's variants and of Student's t; low and high misses."""
    yield ("values", "n", "percentile", "BCa", "expanded percentile", "expanded BCa", "t")
    for name, (draw, mean) in VALUES.items():
        for n in SIZES:
            generator = generator_of(seed, "means", name, n)
            misses = np.zeros((5, 2))
            for _ in range(replicates):
                ends = np.array(_ends(draw(generator, n), int(generator.integers(2**31))))
                misses += np.stack([ends[:, 0] > mean, ends[:, 1] < mean], axis=1)
            yield name, str(n), *(_covered(*row) for row in misses / replicates)


def clusters(replicates: int, seed: int) -> Iterator[Row]:
    """Coverage where each of n images has three seeds, taken as 3 n images and as n clusters."""
    yield ("images x seeds", "as if images", "as clusters")
    for n in SIZES[:-1]:
        generator = generator_of(seed, "clusters", n)
        misses = np.zeros((2, 2))
        images = np.repeat(np.arange(n), 3)
        for _ in range(replicates):
            values = generator.beta(2, 5, n)[images] + generator.normal(0, 0.03, 3 * n)
            for row, groups in enumerate((None, images.tolist())):
                found = mean_interval(values, clusters=groups, seed=int(generator.integers(2**31)))
                misses[row] += (found.low > 2 / 7, found.high < 2 / 7)
        yield f"{n} x 3", *(_covered(*row) for row in misses / replicates)


def shares(*_: int) -> Iterator[Row]:
    """Coverage of a share's intervals over all true shares; counted, not drawn."""
    yield ("n", "interval", "coverage: least", "mean", "one end misses: most", "mean", "width")
    true = np.linspace(0.0005, 0.9995, 1999)
    kinds: dict[str, Callable[[int, int], tuple[float, float]]] = {
        "Wilson": lambda hits, n: wilson(hits / n, n),
        "exact": clopper_pearson,
        "exact if few": share_interval,
    }
    for n in SIZES:
        chance = binom.pmf(np.arange(n + 1)[:, None], n, true)
        for kind, interval in kinds.items():
            low, high = np.array([interval(hits, n) for hits in range(n + 1)]).T[:, :, None]
            below, above = (chance * (low > true)).sum(0), (chance * (high < true)).sum(0)
            numbers = (1 - below - above).min(), (1 - below - above).mean()
            errors = max(below.max(), above.max()), (below.mean() + above.mean()) / 2
            width = (chance * (high - low)).sum(0).mean()
            yield str(n), kind, *(f"{number:.3f}" for number in (*numbers, *errors, width))


def comparison(replicates: int, seed: int) -> Iterator[Row]:
    """How often a loss of exactly the margin, .05, is called proven, one way or the other."""
    yield ("now and earlier", "n", "wrong pass", "wrong fail")
    for name, draw in PAIRS.items():
        for n in SIZES[:-1]:
            generator = generator_of(seed, "comparison", name, n)
            outcomes = []
            for _ in range(replicates):
                values, earlier = draw(generator, n)
                found = compare_with_earlier(
                    values,
                    earlier,
                    margin=0.05,
                    better="higher",
                    bounds=(0.0, 1.0),
                    seed=int(generator.integers(2**31)),
                )
                outcomes.append(found.outcome)
            wrong = (outcomes.count(kind) / replicates for kind in ("pass", "fail"))
            yield name, str(n), *(f"{share:.3f}" for share in wrong)


def stopping(replicates: int, seed: int) -> Iterator[Row]:
    """How often a stream whose mean is the threshold is settled when one looks at each value."""
    yield ("values", "streams", "longest", "confidence sequence", "Student's t, each time")
    streams: dict[str, tuple[Draw, float, int, int | None]] = {
        "Beta(2, 5)": (*VALUES["Beta(2, 5)"], 1000, None),
        "skewed: Beta(.3, 3)": (*VALUES["skewed: Beta(.3, 3)"], 1000, None),
        "hits, 9 of 10": (HITS, 0.9, 1000, None),
        "Beta(2, 5), set of 300": (VALUES["Beta(2, 5)"][0], math.nan, 299, 300),
        "hits, set of 300": (HITS, math.nan, 299, 300),
    }
    for name, (draw, mean, longest, population) in streams.items():
        generator = generator_of(seed, "stopping", name)
        wrong = peeking = 0
        empty = ConfidenceSequence(low=0.0, high=1.0, population=population)
        for _ in range(2 * replicates):
            values = draw(generator, population or longest)
            threshold = float(values.mean()) if population else mean
            values = values[:longest]
            wrong += empty.after(values).settled_at(threshold) is not None
            peeking += _peeks(values, threshold)
        total = 2 * replicates
        yield name, str(total), str(longest), f"{wrong / total:.3f}", f"{peeking / total:.3f}"


def power(replicates: int, seed: int) -> Iterator[Row]:
    """How many values a sequential verdict takes, against the threshold's distance."""
    yield ("values", "distance", "known n", "median", "9 of 10", "set of 500", "set of 5000")
    hits = (HITS, 0.9)
    for name, (draw, mean) in {"Beta(2, 5)": VALUES["Beta(2, 5)"], "hits, 9 of 10": hits}.items():
        for distance in (0.2, 0.1, 0.05, 0.02, 0.01):
            generator = generator_of(seed, "power", name, str(distance))
            deviation = float(draw(generator, 100_000).std())
            known = math.ceil((float(stdtrit(math.inf, 1 - TAIL)) * deviation / distance) ** 2)
            free, small, large = (
                _times(draw, mean, distance, size, generator, max(2, replicates // 10))
                for size in (None, 500, 5000)
            )
            yield (
                name,
                f"{distance:g}",
                str(known),
                _quantile(free, 0.5),
                _quantile(free, 0.9),
                _quantile(small, 0.5),
                _quantile(large, 0.5),
            )


def _times(
    draw: Draw,
    mean: float,
    distance: float,
    size: int | None,
    generator: np.random.Generator,
    streams: int,
) -> Float64:
    """Return after how many values each stream excludes a threshold below its mean."""
    empty = ConfidenceSequence(low=0.0, high=1.0, population=size)
    times = []
    for _ in range(streams):
        values = draw(generator, size or 20_000)
        threshold = (float(values.mean()) if size else mean) - distance
        first = replace(empty, values=tuple(values.tolist())).settled_at(threshold)
        times.append(math.inf if first is None else float(first))
    return np.array(times)


def _quantile(times: Float64, share: float) -> str:
    time = float(np.quantile(times, share, method="inverted_cdf"))
    return f"{time:.0f}" if math.isfinite(time) else "not in 20000"


def _ends(values: Float64, seed: int) -> list[tuple[float, float]]:
    if (values == values[0]).all():
        return [(float(values[0]), float(values[0]))] * 5
    plain = bootstrap_mean(values, seed=seed, resamples=RESAMPLES)
    n, middle = len(values), float(values.mean())
    half = float(stdtrit(n - 1, 1 - TAIL)) * float(values.std(ddof=1)) / math.sqrt(n)
    variants = [
        replace(plain, method=method, expand=expand)
        for expand in (False, True)
        for method in ("percentile", "bca")
    ]
    return [*(one.ends(TAIL) for one in variants), (middle - half, middle + half)]


def _peeks(values: Float64, threshold: float) -> bool:
    """Return whether the usual interval excludes the threshold at any n from 10 on."""
    count = np.arange(1, len(values) + 1)
    middle = np.cumsum(values) / count
    spread = np.maximum(0, np.cumsum(values**2) / count - middle**2) / np.maximum(1, count - 1)
    far = np.abs(middle - threshold) > stdtrit(np.maximum(1, count - 1), 1 - TAIL) * np.sqrt(spread)
    return bool(far[9:].any())


def _covered(below: float, above: float) -> str:
    return f"{1 - below - above:.3f} ({below:.3f}, {above:.3f})"


QUESTIONS: dict[str, Callable[[int, int], Iterator[Row]]] = {
    "means": means,
    "clusters": clusters,
    "shares": shares,
    "comparison": comparison,
    "stopping": stopping,
    "power": power,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables that were asked for."""
    given = _arguments(argv)
    console = Console(highlight=False, width=200)
    for name in given.only:
        question = QUESTIONS[name]
        rows = question(given.replicates, given.seed)
        table = Table(*(Column(header, no_wrap=True) for header in next(rows)), box=MARKDOWN)
        for row in rows:
            table.add_row(*row)
        console.print(f"\n{name}: {(question.__doc__ or '').strip()}")
        console.print(table)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    shown = "(default: %(default)s)"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=tuple(QUESTIONS), default=tuple(QUESTIONS), help=shown)
    add("--replicates", type=int, default=1000, help=f"of each simulation {shown}")
    add("--seed", type=int, default=0, help=shown)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
