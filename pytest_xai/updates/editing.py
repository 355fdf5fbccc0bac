"""Numbers put into the text of a threshold file, which stays as it is around them."""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pytest_xai.toml_source import ThresholdFileError
from pytest_xai.updates.choosing import Change

if TYPE_CHECKING:
    from tomlkit.items import AbstractTable, Item


def with_changes(text: str, changes: Iterable[Change], *, shown: str) -> str:
    """Return the text of a threshold file with other numbers; comments and order stay.

    Args:
        text: of the file, valid TOML.
        changes: what is to be written.
        shown: the file as messages call it.

    Raises:
        ThresholdFileError: the result would say anything else than was meant.
    """
    wanted = tomllib.loads(text)
    changed = text
    for change in changes:
        _put(wanted, change)
        changed = _with_change(changed, change)
        if tomllib.loads(changed) != wanted:
            gate = ".".join(change.keys)
            msg = (
                f"{shown}: {gate}: {change.key} = {change.value!r} cannot be put there safely; "
                "write it by hand"
            )
            raise ThresholdFileError(msg)
    return changed


def difference(old: str, new: str, *, shown: str) -> list[str]:
    """Return the lines of a unified diff; ``old`` is empty for a new file."""
    before = shown if old else "/dev/null"
    return list(
        difflib.unified_diff(
            old.splitlines(), new.splitlines(), fromfile=before, tofile=shown, lineterm=""
        )
    )


def _put(data: dict[str, Any], change: Change) -> None:
    table = data
    for key in change.keys:
        table = table[key]
    table[change.key] = copy.copy(change.value)


def _with_change(text: str, change: Change) -> str:
    import tomlkit
    from tomlkit.items import InlineTable, Integer

    document = tomlkit.parse(text)
    parent: Any = document
    for key in change.keys[:-1]:
        parent = parent[key]
    table: AbstractTable = parent[change.keys[-1]]
    there = table.get(change.key)
    whole = isinstance(there, Integer) and change.value.is_integer()
    value = tomlkit.item(int(change.value) if whole else change.value)
    if there is not None:
        table[change.key] = value
    elif isinstance(table, InlineTable):
        parent[change.keys[-1]] = _longer(table, change.key, value)
    else:
        # After its last key: not after the comment that belongs to what follows.
        body = table.value.body
        last = max((row for row, (key, _) in enumerate(body) if key is not None), default=-1)
        body.insert(last + 1, (tomlkit.key(change.key), value))
        value.trivia.trail = "\n"
    changed = tomlkit.dumps(document)
    if "\r\n" in text:
        changed = re.sub(r"(?<!\r)\n", "\r\n", changed)
    return changed


def _longer(table: Item, key: str, value: Item) -> Item:
    """Return an inline table with one more key, spaced as this project writes them."""
    import tomlkit

    inside = table.as_string().strip().removeprefix("{").removesuffix("}").strip()
    listed = ", ".join(filter(None, (inside, f"{key} = {value.as_string()}")))
    longer: Item = tomlkit.parse(f"table = {{ {listed} }}")["table"]
    return longer
