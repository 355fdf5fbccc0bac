"""Rules of one's own in place of what torch's functions do, while a model runs.

A rule sees every call of its function, whether a module or the forward pass made it, in place or
not, first or repeated; hooks on modules see less and break on torchvision's ResNet and DenseNet.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Call:
    """One call of a torch function.

    Attributes:
        name: the function's, without the underscore of its in-place form.
        values: the first argument.
        rest: the other positional arguments.
        options: the arguments by name.
    """

    name: str
    values: Tensor
    rest: tuple[Any, ...]
    options: Mapping[str, Any]
    function: Callable[..., Any]

    def at(self, values: Tensor) -> Tensor:
        """Return what the function gives for ``values``, which it leaves as they are."""
        result: Tensor = self.function(values.clone(), *self.rest, **self.options)
        return result

    def argument(self, position: int, name: str) -> Any:
        """Return an argument given by position (of ``rest``) or by name; None = not given."""
        return self.rest[position] if position < len(self.rest) else self.options.get(name)


Rule: TypeAlias = Callable[[Call], Tensor]
"""Gives what a call should give; autograd sees what the rule did, not the function."""


class Rules(TorchFunctionMode):
    """While open, calls of the functions named in ``rules`` are answered by their rules.

    Args:
        rules: name of a function of ``torch`` or ``torch.nn.functional`` -> its rule.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        self._rules = rules

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        called = getattr(func, "__name__", "")
        name = called.removeprefix("__").rstrip("_")
        rule = self._rules.get(name)
        values = args[0] if args else options.get("input")
        if rule is None or not isinstance(values, Tensor):
            return func(*args, **options)
        options.pop("input", None)
        # The copy is the rule's own, whatever happens to ``values`` afterwards.
        result = rule(Call(name, values.clone(), args[1:], options, func))
        if called == f"{name}_" or _is_in_place(func, args[1:], options):
            values.copy_(result)
            return values
        return result


def _is_in_place(
    function: Callable[..., Any], rest: tuple[Any, ...], options: Mapping[str, Any]
) -> bool:
    position = _inplace_position(function)
    return bool(rest[position] if position < len(rest) else options.get("inplace"))


@functools.cache
def _inplace_position(function: Callable[..., Any]) -> int:
    """Return where among the arguments after the first ``inplace`` stands; far off = nowhere."""
    try:
        return list(inspect.signature(function).parameters).index("inplace") - 1
    except ValueError:  # a function of C, or one without it
        return 99


def with_slope(values: Tensor, result: Tensor, slope: Tensor) -> Tensor:
    """Return ``result`` with ``slope`` as its derivative with respect to ``values``."""
    return result.detach() + slope.detach() * (values - values.detach())
