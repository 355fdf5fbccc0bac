"""Rules of one's own in place of what torch's functions do, while a model runs.

A rule sees every call of its function, whether a module or the forward pass made it, in place or
not, first or repeated; hooks on modules see less and break on torchvision's ResNet and DenseNet.
"""

from __future__ import annotations

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
        if rule is None or not (args or "input" in options):
            return func(*args, **options)
        values, *rest = args or (options.pop("input"),)
        # The copy is the rule's own, whatever happens to ``values`` afterwards.
        result = rule(Call(name, values.clone(), tuple(rest), options, func))
        if called == f"{name}_" or options.get("inplace"):
            values.copy_(result)
            return values
        return result


def with_slope(values: Tensor, result: Tensor, slope: Tensor) -> Tensor:
    """Return ``result`` with ``slope`` as its derivative with respect to ``values``."""
    return result.detach() + slope.detach() * (values - values.detach())
