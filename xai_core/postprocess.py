"""What is done to heatmaps before they are shown or measured.

Every step is a frozen dataclass of its parameters that maps heatmaps to heatmaps, each map on
its own. A map that is constant or has values not finite comes out as it went in: it says
nothing, and a metric then says that it is undefined.

>>> parse_postprocess("gaussian(sigma=2)")
Gaussian(sigma=2.0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from xai_core.arrays import ArrayLike, Bool, Float32, Float64, as_heatmaps
from xai_core.errors import ParameterError, did_you_mean
from xai_core.parameters import from_table, parse_call, require


@runtime_checkable
class PostProcess(Protocol):
    """A frozen dataclass of parameters that maps heatmaps to heatmaps, map by map."""

    name: ClassVar[str]

    def __call__(self, heatmaps: ArrayLike) -> Float32:
        """Return the changed heatmaps, float32 ``[N, H, W]``; one map gets ``N = 1``."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Blur with a Gaussian that reaches 4 sigma; beyond the border the edge pixel goes on.

    Attributes:
        sigma: standard deviation in pixels.
    """

    name: ClassVar[str] = "gaussian"
    sigma: float = 3.0

    def __post_init__(self) -> None:
        require(0 < self.sigma < float("inf"), f"sigma: expected more than 0, got {self.sigma}")

    def __call__(self, heatmaps: ArrayLike) -> Float32:
        from scipy.ndimage import gaussian_filter

        return _map_by_map(
            heatmaps,
            lambda heatmap: gaussian_filter(heatmap, self.sigma, mode="nearest", truncate=4.0),
        )


@dataclass(frozen=True)
class Clahe:
    """Contrast-limited adaptive histogram equalisation of the map scaled to [0, 1].

    Attributes:
        kernel: side of the square tiles in pixels; None = an eighth of each side of the map.
        clip_limit: above 0 to 1, higher gives more contrast; 1 does not limit.
        bins: of each tile's histogram.
    """

    name: ClassVar[str] = "clahe"
    kernel: int | None = None
    clip_limit: float = 0.01
    bins: int = 256

    def __post_init__(self) -> None:
        kernel = self.kernel
        require(kernel is None or kernel >= 1, f"kernel: expected 1 or more, got {kernel}")
        require(
            0 < self.clip_limit <= 1,
            f"clip_limit: expected more than 0 and at most 1, got {self.clip_limit}",
        )
        require(
            2 <= self.bins <= 2**14, f"bins: expected 2 to 16384 (14-bit greys), got {self.bins}"
        )

    def __call__(self, heatmaps: ArrayLike) -> Float32:
        from skimage.exposure import equalize_adapthist

        return _map_by_map(
            heatmaps,
            lambda heatmap: equalize_adapthist(
                _scaled(heatmap),
                kernel_size=self.kernel,
                clip_limit=self.clip_limit,
                nbins=self.bins,
            ),
        )


@dataclass(frozen=True)
class Otsu:
    """1 above Otsu's threshold of the map (256 bins), else 0."""

    name: ClassVar[str] = "otsu"

    def __call__(self, heatmaps: ArrayLike) -> Float32:
        from skimage.filters import threshold_otsu

        def _above(heatmap: Float64) -> Bool:
            above: Bool = heatmap > threshold_otsu(heatmap)
            return above

        return _map_by_map(heatmaps, _above)


@dataclass(frozen=True)
class MinMax:
    """Scale linearly, so that the smallest value is 0 and the largest is 1."""

    name: ClassVar[str] = "min_max"

    def __call__(self, heatmaps: ArrayLike) -> Float32:
        return _map_by_map(heatmaps, _scaled)


@dataclass(frozen=True)
class PercentileClip:
    """Cut off values below and above two percentiles of the map.

    A map whose percentiles coincide, such as one that is zero almost everywhere, becomes
    constant.

    Attributes:
        low: percentile, from 0.
        high: percentile, to 100.
    """

    name: ClassVar[str] = "percentile_clip"
    low: float = 0.0
    high: float = 99.0

    def __post_init__(self) -> None:
        require(
            0 <= self.low < self.high <= 100,
            f"low, high: expected 0 <= low < high <= 100, got {self.low} and {self.high}",
        )

    def __call__(self, heatmaps: ArrayLike) -> Float32:
        return _map_by_map(
            heatmaps,
            lambda heatmap: np.clip(heatmap, *np.percentile(heatmap, (self.low, self.high))),
        )


POSTPROCESS: dict[str, type[PostProcess]] = {
    "clahe": Clahe,
    "gaussian": Gaussian,
    "min_max": MinMax,
    "otsu": Otsu,
    "percentile_clip": PercentileClip,
}
"""Every step by its name in text."""


def parse_postprocess(text: str) -> PostProcess:
    """Return the step that ``text`` names, such as ``"clahe"`` or ``"gaussian(sigma=3)"``.

    Raises:
        ParameterError: an unknown step or parameter, or a value that it cannot take.
    """
    name, values = parse_call(text)
    if name not in POSTPROCESS:
        msg = f"unknown post-processing {name!r}: {did_you_mean(name, POSTPROCESS)}"
        raise ParameterError(msg)
    return from_table(POSTPROCESS[name], values, what=f"post-processing {name!r}")


def apply(heatmaps: ArrayLike, steps: Iterable[PostProcess]) -> Float32:
    """Return the heatmaps ``[N, H, W]`` after all ``steps``, in their order."""
    changed = as_heatmaps(heatmaps)
    for step in steps:
        changed = step(changed)
    return changed


def _map_by_map(heatmaps: ArrayLike, change: Callable[[Float64], ArrayLike]) -> Float32:
    given = as_heatmaps(heatmaps)
    changed = given.copy()
    for index, heatmap in enumerate(given.astype(np.float64)):
        if np.isfinite(heatmap).all() and heatmap.min() < heatmap.max():
            changed[index] = change(heatmap)
    return changed


def _scaled(heatmap: Float64) -> Float64:
    low, high = heatmap.min(), heatmap.max()
    scaled: Float64 = (heatmap - low) / (high - low)
    return scaled
