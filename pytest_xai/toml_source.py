"""TOML with the line of every key, so that an error can say where."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from xai_core.errors import ParameterError, XaiError
from xai_core.parameters import from_table

T = TypeVar("T")
Keys = tuple[str, ...]

_HEADER = re.compile(r"\s*\[+\s*(?P<keys>[^\[\]]+?)\s*\]+\s*(#.*)?$")
_KEY = re.compile(r"\s*(?P<keys>[\w\"'. -]+?)\s*=")


class ThresholdFileError(XaiError):
    """A threshold file cannot be read, or asks for something that does not exist."""


@dataclass(frozen=True)
class TomlSource:
    """A TOML file: its values, and where each key stands.

    Attributes:
        shown: the file as messages call it.
        data: builtin values.
        digest: of the file's bytes.
    """

    shown: str
    data: dict[str, Any]
    digest: str
    _lines: dict[Keys, int] = field(repr=False)

    def line_of(self, keys: Iterable[str]) -> int:
        """Return the line of a key, or of the nearest table around it."""
        found = tuple(keys)
        while found and found not in self._lines:
            found = found[:-1]
        return self._lines.get(found, 1)

    def place_of(self, keys: Iterable[str]) -> str:
        """Return file, line and key, as messages name them."""
        found = tuple(keys)
        return f"{self.shown}:{self.line_of(found)}: {'.'.join(found)}"

    def error(self, keys: Iterable[str], message: str) -> ThresholdFileError:
        """Return an error that names file, line and key."""
        return ThresholdFileError(f"{self.place_of(keys)}: {message}")

    def table(self, keys: list[str], value: object) -> dict[str, Any]:
        """Return ``value`` if it is a table.

        Raises:
            ThresholdFileError: it is something else.
        """
        if not isinstance(value, dict):
            raise self.error(keys, f"expected a table, got {value!r}")
        return value

    def read(
        self, keys: list[str], cls: type[T], table: Mapping[str, object], *, what: str = ""
    ) -> T:
        """Return the dataclass ``cls`` of a table's values, names and types checked.

        Args:
            keys: where the table stands.
            cls: a dataclass.
            table: the values.
            what: how messages call it; ``""`` = its key in brackets.

        Raises:
            ThresholdFileError: an unknown name, a wrong type, a value that the class refuses.
        """
        try:
            return from_table(cls, table, what=what or f"[{'.'.join(keys)}]")
        except ParameterError as error:
            raise self.error([*keys, *blamed(table, error)], str(error)) from None


def blamed(table: Mapping[str, object], error: ParameterError) -> list[str]:
    """Return the key of ``table`` that ``error`` is about; nothing if it names none."""
    quoted = [re.search(rf"['`]{re.escape(key)}['`\[]", str(error)) for key in table]
    found = [(match.start(), key) for key, match in zip(table, quoted, strict=True) if match]
    return [min(found)[1]] if found else []


def read_toml(path: Path, *, shown: str) -> TomlSource:
    """Return the values of a TOML file and the line of every key.

    Args:
        path: of the file.
        shown: how messages call it.

    Raises:
        ThresholdFileError: the file cannot be read, or is not TOML.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{shown}: cannot be read: {error}"
        raise ThresholdFileError(msg) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        number = int(line[1]) if line else len(text.splitlines())
        msg = f"{shown}:{number}: not valid TOML: {error}"
        raise ThresholdFileError(msg) from None
    return TomlSource(shown, data, digest_of(content), _lines(text))


def digest_of(content: bytes) -> str:
    """Return what tells one content of a file from another."""
    return hashlib.sha256(content).hexdigest()


def _lines(text: str) -> dict[Keys, int]:
    """Map each key to its line.

    The text is known to be valid. A line inside a multi-line string that looks like a key may be
    taken for one; that can only add a key that nobody asks for.
    """
    lines: dict[Keys, int] = {}
    table: Keys = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _split(header["keys"])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_split(key["keys"])), number)
    return lines


def _split(keys: str) -> Keys:
    quoted = re.findall(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)", keys)
    return tuple(next((part for part in parts if part), "") for parts in quoted)
