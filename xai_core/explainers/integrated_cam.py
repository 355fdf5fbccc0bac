"""Integrated Grad-CAM: Grad-CAM along the path from a baseline to the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from xai_core.arrays import Float32, Int64
from xai_core.classifier.layered import with_layers
from xai_core.explainers.baselines import baseline_images, check_baseline
from xai_core.explainers.explanation import Explanation, Needs, Promise
from xai_core.explainers.layer_maps import check_layer, enlarged, full_batches
from xai_core.parameters import require
from xai_core.quadrature import Rule, quadrature

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class IntegratedGradCAM:
    """Integrated Grad-CAM [Sattarzadeh et al. 2021, arXiv 2102.07805, eq. 5-7].

    ``integral over a in [0, 1] of ReLU(sum_k alpha_k(a) (A_k(path(a)) - A_k(x')))`` with
    ``path(a) = x' + a (x - x')`` from the baseline ``x'`` to the image ``x``, ``A`` the
    activations of one layer and ``alpha_k(a)`` Grad-CAM's weight on the path: the mean over
    positions of the gradient of the target's *logit* there. The paper takes the integral as a
    mean of ``m`` points, each with the factor ``1 / m``. The authors' notebook leaves out both
    the baseline's activations and the factor: it is a sum of Grad-CAMs along the path.
    Images x steps share full batches, so memory does not grow with ``steps``.

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
        steps: nodes of the integral.
        rule: ``gauss-legendre`` (``steps`` gradients) or ``trapezoid`` (``steps + 1``).
        baseline: ``black``, ``white``, ``mean``, ``blurred(sigma=10)``, ``image:FILE``.
    """

    kind: ClassVar[str] = "integrated_gradcam"
    needs: ClassVar[Needs] = "activations"
    source: ClassVar[str] = "Sattarzadeh et al. 2021"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "target_sensitivity",
            "implementation_invariance",
            "flip_equivariance",
            "randomised_weights",
        }
    )

    layer: str | None = None
    steps: int = 50
    rule: Rule = "gauss-legendre"
    baseline: str = "black"

    def __post_init__(self) -> None:
        check_layer(self.layer)
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}")
        check_baseline(self.baseline)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        at = self.layer or classifier.default_layer()
        maps = []
        for batch, classes in full_batches(classifier, images, targets):
            reference = baseline_images(self.baseline, classifier, batch.cpu().numpy())
            start = torch.from_numpy(reference.copy()).to(batch.device)
            maps.append(self._integrate(classifier, batch, start, classes, at))
        return enlarged(maps, images.shape[-2:])

    def _integrate(
        self, classifier: Classifier, images: Tensor, reference: Tensor, targets: Tensor, at: str
    ) -> Tensor:
        nodes, weights = (
            torch.from_numpy(values).to(images.device, torch.float32)
            for values in quadrature(self.rule, self.steps)
        )
        at_baseline = with_layers(classifier, self.kind).activations(reference, at)
        # Point p of the flat list of images x nodes: which image, which node.
        points = torch.arange(len(images) * len(nodes), device=images.device)
        slices = torch.split(points, classifier.batch_size(*images.shape[-2:]))

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for flat in slices:
                image, node = flat // len(nodes), flat % len(nodes)
                share = nodes[node].view(-1, 1, 1, 1)
                yield torch.lerp(reference[image], images[image], share), targets[image]

        integral = at_baseline.new_zeros(len(images), *at_baseline.shape[-2:])
        results = classifier.gradients(batches(), at=at)
        for flat, result in zip(slices, results, strict=True):
            image, node = flat // len(nodes), flat % len(nodes)
            alpha = result.gradients.mean(dim=(2, 3), keepdim=True)
            maps = torch.relu((alpha * (result.activations - at_baseline[image])).sum(dim=1))
            integral.index_add_(0, image, maps * weights[node].view(-1, 1, 1))
        return integral
