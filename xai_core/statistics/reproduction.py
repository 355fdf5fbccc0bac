"""Are these the values of an earlier run of the same computation, but for rounding?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xai_core.arrays import Float64
from xai_core.parameters import require

_PART_OF_RANGE = 1e-3
_PART_OF_SIZE = 1e-2


@dataclass(frozen=True)
class Reproduction:
    """How the values of a run lie beside those of an earlier one that computed the same.

    Attributes:
        moved: how many values differ by more than ``tolerance``.
        images: how many there are.
        tolerance: what rounding may do, in the metric's unit.
        median: of the absolute differences.
    """

    moved: int
    images: int
    tolerance: float
    median: float

    @property
    def holds(self) -> bool:
        """Whether at most half of the values moved.

        Rounding, in another order of additions, moves every value by next to nothing and a few by
        much: a maximum jumps to another place, a pixel falls on the other side of a threshold.
        Another computation moves nearly all.
        """
        return 2 * self.moved <= self.images


def reproduction(
    values: Float64,
    earlier: Float64,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    scale: float = 0.01,
) -> Reproduction:
    """Return how many values are not those of an earlier run, paired by image.

    Rounding may move a value by a thousandth of the range where ``bounds`` are finite. What has no
    bounds is made of sums and quotients, of gradients too, some of whose ReLUs rounding flips: it
    may move by a hundredth of the earlier values' median size, or of ``scale`` where that is
    larger, so that next to nothing is not held against nothing. Integrated Gradients of a
    ResNet-50 with other kernels of the same library move by a thousandth of that at the median.

    >>> earlier = np.array([0.50, 0.61, 0.43, 0.72, 0.55])
    >>> reproduction(earlier + 1e-7, earlier, bounds=(0, 1)).holds
    True
    >>> reproduction(earlier + [0, 0, 0.01, -0.01, 0.01], earlier, bounds=(0, 1)).moved
    3

    Args:
        values: float64 ``[n]``, all finite.
        earlier: float64 ``[n]``, of the same images in the same order.
        bounds: smallest and largest possible value of the metric.
        scale: the smallest size in which changes of an unbounded metric are told.

    Raises:
        ParameterError: no pairs, another number of earlier values, or one that is not finite.
    """
    require(
        values.ndim == 1 and len(values) > 0 and values.shape == earlier.shape,
        f"needs pairs, one value per image in each run; got shapes {values.shape} and "
        f"{earlier.shape}: give the images that both runs have, in the same order",
    )
    require(
        bool(np.isfinite(values).all() and np.isfinite(earlier).all()),
        "needs finite values in both runs; leave images without one out of both",
    )
    span = bounds[1] - bounds[0]
    if math.isfinite(span):
        tolerance = _PART_OF_RANGE * span
    else:
        tolerance = _PART_OF_SIZE * max(float(np.median(np.abs(earlier))), scale)
    differences = np.abs(values - earlier)
    return Reproduction(
        moved=int((differences > tolerance).sum()),
        images=len(values),
        tolerance=tolerance,
        median=float(np.median(differences)),
    )
