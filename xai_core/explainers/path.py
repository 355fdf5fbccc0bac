"""Path methods: gradients integrated on the way from a baseline to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from xai_core.arrays import Float32, Float64, Int64
from xai_core.explainers.baselines import baseline_images, check_baseline
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels
from xai_core.explainers.points import gradient_sums
from xai_core.parameters import require
from xai_core.quadrature import Rule, quadrature

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated Gradients [Sundararajan et al. 2017, eq. 1].

    ``(x - x') * integral over a in [0, 1] of grad f(x' + a (x - x'))``, f the target's *logit*.
    Images x steps share full batches, so memory does not grow with ``steps``.

    Args:
        steps: nodes of the integral.
        rule: ``gauss-legendre`` (``steps`` gradients) or ``trapezoid`` (``steps + 1``).
        baseline: one baseline, or several whose attributions are averaged: ``black``,
            ``white``, ``mean``, ``blurred(sigma=10)``, ``image:FILE``.
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "integrated_gradients"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "Sundararajan et al. 2017"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "completeness",
            "sensitivity",
            "dummy",
            "linearity",
            "symmetry",
            "target_sensitivity",
            "implementation_invariance",
            "randomised_weights",
        }
    )

    steps: int = 50
    rule: Rule = "gauss-legendre"
    baseline: str | tuple[str, ...] = "black"
    reduce: Reduction = "abs-sum"

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}")
        require(len(self._baselines) >= 1, "`baseline` must name at least one baseline")
        for text in self._baselines:
            check_baseline(text)

    @property
    def _baselines(self) -> tuple[str, ...]:
        return (self.baseline,) if isinstance(self.baseline, str) else self.baseline

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        inputs = torch.from_numpy(images).to(classifier.device)
        classes = torch.from_numpy(targets).to(classifier.device)
        total = torch.zeros_like(inputs)
        for text in self._baselines:
            reference = torch.from_numpy(baseline_images(text, classifier, images).copy())
            total += self._integrate(classifier, inputs, reference.to(inputs.device), classes)
        attributions = (total / len(self._baselines)).cpu().numpy()
        return Explanation(reduce_channels(attributions, self.reduce), attributions)

    def differences(self, classifier: Classifier, images: Float32, targets: Int64) -> Float64:
        """Return f(x) - f(x') in logits, averaged over the baselines; see `Complete`."""

        def target_logits(batch: Float32) -> Float64:
            logits = classifier.logits(torch.from_numpy(np.ascontiguousarray(batch)))
            chosen = logits.cpu().numpy()[np.arange(len(targets)), targets]
            return chosen.astype(np.float64)

        references = [baseline_images(text, classifier, images) for text in self._baselines]
        at_baselines = np.mean([target_logits(batch) for batch in references], axis=0)
        differences: Float64 = target_logits(images) - at_baselines
        return differences

    def _integrate(
        self, classifier: Classifier, images: Tensor, reference: Tensor, targets: Tensor
    ) -> Tensor:
        nodes, weights = (
            torch.from_numpy(array).to(images.device, torch.float32).view(-1, 1, 1, 1)
            for array in quadrature(self.rule, self.steps)
        )
        difference = images - reference

        def points(image: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
            return reference[image] + nodes[node] * difference[image], weights[node]

        (integral,) = gradient_sums(classifier, images, targets, len(nodes), points)
        return difference * integral.to(torch.float32)
