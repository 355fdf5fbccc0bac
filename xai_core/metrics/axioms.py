"""Does the explanation keep the promises of its method?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from xai_core.arrays import Float32, Float64
from xai_core.errors import ClassifierError, UndefinedMeasurementError
from xai_core.metrics.changed_maps import all_finite, defined, maps_under
from xai_core.metrics.declaration import ExplainedBy, metric

if TYPE_CHECKING:
    from xai_core.classifier import Classifier, TorchClassifier

Shift = Annotated[float, msgspec.Meta(ge=-1, le=1)]

_SMALLEST_DIFFERENCE = 1e-6


@metric(better="lower", range=(0, float("inf")), scale=1, source="Sundararajan 2017, section 3")
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


@metric(better="lower", range=(0, float("inf")), scale=1, source="Sundararajan 2017, section 2.2")
def implementation_invariance(
    classifier: Classifier, heatmaps: Float32, explained_by: ExplainedBy
) -> Float64:
    """Largest difference between the heatmaps of two networks of one function.

    Largest over twins t and pixels of |h_t - h| / max |h|. The twins are the classifier with its
    batch norm not folded and with its channels in another order; see `TorchClassifier.twins`.
    Rounding alone gives about 1e-5, and up to 0.02 for gradients of a ResNet-50, some of whose
    ReLUs it flips.

    >>> METRICS["implementation_invariance"].configure({}).protocol
    'implementation_invariance@v1'

    Args:
        classifier: on torch.
        heatmaps: ``[N, H, W]``.
        explained_by: gives the maps under a twin.

    Raises:
        ClassifierError: the classifier has no twin, or is not on torch.
        UndefinedMeasurementError: a twin's map has values not finite.
    """
    largest = np.zeros(len(heatmaps))
    reasons: dict[int, str] = {}
    met: list[str] = []
    for what, twin in _on_torch(classifier).twins():
        met.append(what)
        maps = maps_under(explained_by, twin, heatmaps.shape)
        reasons |= _not_finite(maps, f"of the same function, {what}")
        largest = np.maximum(largest, _relative_gaps(heatmaps, maps))
    if not met:
        msg = (
            f"{classifier.name} has no twin: there is no batch norm that could be folded, and no "
            "channels between layers that could be reordered in a part that can be traced"
        )
        raise ClassifierError(msg)
    return defined(largest, reasons)


@metric(
    version="kindermans-2017",
    better="lower",
    range=(0, float("inf")),
    scale=1,
    source="Kindermans 2017",
)
def input_invariance(
    classifier: Classifier,
    heatmaps: Float32,
    explained_by: ExplainedBy,
    *,
    shift: Shift = -1.0,
) -> Float64:
    """Largest difference that a constant makes which the network takes off again.

    max |h' - h| / max |h|, h' the map of x + ``shift`` under the network whose normalisation has
    the constant in its mean, and which so gives for x + ``shift`` what the other gives for x.
    Images then leave [0, 1]. Known to fail: methods that multiply by the image, compare with a
    fixed colour, or draw from the image's own pixels.

    >>> METRICS["input_invariance"].configure({"shift": 0.5}).protocol
    'input_invariance@kindermans-2017(shift=0.5)'

    Args:
        classifier: on torch.
        heatmaps: ``[N, H, W]``.
        explained_by: gives the maps under the other network, of shifted images.
        shift: the constant, in RGB; -1 takes [0, 1] to [-1, 0], as in the paper.

    Raises:
        ClassifierError: the classifier is not on torch.
        UndefinedMeasurementError: the map of a shifted image has values not finite.
    """
    absorbing = _on_torch(classifier).absorbing(shift)
    maps = maps_under(
        explained_by, absorbing, heatmaps.shape, lambda images: images + np.float32(shift)
    )
    gaps = _relative_gaps(heatmaps, maps)
    return defined(gaps, _not_finite(maps, f"of images shifted by {shift:g}"))


def _on_torch(classifier: Classifier) -> TorchClassifier:
    from xai_core.classifier import TorchClassifier

    if isinstance(classifier, TorchClassifier):
        return classifier
    msg = (
        f"{classifier.name} runs on a back end that cannot be given another form; measure the "
        "torch module that it was made from"
    )
    raise ClassifierError(msg)


def _relative_gaps(heatmaps: Float32, others: Float32) -> Float64:
    expected, found = heatmaps.astype(np.float64), others.astype(np.float64)
    gaps: Float64 = np.abs(found - expected).max(axis=(1, 2)) / np.abs(expected).max(axis=(1, 2))
    return gaps


def _not_finite(maps: Float32, which: str) -> dict[int, str]:
    why = f"the heatmap {which}, has values not finite"
    return {int(index): why for index in np.flatnonzero(~all_finite(maps))}
