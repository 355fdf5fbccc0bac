"""Can the image do without the pixels that the heatmap calls relevant, or with them alone?

Pixels are removed without a trace that the classifier could read: what takes their place is
imputed from the pixels that are left, see `xai_core.metrics.imputation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.metrics.curves import outputs_in_order
from xai_core.metrics.declaration import metric
from xai_core.metrics.removal import Removal

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
"""Of the pixels that are removed: those of the authors' experiments."""


@metric(version="rong-2022", better="lower", range=(0, 1), source="Rong 2022, ROAD")
def road_morf(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    seed: int = 0,
) -> Float64:
    """Mean probability of the target without the most relevant pixels, imputed.

    Mean over the shares 10, 20, 30, 40, 50, 70 and 90% of p(target) after that share of the
    pixels, most relevant first, was removed by noisy linear imputation. The paper's accuracy is
    the mean over images of whether the target wins; the probability says the same of one image
    without a threshold in between. It favours maps of large smooth regions, of which less can be
    imputed than of scattered pixels; `road_lerf` does the opposite, `road` takes both.

    >>> METRICS["road_morf"].configure({"seed": 3}).protocol
    'road_morf@rong-2022'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``; equally relevant pixels are taken in reading order.
        targets: ``[N]``.
        seed: the run's seed; the noise is the same for every share.
    """
    left = _most_relevant_first(classifier, images, heatmaps, targets, seed)
    means: Float64 = left.mean(axis=1)
    return means


@metric(version="rong-2022", better="higher", range=(0, 1), source="Rong 2022, ROAD")
def road_lerf(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    seed: int = 0,
) -> Float64:
    """Mean probability of the target without the least relevant pixels, imputed.

    `road_morf` from the other end.

    >>> METRICS["road_lerf"].configure({}).protocol
    'road_lerf@rong-2022'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``; equally relevant pixels are taken in reverse reading order.
        targets: ``[N]``.
        seed: the run's seed; the noise is the same for every share.
    """
    left = _least_relevant_first(classifier, images, heatmaps, targets, seed)
    means: Float64 = left.mean(axis=1)
    return means


@metric(
    version="rong-2022",
    better="higher",
    range=(-0.5, 0.5),
    source="Rong 2022, ROAD; both orders in one number as in pytorch-grad-cam",
)
def road(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    seed: int = 0,
) -> Float64:
    """Half of what the least relevant pixels leave of the target's probability beyond the most.

    (`road_lerf` - `road_morf`) / 2. What the imputation itself does to the classifier is in both
    and falls out; a map without information has an expectation of 0.

    >>> METRICS["road"].configure({}).protocol
    'road@rong-2022'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        seed: the run's seed; the noise is the same for every share.
    """
    least = _least_relevant_first(classifier, images, heatmaps, targets, seed)
    most = _most_relevant_first(classifier, images, heatmaps, targets, seed)
    halves: Float64 = (least.mean(axis=1) - most.mean(axis=1)) / 2
    return halves


def _most_relevant_first(
    classifier: Classifier, images: Float32, heatmaps: Float32, targets: Int64, seed: int
) -> Float64:
    removal = Removal(classifier, images, "imputed", seed=seed)
    removed = _counts(heatmaps[0].size)
    return outputs_in_order(classifier, removal, heatmaps, targets, removed, "removed")


def _least_relevant_first(
    classifier: Classifier, images: Float32, heatmaps: Float32, targets: Int64, seed: int
) -> Float64:
    removal = Removal(classifier, images, "imputed", seed=seed)
    kept = heatmaps[0].size - _counts(heatmaps[0].size)
    return outputs_in_order(classifier, removal, heatmaps, targets, kept, "given back")


def _counts(pixels: int) -> Int64:
    return np.array([round(share * pixels) for share in SHARES], dtype=np.int64)
