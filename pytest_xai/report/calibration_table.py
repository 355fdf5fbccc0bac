"""The table of a calibration at the end of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_xai.report.rows import COUNTED, ModelFacts, Subject
from pytest_xai.report.tables import bold, new_table, printed

if TYPE_CHECKING:
    import pytest

    from pytest_xai.report.calibration_rows import CalibrationRow

_COLUMNS = ("gate", "demand", "mean", "sd over seeds, range", "images", "alarms", "proposed")
_WIDTH = 92
_KEY = (
    "images = standard deviation of the mean over draws of images; alarms = chance that the same\n"
    "model fails the gate on another draw of seed and images; proposed = fails it in {rate:.2%}"
)


def write_calibration(
    reporter: pytest.TerminalReporter,
    rows: Sequence[CalibrationRow],
    subjects: Mapping[Subject, ModelFacts | None],
) -> None:
    """Write one table for each model and image set, and how often the whole run cries wolf.

    Args:
        reporter: pytest's.
        rows: what was found, in the order in which it is to be shown.
        subjects: every model on every image set.
    """
    from xai_core.calibration import any_false_alarm

    sets = Counter(model for model, _ in subjects)
    for (model, data), found in groupby(rows, key=lambda row: (row["model"], row["data"])):
        shown = list(found)
        on_set = f" on {data}" if sets[model] > 1 else ""
        reporter.write_sep("=", f"calibration of {model}{on_set}")
        seeds = max(row["seeds"] for row in shown)
        asked = f"{seeds} seeds" if seeds > 1 else "no seed in any gate"
        facts = subjects.get((model, data))
        units = "images" if facts is None or facts["groups"] is None else "groups of images"
        reporter.write_line(f"{max(row['images'] for row in shown)} {units} of {data}, {asked}")
        reporter.write_line(_rendered(shown, colour=reporter.hasmarkup))
        for row in shown:
            if row["stopped"] and not row["of"]:
                reporter.write_line(
                    f"{row['gate']}[{row['method']}]: more images have no value than it allows, "
                    f"with {row['stopped'] * row['seeds']:.0f} of {row['seeds']} seeds"
                )
    reporter.write_line(_KEY.format(rate=rows[0]["rate"]))
    failing = [row for row in rows if row["level"] != "warn"]
    rates = [row["false_alarm_rate"] for row in failing if row["false_alarm_rate"] is not None]
    unknown = len(failing) - len(rates)
    beyond = f"; unknown of {unknown}, which have one image" if unknown else ""
    reporter.write_line(
        f"false-alarm rate of the run: {_rate(any_false_alarm(rates))} if its {len(rates)} "
        f"demands were independent, at most {_rate(min(1.0, sum(rates)))}{beyond}"
    )


def _rendered(rows: Sequence[CalibrationRow], *, colour: bool) -> str:
    table = new_table(_COLUMNS, left=("gate", "demand", "sd over seeds, range"))
    for method, of_method in groupby(rows, key=lambda row: row["method"]):
        table.add_row(bold(method))
        for gate, demands in groupby(of_method, key=lambda row: row["gate"]):
            for place, row in enumerate(demands):
                if place == 0 and row["of"]:
                    table.add_row(f"  {gate}")
                name = f"    {row['of']}" if row["of"] else f"  {gate}"
                table.add_row(name, *_cells(row))
    return printed(table, colour=colour, least=_WIDTH)


def _cells(row: CalibrationRow) -> list[str]:
    digits = 0 if row["of"].startswith(COUNTED) else 3
    over_seeds = "deterministic"
    if row["seed_deviation"] is not None:
        deviation = row["seed_deviation"]
        shown = f"{deviation:.0e}" if 0 < deviation < 0.0005 else f"{deviation:.3f}"
        over_seeds = f"{shown}  {row['lowest']:.3f}..{row['highest']:.3f}"
    edge = f"{'>=' if row['above'] else '<='} {row['threshold']:.{digits}f}"
    return [
        "> 0" if row["of"].startswith("over ") else edge,
        f"{row['mean']:.3f}",
        over_seeds,
        "" if row["image_deviation"] is None else f"{row['image_deviation']:.3f}",
        "?" if row["false_alarm_rate"] is None else _rate(row["false_alarm_rate"]),
        "" if row["proposed"] is None else f"{row['proposed']:.6g}",
    ]


def _rate(rate: float) -> str:
    return "<.001" if rate < 0.0005 else f"{rate:.3f}"  # resampling cannot say 0
