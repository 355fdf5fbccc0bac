"""What a threshold file demands of the neighbours of its images: the table ``[neighbours]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from pytest_xai.neighbour_gate import NeighbourSearch
from pytest_xai.toml_source import TomlSource
from xai_core.errors import did_you_mean
from xai_core.gate import Conditions
from xai_core.metrics import ConfiguredMetric

# No null map looks for neighbours, so there is nothing to beat and no skill.
_CONDITIONS = (
    "above",
    "below",
    "mostly",
    "not_worse_by",
    "reproducible",
    "undefined",
    "confidence",
)
_OF_SEARCH = tuple(field.name for field in fields(NeighbourSearch))
_KEYS = (*_OF_SEARCH, *_CONDITIONS, "level")


@dataclass(frozen=True)
class NeighbourSpec:
    """The gate on neighbours of a threshold file.

    Attributes:
        method: how neighbours are looked for; it stands where a gate's explainer does.
        conditions: what is demanded of the share of neighbours that have the image's class.
        level: whether a failure fails the test or only warns.
        line: in the file.
        places: key -> file, line and key, for errors that show when the test runs; ``""`` is the
            table.
    """

    method: NeighbourSearch
    conditions: Conditions
    level: Literal["fail", "warn"]
    line: int
    places: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """The gate's name in ids and tables."""
        return "agreement"

    @property
    def metric(self) -> ConfiguredMetric:
        """What is measured."""
        return self.method.metric

    def place(self, key: str) -> str:
        """Return file, line and key of ``key`` if it was given, else of the table."""
        return self.places.get(key, self.places[""])


def read_neighbours(source: TomlSource, table: Mapping[str, object]) -> NeighbourSpec:
    """Return the gate on neighbours of a threshold file.

    Args:
        source: the file.
        table: what stands under ``neighbours``.

    Raises:
        ThresholdFileError: anything in it that is unknown, mistyped or incomplete.
    """
    where = ["neighbours"]
    for key in table:
        if key not in _KEYS:
            raise source.error([*where, key], f"unknown key: {did_you_mean(key, _KEYS)}")
    if "reference" not in table:
        msg = (
            'no images to look for neighbours among; add reference = "..." with an image set that '
            "has labels, as `path` under [data] takes it"
        )
        raise source.error(where, msg)
    edges = [key for key in ("above", "below") if key in table]
    if not edges:
        raise source.error(where, "nothing is asked of the neighbours; add e.g. above = 0.8")
    level = table.get("level", "fail")
    if level not in ("fail", "warn"):
        raise source.error([*where, "level"], f"`level` must be 'fail' or 'warn', got {level!r}")
    search = source.read(
        where, NeighbourSearch, {key: table[key] for key in _OF_SEARCH if key in table}
    )
    conditions = source.read(
        where, Conditions, {key: table[key] for key in _CONDITIONS if key in table}
    )
    for key in edges:
        edge = getattr(conditions, key)
        if not 0 <= edge <= 1:
            msg = f"a threshold is a share of the neighbours, from 0 to 1, got {edge:g}"
            raise source.error([*where, key], msg)
    return NeighbourSpec(
        method=search,
        conditions=conditions,
        level=level,
        line=source.line_of([*where, edges[0]]),
        places={
            "": source.place_of(where),
            **{key: source.place_of([*where, key]) for key in table},
        },
    )
