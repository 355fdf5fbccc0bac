"""What can be named in a threshold file, as lists to read: ``pytest --xai-explainers``."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

from xai_core.explainers import EXPLAINERS, Explainer
from xai_core.metrics import METRICS, Metric

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


def metric_list() -> str:
    """Return every metric: name, protocol, direction, range, source, needs, settings."""
    return "\n".join("\n".join(_metric_block(METRICS[name])) for name in sorted(METRICS))


LISTS = {"explainers": explainer_list, "metrics": metric_list}
"""The lists by the options that ask for them."""


def _metric_block(metric: Metric) -> Iterator[str]:
    yield metric.name
    yield f"    {metric.summary.replace('`', '')}"
    low, high = metric.range
    unit = f" {metric.unit}" if metric.unit else ""
    protocol = metric.configure({}).protocol
    yield f"    {protocol}; {metric.better} is better, {low:g} to {high:g}{unit}"
    yield f"    {metric.source}; needs {', '.join(metric.needs)}"
    yield f"    assert_{metric.assertion}_above, assert_{metric.assertion}_below"
    for name, (kind, default) in metric.settings.items():
        yield _parameter(name, kind, default)


def _parameter(name: str, kind: Any, default: object) -> str:
    """Return a line with a parameter, its default and what it takes."""
    shown, taken = name, _described(kind)
    if default is None:
        taken += ", optional"
    elif default is not dataclasses.MISSING:
        shown += f" = {json.dumps(default)}"
    return f"    {shown:<34}{taken}"


def _block(kind: str, cls: type[Explainer]) -> Iterator[str]:
    yield kind
    what = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ").rstrip(".")
    what = re.sub(r" \[.*?\]", "", what).replace("`", "")  # the paper stands below
    yield f"    {what}"
    yield f"    {cls.source}; needs {_NEEDS[cls.needs]}"
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        yield _parameter(field.name, hints[field.name], field.default)


def _described(kind: Any) -> str:
    """Return a type as a reader of threshold files knows it.

    >>> _described(typing.Literal["sum", "max-abs"]), _described(int | None)
    ('"sum" | "max-abs"', 'a whole number')
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        described = next((m.description for m in arguments[1:] if m.description), None)
        return described or " ".join([_described(arguments[0]), *map(_bounds, arguments[1:])])
    if origin is typing.Literal:
        return " | ".join(json.dumps(argument) for argument in arguments)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(_described(member) for member in arguments if member is not type(None))
    if origin is tuple:
        return f"a list ({_described(arguments[0])})"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true | false"}[kind]


def _bounds(meta: msgspec.Meta) -> str:
    """Return the bounds of a number.

    >>> _bounds(msgspec.Meta(ge=0, lt=1))
    '>= 0, < 1'
    """
    bounds = {">=": meta.ge, ">": meta.gt, "<=": meta.le, "<": meta.lt}
    return ", ".join(f"{sign} {limit}" for sign, limit in bounds.items() if limit is not None)
