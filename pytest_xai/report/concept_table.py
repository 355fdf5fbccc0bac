"""The table of concepts at the end of the run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_xai.report.tables import STYLES, bold, new_table, outcome_of, printed

if TYPE_CHECKING:
    from pytest_xai.report.concept_rows import ConceptRow


def concept_table(rows: Sequence[ConceptRow], *, colour: bool) -> str:
    """Return the table: what was found at each class and layer, and what came of each demand.

    ``p`` is corrected for all concept tests of the file.

    Args:
        rows: of one model on one image set, those of one concept together.
        colour: whether the terminal shows any.
    """
    from rich.text import Text

    confidences = {row["score_interval"]["confidence"] for row in rows if row["score_interval"]}
    interval = f"{confidences.pop():.0%} CI" if len(confidences) == 1 else "CI"
    names = ("concept", "verdict", "score", interval, "effect", "p", "outcome")
    left = ("concept", "verdict", interval, "outcome")
    table = new_table(names, left=left, folded=("concept",))
    for concept, tests in groupby(rows, key=lambda row: row["concept"]):
        table.add_row(bold(concept))
        for (of_class, layer), demands in groupby(tests, key=_case):
            shown = list(demands)
            table.add_row(f"  {', '.join(filter(None, (of_class, layer)))}", *_found(shown[0]))
            for row in shown:
                word = outcome_of(row)
                outcome = Text(word, style=STYLES[word])
                table.add_row(f"    wanted {row['wanted']}", *[""] * 5, outcome)
    return printed(table, colour=colour)


def _case(row: ConceptRow) -> tuple[str, str]:
    return row["class_name"], row["layer"]


def _found(row: ConceptRow) -> list[str]:
    """Return verdict, score, its interval, effect and p; nothing where it could not be tested."""
    score, interval, effect, p = row["score"], row["score_interval"], row["effect"], row["p"]
    if row["verdict"] is None or score is None or interval is None or effect is None or p is None:
        return []
    ends = f"{interval['low']:.2f}..{interval['high']:.2f}"
    small = "<.001" if p < 0.0005 else f"{p:.3f}"
    return [row["verdict"], f"{score:.2f}", ends, f"{effect:+.2f}", small]
