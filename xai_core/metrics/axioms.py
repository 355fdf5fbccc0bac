"""Does the explanation keep the promises of its method?"""

from __future__ import annotations

import numpy as np

from xai_core.arrays import Float32, Float64
from xai_core.errors import UndefinedMeasurementError
from xai_core.metrics.declaration import metric

_SMALLEST_DIFFERENCE = 1e-6


@metric(better="lower", range=(0, float("inf")), source="Sundararajan 2017, section 3")
def completeness(attributions: Float32, differences: Float64) -> Float64:
    """Relative gap between the sum of the attributions and the change that they explain.

    |sum of attributions - (f(x) - f(x'))| / |f(x) - f(x')|, f the target's logit and x' the
    baseline of the path method.

    >>> completeness([[[[1.0, 2.0]]]], [2.0])
    array([0.5])

    Args:
        attributions: ``[N, C, H, W]``.
        differences: f(x) - f(x'), ``[N]``.

    Raises:
        UndefinedMeasurementError: a difference below 1e-6 in size, or not finite.
    """
    reasons: dict[int, str] = {}
    for index, value in enumerate(differences):
        if not abs(value) >= _SMALLEST_DIFFERENCE or not np.isfinite(value):
            reasons[index] = (
                f"f(x) - f(x') is {value:.3g}: image and baseline give the same logit, or none"
            )
    if reasons:
        raise UndefinedMeasurementError(reasons)
    sums: Float64 = attributions.sum(axis=(1, 2, 3), dtype=np.float64)
    return np.abs(sums - differences) / np.abs(differences)
