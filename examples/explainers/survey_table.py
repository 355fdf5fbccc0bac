"""The survey's table: explainers down, models across; for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from survey_cells import Cell, Subject

from xai_core.metrics import ConfiguredMetric

_STYLES = {"works": "", "refused": "yellow", "error": "bold red"}


@dataclass
class SurveyTable:
    """Everything that the table says; cells are added as they are measured.

    Attributes:
        subjects: the models, one group of columns each.
        metrics: one column each in every group.
        settings: what the run was asked for.
        rows: how many explainers there will be.
        cells: what is measured so far.
    """

    subjects: tuple[Subject, ...]
    metrics: tuple[ConfiguredMetric, ...]
    settings: dict[str, Any]
    rows: int
    cells: list[Cell] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The first line."""
        names = self.subjects[0].evaluation.images.names
        images = "1 image" if len(names) == 1 else f"{len(names)} images"
        return f"Explainers on {self.subjects[0].evaluation.images.name}: {images}"

    @property
    def is_finished(self) -> bool:
        """Whether every explainer met every model."""
        return len(self.cells) == self.rows * len(self.subjects)

    @property
    def notes(self) -> Iterator[str]:
        """What has to be known to read the table."""
        if not self.is_finished:
            yield f"Unfinished: {len(self.cells)} of {self.rows * len(self.subjects)} cells."
        untrained = [subject.model for subject in self.subjects if subject.untrained]
        if untrained:
            yield (
                f"Random weights: {', '.join(untrained)}. That shows which explainers work and "
                "what they cost, and nothing about their maps."
            )
        yield (
            "f: images scored; g: images whose gradient was taken, a forward and a backward pass "
            "each; both exact, all images together. Seconds: of the explanations alone, on "
            f"{self.settings['device']}."
        )
        if any(cell.flat for cell in self.cells):
            yield "flat: heatmaps that are the same everywhere; no metric has a value there."
        if self.settings["quick"]:
            yield "Quick parameters (--quick), beside the names: the defaults cost more."
        for metric in self.metrics:
            better = metric.metric.better
            yield f"{metric.protocol}: mean over the images that have a value; {better} is better."
        if self.metrics:
            yield "centre, random and sobel never look at the model: hold the others against them."

    def for_terminal(self) -> RenderableType:
        """Return the table for a rich console."""
        table = Table(title=self.title, title_justify="left", title_style="bold", show_lines=False)
        table.add_column("explainer", overflow="fold", ratio=3)
        for subject in self.subjects:
            table.add_column(escape(_heading(subject)), overflow="fold", ratio=4)
            for metric in self.metrics:
                table.add_column(_metric_heading(metric, "\n"), justify="right", no_wrap=True)
        for explainer, cells in self._by_row():
            texts = []
            for cell in cells:
                style = _STYLES[cell.result] if cell else ""
                verdict = escape(cell.verdict if cell else "")
                texts.append(f"[{style}]{verdict}[/]" if style else verdict)
                texts += [self._mean(cell, metric) for metric in self.metrics]
            table.add_row(escape(explainer), *texts)
        return Group(table, *(escape(note) for note in self.notes))

    def as_markdown(self) -> str:
        """Return the table as GitHub's Markdown."""
        heads = ["explainer"]
        for subject in self.subjects:
            heads += [_heading(subject)]
            heads += [_metric_heading(metric, " ") for metric in self.metrics]
        sides = ["---", *(["---", *["---:"] * len(self.metrics)] * len(self.subjects))]
        lines = [f"# {self.title}", "", _markdown_row(heads), _markdown_row(sides)]
        for explainer, cells in self._by_row():
            texts = [f"`{explainer}`"]
            for cell in cells:
                texts.append(cell.verdict if cell else "")
                texts += [self._mean(cell, metric) for metric in self.metrics]
            lines.append(_markdown_row(texts))
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def as_json(self) -> dict[str, Any]:
        """Return the table as builtin types, with the value of every image."""
        images = self.subjects[0].evaluation.images
        return {
            "finished": self.is_finished,
            "data": {"name": images.name, "images": list(images.names)},
            "settings": self.settings,
            "models": {
                subject.model: {
                    "weights": "random" if subject.untrained else "trained",
                    "fingerprint": subject.evaluation.classifier.fingerprint,
                    "size": list(subject.evaluation.classifier.size),
                    "accuracy": subject.evaluation.accuracy,
                }
                for subject in self.subjects
            },
            "metrics": {metric.protocol: metric.metric.better for metric in self.metrics},
            "cells": [dataclasses.asdict(cell) for cell in self.cells],
        }

    def write(self, *, json_file: Path | None, markdown_file: Path | None) -> None:
        """Write what is measured so far, each file at once: a run cut off leaves whole files."""
        if json_file is not None:
            text = json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
            _write(json_file, text + "\n")
        if markdown_file is not None:
            _write(markdown_file, self.as_markdown())

    def _by_row(self) -> Iterator[tuple[str, list[Cell | None]]]:
        """Yield an explainer's title with its cells, model by model; None: not measured yet."""
        found = {(cell.identity, cell.model): cell for cell in self.cells}
        for identity, explainer in {cell.identity: cell.explainer for cell in self.cells}.items():
            yield explainer, [found.get((identity, subject.model)) for subject in self.subjects]

    def _mean(self, cell: Cell | None, metric: ConfiguredMetric) -> str:
        score = cell.scores.get(metric.protocol) if cell else None
        if score is None or score.mean is None:
            return score.reason if score and score.reason == "no masks" else "–"
        digits = 1 if metric.metric.unit == "%" else 3
        missing = f" ({len(score.undefined)} n/a)" if score.undefined else ""
        return f"{score.mean:.{digits}f}{missing}"


def _heading(subject: Subject) -> str:
    accuracy = subject.evaluation.accuracy
    if subject.untrained:
        return f"{subject.model}, random weights"
    return subject.model if accuracy is None else f"{subject.model}, top-1 {accuracy:.0%}"


def _metric_heading(metric: ConfiguredMetric, space: str) -> str:
    name = metric.metric.name.replace("_", space)
    return f"{name} {'↑' if metric.metric.better == 'higher' else '↓'}"


def _markdown_row(texts: list[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
