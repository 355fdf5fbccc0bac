"""Frozen dataclasses of parameters: how they are read from text, checked and printed.

Explainers, post-processing steps and whatever else has parameters are frozen dataclasses.
This module reads one from a table (a threshold file) or from a call-like text
(``"gaussian(sigma=3)"``), and prints one as the text that identifies it.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from xai_core.errors import ParameterError, did_you_mean

T = TypeVar("T")


def from_table(cls: type[T], table: Mapping[str, object], *, what: str) -> T:
    """Return an instance of the dataclass ``cls`` with the fields of ``table``, types checked.

    Args:
        cls: a dataclass; its annotations decide which values are taken.
        table: field name -> value, as TOML or JSON gives it.
        what: how an error message names the thing, e.g. ``"explainer 'gradcam'"``.

    Raises:
        ParameterError: an unknown field (with the nearest name), a value of the wrong type,
            or a value that the dataclass itself refuses.
    """
    fields = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            if not fields:
                msg = f"{what} takes no parameters, got {key!r}"
            else:
                msg = f"{what} has no parameter {key!r}: {did_you_mean(key, fields)}"
            raise ParameterError(msg)
    try:
        return msgspec.convert(dict(table), cls, strict=True)
    except (msgspec.ValidationError, ParameterError) as error:
        # msgspec says type and field; what __post_init__ raises passes through it.
        msg = f"{what}: {str(error).replace('`$.', '`')}"
        raise ParameterError(msg) from None


def parse_call(text: str) -> tuple[str, dict[str, object]]:
    """Split ``"name"`` or ``"name(key=value, ...)"`` into the name and its literal values.

    >>> parse_call("gaussian(sigma=3)")
    ('gaussian', {'sigma': 3})

    Raises:
        ParameterError: the text is not of that form, or a value is not a literal.
    """
    expected = f"expected 'name' or 'name(key=value)', got {text!r}"
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise ParameterError(expected) from None
    if isinstance(node, ast.Name):
        return node.id, {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise ParameterError(expected)
    values: dict[str, object] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in values:
            raise ParameterError(expected)
        try:
            values[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError):
            msg = f"{keyword.arg} in {text!r} is not a literal value"
            raise ParameterError(msg) from None
    return node.func.id, values


def as_dict(instance: object) -> dict[str, Any]:
    """Return the fields of a parameter dataclass as builtin types, nested ones included."""
    # dataclasses.asdict reads attributes; msgspec alone would leave out defaults that an instance
    # it converted itself does not store.
    built: dict[str, Any] = msgspec.to_builtins(dataclasses.asdict(instance))  # type: ignore[call-overload]
    return built


def identity(name: str, instance: object) -> str:
    """Return the text that names an instance with all its parameters, defaults included.

    Two instances with the same identity compute the same thing.
    """
    listed = ", ".join(f"{key}={value!r}" for key, value in as_dict(instance).items())
    return f"{name}({listed})"


def require(condition: bool, message: str) -> None:
    """Raise ``ParameterError(message)`` unless ``condition`` holds; for ``__post_init__``."""
    if not condition:
        raise ParameterError(message)
