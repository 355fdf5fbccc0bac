"""How checks are declared, run one by one or all at once, and what they report."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec

import numpy as np

from xai_core.arrays import Float32, Int64
from xai_core.errors import XaiError
from xai_core.explainers import Explainer, Explanation
from xai_core.parameters import identity

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

Duty = Literal["contract", "promised", "not promised"]
Outcome = Literal["holds", "does not hold", "does not apply"]
P = ParamSpec("P")


class CheckFailedError(XaiError, AssertionError):
    """A property does not hold; the message says what was measured and what was expected."""


class RefusedError(CheckFailedError):
    """The explainer refuses the network that a check is made with."""


@dataclass(frozen=True)
class Check:
    """A property that can be checked.

    Attributes:
        name: short; for a property that explainers promise, the name of the promise.
        is_contract: whether every explainer must have it, promised or not.
        run: the check itself, which takes an explainer and raises where the property fails.
    """

    name: str
    is_contract: bool
    run: Callable[..., None]

    def duty(self, explainer: Explainer) -> Duty:
        """Return why, or whether, the explainer must have the property."""
        if self.is_contract:
            return "contract"
        return "promised" if self.name in explainer.promises else "not promised"


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        explainer: the explainer with its parameters.
        check: name of the check.
        duty: why, or whether, the explainer must have the property.
        outcome: whether it has; ``does not apply``: it refuses the check's network.
        detail: what was measured and expected; empty where the property holds.
    """

    explainer: str
    check: str
    duty: Duty
    outcome: Outcome
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether the explainer lacks a property that it must have."""
        return self.duty != "not promised" and self.outcome != "holds"

    def __str__(self) -> str:
        return f"{self.explainer} {self.check}: {self.duty}, {self.outcome}"


CHECKS: dict[str, Check] = {}
"""Every check by its name."""


def declare(
    *, contract: bool = False
) -> Callable[
    [Callable[Concatenate[Explainer, P], None]], Callable[Concatenate[Explainer, P], None]
]:
    """Make a function ``check_<name>`` a check; its failures end in a script that repeats them."""

    def declared(
        function: Callable[Concatenate[Explainer, P], None],
    ) -> Callable[Concatenate[Explainer, P], None]:
        name = function.__name__.removeprefix("check_")

        @functools.wraps(function)
        def run(explainer: Explainer, /, *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                function(explainer, *args, **kwargs)
            except CheckFailedError as error:
                script = _script(function.__name__, explainer, *args, *kwargs.values())
                message = f"{name} of {explainer.kind}: {error}\n{script}"
                raise type(error)(message) from error.__cause__

        CHECKS[name] = Check(name, contract, run)
        return run

    return declared


def run_checks(explainer: Explainer) -> list[CheckResult]:
    """Run every check on an explainer and return what each found; none is left out.

    >>> from xai_core.explainers import CentreMap
    >>> [result.check for result in run_checks(CentreMap()) if result.failed]
    []
    """
    return [run_check(check, explainer) for check in CHECKS.values()]


def run_check(check: Check, explainer: Explainer) -> CheckResult:
    """Run one check on an explainer and return what it found."""
    outcome: Outcome = "holds"
    detail = ""
    try:
        check.run(explainer)
    except RefusedError as error:
        outcome, detail = "does not apply", str(error)
    except CheckFailedError as error:
        outcome, detail = "does not hold", str(error)
    name = identity(explainer.kind, explainer)
    return CheckResult(name, check.name, check.duty(explainer), outcome, detail)


def explain(
    explainer: Explainer, classifier: Classifier, images: Float32, targets: Int64
) -> Explanation:
    """Return the explainer's explanation, which is one.

    Raises:
        RefusedError: the explainer raises one of the library's own errors.
        CheckFailedError: it raises another, or returns something else.
    """
    try:
        explanation = explainer.explain(classifier, images, targets)
    except XaiError as error:
        msg = f"it refuses {classifier.name}: {error}"
        raise RefusedError(msg) from error
    except Exception as error:  # a third party's explainer may raise anything
        msg = f"explain() raised {type(error).__name__} on {classifier.name}: {error}"
        raise CheckFailedError(msg) from error
    if not isinstance(getattr(explanation, "heatmaps", None), np.ndarray):
        msg = (
            f"explain() returned a {type(explanation).__name__}; expected an Explanation with "
            "NumPy arrays"
        )
        raise CheckFailedError(msg)
    return explanation


def expect(condition: bool, message: str) -> None:
    """Raise unless the condition holds.

    Raises:
        CheckFailedError: it does not.
    """
    if not condition:
        raise CheckFailedError(message)


def _script(function: str, explainer: Explainer, *arguments: object) -> str:
    """Return a program of a few lines that runs the check again."""
    given = [argument for argument in arguments if argument is not None]
    cls = type(explainer)
    lines = ["To see it again:"]
    if "<locals>" in cls.__qualname__:
        lines.append(f"    # {cls.__qualname__} is your own; define it here")
    else:
        lines.append(f"    from {cls.__module__} import {cls.__qualname__.partition('.')[0]}")
    listed = ", ".join(map(repr, (explainer, *given)))
    lines += ["    from xai_core.checks import *", f"    {function}({listed})"]
    return "\n".join(lines)
