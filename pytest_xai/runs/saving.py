"""From what the tests of a run reported to the run that is saved."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

import xai_core
from pytest_xai.runs.gathered import Gathered, Subject
from pytest_xai.runs.saved_run import (
    FORMAT,
    SCHEMA_VERSION,
    DeclaredGate,
    SavedGate,
    SavedMeasurement,
    SavedRun,
    SavedSubject,
)

if TYPE_CHECKING:
    from pytest_xai.report.rows import Record

_PACKAGES = ("numpy", "pillow", "torch", "torchvision")


def saved_run(gathered: Gathered, *, seed: int, now: datetime) -> SavedRun:
    """Return a run as it is saved: everything in a fixed order.

    Args:
        gathered: what the tests reported.
        seed: of the run.
        now: when it is saved.
    """
    return SavedRun(
        format=FORMAT,
        schema_version=SCHEMA_VERSION,
        saved=now,
        seed=seed,
        versions=versions(),
        subjects=[
            _subject(gathered, subject)
            for subject in sorted(gathered.models)
            if gathered.records_of(subject)
        ],
    )


def versions() -> dict[str, str]:
    """Return the versions of what values rest on."""
    found = {"pytest-xai": xai_core.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # vendored or built by hand
            found[package] = "unknown"
    return dict(sorted(found.items()))


def _subject(gathered: Gathered, subject: Subject) -> SavedSubject:
    facts, declared = gathered.models[subject], gathered.declared.get(subject)
    gates = {
        (row["method"], row["gate"]): SavedGate(
            row["method"], row["gate"], row["metric"], row["protocol"], row["passed"]
        )
        for row in gathered.gates
        if (row["model"], row["data"]) == subject and row["outcome"] != "new"
    }
    missing = [
        DeclaredGate(method, gate, protocol)
        for method, gate, protocol in (declared["gates"] if declared else [])
        if (method, gate) not in gates
    ]
    return SavedSubject(
        model=facts["name"],
        data=facts["data"],
        fingerprint=facts["fingerprint"],
        classes=facts["classes"],
        device=facts["device"],
        transform=facts["transform"],
        masks_from=facts["masks_from"],
        accuracy=facts["accuracy"],
        images=gathered.images_of(subject),
        gates=[gates[key] for key in sorted(gates)],
        not_measured=sorted(missing, key=lambda gate: (gate.method, gate.gate)),
        measurements=_measurements(gathered.records_of(subject)),
        weights=facts["weights"],
        normalisation=facts["normalisation"],
    )


def _measurements(records: Iterable[Record]) -> list[SavedMeasurement]:
    found = []
    for _, group in groupby(sorted(records, key=_key), key=_key):
        # Two workers may both have measured what two gates build upon.
        by_image = {one["image"]: one for one in group}
        first = next(iter(by_image.values()))
        found.append(
            SavedMeasurement(
                method=first["method"],
                explainer=first["explainer"],
                parameters=first["parameters"],
                postprocess=first["postprocess"],
                metric=first["metric"],
                protocol=first["protocol"],
                settings=first["settings"],
                values={name: by_image[name]["value"] for name in sorted(by_image)},
                undefined={
                    name: why
                    for name in sorted(by_image)
                    if (why := by_image[name]["undefined"]) is not None
                },
            )
        )
    return found


def _key(record: Record) -> tuple[str, ...]:
    parameters, settings, steps = (
        msgspec.json.encode(record[part], order="deterministic").decode()
        for part in ("parameters", "settings", "postprocess")
    )
    names = record["method"], record["metric"], record["protocol"], record["explainer"]
    return *names, parameters, settings, steps
