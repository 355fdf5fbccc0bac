"""Which of the proposed numbers may be written, and what is said of the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_xai.settings import UpdateMode

if TYPE_CHECKING:
    from pytest_xai.updates.proposing import Number, Proposal


@dataclass(frozen=True)
class Change:
    """A number that goes into a file.

    Attributes:
        keys: of the gate's table.
        key: what the number stands under.
        value: the number.
    """

    keys: tuple[str, ...]
    key: str
    value: float


@dataclass(frozen=True)
class Choice:
    """What comes of the proposals for one file.

    Attributes:
        changes: what is to be written.
        remarks: one line for whatever is not, and for what several models or image sets share.
    """

    changes: tuple[Change, ...]
    remarks: tuple[str, ...]


def choose(proposals: Iterable[Proposal], mode: UpdateMode, *, allow_loosen: bool) -> Choice:
    """Return what may be written of the proposals for one file.

    A gate that several models or image sets are held against gets the most demanding number that
    all of them meet.

    Args:
        proposals: of all gates and subjects.
        mode: ``new`` takes gates without a threshold; ``failing`` also those that failed; ``all``
            takes all.
        allow_loosen: whether a number may demand less than the one that stands.
    """
    by_gate: dict[tuple[str, ...], list[Proposal]] = {}
    for proposal in proposals:
        by_gate.setdefault(tuple(proposal["keys"]), []).append(proposal)
    changes: list[Change] = []
    remarks: list[str] = []
    for own in by_gate.values():
        if _wanted(own, mode):
            found = _of_gate(own, mode, allow_loosen=allow_loosen)
            changes += found.changes
            remarks += found.remarks
    return Choice(tuple(changes), tuple(remarks))


def shown(number: float) -> str:
    """Return a threshold as a person writes it.

    >>> shown(0.5), shown(52.0), shown(1e-07)
    ('0.5', '52', '1e-07')
    """
    return f"{number:.12g}"


def _wanted(proposals: Sequence[Proposal], mode: UpdateMode) -> bool:
    fresh = any(proposal["fresh"] for proposal in proposals)
    failed = not all(proposal["passed"] for proposal in proposals)
    return mode == "all" or fresh or (mode == "failing" and failed)


def _of_gate(proposals: Sequence[Proposal], mode: UpdateMode, *, allow_loosen: bool) -> Choice:
    first = proposals[0]
    gate, several = first["gate"], len(first["subjects"]) > 1
    for proposal in proposals:
        if proposal["obstacle"]:
            on = f" on {proposal['subject']}" if several else ""
            return Choice((), (f"{gate}{on}: {proposal['obstacle']}: not written",))
    measured = {proposal["subject"] for proposal in proposals}
    missing = [subject for subject in first["subjects"] if subject not in measured]
    if missing:
        return Choice((), (f"{gate}: not measured on {', '.join(missing)}: not written",))
    changes: list[Change] = []
    remarks = []
    for proposal in proposals:
        on = f" on {proposal['subject']}" if several else ""
        remarks += [f"{gate}{on}: {text}: no number to write" for text in proposal["unfitted"]]
    for place in range(len(first["numbers"])):
        numbers = [proposal["numbers"][place] for proposal in proposals]
        if mode == "failing" and not first["fresh"] and all(number["holds"] for number in numbers):
            continue
        new, remark = _chosen(numbers, allow_loosen=allow_loosen)
        if new is not None:
            changes.append(Change(tuple(first["keys"]), numbers[0]["key"], new))
            if several:
                listed = ", ".join(
                    f"{shown(number['new'])} of {proposal['subject']}"
                    for number, proposal in zip(numbers, proposals, strict=True)
                    if number["new"] is not None
                )
                remark = f"{numbers[0]['key']} = {shown(new)} is what all meet: {listed}"
        if remark:
            remarks.append(f"{gate}{remark}" if remark.startswith(" ") else f"{gate}: {remark}")
    return Choice(tuple(changes), tuple(remarks))


def _chosen(numbers: Sequence[Number], *, allow_loosen: bool) -> tuple[float | None, str]:
    """Return the number to write, or None and why."""
    above, old, key = numbers[0]["above"], numbers[0]["old"], numbers[0]["key"]
    proposed: list[float] = []
    for number in numbers:
        if number["new"] is None:
            return None, f"{number['why']}: not written"
        proposed.append(number["new"])
    new = min(proposed) if above else max(proposed)
    if old is None:
        return new, ""
    if new == old:
        return None, ""
    looser = new < old if above else new > old
    if looser and not allow_loosen:
        named = "" if key in ("above", "below") else f" {key}"
        change = f"{shown(old)} -> {shown(new)}"
        return None, f"{named} would be loosened {change}: not written; --xai-allow-loosen"
    return new, ""
