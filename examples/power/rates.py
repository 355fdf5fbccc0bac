"""How often gates catch what is planted, and which few catch all that any does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xai_core.statistics import clopper_pearson


@dataclass(frozen=True)
class Rate:
    """How often something happened, with its exact interval."""

    hits: int
    of: int

    @property
    def share(self) -> float:
        """NaN of nothing."""
        return self.hits / self.of if self.of else math.nan

    def __str__(self) -> str:
        if not self.of:
            return "-"
        low, high = clopper_pearson(self.hits, self.of)
        return f"{self.hits}/{self.of} ({low:.2f}-{high:.2f})"


@dataclass(frozen=True)
class Pair:
    """One condition of one network: what is caught or not."""

    seed: int
    condition: str


def rate(pairs: Iterable[Pair], holds: Callable[[Pair], bool]) -> Rate:
    """Return in how many of the pairs something holds."""
    found = [holds(pair) for pair in pairs]
    return Rate(sum(found), len(found))


def smallest_covers(caught: Mapping[Pair, frozenset[str]]) -> list[frozenset[str]]:
    """Return every smallest set of gates that together catch all that any gate does.

    >>> a, b = Pair(1, "a"), Pair(1, "b")
    >>> smallest_covers({a: frozenset({"iou", "road"}), b: frozenset({"iou"})})
    [frozenset({'iou'})]
    """
    asked = {gates for gates in caught.values() if gates}
    needed = [gates for gates in asked if not any(other < gates for other in asked)]
    found: set[frozenset[str]] = set()
    for size in itertools.count():
        found = set(_covers(needed, size))
        if found:
            break
    return sorted(found, key=sorted)


def _covers(needed: Sequence[frozenset[str]], size: int) -> Iterator[frozenset[str]]:
    """Yield sets of at most ``size`` gates, one of each that is needed, some more than once."""
    if not needed:
        yield frozenset()
    elif size:
        fewest = min(needed, key=len)
        for gate in sorted(fewest):
            left = [gates for gates in needed if gate not in gates]
            for others in _covers(left, size - 1):
                yield others | {gate}


def by_what_they_add(chosen: Iterable[str], caught: Mapping[Pair, frozenset[str]]) -> list[str]:
    """Return gates in an order: the one that catches the most of what is left, then by name.

    >>> a, b = Pair(1, "a"), Pair(1, "b")
    >>> by_what_they_add(["iou", "road"], {a: frozenset({"road"}), b: frozenset({"road", "iou"})})
    ['road', 'iou']
    """
    rest, left, found = set(chosen), list(caught.values()), list[str]()
    while rest:
        best = min(rest, key=lambda gate: (-sum(gate in gates for gates in left), gate))
        found.append(best)
        rest.remove(best)
        left = [gates for gates in left if best not in gates]
    return found
