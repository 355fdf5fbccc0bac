"""The table of gates at the end of the run."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_xai.report.rows import CostRow, Demand, GateRow, ModelFacts

if TYPE_CHECKING:
    import pytest

_STYLES = {
    "pass": "green",
    "pass?": "green",
    "warn": "yellow",
    "fail": "red",
    "fail?": "red",
    "error": "red",
}
_COLUMNS = ("gate", "value", "demand", "95% CI", "n", "verdict")
_NO_BREAK = "\N{NO-BREAK SPACE}"
_UNPROVEN = "? = not proven: the interval holds the threshold"


def write_table(
    reporter: pytest.TerminalReporter,
    rows: Iterable[GateRow],
    facts: Mapping[str, ModelFacts],
    costs: Sequence[CostRow],
) -> None:
    """Write one table for each model: every gate with value, demand, interval, n and verdict.

    Below it stands how many images went through the model, for each explainer and each metric.

    Args:
        reporter: pytest's.
        rows: the gates of all models, those of one model together.
        facts: model -> what is known of it; nothing where it could not be loaded.
        costs: what was passed through the models.
    """
    for model, gates in groupby(rows, key=lambda row: row["model"]):
        reporter.write_sep("=", f"explanations of {model}")
        if model in facts:
            reporter.write_line(_summary(facts[model]))
        shown = list(gates)
        reporter.write_line(_rendered(shown, colour=reporter.hasmarkup))
        if any(_verdict(row).endswith("?") for row in shown):
            reporter.write_line(_UNPROVEN)
        for stage, word in (("explain", "explaining"), ("measure", "measuring")):
            spent = [cost for cost in costs if (cost["model"], cost["stage"]) == (model, stage)]
            for line in _passes(word, spent):
                reporter.write_line(line)


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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        # A gate's name is the one thing that may be folded: numbers must stay whole.
        table.add_column(
            column,
            justify="right" if column in ("value", "n") else "left",
            no_wrap=column != "gate",
            overflow="fold",
        )
    for method, gates in groupby(rows, key=lambda row: row["method"]):
        table.add_row(Text(method, style="bold"))
        for row in gates:
            word = _verdict(row)
            verdict = Text(word, style=_STYLES[word])
            of_mean, others = _lines(row)
            table.add_row(f"  {row['gate']}", *of_mean, str(row["images"]), verdict)
            for label, *line in others:
                table.add_row(f"    {label}", *line)
    console = Console(
        width=_width(),
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
