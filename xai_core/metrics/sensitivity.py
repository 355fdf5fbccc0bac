"""How far does the heatmap move when the image moves a little?

The neighbours of an image are clip(x + d, 0, 1), every value of d uniform in [-radius, radius],
drawn from the image's own stream: the same for every metric here. A largest value over some
samples is a lower bound of the one over all neighbours.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.metrics.changed_maps import defined, of_shape
from xai_core.metrics.declaration import metric, unusable_heatmaps
from xai_core.metrics.robustness import Explain, Samples
from xai_core.seeding import generator_for

Radius = Annotated[float, msgspec.Meta(gt=0, le=1)]


@metric(version="yeh-2019", better="lower", range=(0, float("inf")), source="Yeh 2019")
def max_sensitivity(
    explain: Explain,
    images: Float32,
    targets: Int64,
    heatmaps: Float32,
    *,
    radius: Radius = 0.02,
    samples: Samples = 10,
    seed: int = 0,
) -> Float64:
    """Largest relative change of the heatmap among the image's neighbours.

    max over samples of ||h(x') - h(x)|| / ||h(x)||, Euclidean norms over the pixels. The paper's
    formula lacks the division, its authors' code and every other library have it: without it the
    number would be in the heatmap's own unit.

    >>> import numpy as np
    >>> image, heatmap = np.full((3, 4, 4), 0.5), np.eye(4)
    >>> max_sensitivity(lambda images, targets: heatmap, image, 0, heatmap)
    array([0.])

    Args:
        explain: images ``[N, 3, H, W]`` and targets ``[N]`` to heatmaps ``[N, H, W]``; called
            once a sample.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: ``[N]``.
        heatmaps: those of ``images``, ``[N, H, W]``.
        radius: in units of RGB in [0, 1], before normalisation.
        samples: neighbours of each image.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: a neighbour's heatmap is constant or not finite, or the radius
            is so small that a neighbour is the image.
        ShapeError: ``explain`` gives maps of another shape.
    """
    apart, _, reasons = _distances(explain, images, targets, heatmaps, radius, samples, seed)
    return defined(apart.max(axis=1) / _norms(heatmaps), reasons)


@metric(better="lower", range=(0, float("inf")), source="Yeh 2019, as a mean in Bhatt 2020")
def average_sensitivity(
    explain: Explain,
    images: Float32,
    targets: Int64,
    heatmaps: Float32,
    *,
    radius: Radius = 0.02,
    samples: Samples = 10,
    seed: int = 0,
) -> Float64:
    """Mean relative change of the heatmap among the image's neighbours.

    mean over samples of ||h(x') - h(x)|| / ||h(x)||, on the neighbours of `max_sensitivity`, which
    it therefore never exceeds.

    >>> METRICS["average_sensitivity"].configure({"radius": 0.1}).protocol
    'average_sensitivity@v1(radius=0.1)'

    Args:
        explain: as for `max_sensitivity`.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: ``[N]``.
        heatmaps: those of ``images``, ``[N, H, W]``.
        radius: in units of RGB in [0, 1], before normalisation.
        samples: neighbours of each image.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: as for `max_sensitivity`.
        ShapeError: ``explain`` gives maps of another shape.
    """
    apart, _, reasons = _distances(explain, images, targets, heatmaps, radius, samples, seed)
    return defined(apart.mean(axis=1) / _norms(heatmaps), reasons)


@metric(
    version="alvarez-melis-2018",
    better="lower",
    range=(0, float("inf")),
    source="Alvarez-Melis 2018",
)
def local_lipschitz(
    explain: Explain,
    images: Float32,
    targets: Int64,
    heatmaps: Float32,
    *,
    radius: Radius = 0.02,
    samples: Samples = 10,
    seed: int = 0,
) -> Float64:
    """Largest change of the heatmap among the image's neighbours, for the step to them.

    max over samples of ||h(x') - h(x)|| / ||x' - x||, Euclidean norms over all values. It grows
    with the heatmap's own scale: compare maps of one scale, e.g. with the post-processing
    ``min_max``.

    >>> METRICS["local_lipschitz"].configure({"samples": 50}).protocol
    'local_lipschitz@alvarez-melis-2018(samples=50)'

    Args:
        explain: as for `max_sensitivity`.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: ``[N]``.
        heatmaps: those of ``images``, ``[N, H, W]``.
        radius: in units of RGB in [0, 1], before normalisation.
        samples: neighbours of each image.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: as for `max_sensitivity`.
        ShapeError: ``explain`` gives maps of another shape.
    """
    apart, moved, reasons = _distances(explain, images, targets, heatmaps, radius, samples, seed)
    return defined((apart / moved).max(axis=1), reasons)


def _distances(
    explain: Explain,
    images: Float32,
    targets: Int64,
    heatmaps: Float32,
    radius: float,
    samples: int,
    seed: int,
) -> tuple[Float64, Float64, dict[int, str]]:
    """Return how far heatmaps and images are from their neighbours', both ``[N, samples]``.

    Where there is a reason against an image, its distances are any positive numbers.
    """
    streams = [generator_for(image, seed=seed, purpose="sensitivity") for image in images]
    apart, moved = np.ones((2, len(images), samples))
    reasons: dict[int, str] = {}
    for sample in range(samples):
        drawn = np.stack([stream.random(images.shape[1:], dtype=np.float32) for stream in streams])
        neighbours = np.clip(images + np.float32(radius) * (2 * drawn - 1), 0, 1)
        maps = of_shape(explain(neighbours, targets), heatmaps.shape, "explain")
        what = f"in the neighbourhood (sample {sample + 1} of {samples})"
        for index, why in unusable_heatmaps(maps).items():
            reasons.setdefault(index, f"{what}, {why}")
        steps = _norms(neighbours - images)
        for index in np.flatnonzero(steps == 0).tolist():
            reasons.setdefault(index, f"{what}, no pixel changed; give a larger `radius`")
        usable = [index for index in range(len(images)) if index not in reasons]
        apart[usable, sample] = _norms(maps[usable].astype(np.float64) - heatmaps[usable])
        moved[usable, sample] = steps[usable]
    return apart, moved, reasons


def _norms(arrays: Float32 | Float64) -> Float64:
    squares = np.square(arrays, dtype=np.float64)
    norms: Float64 = np.sqrt(squares.sum(axis=tuple(range(1, arrays.ndim))))
    return norms
