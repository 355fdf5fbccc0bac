"""Does the classifier use the parts of the image that the heatmap calls relevant?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.metrics.changed_maps import defined
from xai_core.metrics.declaration import metric
from xai_core.metrics.outputs import target_outputs
from xai_core.metrics.removal import Removal, Substrate
from xai_core.superpixels import superpixels

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier

Segments = Annotated[int, msgspec.Meta(ge=2)]
Compactness = Annotated[float, msgspec.Meta(gt=0)]


@metric(
    version="rieger-2020",
    better="higher",
    range=(float("-inf"), 1),
    source="Rieger & Hansen 2020, IROF",
)
def irof(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    segments: Segments = 50,
    compactness: Compactness = 10.0,
    substrate: Substrate = "mean",
    seed: int = 0,
) -> Float64:
    """Area over the curve of the target's probability as superpixels go, most relevant first.

    1 - area under p_l / p_0, l = 0 ... L superpixels removed in the order of their mean
    relevance; trapezoids over l / L, so the whole image counts and the number of superpixels
    does not. The superpixels are SLIC's of the RGB image. Negative where removing raises the
    probability.

    >>> METRICS["irof"].configure({"segments": 100}).protocol
    'irof@rieger-2020(segments=100)'

    Args:
        classifier: gives the probabilities, L + 1 forwards an image.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``; of equally relevant superpixels, SLIC's first goes first.
        targets: ``[N]``.
        segments: about how many superpixels, L.
        compactness: how much nearness counts against likeness of colour in SLIC.
        substrate: what a superpixel is replaced by, as in `deletion`.
        seed: the run's seed; it matters to what is imputed alone.

    Raises:
        UndefinedMeasurementError: a probability p_0 of zero or one that is not finite, or an
            image that is one superpixel.
    """
    import torch

    parts = [superpixels(image, segments=segments, compactness=compactness) for image in images]
    places = np.stack([_places(*pair) for pair in zip(parts, heatmaps, strict=True)])
    points = places.max(axis=(1, 2)) + 2
    owner = np.repeat(np.arange(len(images)), points)
    gone = np.concatenate([np.arange(count) for count in points])
    removal = Removal(classifier, images, substrate, seed=seed)
    place, image, count = (
        torch.from_numpy(array).to(classifier.device) for array in (places, owner, gone)
    )

    def build(index: Tensor) -> Tensor:
        removed = place[image[index]] < count[index, None, None]
        return removal.without(image[index], removed)

    size = heatmaps.shape[1], heatmaps.shape[2]
    probabilities = target_outputs(classifier, build, targets[owner], size)
    values = np.zeros(len(images))
    reasons: dict[int, str] = {}
    for index, curve in enumerate(np.split(probabilities, np.cumsum(points)[:-1])):
        if not np.isfinite(curve).all():
            reasons[index] = "the classifier gives a probability that is not finite"
        elif curve[0] == 0:
            reasons[index] = "the target's probability on the image is 0: no share of it can go"
        elif len(curve) == 2:
            reasons[index] = "the image is one superpixel, which any heatmap removes first"
        else:
            values[index] = 1 - np.trapezoid(curve / curve[0], dx=1 / (len(curve) - 1))
    return defined(values, reasons)


def _places(labels: Int64, heatmap: Float32) -> Int64:
    """Return for every pixel the place of its superpixel, 0 = most relevant on average."""
    sums = np.bincount(labels.ravel(), weights=heatmap.ravel().astype(np.float64))
    order = np.argsort(-sums / np.bincount(labels.ravel()), kind="stable")
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places[labels]
