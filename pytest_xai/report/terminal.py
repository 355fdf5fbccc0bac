"""The tables of gates at the end of the run."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_xai.report.comparison import Comparison
from pytest_xai.report.rows import CostRow, Demand, GateRow, ModelFacts, Subject

if TYPE_CHECKING:
    import pytest
    from rich.table import Table
    from rich.text import Text

_STYLES = {
    "pass": "green",
    "pass?": "green",
    "warn": "yellow",
    "fail": "red",
    "fail?": "red",
    "error": "red",
}
_COLUMNS = ("gate", "value", "demand", "95% CI", "n", "verdict")
_WIDTH_OF_NUMBER, _WIDTH_OF_NAME = 8, 24
_NO_BREAK = "\N{NO-BREAK SPACE}"
_UNPROVEN = "? = not proven: the interval holds the threshold"


def write_tables(
    reporter: pytest.TerminalReporter,
    rows: Sequence[GateRow],
    subjects: Mapping[Subject, ModelFacts | None],
    costs: Sequence[CostRow],
) -> None:
    """Write one table for each model: every gate with value, demand, interval, n and verdict.

    A model that was held on several image sets has a table for each. Below a table stands how many
    images went through the model, for each explainer and each metric.

    Args:
        reporter: pytest's.
        rows: the gates of all models, those of one model on one image set together.
        subjects: every model on every image set asked for; None where it was not measured.
        costs: what was passed through the models.
    """
    sets = Counter(model for model, _ in subjects)
    for (model, data), gates in groupby(rows, key=lambda row: (row["model"], row["data"])):
        on_set = f" on {data}" if sets[model] > 1 else ""
        reporter.write_sep("=", f"explanations of {model}{on_set}")
        if facts := subjects.get((model, data)):
            reporter.write_line(_summary(facts))
        shown = list(gates)
        reporter.write_line(_rendered(shown, colour=reporter.hasmarkup))
        if any(_verdict(row).endswith("?") for row in shown):
            reporter.write_line(_UNPROVEN)
        own = [cost for cost in costs if (cost["model"], cost["data"]) == (model, data)]
        for stage, word in (("explain", "explaining"), ("measure", "measuring")):
            for line in _passes(word, [cost for cost in own if cost["stage"] == stage]):
                reporter.write_line(line)


def write_comparisons(reporter: pytest.TerminalReporter, comparisons: Iterable[Comparison]) -> None:
    """Write a table for each comparison: every gate's mean in every place, and how far it goes."""
    for comparison in comparisons:
        reporter.write_sep("=", comparison.title)
        places = (*comparison.places, "largest difference")
        table = _table(("gate", *places), left=("gate",), folded=("gate", *places))
        for method, lines in groupby(comparison.lines, key=lambda line: line.method):
            table.add_row(_bold(method))
            for line in lines:
                means = [_mean(row) for row in line.rows]
                table.add_row(f"  {line.gate}", *means, _number(line.largest_difference))
        least = _WIDTH_OF_NAME + (_WIDTH_OF_NUMBER + 2) * len(places)
        reporter.write_line(_printed(table, colour=reporter.hasmarkup, least=least))


def _passes(word: str, costs: Iterable[CostRow]) -> list[str]:
    """Return lines that say how many images went through the model, and for what."""
    parts = []
    for cost in costs:
        counts = {"forwards": cost["forwards"], "gradients": cost["gradients"]}
        listed = " + ".join(f"{count} {what}" for what, count in counts.items() if count)
        if listed:
            # One piece, that a line is not broken between a number and what it counts.
            parts.append(f"{cost['name']} {listed}".replace(" ", _NO_BREAK))
    if not parts:
        return []
    text = f"{word}: {', '.join(parts)}"
    lines = textwrap.wrap(text, width=_width(), subsequent_indent="  ", break_long_words=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _summary(facts: ModelFacts) -> str:
    accuracy = facts["accuracy"]
    right = "" if accuracy is None else f", top-1 accuracy {accuracy:.3f}"
    return f"{facts['images']} images of {facts['data']}{right}"


def _rendered(rows: list[GateRow], *, colour: bool) -> str:
    from rich.text import Text

    table = _table(_COLUMNS, left=("gate", "demand", "95% CI", "verdict"))
    for method, gates in groupby(rows, key=lambda row: row["method"]):
        table.add_row(_bold(method))
        for row in gates:
            word = _verdict(row)
            verdict = Text(word, style=_STYLES[word])
            of_mean, others = _lines(row)
            table.add_row(f"  {row['gate']}", *of_mean, str(row["images"]), verdict)
            for label, *line in others:
                table.add_row(f"    {label}", *line)
    return _printed(table, colour=colour)


def _table(
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
            min_width=_WIDTH_OF_NUMBER if column in folded else None,
        )
    return table


def _bold(name: str) -> Text:
    from rich.text import Text

    return Text(name, style="bold")


def _mean(row: GateRow | None) -> Text:
    """Return the mean of a gate in the colour of its verdict; nothing where it was not held."""
    from rich.text import Text

    if row is None:
        return Text("")
    return Text("error" if row["error"] else _number(row["mean"]), style=_STYLES[_verdict(row)])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _printed(table: Table, *, colour: bool, least: int = 0) -> str:
    from rich.console import Console

    console = Console(
        width=max(_width(), least),
        force_terminal=colour,
        no_color=not colour,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _width() -> int:
    return max(shutil.get_terminal_size().columns, 80)


def _lines(row: GateRow) -> tuple[list[str], list[list[str]]]:
    """Return value, demand and interval of the mean, and of whatever else was compared."""
    of_mean = ["", "", ""]
    others = []
    for demand in row["demands"]:
        line = [f"{demand['value']:.3f}", _demanded(demand), _interval(demand)]
        if demand["of"]:
            others.append([demand["of"], *line])
        else:
            of_mean = line
    if row["undefined"]:
        others.append(["undefined", str(row["undefined"]), f"<= {row['undefined_allowed']}"])
    return of_mean, others


def _verdict(row: GateRow) -> str:
    if row["error"] is not None:
        return "error"
    if not row["passed"]:
        if row["level"] == "warn":
            return "warn"
        return "fail" if row["outcome"] == "fail" else "fail?"
    return "pass" if row["outcome"] == "pass" else "pass?"


def _demanded(demand: Demand) -> str:
    if demand["of"].startswith("over "):
        return "> 0"
    return f"{'>=' if demand['above'] else '<='} {demand['threshold']:.3f}"


def _interval(demand: Demand) -> str:
    # One image says nothing of an unbounded mean: JSON has no infinity, so the end is None there.
    low = "-inf" if demand["low"] is None else f"{demand['low']:.3f}"
    high = "inf" if demand["high"] is None else f"{demand['high']:.3f}"
    return f"{low}..{high}"
