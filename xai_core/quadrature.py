"""Nodes and weights of an integral over [0, 1], for the methods that follow a path."""

from __future__ import annotations

from typing import Literal

import numpy as np

from xai_core.arrays import Float64

Rule = Literal["gauss-legendre", "trapezoid"]


def quadrature(rule: Rule, steps: int) -> tuple[Float64, Float64]:
    """Return nodes in [0, 1] and weights (sum 1) that integrate over [0, 1].

    ``gauss-legendre`` takes ``steps`` nodes and is exact for polynomials up to degree
    ``2 * steps - 1``; ``trapezoid`` cuts [0, 1] into ``steps`` intervals, ``steps + 1`` nodes
    with both ends.
    """
    if rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (nodes + 1) / 2, weights / 2
    weights = np.full(steps + 1, 1 / steps)
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, steps + 1), weights
