"""Every measurement of a run as one JSON file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pytest_xai.report.concept_rows import ConceptRecord, ConceptRow
from pytest_xai.report.rows import CacheUse, CostRow, GateRow, ModelFacts, Record

SCHEMA_VERSION = 2
"""Raised whenever a field changes its meaning or goes away, or a list is added; new fields do not
raise it. 2: ``concepts`` (a `ConceptRecord` for each test, those that were not selected too, since
p-values are corrected for all of them) and ``concept_gates`` (a `ConceptRow` for each demand)."""


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
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, allow_nan=False, ensure_ascii=False)
            file.write("\n")
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
