"""What an explainer is, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from xai_core.arrays import Float32, Float64, Int64

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

Reduction = Literal["abs-sum", "sum", "max-abs"]
Needs = Literal["nothing", "scores", "gradients", "activations", "module"]
"""What an explainer asks of a classifier: nothing (null maps), `scores` alone (any back end),
`gradients` at the image, `gradients` at a layer, or the torch module itself."""

Promise = Literal[
    "completeness",
    "dummy",
    "flip_equivariance",
    "implementation_invariance",
    "input_invariance",
    "linearity",
    "randomised_weights",
    "sensitivity",
    "shift_equivariance",
    "symmetry",
    "target_sensitivity",
]
"""A property that an explainer may promise; the check of that name in `xai_core.checks` tests it.

completeness: attributions sum to f(x) - f(x'). dummy: an input that the model ignores gets
nothing. flip_equivariance, shift_equivariance: the map moves with the image on a convolutional
model. implementation_invariance: two networks of the same function get the same map.
input_invariance: a constant shift that the bias absorbs changes nothing [Kindermans 2017].
linearity: the map of a sum of models is the sum of the maps. randomised_weights: the map changes
when the weights do. sensitivity: one input that changes the output gets relevance. symmetry:
interchangeable inputs get the same. target_sensitivity: another class, another map.
"""


@dataclass(frozen=True)
class Explanation:
    """The explanation of a batch of images.

    Attributes:
        heatmaps: relevance per pixel, float32 ``[N, H, W]``, higher = more relevant.
        attributions: signed relevance per input value, float32 ``[N, 3, H, W]``; None where the
            method gives none (class activation maps).
        native: the heatmaps before they were enlarged to the image, float32 ``[N, h, w]``; None
            where the method works at the image's resolution.
    """

    heatmaps: Float32
    attributions: Float32 | None = None
    native: Float32 | None = None


@runtime_checkable
class Explainer(Protocol):
    """A frozen dataclass of parameters that explains images.

    The map of an image depends on that image alone, never on the batch it stands in. A stochastic
    explainer has a field ``seed`` and draws from `xai_core.seeding.generator_for`.

    Attributes:
        kind: the name in threshold files.
        needs: what it asks of the classifier, see `Needs`.
        source: the paper.
        promises: names of the checks in `xai_core.checks` that its maps must pass beyond the
            contract that holds for all.
    """

    kind: ClassVar[str]
    needs: ClassVar[Needs]
    source: ClassVar[str]
    promises: ClassVar[frozenset[Promise]]

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` (RGB in [0, 1], ``[N, 3, H, W]``) for the classes ``targets``."""
        ...


@runtime_checkable
class Complete(Protocol):
    """An explainer whose attributions promise to sum to f(x) - f(x')."""

    def differences(self, classifier: Classifier, images: Float32, targets: Int64) -> Float64:
        """Return f(x) - f(x') for every image, f the target's logit, x' the baseline."""
        ...


def reduce_channels(attributions: Float32, reduction: Reduction) -> Float32:
    """Return heatmaps ``[N, H, W]`` from signed attributions ``[N, C, H, W]``.

    ``abs-sum``: sum of absolute values; ``sum``: signed sum; ``max-abs``: largest absolute value.
    """
    if reduction == "abs-sum":
        heatmaps: Float32 = np.abs(attributions).sum(axis=1)
    elif reduction == "sum":
        heatmaps = attributions.sum(axis=1)
    else:
        heatmaps = np.abs(attributions).max(axis=1)
    return heatmaps
