"""What can be named in a threshold file, as a list to read: ``pytest --xai-explainers``."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from xai_core.explainers import EXPLAINERS, Explainer

_NEEDS = {
    "nothing": "no model at all",
    "scores": "scores (forward passes alone)",
    "gradients": "gradients at the image",
    "activations": "a layer's activations",
    "module": "the torch module",
}
_OTHERS = """\
captum:NAME
    any class of captum.attr, e.g. captum:Deconvolution; parameters as Captum names them
package.module:Class
    an explainer of your own: a frozen dataclass with `kind` and `explain`"""


def explainer_list() -> str:
    """Return every explainer: name, what it is, needs, paper, parameters with default and type."""
    blocks = ["\n".join(_block(kind, EXPLAINERS[kind])) for kind in sorted(EXPLAINERS)]
    return "\n".join([*blocks, _OTHERS])


def _block(kind: str, cls: type[Explainer]) -> Iterator[str]:
    yield kind
    what = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ").rstrip(".")
    what = re.sub(r" \[.*?\]", "", what).replace("`", "")  # the paper stands below
    yield f"    {what}"
    yield f"    {cls.source}; needs {_NEEDS[cls.needs]}"
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        shown, kind_of = field.name, _described(hints[field.name])
        if field.default is None:
            kind_of += ", optional"
        elif field.default is not dataclasses.MISSING:
            shown += f" = {json.dumps(field.default)}"
        yield f"    {shown:<34}{kind_of}"


def _described(kind: Any) -> str:
    """Return a type as a reader of threshold files knows it.

    >>> _described(typing.Literal["sum", "max-abs"]), _described(int | None)
    ('"sum" | "max-abs"', 'a whole number')
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " | ".join(json.dumps(argument) for argument in arguments)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(_described(member) for member in arguments if member is not type(None))
    if origin is tuple:
        return f"a list ({_described(arguments[0])})"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true | false"}[kind]
