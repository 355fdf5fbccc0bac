"""How does the classifier's answer change as pixels go or come in the heatmap's order?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from xai_core.arrays import ArrayLike, Float32, Float64, Int64
from xai_core.metrics.declaration import METRICS, prepare
from xai_core.metrics.outputs import Output, outputs_of_variants
from xai_core.metrics.ranking import descending_ranks
from xai_core.metrics.removal import Removal, Substrate, changed_counts

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier

Curve = tuple[Float64, Float64]
"""Share of the pixels changed ``[S + 1]``, from 0 to 1; probabilities ``[N, S + 1]``."""

Change = Literal["removed", "given back"]


def deletion_curve(
    classifier: Classifier,
    images: ArrayLike,
    heatmaps: ArrayLike,
    targets: ArrayLike,
    *,
    steps: int = 28,
    substrate: Substrate = "mean",
    seed: int = 0,
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
    settings = METRICS["deletion"].checked({"steps": steps, "substrate": substrate, "seed": seed})
    images, heatmaps, targets = _prepared(images, heatmaps, targets)
    removal = Removal(classifier, images, settings["substrate"], seed=settings["seed"])
    counts = changed_counts(heatmaps[0].size, settings["steps"])
    outputs = outputs_in_order(classifier, removal, heatmaps, targets, counts, "removed")
    return counts / heatmaps[0].size, outputs


def insertion_curve(
    classifier: Classifier,
    images: ArrayLike,
    heatmaps: ArrayLike,
    targets: ArrayLike,
    *,
    steps: int = 28,
    substrate: Substrate = "blur",
    seed: int = 0,
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
    settings = METRICS["insertion"].checked({"steps": steps, "substrate": substrate, "seed": seed})
    images, heatmaps, targets = _prepared(images, heatmaps, targets)
    removal = Removal(classifier, images, settings["substrate"], seed=settings["seed"])
    counts = changed_counts(heatmaps[0].size, settings["steps"])
    outputs = outputs_in_order(classifier, removal, heatmaps, targets, counts, "given back")
    return counts / heatmaps[0].size, outputs


def outputs_in_order(
    classifier: Classifier,
    removal: Removal,
    heatmaps: Float32,
    targets: Int64,
    counts: Int64,
    change: Change,
    *,
    output: Output = "probability",
) -> Float64:
    """Return the target's output with so many of the most relevant pixels changed.

    Args:
        classifier: gives the outputs.
        removal: of the same images.
        heatmaps: ``[N, H, W]``; equally relevant pixels are taken in reading order.
        targets: ``[N]``.
        counts: how many pixels are changed, ``[P]``.
        change: they are ``removed`` from the image, or ``given back`` when all are removed.
        output: the target's ``probability`` or ``logit``.

    Returns:
        ``[N, P]``.

    Raises:
        ShapeError: a target that is no class.
        UndefinedMeasurementError: an output that is not finite.
    """
    import torch

    ranks, changes = (
        torch.tensor(array, device=classifier.device)
        for array in (descending_ranks(heatmaps), counts.astype(np.int32))
    )

    def build(image: Tensor, point: Tensor) -> Tensor:
        changed = ranks[image] < changes[point, None, None]
        return removal.without(image, changed if change == "removed" else ~changed)

    size = heatmaps.shape[1], heatmaps.shape[2]
    return outputs_of_variants(classifier, build, targets, len(counts), size, output=output)


def _prepared(
    images: ArrayLike, heatmaps: ArrayLike, targets: ArrayLike
) -> tuple[Float32, Float32, Int64]:
    arguments = {"images": images, "heatmaps": heatmaps, "targets": targets}
    prepare(arguments, tuple(arguments))
    return arguments["images"], arguments["heatmaps"], arguments["targets"]
