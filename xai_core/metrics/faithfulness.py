"""Does the classifier use the pixels that the heatmap calls relevant?

Everything here speaks of the probability of the target (after the softmax).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np

from xai_core.arrays import ArrayLike, Float32, Float64, Int64
from xai_core.errors import ShapeError, UndefinedMeasurementError
from xai_core.metrics.declaration import METRICS, metric, prepare
from xai_core.metrics.ranking import descending_ranks
from xai_core.postprocess import MinMax

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier

Steps = Annotated[int, msgspec.Meta(ge=1)]
Substrate = Literal["mean", "black", "white", "blur"]
"""What a removed pixel is replaced by, see `substrate_images`."""

Curve = tuple[Float64, Float64]
"""Share of the pixels changed ``[S + 1]``, from 0 to 1; probabilities ``[N, S + 1]``."""


@metric(version="rise-2018", better="lower", range=(0, 1), source="Petsiuk 2018, RISE")
def deletion(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    steps: Steps = 28,
    substrate: Substrate = "mean",
) -> Float64:
    """Area under the target's probability as pixels go, most relevant first.

    Trapezoids over the share of pixels removed, from 0 to 1 inclusive; see `deletion_curve`.
    RISE removes 1792 pixels of 224 x 224 a step, which are 28 steps, to the mean colour.
    Measured alone it is weak evidence: scattered holes break any classifier.

    >>> METRICS["deletion"].configure({"substrate": "blur"}).protocol
    'deletion@rise-2018(substrate=blur)'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        steps: at most so many, of ceil(H W / steps) pixels each.
        substrate: ``"mean"``, ``"black"``, ``"white"`` or ``"blur"``.
    """
    return _area(
        deletion_curve(classifier, images, heatmaps, targets, steps=steps, substrate=substrate)
    )


@metric(version="rise-2018", better="higher", range=(0, 1), source="Petsiuk 2018, RISE")
def insertion(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    steps: Steps = 28,
    substrate: Substrate = "blur",
) -> Float64:
    """Area under the target's probability as pixels come in, most relevant first.

    Trapezoids over the share of pixels given back to the blurred image, from 0 to 1 inclusive;
    see `insertion_curve`.

    >>> METRICS["insertion"].configure({"steps": 14}).protocol
    'insertion@rise-2018(steps=14)'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        steps: at most so many, of ceil(H W / steps) pixels each.
        substrate: what the curve starts from: ``"blur"``, ``"mean"``, ``"black"``, ``"white"``.
    """
    return _area(
        insertion_curve(classifier, images, heatmaps, targets, steps=steps, substrate=substrate)
    )


@metric(better="higher", range=(-1, 1), source="Zhang 2021, Group-CAM, 'over-all'")
def faithfulness_gap(insertion: Float64, deletion: Float64) -> Float64:
    """Insertion minus deletion, both with the same steps.

    >>> faithfulness_gap([0.75], [0.25])
    array([0.5])

    Args:
        insertion: ``[N]``.
        deletion: ``[N]``.

    Raises:
        UndefinedMeasurementError: one of the two is not finite.
    """
    gaps: Float64 = insertion - deletion
    return _finite(gaps, "insertion or deletion is not finite")


@metric(
    version="gradcampp", better="lower", range=(0, 100), unit="%", source="Chattopadhay 2018, eq. 8"
)
def average_drop(
    classifier: Classifier, images: Float32, heatmaps: Float32, targets: Int64
) -> Float64:
    """Loss of the target's probability, in percent, when the heatmap shades the image.

    max(0, Y - O) / Y x 100, Y the probability on the image and O on RGB x heatmap, the heatmap
    scaled to [0, 1] from its smallest to its largest value.

    >>> METRICS["average_drop"].configure({}).protocol
    'average_drop@gradcampp'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.

    Raises:
        UndefinedMeasurementError: a probability Y of zero.
    """
    whole, shaded = _confidences(classifier, images, heatmaps, targets)
    drops: Float64 = np.maximum(whole - shaded, 0) / whole * 100
    return drops


@metric(
    version="gradcampp",
    better="higher",
    range=(0, 100),
    unit="%",
    source="Chattopadhay 2018, section 4",
    assertion="increase",
)
def increase_in_confidence(
    classifier: Classifier, images: Float32, heatmaps: Float32, targets: Int64
) -> Float64:
    """100 if the heatmap's shading raises the target's probability, else 0.

    100 x [O > Y], with O and Y as in `average_drop`; the mean over images is the percentage.

    >>> METRICS["increase_in_confidence"].configure({}).protocol
    'increase_in_confidence@gradcampp'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.

    Raises:
        UndefinedMeasurementError: a probability Y of zero.
    """
    whole, shaded = _confidences(classifier, images, heatmaps, targets)
    return np.where(shaded > whole, 100.0, 0.0)


def deletion_curve(
    classifier: Classifier,
    images: ArrayLike,
    heatmaps: ArrayLike,
    targets: ArrayLike,
    *,
    steps: int = 28,
    substrate: Substrate = "mean",
) -> Curve:
    """Return the target's probability as pixels go, most relevant first.

    Each step takes ceil(H W / steps) pixels, equally relevant ones in reading order; the last
    takes what is left. There are S = ceil(H W / that) steps, which is ``steps`` wherever the
    image has the pixels for it.

    Returns:
        the share of pixels removed ``[S + 1]``, from 0 to 1, and the probabilities
        ``[N, S + 1]``.

    Raises:
        ParameterError: ``steps`` or ``substrate`` out of range.
        ShapeError: arrays that do not fit each other, or a target that is no class.
        UndefinedMeasurementError: a constant or non-finite map, a probability not finite.
    """
    settings = METRICS["deletion"].checked({"steps": steps, "substrate": substrate})
    images, heatmaps, targets = _prepared(images, heatmaps, targets)
    removed = substrate_images(images, settings["substrate"], classifier.mean)
    return _curve(classifier, images, removed, heatmaps, targets, settings["steps"])


def insertion_curve(
    classifier: Classifier,
    images: ArrayLike,
    heatmaps: ArrayLike,
    targets: ArrayLike,
    *,
    steps: int = 28,
    substrate: Substrate = "blur",
) -> Curve:
    """Return the target's probability as pixels come in, most relevant first.

    The counterpart of `deletion_curve`, from the substrate to the image.

    Returns:
        the share of pixels given back ``[S + 1]``, from 0 to 1, and the probabilities
        ``[N, S + 1]``.

    Raises:
        ParameterError: ``steps`` or ``substrate`` out of range.
        ShapeError: arrays that do not fit each other, or a target that is no class.
        UndefinedMeasurementError: a constant or non-finite map, a probability not finite.
    """
    settings = METRICS["insertion"].checked({"steps": steps, "substrate": substrate})
    images, heatmaps, targets = _prepared(images, heatmaps, targets)
    removed = substrate_images(images, settings["substrate"], classifier.mean)
    return _curve(classifier, removed, images, heatmaps, targets, settings["steps"])


def substrate_images(
    images: Float32, substrate: Substrate, mean: tuple[float, float, float]
) -> Float32:
    """Return what is left of the images when every pixel is removed.

    ``"mean"`` is the colour that normalisation maps to zero, ``"black"`` RGB 0, ``"white"``
    RGB 1, ``"blur"`` the image through RISE's kernel: 11 x 11, a Gaussian of sigma 5 on a Dirac,
    reflected at the kernel's border. Zero padding after normalisation, as RISE has it, is
    padding with the mean colour here.

    Args:
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        substrate: as above.
        mean: the classifier's.
    """
    colour = np.array(mean, dtype=np.float32)[:, None, None]
    if substrate == "mean":
        return np.broadcast_to(colour, images.shape).copy()
    if substrate in ("black", "white"):
        return np.full_like(images, 1.0 if substrate == "white" else 0.0)
    from scipy.ndimage import convolve1d, gaussian_filter1d

    kernel = gaussian_filter1d(np.eye(11)[5], sigma=5)  # the 2-D kernel is its outer product
    blurred = images - colour
    for axis in (-2, -1):
        blurred = convolve1d(blurred, kernel, axis=axis, mode="constant", cval=0.0)
    restored: Float32 = blurred + colour
    return restored


def _prepared(
    images: ArrayLike, heatmaps: ArrayLike, targets: ArrayLike
) -> tuple[Float32, Float32, Int64]:
    arguments = {"images": images, "heatmaps": heatmaps, "targets": targets}
    prepare(arguments, tuple(arguments))
    return arguments["images"], arguments["heatmaps"], arguments["targets"]


def _curve(
    classifier: Classifier,
    start: Float32,
    finish: Float32,
    heatmaps: Float32,
    targets: Int64,
    steps: int,
) -> Curve:
    """Return the curve from ``start`` to ``finish``, most relevant pixels first."""
    import torch

    pixels = heatmaps[0].size
    step = -(-pixels // steps)
    points = -(-pixels // step) + 1
    changed = np.minimum(np.arange(points, dtype=np.int32) * step, pixels)
    before, after, ranks, counts = (
        torch.tensor(array, device=classifier.device)
        for array in (start, finish, descending_ranks(heatmaps), changed)
    )

    def mixed(index: Tensor) -> Tensor:
        image = index // points
        has_changed = ranks[image] < counts[index % points, None, None]
        return torch.where(has_changed[:, None], after[image], before[image])

    _, height, width = heatmaps.shape
    probabilities = _probabilities(classifier, mixed, np.repeat(targets, points), height, width)
    return changed / pixels, _finite(
        probabilities.reshape(-1, points), "the classifier gives a probability that is not finite"
    )


def _area(curve: Curve) -> Float64:
    shares, probabilities = curve
    areas: Float64 = np.asarray(np.trapezoid(probabilities, shares, axis=1))
    return np.clip(areas, 0.0, 1.0)  # a softmax may round to just above 1


def _confidences(
    classifier: Classifier, images: Float32, heatmaps: Float32, targets: Int64
) -> tuple[Float64, Float64]:
    """Return the target's probability on the images and on the images x heatmaps."""
    import torch

    whole, shade = (
        torch.tensor(array, device=classifier.device) for array in (images, MinMax()(heatmaps))
    )
    count = len(images)

    def shaded(index: Tensor) -> Tensor:
        image = index % count
        is_whole = (index < count)[:, None, None]
        return whole[image] * torch.where(is_whole, 1.0, shade[image])[:, None]

    _, height, width = heatmaps.shape
    both = _probabilities(classifier, shaded, np.tile(targets, 2), height, width)
    pairs = _finite(
        both.reshape(2, count).T, "the classifier gives a probability that is not finite"
    )
    zero = "the target's probability on the image is 0, so that no share of it can be lost"
    reasons = {int(index): zero for index in np.flatnonzero(pairs[:, 0] == 0)}
    if reasons:
        raise UndefinedMeasurementError(reasons)
    return pairs[:, 0], pairs[:, 1]


def _probabilities(
    classifier: Classifier,
    build: Callable[[Tensor], Tensor],
    targets: Int64,
    height: int,
    width: int,
) -> Float64:
    """Return the targets' probabilities on the images that ``build`` makes of their indices.

    Images are built batch by batch as the classifier asks for them, every batch but the last
    full, so memory does not grow with their number.
    """
    import torch

    if targets.min() < 0 or targets.max() >= classifier.num_classes:
        msg = (
            f"targets: expected class indices from 0 to {classifier.num_classes - 1}, "
            f"got {targets.min()} to {targets.max()}"
        )
        raise ShapeError(msg)
    indices = torch.arange(len(targets), device=classifier.device)

    def batches() -> Iterator[Tensor]:
        size = classifier.batch_size(height, width)
        for first in range(0, len(indices), size):
            yield build(indices[first : first + size])

    scores = classifier.scores(batches())
    of_target: Float64 = scores[indices, torch.from_numpy(targets).to(scores.device)].cpu().numpy()
    return of_target.astype(np.float64)


def _finite(values: Float64, why: str) -> Float64:
    """Return ``values``, ``[N]`` or ``[N, ...]``, if all of them are finite."""
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise UndefinedMeasurementError({int(index): why for index in np.flatnonzero(bad)})
    return values
