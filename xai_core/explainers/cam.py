"""Class activation maps from one gradient at a layer: where in it the evidence lies.

All weigh the activations ``A`` of one layer with the gradient ``g`` of the target's *logit* there
and differ in how; the sum over channels is rectified and enlarged to the image bilinearly. The
backward pass stops at the layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from xai_core.arrays import Float32, Int64
from xai_core.explainers.explanation import Explanation, Needs, Promise
from xai_core.explainers.layer_maps import check_layer, enlarged, full_batches

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class _GradientCAM(ABC):
    """A map of the activations and the gradient at one layer.

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
    """

    needs: ClassVar[Needs] = "activations"
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
        check_layer(self.layer)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        at = self.layer or classifier.default_layer()
        results = classifier.gradients(full_batches(classifier, images, targets), at=at)
        maps = (torch.relu(self._map(result.activations, result.gradients)) for result in results)
        return enlarged(maps, images.shape[-2:])

    @abstractmethod
    def _map(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """Return the map ``[N, h, w]`` of activations and gradients ``[N, C, h, w]``."""


@dataclass(frozen=True)
class GradCAM(_GradientCAM):
    """Grad-CAM [Selvaraju et al. 2017, eq. 1-2].

    ``ReLU(sum_k alpha_k A_k)`` with ``alpha_k`` the mean over positions of the gradient of the
    target's *logit* with respect to channel ``A_k`` of one layer.

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
    """

    kind: ClassVar[str] = "gradcam"
    source: ClassVar[str] = "Selvaraju et al. 2017"

    def _map(self, activations: Tensor, gradients: Tensor) -> Tensor:
        weights = gradients.mean(dim=(2, 3), keepdim=True)
        return (weights * activations).sum(dim=1)


@dataclass(frozen=True)
class GradCAMPlusPlus(_GradientCAM):
    """Grad-CAM++ [Chattopadhay et al. 2018, eq. 5 and 19].

    ``ReLU(sum_k w_k A_k)``, ``w_k = sum_ij alpha_ij ReLU(dY/dA_ij)``, ``alpha_ij`` the second
    derivative over ``2 x second + sum_ab A_ab x third``. As in the paper ``Y = exp(logit)``, and
    the logit is piecewise linear in the layer, so the derivatives are ``exp(logit)`` times ``g``,
    ``g^2`` and ``g^3``. The exponential cancels in alpha, which leaves
    ``w_k = sum_ij ReLU(g) / (2 + g sum_ab A_ab)`` times ``exp(logit)``: one positive factor for
    the whole image, left out here because it overflows. So the ``g^2``, ``g^3`` of public code is
    no shortcut of its own but this formula up to scale. What does differ there is a constant
    added to the denominator ``2 g^2 + ...``, which outweighs it where gradients are small
    (grad-cam: 1e-6); cancelling ``g^2`` first needs none. The formula supposes activations that
    are not negative; elsewhere a position whose denominator is not positive gets no weight.

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
    """

    kind: ClassVar[str] = "gradcam_plus_plus"
    source: ClassVar[str] = "Chattopadhay et al. 2018"

    def _map(self, activations: Tensor, gradients: Tensor) -> Tensor:
        denominators = 2 + gradients * activations.sum(dim=(2, 3), keepdim=True)
        weighted = torch.where(denominators > 0, torch.relu(gradients) / denominators, 0.0)
        weights = weighted.sum(dim=(2, 3), keepdim=True)
        return (weights * activations).sum(dim=1)


@dataclass(frozen=True)
class HiResCAM(_GradientCAM):
    """HiResCAM [Draelos & Carin 2020, eq. 5].

    ``ReLU(sum_k g_k A_k)``, position by position: the gradient of the target's *logit* is not
    averaged first. Where global average pooling and one linear layer follow, it is Grad-CAM; where
    one linear layer follows, the map before the ReLU sums to the logit without its bias.

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
    """

    kind: ClassVar[str] = "hirescam"
    source: ClassVar[str] = "Draelos & Carin 2020"

    def _map(self, activations: Tensor, gradients: Tensor) -> Tensor:
        return (gradients * activations).sum(dim=1)


@dataclass(frozen=True)
class LayerCAM(_GradientCAM):
    """LayerCAM [Jiang et al. 2021, eq. 5-7].

    ``ReLU(sum_k ReLU(g_k) A_k)``, position by position: only what raises the target's *logit*
    counts. Meant for layers at any depth.

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
    """

    kind: ClassVar[str] = "layercam"
    source: ClassVar[str] = "Jiang et al. 2021"

    def _map(self, activations: Tensor, gradients: Tensor) -> Tensor:
        return (torch.relu(gradients) * activations).sum(dim=1)


@dataclass(frozen=True)
class XGradCAM(_GradientCAM):
    """XGrad-CAM [Fu et al. 2020, eq. 8].

    ``ReLU(sum_k alpha_k A_k)`` with ``alpha_k = sum_ij g_ij A_ij / sum_ij A_ij``: the gradient
    of the target's *logit* averaged by activation instead of evenly. The formula supposes
    activations that are not negative; a channel whose activations sum to zero gets no weight.

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
    """

    kind: ClassVar[str] = "xgradcam"
    source: ClassVar[str] = "Fu et al. 2020"

    def _map(self, activations: Tensor, gradients: Tensor) -> Tensor:
        sums = activations.sum(dim=(2, 3), keepdim=True)
        products = (gradients * activations).sum(dim=(2, 3), keepdim=True)
        weights = torch.where(sums != 0, products / sums, 0.0)
        return (weights * activations).sum(dim=1)
