"""What ``--xai-sequential`` did: which gates stopped early, which did not and why."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from pytest_xai.report.concept_rows import ConceptRow
from pytest_xai.report.rows import GateRow
from pytest_xai.report.tables import width

_NO_BREAK = "\N{NO-BREAK SPACE}"


def sequential_lines(rows: Sequence[GateRow], concepts: Sequence[ConceptRow]) -> list[str]:
    """Return lines that say how many images settled each gate; none of a run that measured all.

    Args:
        rows: the gates of one model on one image set.
        concepts: what was demanded of concepts.
    """
    measured = [row for row in rows if row["error"] is None and row["outcome"] != "new"]
    stopping = [row for row in measured if row["of_images"] is not None and not row["in_full"]]
    if not any(row["of_images"] is not None for row in measured):
        return []
    in_full = [
        f"{_name(row)} ({row['in_full']})" if row["in_full"] else _name(row)
        for row in measured
        if row not in stopping
    ]
    in_full += ["concepts"] if concepts else []
    lines = []
    settled = [row for row in stopping if row["outcome"] != "inconclusive"]
    if settled:
        seen, total = sum(map(_seen, settled)), sum(row["of_images"] or 0 for row in settled)
        saved = f"{total - seen} of {total} values were not needed"
        lines += _wrapped("sequential: ", [f"{_settled(settled)}; {saved}"])
    if len(settled) < len(stopping):
        unsettled = [_name(row) for row in stopping if row not in settled]
        lines += _wrapped("not settled by all images: ", unsettled)
    if in_full:
        lines += _wrapped("measured in full: ", in_full)
    return lines


def _settled(rows: Sequence[GateRow]) -> str:
    """Return how many images settled the gates; the table says it of each."""
    rows = sorted(rows, key=_seen)
    few, many, of_images = rows[0], rows[-1], rows[0]["of_images"]
    if len(rows) == 1:
        return f"{_seen(few)} of {of_images} images settled {_name(few)}"
    if _seen(few) == _seen(many):
        return f"{_seen(few)} of {of_images} images settled each of {len(rows)} gates"
    return (
        f"{_seen(few)} ({_name(few)}) to {_seen(many)} ({_name(many)}) of {of_images} images "
        f"settled {len(rows)} gates"
    )


def _seen(row: GateRow) -> int:
    """Return how many images were measured."""
    return row["images"] + row["undefined"]


def _name(row: GateRow) -> str:
    return f"{row['gate']}[{row['method']}]"


def _wrapped(head: str, parts: Sequence[str]) -> list[str]:
    """Return lines that are not broken within one of several parts."""
    if len(parts) > 1:
        parts = [part.replace(" ", _NO_BREAK) for part in parts]
    lines = textwrap.wrap(
        head + ", ".join(parts),
        width=width(),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]
