"""Every measurement of a run as one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pytest_xai.atomic_write import write_at_once
from pytest_xai.report.calibration_rows import CalibrationRow
from pytest_xai.report.concept_rows import ConceptRecord, ConceptRow
from pytest_xai.report.rows import CacheUse, CostRow, GateRow, ModelFacts, Record
from pytest_xai.runs.rows import ComparedRow

SCHEMA_VERSION = 2
"""Raised whenever a field changes its meaning or goes away, or a list is added; new fields do not
raise it. 2: ``concepts`` (a `ConceptRecord` for each test, those that were not selected too, since
p-values are corrected for all of them), ``concept_gates`` (a `ConceptRow` for each demand),
``calibration`` and ``compared``."""


def write_json(
    path: Path,
    *,
    models: Sequence[ModelFacts],
    gates: Sequence[GateRow],
    measurements: Sequence[Record],
    concept_gates: Sequence[ConceptRow],
    concepts: Sequence[ConceptRecord],
    costs: Sequence[CostRow],
    cache: CacheUse | None,
    calibration: Sequence[CalibrationRow] = (),
    compared: Sequence[ComparedRow] = (),
) -> None:
    """Write the file at once: a reader sees the old one or the new one, never a part.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    import xai_core

    content = {
        "schema_version": SCHEMA_VERSION,
        "pytest_xai": xai_core.__version__,
        "models": models,
        "gates": gates,
        "measurements": measurements,
        "concept_gates": concept_gates,
        "concepts": concepts,
        "costs": costs,
        "cache": cache,
        "calibration": list(calibration),
        "compared": list(compared),
    }
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    write_at_once(path, f"{text}\n")
