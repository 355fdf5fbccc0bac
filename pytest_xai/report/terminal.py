"""The tables of gates and concepts at the end of the run."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_xai.report.comparison import Comparison
from pytest_xai.report.concept_rows import ConceptRow
from pytest_xai.report.concept_table import concept_table
from pytest_xai.report.rows import (
    COUNTED,
    CacheUse,
    CostRow,
    Demand,
    GateRow,
    ModelFacts,
    Subject,
    masks_note,
)
from pytest_xai.report.sequential_lines import sequential_lines
from pytest_xai.report.tables import (
    STYLES,
    WIDTH_OF_NUMBER,
    bold,
    new_table,
    outcome_of,
    printed,
    width,
)

if TYPE_CHECKING:
    import pytest
    from rich.text import Text

_WIDTH_OF_NAME = 24
_NO_BREAK = "\N{NO-BREAK SPACE}"
_STAGES = {"explain": "explaining", "measure": "measuring", "concept": "testing concepts"}
_UNPROVEN = "? = not proven: the interval (as corrected for several) holds the threshold"


def write_tables(
    reporter: pytest.TerminalReporter,
    rows: Sequence[GateRow],
    concepts: Sequence[ConceptRow],
    subjects: Mapping[Subject, ModelFacts | None],
    costs: Sequence[CostRow],
) -> None:
    """Write one table for each model: every gate with value, demand, interval, n, detectable
    drop and verdict.

    A model that was held on several image sets has a table for each. Another one has its concepts.
    Below stands how many images went through the model, for each explainer, metric and concept.

    Args:
        reporter: pytest's.
        rows: the gates of all models, in the order in which they are to be shown.
        concepts: what was demanded of concepts, likewise.
        subjects: every model on every image set asked for; None where it was not measured.
        costs: what was passed through the models.
    """
    sets = Counter(model for model, _ in subjects)
    for (model, data), facts in subjects.items():
        shown = [row for row in rows if (row["model"], row["data"]) == (model, data)]
        tested = [row for row in concepts if (row["model"], row["data"]) == (model, data)]
        if not shown and not tested:
            continue
        on_set = f" on {data}" if sets[model] > 1 else ""
        reporter.write_sep("=", f"explanations of {model}{on_set}")
        if facts:
            reporter.write_line(_summary(facts))
        if shown:
            reporter.write_line(_rendered(shown, colour=reporter.hasmarkup))
        if tested:
            reporter.write_line(concept_table(tested, colour=reporter.hasmarkup))
        if any(
            outcome.endswith("?") for outcome in (*map(outcome_of, shown), *map(outcome_of, tested))
        ):
            reporter.write_line(_UNPROVEN)
        for line in sequential_lines(shown, tested):
            reporter.write_line(line)
        own = [cost for cost in costs if (cost["model"], cost["data"]) == (model, data)]
        for stage, word in _STAGES.items():
            for line in _passes(word, [cost for cost in own if cost["stage"] == stage]):
                reporter.write_line(line)


def write_comparisons(reporter: pytest.TerminalReporter, comparisons: Iterable[Comparison]) -> None:
    """Write a table for each comparison: every gate's mean in every place, and how far it goes."""
    for comparison in comparisons:
        reporter.write_sep("=", comparison.title)
        places = (*comparison.places, "largest difference")
        table = new_table(("gate", *places), left=("gate",), folded=("gate", *places))
        for method, lines in groupby(comparison.lines, key=lambda line: line.method):
            table.add_row(bold(method))
            for line in lines:
                means = [_mean(row) for row in line.rows]
                table.add_row(f"  {line.gate}", *means, _number(line.largest_difference))
        least = _WIDTH_OF_NAME + (WIDTH_OF_NUMBER + 2) * len(places)
        reporter.write_line(printed(table, colour=reporter.hasmarkup, least=least))


def write_cache_use(reporter: pytest.TerminalReporter, use: CacheUse | None) -> None:
    """Write how much came from the cache, where there is one."""
    if use is not None:
        found, looked_up = (
            f"{count:,}".replace(",", " ") for count in (use["found"], use["looked_up"])
        )
        reporter.write_line(f"cache: {found} of {looked_up} values found, {use['folder']}")


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
    lines = textwrap.wrap(text, width=width(), subsequent_indent="  ", break_long_words=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _summary(facts: ModelFacts) -> str:
    accuracy, classified = facts["accuracy"], facts["classified"]
    right = "" if accuracy is None else f", top-1 accuracy {accuracy:.3f}"
    if right and classified < facts["images"]:
        right += f" of the {classified} that were classified"
    masks = f"; {masks_note(facts['masks_from'])}" if facts["masks_from"] else ""
    groups = f" in {facts['groups']} groups" if facts["groups"] is not None else ""
    return f"{facts['images']} images{groups} of {facts['data']}{right}{masks}"


def _rendered(rows: list[GateRow], *, colour: bool) -> str:
    from rich.text import Text

    detects = ["detects"] if any(row["detects"] is not None for row in rows) else []
    columns = ("gate", "value", "demand", "95% CI", "n", *detects, "verdict")
    table = new_table(columns, left=("gate", "demand", "95% CI", "verdict"))
    for method, gates in groupby(rows, key=lambda row: row["method"]):
        table.add_row(bold(method))
        for row in gates:
            word = outcome_of(row)
            verdict = Text(word, style=STYLES[word])
            of_mean, others = _lines(row)
            drop = [_number(row["detects"]) for _ in detects]
            table.add_row(f"  {row['gate']}", *of_mean, _images(row), *drop, verdict)
            for label, *line in others:
                table.add_row(f"    {label}", *line)
    return printed(table, colour=colour)


def _images(row: GateRow) -> str:
    """Return how many images a gate rests on; how many photographs where several are of one."""
    seen = row["images"] if row["groups"] is None else row["groups"]
    if row["in_full"]:
        return f"all {seen}"
    of_all = row["of_groups"] or row["of_images"]
    return f"{seen}" + ("" if of_all is None else f" of {of_all}")


def _mean(row: GateRow | None) -> Text:
    """Return the mean of a gate in the colour of its verdict; nothing where it was not held."""
    from rich.text import Text

    if row is None:
        return Text("")
    return Text("error" if row["error"] else _number(row["mean"]), style=STYLES[outcome_of(row)])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _lines(row: GateRow) -> tuple[list[str], list[list[str]]]:
    """Return value, demand and interval of the mean, and of whatever else was compared."""
    of_mean = ["", "", ""]
    others = []
    for demand in row["demands"]:
        digits = 0 if demand["of"].startswith(COUNTED) else 3
        line = [f"{demand['value']:.{digits}f}", _demanded(demand), _interval(demand)]
        if demand["of"]:
            others.append([demand["of"], *line])
        else:
            of_mean = line
    if row["undefined"]:
        others.append(["undefined", str(row["undefined"]), f"<= {row['undefined_allowed']}"])
    moved, of = row["moved"] or 0, row["moved_of"] or 0
    if 2 * moved > of:
        others.append(["images that moved", str(moved), f"<= {of // 2}"])
    return of_mean, others


def _demanded(demand: Demand) -> str:
    if demand["of"].startswith("over "):
        return "> 0"
    digits = 0 if demand["of"].startswith(COUNTED) else 3
    return f"{'>=' if demand['above'] else '<='} {demand['threshold']:.{digits}f}"


def _interval(demand: Demand) -> str:
    # One image says nothing of an unbounded mean: JSON has no infinity, so the end is None there.
    low = "-inf" if demand["low"] is None else f"{demand['low']:.3f}"
    high = "inf" if demand["high"] is None else f"{demand['high']:.3f}"
    return f"{low}..{high}"
