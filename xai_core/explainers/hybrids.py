"""Hybrids: gradients at the image, weighed by where a class activation map looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from xai_core.arrays import Float32, Int64
from xai_core.explainers.cam import GradCAM
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels
from xai_core.explainers.guided import GuidedBackprop
from xai_core.explainers.layer_maps import check_layer
from xai_core.explainers.path import IntegratedGradients
from xai_core.quadrature import Rule

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class GuidedGradCAM:
    """Guided Grad-CAM [Selvaraju et al. 2017, section 3.3].

    Guided backpropagation times the enlarged Grad-CAM, value by value, both of the target's
    *logit*: fine detail, only where Grad-CAM sees evidence.

    Args:
        layer: Grad-CAM's layer; None = the last one that still has space, after its ReLU.
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "guided_gradcam"
    needs: ClassVar[Needs] = "module"
    source: ClassVar[str] = "Selvaraju et al. 2017"
    promises: ClassVar[frozenset[Promise]] = frozenset({"dummy"})

    layer: str | None = None
    reduce: Reduction = "max-abs"

    def __post_init__(self) -> None:
        check_layer(self.layer)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`.

        Raises:
            ClassifierError: the model has no ReLU, or activations that are not ReLUs.
        """
        guided = GuidedBackprop().explain(classifier, images, targets)
        where = GradCAM(layer=self.layer).explain(classifier, images, targets)
        return _weighed(guided, where, self.reduce)


@dataclass(frozen=True)
class IGTimesGradCAM:
    """Integrated Gradients weighed by Grad-CAM.

    The signed attributions of Integrated Gradients times the enlarged Grad-CAM of the image,
    value by value, both of the target's *logit*. The product is not complete: it does not sum to
    f(x) - f(x').

    Args:
        layer: Grad-CAM's layer; None = the last one that still has space, after its ReLU.
        steps: as in Integrated Gradients, like all that follow.
        rule: ``gauss-legendre`` (``steps`` gradients) or ``trapezoid`` (``steps + 1``).
        baseline: one baseline, or several whose attributions are averaged.
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "ig_times_gradcam"
    needs: ClassVar[Needs] = "activations"
    source: ClassVar[str] = "Sundararajan et al. 2017 x Selvaraju et al. 2017"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {"dummy", "target_sensitivity", "implementation_invariance", "randomised_weights"}
    )

    layer: str | None = None
    steps: int = 50
    rule: Rule = "gauss-legendre"
    baseline: str | tuple[str, ...] = "black"
    reduce: Reduction = "abs-sum"

    def __post_init__(self) -> None:
        check_layer(self.layer)
        self._integrated_gradients()

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        integrated = self._integrated_gradients().explain(classifier, images, targets)
        where = GradCAM(layer=self.layer).explain(classifier, images, targets)
        return _weighed(integrated, where, self.reduce)

    def _integrated_gradients(self) -> IntegratedGradients:
        return IntegratedGradients(steps=self.steps, rule=self.rule, baseline=self.baseline)


def _weighed(fine: Explanation, where: Explanation, reduction: Reduction) -> Explanation:
    """Return the attributions of ``fine`` times the heatmaps of ``where``."""
    assert fine.attributions is not None
    attributions: Float32 = np.ascontiguousarray(fine.attributions * where.heatmaps[:, None])
    return Explanation(reduce_channels(attributions, reduction), attributions)
