"""Many tests in one run: corrected p-values, and how often the whole run cries wolf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from xai_core.parameters import require


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in their order [Holm 1979].

    The smallest is multiplied by the number of tests, the next by one less, and so on; none
    falls below one before it, and none exceeds 1. Any dependence between the tests is covered.

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]

    Raises:
        ParameterError: a p-value outside [0, 1], NaN included.
    """
    require(all(0 <= p <= 1 for p in p_values), f"p-values lie in [0, 1], got {list(p_values)}")
    corrected = [1.0] * len(p_values)
    least = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = least
    return corrected


def false_alarm_rate(
    tests: int, level: float, *, correction: Literal["holm", "none"] = "holm"
) -> float:
    """Return the largest chance of any false alarm in a run of ``tests``, each held at ``level``.

    Under Holm it is ``level`` itself, however many tests there are, however they depend on each
    other, and whichever of the others are false [Holm 1979]. Without a correction the bound is
    ``tests * level``, at most 1; tests that do not depend on each other come close to it:
    ``1 - (1 - level) ** tests``.

    >>> false_alarm_rate(40, 0.025), false_alarm_rate(40, 0.025, correction="none")
    (0.025, 1.0)

    Args:
        tests: size of the family.
        level: one-sided level of each test, e.g. .025 for one end of a 95 % interval.
        correction: "holm", or "none".

    Raises:
        ParameterError: a negative number of tests, or a level outside (0, 1).
    """
    require(tests >= 0, f"the size of a family is 0 or more, got {tests}")
    require(0 < level < 1, f"`level` must be between 0 and 1, got {level}")
    if tests == 0:
        return 0.0
    return level if correction == "holm" else min(1.0, tests * level)
