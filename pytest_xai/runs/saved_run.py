"""The file of a saved run: what was measured of every image, and what that rests on.

It is read as what anybody may have written: types, names and numbers are checked, nothing of it is
run, and nothing of it decides where anything is written.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from xai_core.errors import XaiError

SCHEMA_VERSION = 1
"""Raised whenever a field changes its meaning or goes away; new fields do not raise it."""

FORMAT: Literal["pytest-xai run"] = "pytest-xai run"

_NUMBERS_OF_THE_SAME = ("seed",)
"""Settings that change a value and not what is measured."""

_IN_ONE_LINE = frozenset({"parameters", "settings", "postprocess"})
_ONE_A_LINE = frozenset({"images", "gates", "not_measured"})

Whole = Annotated[int, msgspec.Meta(ge=0)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class RunFileError(XaiError):
    """The file of a saved run cannot be found, read or understood."""


class SavedImage(msgspec.Struct, frozen=True):
    """One image: its name, the class that was explained, the digest of its pixels and mask."""

    image: str
    target: Whole
    digest: Digest


class SavedGate(msgspec.Struct, frozen=True):
    """One gate that was held."""

    method: str
    gate: str
    metric: str
    protocol: str
    passed: bool


class DeclaredGate(msgspec.Struct, frozen=True):
    """One gate of a threshold file."""

    method: str
    gate: str
    protocol: str


class Measured(msgspec.Struct, frozen=True):
    """What is measured, and of what: an explainer's name and parameters, a metric's settings."""

    method: str
    explainer: str
    parameters: dict[str, Any]
    postprocess: list[str]
    metric: str
    protocol: str
    settings: dict[str, Any]

    def plain(self) -> Measured:
        """Return the same as it comes back from a file, where a tuple is a list."""
        return msgspec.json.decode(msgspec.json.encode(self), type=Measured)

    def differences(self, other: Measured) -> list[str]:
        """Return what another one has otherwise; nothing where values may be compared."""
        found = []
        if self.explainer != other.explainer:
            found.append(f"explainer {self.explainer} -> {other.explainer}")
        else:
            found += _changed(self.parameters, other.parameters)
        if self.postprocess != other.postprocess:
            chains = [" | ".join(one.postprocess) or "none" for one in (self, other)]
            found.append(f"post-processing {chains[0]} -> {chains[1]}")
        if self.protocol != other.protocol:
            found.append(f"protocol {self.protocol} -> {other.protocol}")
        else:
            found += _changed(self.settings, other.settings)
        return found


class SavedMeasurement(Measured, frozen=True):
    """The values of all images, and why some have none."""

    values: dict[str, float | None]
    undefined: dict[str, str]


class SavedSubject(msgspec.Struct, frozen=True):
    """A model on an image set; ``weights`` is a digest of them alone, where they are known."""

    model: str
    data: str
    fingerprint: str
    classes: Whole
    device: str
    transform: str
    masks_from: str | None
    accuracy: float | None
    images: list[SavedImage]
    gates: list[SavedGate]
    not_measured: list[DeclaredGate]
    measurements: list[SavedMeasurement]
    weights: Digest | None = None
    normalisation: str | None = None


class SavedRun(msgspec.Struct, frozen=True):
    """A run: when it was saved is all that changes without cause."""

    format: Literal["pytest-xai run"]
    schema_version: Whole
    saved: Annotated[datetime, msgspec.Meta(tz=True)]
    seed: Whole
    versions: dict[str, str]
    subjects: list[SavedSubject]

    def subject(self, model: str, data: str) -> SavedSubject | None:
        """Return what was measured of a model on an image set."""
        found = [one for one in self.subjects if (one.model, one.data) == (model, data)]
        return found[0] if found else None

    @property
    def day(self) -> str:
        """The day on which it was saved."""
        return self.saved.date().isoformat()


def as_text(run: SavedRun) -> str:
    """Return the text of a run's file: one value of one image a line, in a fixed order.

    Raises:
        ValueError: a parameter that is not finite.
    """
    built: dict[str, Any] = msgspec.to_builtins(run)
    built["saved"] = run.saved.isoformat(timespec="milliseconds")
    return _laid_out(built, "", "") + "\n"


def from_bytes(content: bytes, *, shown: str) -> SavedRun:
    """Return the run of a file.

    Args:
        content: of the file.
        shown: the file as messages call it.

    Raises:
        RunFileError: it is no such file, or says what cannot be; the message names the key.
    """
    expected = "expected a file that --xai-save wrote"
    try:
        version = msgspec.json.decode(content, type=_Head).schema_version
        if version > SCHEMA_VERSION:
            msg = (
                f"{shown}: schema_version {version} is of a newer pytest-xai; this one reads "
                f"{SCHEMA_VERSION}: update it"
            )
            raise RunFileError(msg)
        run = msgspec.json.decode(content, type=SavedRun)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{shown}: {printable(str(error))}; {expected}"
        raise RunFileError(msg) from None
    for complaint in _complaints(run):
        msg = f"{shown}: {printable(complaint)}; {expected}"
        raise RunFileError(msg)
    return run


def printable(text: str) -> str:
    """Return a text without what would steer a terminal.

    >>> printable("a\\x1b[31mb")
    'a?[31mb'
    """
    return "".join(sign if sign.isprintable() else "?" for sign in text)


class _Head(msgspec.Struct):
    format: Literal["pytest-xai run"]
    schema_version: Whole


def _complaints(run: SavedRun) -> Iterable[str]:
    """Yield what the types do not say."""
    yield from _twice("$.subjects", ((one.model, one.data) for one in run.subjects))
    for place, subject in enumerate(run.subjects):
        where = f"$.subjects[{place}]"
        names = {one.image for one in subject.images}
        yield from _twice(f"{where}.images", (one.image for one in subject.images))
        for number, measurement in enumerate(subject.measurements):
            here = f"{where}.measurements[{number}]"
            for name in measurement.values:
                if name not in names:
                    yield f"{here}.values: {name!r} is not among the images"
            without = {name for name, value in measurement.values.items() if value is None}
            for name in sorted(without ^ set(measurement.undefined)):
                yield f"{here}: {name!r} needs a value, or null and a reason in `undefined`"


def _twice(where: str, keys: Iterable[object]) -> Iterable[str]:
    for key, count in Counter(keys).items():
        if count > 1:
            yield f"{where}: {key!r} stands there {count} times"


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = [key for key in dict.fromkeys([*old, *new]) if key not in _NUMBERS_OF_THE_SAME]
    nothing = object()

    def said(table: Mapping[str, Any], key: str) -> str:
        return repr(table[key]) if key in table else "none"

    return [
        f"{key} {said(old, key)} -> {said(new, key)}"
        for key in keys
        if old.get(key, nothing) != new.get(key, nothing)
    ]


def _laid_out(value: Any, key: str, indent: str, *, in_line: bool = False) -> str:
    """Return JSON with a line for each number, image and gate, and short things in one line."""
    if in_line or key in _IN_ONE_LINE or not isinstance(value, dict | list) or not value:
        sort = key in _IN_ONE_LINE  # a struct's fields have an order of their own
        return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=sort)
    inner = f"{indent} "
    if isinstance(value, list):
        short = key in _ONE_A_LINE
        parts = [f"{inner}{_laid_out(one, '', inner, in_line=short)}" for one in value]
        return "[\n" + ",\n".join(parts) + f"\n{indent}]"
    parts = [
        f"{inner}{json.dumps(name, ensure_ascii=False)}: {_laid_out(one, name, inner)}"
        for name, one in value.items()
    ]
    return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
