"""Does the classifier recognise the image in the heatmap's light?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.metrics.changed_maps import defined
from xai_core.metrics.declaration import metric
from xai_core.metrics.outputs import outputs_of_variants
from xai_core.postprocess import MinMax

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier


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
    whole, shaded = _probabilities(classifier, images, heatmaps, targets)
    drops = np.maximum(whole - shaded, 0) / np.where(whole == 0, 1, whole) * 100
    return defined(drops, _nothing_to_lose(whole))


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
    whole, shaded = _probabilities(classifier, images, heatmaps, targets)
    return defined(np.where(shaded > whole, 100.0, 0.0), _nothing_to_lose(whole))


@metric(
    version="zhang-2023",
    better="higher",
    range=(0, 100),
    unit="%",
    source="Zhang 2023, Opti-CAM, arXiv 2301.07002",
)
def average_gain(
    classifier: Classifier, images: Float32, heatmaps: Float32, targets: Int64
) -> Float64:
    """Gain of the target's probability, in percent of what is left to gain, under the shading.

    max(0, O - Y) / (1 - Y) x 100, with O and Y as in `average_drop`, whose counterpart it is.

    >>> METRICS["average_gain"].configure({}).protocol
    'average_gain@zhang-2023'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.

    Raises:
        UndefinedMeasurementError: a probability Y of one.
    """
    whole, shaded = _probabilities(classifier, images, heatmaps, targets)
    sure = whole >= 1
    gains = np.maximum(shaded - whole, 0) / np.where(sure, 1, 1 - whole) * 100
    why = "the target's probability on the image is 1, so that there is nothing to gain"
    reasons = {int(index): why for index in np.flatnonzero(sure)}
    return defined(np.minimum(gains, 100.0), reasons)


def _probabilities(
    classifier: Classifier, images: Float32, heatmaps: Float32, targets: Int64
) -> tuple[Float64, Float64]:
    """Return the target's probability on the images and on the images x heatmaps."""
    import torch

    whole, shade = (
        torch.tensor(array, device=classifier.device) for array in (images, MinMax()(heatmaps))
    )

    def build(image: Tensor, variant: Tensor) -> Tensor:
        is_whole = (variant == 0)[:, None, None]
        return whole[image] * torch.where(is_whole, 1.0, shade[image])[:, None]

    size = heatmaps.shape[1], heatmaps.shape[2]
    pairs = outputs_of_variants(classifier, build, targets, 2, size)
    return pairs[:, 0], pairs[:, 1]


def _nothing_to_lose(whole: Float64) -> dict[int, str]:
    why = "the target's probability on the image is 0, so that no share of it can be lost"
    return {int(index): why for index in np.flatnonzero(whole == 0)}
