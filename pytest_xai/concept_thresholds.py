"""The tables ``[concepts.NAME]`` of a threshold file: which concept, of what, and what it must be.

Read with every name and type checked; whether a class, a layer or a folder exists shows when the
model and its images are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias, get_args

from pytest_xai.concept_gate import Bounds, Condition, Demand
from pytest_xai.image_sources import SET_NAME
from pytest_xai.toml_source import TomlSource, blamed
from xai_core.concepts.result import Verdict
from xai_core.concepts.tcav import TCAV
from xai_core.errors import ParameterError, did_you_mean
from xai_core.parameters import from_table

ClassName: TypeAlias = str | int
"""The name of a class in the image set, or its index."""

_CONDITIONS: tuple[Condition, ...] = get_args(Condition)
_OWN = ("images", "against", "class", "classes", "layer", "layers", "level", *_CONDITIONS)
_OF_TEST = tuple(field.name for field in fields(TCAV) if field.name not in ("layer", "level"))
_KEYS = (*_OWN, *_OF_TEST, "significance")
_EXAMPLE = 'e.g. verdict = "absent", tcav = { above = 0.8 } or effect = { below = 0.1 }'


@dataclass(frozen=True)
class Case:
    """One class and one layer that a concept is tested at; ``layer`` None = the default one.

    ``id`` tells them apart where there are several.
    """

    of_class: ClassName
    layer: str | None
    id: str = ""


@dataclass(frozen=True)
class ConceptSpec:
    """One concept of a threshold file.

    Attributes:
        name: of the table, and of the folder in the library where ``images`` names no other.
        images: a folder of its own.
        against: ``random``, another concept, or a folder.
        cases: the classes and layers it is tested at.
        tcav: how; the layer is the case's.
        demands: what is asked of each case.
        level: whether a failure fails the test or only warns.
        lines: where each demand stands in the file.
        places: key -> file, line and key, for errors that show when the test runs; ``""`` is the
            table.
    """

    name: str
    images: str | None
    against: str
    cases: tuple[Case, ...]
    tcav: TCAV
    demands: Mapping[Condition, Demand]
    level: Literal["fail", "warn"]
    lines: Mapping[Condition, int]
    places: Mapping[str, str] = field(repr=False)

    def place(self, *keys: str) -> str:
        """Return file, line and key of the first of ``keys`` that was given, else of the table."""
        return next((self.places[key] for key in keys if key in self.places), self.places[""])


def read_concepts(
    source: TomlSource, tables: Mapping[str, object], *, seed: int
) -> tuple[ConceptSpec, ...]:
    """Return the concepts of a threshold file.

    Args:
        source: the file.
        tables: what stands under ``concepts``.
        seed: for every test that does not set its own.

    Raises:
        ThresholdFileError: anything in it that is unknown, mistyped or incomplete.
    """
    return tuple(
        _concept(source, name, source.table(["concepts", name], table), seed)
        for name, table in tables.items()
    )


def _concept(source: TomlSource, name: str, table: Mapping[str, object], seed: int) -> ConceptSpec:
    where = ["concepts", name]
    if not SET_NAME.fullmatch(name) or name == "random":
        msg = (
            "the name of a concept goes into the ids of tests: letters, digits, '.', '_', '+' and "
            "'-', and not 'random'; a folder of another name is `images`"
        )
        raise source.error(where, msg)
    for key in table:
        if key not in _KEYS:
            raise source.error([*where, key], f"unknown key: {did_you_mean(key, _KEYS)}")
    demands = {key: _demand(source, where, key, table[key]) for key in _CONDITIONS if key in table}
    if not demands:
        raise source.error(where, f"nothing is asked of this concept; add {_EXAMPLE}")
    level = table.get("level", "fail")
    if level not in ("fail", "warn"):
        hint = "; the level of the test is `significance`" if isinstance(level, float) else ""
        raise source.error(
            [*where, "level"], f"`level` must be 'fail' or 'warn', got {level!r}{hint}"
        )
    images, against = (_text(source, where, key, table.get(key)) for key in ("images", "against"))
    if against == name:
        raise source.error([*where, "against"], "a concept cannot be held against itself")
    classes = _listed(source, where, table, "class", "classes")
    if not classes:
        msg = 'no class; add class = "..." with the name of a class of the images, or its index'
        raise source.error(where, msg)
    layers = [str(layer) for layer in _listed(source, where, table, "layer", "layers")]
    return ConceptSpec(
        name=name,
        images=images,
        against=against or "random",
        cases=_cases(source, where, classes, layers),
        tcav=_tcav(source, where, table, seed),
        demands=demands,
        level=level,
        lines={key: source.line_of([*where, key]) for key in demands},
        places={
            "": source.place_of(where),
            **{key: source.place_of([*where, key]) for key in table},
        },
    )


def _demand(source: TomlSource, where: list[str], key: Condition, value: object) -> Demand:
    if key == "verdict":
        return _verdicts(source, [*where, key], value)
    if not isinstance(value, dict):
        msg = (
            f"a threshold needs its direction: expected {{ above = {value!r} }} or "
            f"{{ below = {value!r} }}, got {value!r}"
        )
        raise source.error([*where, key], msg)
    bounds = source.read([*where, key], Bounds, value, what=f"`{key}`")
    for edge in (bounds.above, bounds.below):
        if key == "tcav" and edge is not None and not 0 <= edge <= 1:
            msg = f"a score is a share of the class's images, from 0 to 1, got {edge:g}"
            raise source.error([*where, key], msg)
    return bounds


def _verdicts(source: TomlSource, where: list[str], value: object) -> tuple[Verdict, ...]:
    known = get_args(Verdict)
    given = value if isinstance(value, list) else [value]
    if not given:
        raise source.error(where, f"accepts no verdict; known: {', '.join(known)}")
    for one in given:
        if one not in known:
            msg = f"no verdict {one!r}: {did_you_mean(str(one), known)}"
            raise source.error(where, msg)
    return tuple(dict.fromkeys(given))


def _text(source: TomlSource, where: list[str], key: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise source.error([*where, key], f"expected a name or a folder, got {value!r}")


def _listed(
    source: TomlSource, where: list[str], table: Mapping[str, object], one: str, several: str
) -> list[ClassName]:
    """Return what ``class`` or ``classes`` (``layer`` or ``layers``) lists."""
    if one in table and several in table:
        raise source.error([*where, several], f"`{one}` and `{several}` exclude each other")
    key = several if several in table else one
    if key not in table:
        return []
    given = table[key] if key == several else [table[key]]
    takes = (str, int) if one == "class" else (str,)
    expected = f"{'names or indices' if one == 'class' else 'names'}, e.g. {several} = "
    expected += '["zebra", 340]' if one == "class" else '["layer3", "layer4"]'
    good = isinstance(given, list) and all(
        isinstance(value, takes) and not isinstance(value, bool) and value != "" for value in given
    )
    if not isinstance(given, list) or not given or not good:
        raise source.error([*where, key], f"expected {expected}, got {table[key]!r}")
    if len(set(given)) < len(given):
        raise source.error([*where, key], f"names one twice: {table[key]!r}")
    return given


def _cases(
    source: TomlSource, where: list[str], classes: list[ClassName], layers: list[str]
) -> tuple[Case, ...]:
    several = len(classes) * max(1, len(layers)) > 1
    cases = [
        Case(of_class, layer, "-".join(filter(None, (str(of_class), layer))) if several else "")
        for of_class in classes
        for layer in layers or (None,)
    ]
    ids = [case.id for case in cases]
    for id_ in ids:
        if ids.count(id_) > 1:
            msg = (
                f"two of its tests would be called [{id_}]; put one of them into a table of its own"
            )
            raise source.error(where, msg)
    return tuple(cases)


def _tcav(source: TomlSource, where: list[str], table: Mapping[str, object], seed: int) -> TCAV:
    """Return how the concept is tested; the test's ``level`` is the file's ``significance``."""
    parameters = {key: table[key] for key in _OF_TEST if key in table}
    parameters.setdefault("seed", seed)
    if "significance" in table:
        parameters["level"] = table["significance"]
    try:
        return from_table(TCAV, parameters, what=f"concept {where[-1]!r}")
    except ParameterError as error:
        message = str(error).replace("`level`", "`significance`")
        raise source.error([*where, *blamed(table, ParameterError(message))], message) from None
