"""The study's table: published figures beside ours, for the terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from study_rows import Row

from xai_core import Measurement
from xai_core.statistics import Interval, mean_interval

CHAIN, PLAIN = "chain", "plain"
"""The study's post-processing, and none."""

_LABEL_WIDTH, _CELL_WIDTH = 13, 15


@dataclass(frozen=True)
class Column:
    """One explainer on one model.

    Attributes:
        explainer: name in the table.
        model: name that the model was loaded by.
        title: the model's name in the table.
        untrained: whether its weights are random.
        top1: share of the labelled images that it gets right; None without labels.
    """

    explainer: str
    model: str
    title: str
    untrained: bool
    top1: float | None


@dataclass(frozen=True)
class Cell:
    """Our value of one row in one column.

    Attributes:
        variant: `CHAIN` or `PLAIN`.
        made_by: explainer and post-processing with all parameters.
        measurement: the values by image; None where the images lack masks.
    """

    variant: str
    made_by: str
    measurement: Measurement | None

    @cached_property
    def interval(self) -> Interval | None:
        """95 % confidence interval of the mean; None where fewer than two images have a value."""
        if self.measurement is None or len(self.measurement.units) < 2:
            return None
        declared = self.measurement.metric.metric
        return mean_interval(self.measurement.units, bounds=declared.range)

    @property
    def mean_text(self) -> str:
        """The mean as the table shows it, or why there is none."""
        if self.measurement is None:
            return "no mask"
        if not len(self.measurement.defined):
            return "n/a"
        return self._shown(self.measurement.mean)

    @property
    def doubt_text(self) -> str:
        """The interval as the table shows it, and how many images have no value."""
        if self.measurement is None:
            return ""
        interval, missing = self.interval, len(self.measurement.undefined)
        said = [f"{missing} undefined"] if missing else []
        if interval is not None:
            said.insert(0, f"[{self._shown(interval.low)}, {self._shown(interval.high)}]")
        elif len(self.measurement.defined):
            said.insert(0, "[one image]")
        return " ".join(said)

    def _shown(self, value: float) -> str:
        percent = self.measurement is not None and self.measurement.metric.metric.unit == "%"
        return f"{value:.1f}" if percent else f"{value:.3f}"


@dataclass(frozen=True)
class Block:
    """One row of the table with its cells, column by column, each column's variants together."""

    row: Row
    protocol: str
    better: str
    cells: tuple[tuple[Cell, ...], ...]
    centre: float | None

    @property
    def label(self) -> str:
        """The study's word with an arrow towards better."""
        return f"{self.row.label} {'↑' if self.better == 'higher' else '↓'}"

    @property
    def remarks(self) -> str:
        """The line under the row."""
        if self.centre is None:
            return self.row.why
        return f"{self.row.why} (a blob in the middle: {self.centre:.3f})"


@dataclass(frozen=True)
class StudyTable:
    """Everything that the table says.

    Attributes:
        data: name of the image set.
        names: of the images measured.
        mask_share: mean share of the picture that the masks fill; None without masks.
        columns: explainer by explainer, as in the study.
        blocks: one a row.
        notes: what holds for all rows.
        settings: what the run was asked for, for the JSON.
    """

    data: str
    names: tuple[str, ...]
    mask_share: float | None
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The first line."""
        number = len(self.names)
        shown = f"{number} images" if number > 1 else f"one image, {self.names[0]}"
        masks = (
            "no masks"
            if self.mask_share is None
            else f"masks fill {self.mask_share:.0%} of the picture"
        )
        return f"The study's table on {self.data}: {shown}, {masks}"

    @property
    def warnings(self) -> Iterator[str]:
        """What has to be known before a figure is read."""
        untrained = dict.fromkeys(column.title for column in self.columns if column.untrained)
        if untrained:
            yield (
                f"{' and '.join(untrained)}: random weights, not trained. Its columns show that "
                "the code runs, and nothing about the study."
            )
        if len(self.names) == 1:
            yield "One image: every figure below is an anecdote, without an interval."

    def for_terminal(self) -> RenderableType:
        """Return the table for a rich console; it fits 80 characters for two models."""
        head = self._grid(style="bold")
        head.add_row("", *(escape(_heading(column, "\n")) for column in self.columns))
        head.add_row("", *("study → ours" for _ in self.columns), style="dim")
        parts: list[RenderableType] = [
            f"[bold]{escape(self.title)}[/]",
            *(f"[bold yellow]{escape(text)}[/]" for text in self.warnings),
            "",
            head,
            Rule(style="dim"),
        ]
        for block in self.blocks:
            grid = self._grid()
            texts = zip(self.columns, block.cells, strict=True)
            grid.add_row(
                f"[bold]{escape(block.label)}[/]",
                *(escape("\n".join(_lines(block.row, column, cells))) for column, cells in texts),
            )
            parts += [grid, Padding(f"[dim italic]{escape(block.remarks)}[/]", (0, 0, 1, 2))]
        parts += [Rule(style="dim"), *(escape(note) for note in self.notes)]
        return Group(*parts)

    def as_markdown(self) -> str:
        """Return the table as GitHub's Markdown, the reasons in its last column."""
        heads = ["metric", *(_heading(column, "<br>") for column in self.columns)]
        lines = [f"# {self.title}", ""]
        lines += [line for text in self.warnings for line in (f"**{text}**", "")]
        lines += ["Each cell: published → ours, and the 95 % confidence interval of ours.", ""]
        lines.append(_markdown_row([*heads, "why they may differ"]))
        lines.append(_markdown_row(["---"] * (len(heads) + 1)))
        for block in self.blocks:
            texts = [
                "<br>".join(_lines(block.row, column, cells))
                for column, cells in zip(self.columns, block.cells, strict=True)
            ]
            first = f"{block.label}<br>`{block.protocol}`"
            lines.append(_markdown_row([first, *texts, block.remarks]))
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def as_json(self) -> dict[str, Any]:
        """Return the table as builtin types, with the value of every image."""
        return {
            "data": {
                "name": self.data,
                "images": list(self.names),
                "mask_share": self.mask_share,
            },
            "settings": self.settings,
            "notes": [*self.warnings, *self.notes],
            "rows": [
                {
                    "metric": block.row.metric,
                    "study": block.row.label,
                    "protocol": block.protocol,
                    "better": block.better,
                    "why": block.row.why,
                    "centre_blob": block.centre,
                    "cells": [
                        _cell_as_json(block.row, column, cell)
                        for column, cells in zip(self.columns, block.cells, strict=True)
                        for cell in cells
                    ],
                }
                for block in self.blocks
            ],
        }

    def _grid(self, style: str = "") -> Table:
        """Return an empty table of the widths that all blocks share."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=_LABEL_WIDTH, style=style)
        for _ in self.columns:
            grid.add_column(width=_CELL_WIDTH, style=style)
        return grid


def _heading(column: Column, newline: str) -> str:
    lines = [column.explainer, column.title]
    if column.untrained:
        lines.append("random weights!")
    elif column.top1 is not None:
        lines.append(f"top-1 {column.top1:.0%}")
    return newline.join(lines)


def _lines(row: Row, column: Column, cells: tuple[Cell, ...]) -> Iterator[str]:
    published = row.published_for(column.explainer, column.model) or "–"
    for cell in cells:
        first = f"{published} →" if cell.variant == CHAIN else "plain:"
        yield f"{first} {cell.mean_text}"
        if cell.doubt_text:
            yield cell.doubt_text


def _markdown_row(texts: list[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"


def _cell_as_json(row: Row, column: Column, cell: Cell) -> dict[str, Any]:
    published = row.published_for(column.explainer, column.model)
    found, interval = cell.measurement, cell.interval
    values = [] if found is None else found.values.tolist()
    undefined = {} if found is None else found.undefined
    return {
        "explainer": column.explainer,
        "model": column.model,
        "untrained": column.untrained,
        "top1": column.top1,
        "variant": cell.variant,
        "made_by": cell.made_by,
        "published": None if published is None else float(published),
        "mean": found.mean if found is not None and len(found.defined) else None,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "values": [None if np.isnan(value) else value for value in values],
        "undefined": {found.names[i]: why for i, why in undefined.items()} if found else {},
    }
