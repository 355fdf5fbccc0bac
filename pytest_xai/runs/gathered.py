"""What the tests of a run reported, as far as saved runs and comparisons rest on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_xai.runs.saved_run import SavedImage
from xai_core.explainers import NULL_MAPS

if TYPE_CHECKING:
    from pytest_xai.report.rows import GateRow, ModelFacts, Record
    from pytest_xai.runs.rows import ComparedRow, DeclaredRow

Subject: TypeAlias = tuple[str, str]
"""A model and an image set, by their names."""


@dataclass
class Gathered:
    """What was reported, from this process and from workers.

    Attributes:
        records: one for each value of each image.
        models: what is known of each model on each image set.
        gates: one row for each gate that was held.
        compared: one for each gate with a margin.
        declared: what the threshold files demand of each model on each image set.
        errors: how messages call the demands that ended in an error.
    """

    records: list[Record] = field(default_factory=list)
    models: dict[Subject, ModelFacts] = field(default_factory=dict)
    gates: list[GateRow] = field(default_factory=list)
    compared: list[ComparedRow] = field(default_factory=list)
    declared: dict[Subject, DeclaredRow] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def take(self, found: Mapping[str, Any]) -> None:
        """Add what one test reported."""
        self.records += found["records"]
        self.models |= {(facts["name"], facts["data"]): facts for facts in found["models"]}
        self.gates += found["gates"]
        self.compared += found.get("compared", [])
        self.declared |= {(row["model"], row["data"]): row for row in found.get("declared", [])}
        self.errors += [
            f"{row['gate']}[{row['method']}] {row['model']}"
            for row in found["gates"]
            if row["error"] is not None
        ]
        self.errors += [
            f"concept {row['concept']} {row['model']}"
            for _, row in found["concept_gates"]
            if row["error"] is not None
        ]

    def records_of(self, subject: Subject) -> list[Record]:
        """Return what was measured of a model on an image set; null maps have no part."""
        gated = {row["method"] for row in self.gates if (row["model"], row["data"]) == subject}
        return [
            one
            for one in self.records
            if (one["model"], one["data"]) == subject
            and (one["method"] in gated or not _is_null(one))
        ]

    def images_of(self, subject: Subject) -> list[SavedImage]:
        """Return the images of a model's measurements, in the order of their names."""
        found = {
            one["image"]: SavedImage(one["image"], one["target"], one["digest"])
            for one in self.records
            if (one["model"], one["data"]) == subject
        }
        return [found[name] for name in sorted(found)]


def _is_null(record: Record) -> bool:
    return record["method"] in NULL_MAPS and record["method"] == record["explainer"]
