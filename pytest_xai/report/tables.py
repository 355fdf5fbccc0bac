"""How a table is drawn on the terminal, and how an outcome is shown in it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from pytest_xai.report.concept_rows import ConceptRow
    from pytest_xai.report.rows import GateRow

STYLES = {
    "pass": "green",
    "pass?": "green",
    "new": "yellow",
    "warn": "yellow",
    "fail": "red",
    "fail?": "red",
    "error": "red",
}
WIDTH_OF_NUMBER = 8


def new_table(
    columns: Iterable[str], *, left: Collection[str], folded: Collection[str] = ("gate",)
) -> Table:
    """Return a table in which the names of ``folded`` columns may take several lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in left else "right",
            no_wrap=column not in folded,
            overflow="fold",
            # Numbers must stay whole, also below a name that is folded.
            min_width=WIDTH_OF_NUMBER if column in folded else None,
        )
    return table


def bold(name: str) -> Text:
    """Return a heading within a table."""
    from rich.text import Text

    return Text(name, style="bold")


def printed(table: Table, *, colour: bool, least: int = 0) -> str:
    """Return a table as text, as wide as the terminal, ``least`` columns or more."""
    from rich.console import Console

    console = Console(
        width=max(width(), least),
        force_terminal=colour,
        no_color=not colour,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def width() -> int:
    """Return the width of the terminal, 80 or more."""
    return max(shutil.get_terminal_size().columns, 80)


def outcome_of(row: GateRow | ConceptRow) -> str:
    """Return the word for what came of a row; ``?`` is for what is not proven."""
    if row["error"] is not None:
        return "error"
    if row["outcome"] == "new":
        return "new"
    if not row["passed"]:
        if row["level"] == "warn":
            return "warn"
        return "fail" if row["outcome"] == "fail" else "fail?"
    return "pass" if row["outcome"] == "pass" else "pass?"
