"""The gradient at the image itself: what a small change of each input value would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from xai_core.arrays import Float32, Int64
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class Saliency:
    """Saliency, the gradient [Simonyan et al. 2014, section 3].

    ``grad f(x)``, f the target's *logit*. The paper's map is ``max over channels of |grad|``,
    the default reduction; the attributions keep the sign.

    Args:
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "saliency"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "Simonyan et al. 2014"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "dummy",
            "flip_equivariance",
            "implementation_invariance",
            "input_invariance",
            "linearity",
            "randomised_weights",
            "symmetry",
            "target_sensitivity",
        }
    )

    reduce: Reduction = "max-abs"

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        gradients = _gradients(classifier, images, targets)
        return Explanation(reduce_channels(gradients, self.reduce), gradients)


@dataclass(frozen=True)
class GradientTimesInput:
    """Gradient x input [Shrikumar et al. 2016, section 3.2].

    ``x * grad f(x)``, f the target's *logit* and x the RGB image, so a black pixel gets nothing.

    Args:
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "gradient_x_input"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "Shrikumar et al. 2016"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "dummy",
            "flip_equivariance",
            "implementation_invariance",
            "linearity",
            "randomised_weights",
            "symmetry",
            "target_sensitivity",
        }
    )

    reduce: Reduction = "abs-sum"

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        products = images * _gradients(classifier, images, targets)
        return Explanation(reduce_channels(products, self.reduce), products)


def _gradients(classifier: Classifier, images: Float32, targets: Int64) -> Float32:
    result = classifier.gradients(torch.from_numpy(images), torch.from_numpy(targets))
    gradients: Float32 = result.gradients.contiguous().cpu().numpy()
    return gradients
