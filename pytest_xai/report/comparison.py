"""How each gate's value changes from image set to image set, and from model to model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pytest_xai.report.rows import GateRow

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Line:
    """One gate in several places; None where it was not held in one of them."""

    method: str
    gate: str
    rows: tuple[GateRow | None, ...]

    @property
    def largest_difference(self) -> float | None:
        """Largest minus smallest mean; None where fewer than two places have one."""
        means = [row["mean"] for row in self.rows if row is not None and row["mean"] is not None]
        return max(means) - min(means) if len(means) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """The gates that were held in several places: on several image sets, or on several models."""

    title: str
    places: tuple[str, ...]
    lines: tuple[Line, ...]


def compared_sets(rows: Iterable[GateRow]) -> Iterator[Comparison]:
    """Yield the gates of every model that was held on several image sets.

    Args:
        rows: the gates, in the order in which they are to be shown.
    """

    def gate_of(row: GateRow) -> Hashable:
        return row["file"], row["method"], row["gate"]

    for model, held in _grouped(rows, lambda row: row["model"]).items():
        title = f"explanations of {model} across image sets"
        yield from _compared(title, held, lambda row: row["data"], gate_of)


def compared_models(rows: Iterable[GateRow]) -> Iterator[Comparison]:
    """Yield the gates that several models were held against, for every image set.

    A gate is the same where its name, its protocol and its explainer, with all parameters, are,
    whichever threshold file it stands in.

    Args:
        rows: the gates, in the order in which they are to be shown.
    """

    def gate_of(row: GateRow) -> Hashable:
        return row["method"], row["gate"], row["protocol"], row["explainer"]

    for data, held in _grouped(rows, lambda row: row["data"]).items():
        title = f"explanations across models on {data}"
        yield from _compared(title, held, lambda row: row["model"], gate_of)


def _compared(
    title: str,
    rows: Sequence[GateRow],
    place_of: Callable[[GateRow], str],
    gate_of: Callable[[GateRow], Hashable],
) -> Iterator[Comparison]:
    """Yield the gates among ``rows`` that were held in several places, if there are any."""
    gates = [_grouped(held, place_of) for held in _grouped(rows, gate_of).values()]
    shared = [by_place for by_place in gates if len(by_place) > 1]
    if not shared:
        return
    in_order = _grouped(rows, place_of)
    places = [place for place in in_order if any(place in by_place for by_place in shared)]
    lines = []
    for by_place in shared:
        first = next(iter(by_place.values()))[0]
        found = tuple(by_place[place][0] if place in by_place else None for place in places)
        lines.append(Line(first["method"], first["gate"], found))
    yield Comparison(title, tuple(places), tuple(lines))


def _grouped(rows: Iterable[GateRow], key: Callable[[GateRow], K]) -> dict[K, list[GateRow]]:
    groups: dict[K, list[GateRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
