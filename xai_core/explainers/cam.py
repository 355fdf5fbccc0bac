"""Class activation maps: where in a convolutional layer the evidence lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from xai_core.arrays import Float32, Int64
from xai_core.explainers.explanation import Explanation, Needs, Promise
from xai_core.parameters import require

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class GradCAM:
    """Grad-CAM [Selvaraju et al. 2017, eq. 1-2].

    ``ReLU(sum_k alpha_k A_k)`` with ``alpha_k`` the mean over positions of the gradient of the
    target's *logit* with respect to channel ``A_k`` of one layer, enlarged to the image
    bilinearly. The backward pass stops at the layer.

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
    """

    kind: ClassVar[str] = "gradcam"
    needs: ClassVar[Needs] = "activations"
    source: ClassVar[str] = "Selvaraju et al. 2017"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "target_sensitivity",
            "implementation_invariance",
            "flip_equivariance",
            "randomised_weights",
        }
    )

    layer: str | None = None

    def __post_init__(self) -> None:
        require(self.layer != "", "`layer` must name a layer, or be left out for the default")

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        at = self.layer or classifier.default_layer()
        size = images.shape[-2:]
        result = classifier.gradients(torch.from_numpy(images), torch.from_numpy(targets), at)
        weights = result.gradients.mean(dim=(2, 3), keepdim=True)
        maps = torch.relu((weights * result.activations).sum(dim=1, keepdim=True))
        enlarged = torch.nn.functional.interpolate(maps, size=size, mode="bilinear")
        return Explanation(heatmaps=enlarged[:, 0].cpu().numpy())
