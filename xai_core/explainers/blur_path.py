"""Blur IG: gradients integrated on the way from a blurred image to the sharp one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from xai_core.arrays import Float32, Float64, Int64
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels
from xai_core.explainers.points import gradient_sums
from xai_core.parameters import require

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

_TRUNCATE = 4  # standard deviations at which a Gaussian ends, as in scipy


@dataclass(frozen=True)
class BlurIG:
    """Blur Integrated Gradients [Xu et al. 2020].

    ``integral of grad f(L(s)) * dL/ds`` from ``s = sigma`` to 0, f the target's *logit* and L(s)
    the image under a Gaussian blur of s pixels, as in the paper a sum over the image alone, so
    its surroundings count as black. The path is walked in ``steps`` chords with the gradient in
    the middle of each, closer together where the blur is small and detail returns; that is exact
    for models up to degree 2.

    Args:
        steps: chords, each one gradient; 100 as in the authors' code.
        sigma: the strongest blur, in pixels.
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "blur_ig"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "Xu et al. 2020"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "completeness",
            "dummy",
            "implementation_invariance",
            "linearity",
            "randomised_weights",
            "target_sensitivity",
        }
    )

    steps: int = 100
    sigma: float = 50.0
    reduce: Reduction = "abs-sum"

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}")
        require(self.sigma > 0, f"`sigma` must be above 0, got {self.sigma}")

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        inputs = torch.from_numpy(images).to(classifier.device)
        classes = torch.from_numpy(targets).to(classifier.device)
        sigmas = self.sigma * torch.linspace(1, 0, self.steps + 1, dtype=torch.float64) ** 2

        def points(image: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
            start = blurred(inputs[image], sigmas[step.cpu()])
            end = blurred(inputs[image], sigmas[step.cpu() + 1])
            return (start + end) / 2, end - start

        (total,) = gradient_sums(classifier, inputs, classes, self.steps, points)
        attributions: Float32 = total.to("cpu", torch.float32).numpy()
        return Explanation(reduce_channels(attributions, self.reduce), attributions)

    def differences(self, classifier: Classifier, images: Float32, targets: Int64) -> Float64:
        """Return f(x) - f(x') in logits, x' the image under the strongest blur; see `Complete`."""
        inputs = torch.from_numpy(images)
        strongest = torch.full((len(images),), self.sigma, dtype=torch.float64)
        sharp, soft = (
            classifier.logits(batch).cpu().numpy()[np.arange(len(targets)), targets]
            for batch in (inputs, blurred(inputs, strongest))
        )
        differences: Float64 = sharp.astype(np.float64) - soft.astype(np.float64)
        return differences


def blurred(images: Tensor, sigmas: Tensor) -> Tensor:
    """Return every image under its own Gaussian blur, black beyond the edges.

    Args:
        images: ``[N, C, H, W]``.
        sigmas: standard deviations in pixels, ``[N]`` on the CPU; 0 = as it is.
    """
    rows, columns = (_blur_matrices(size, sigmas).to(images) for size in images.shape[-2:])
    return rows[:, None] @ images @ columns[:, None].transpose(-1, -2)


def _blur_matrices(size: int, sigmas: Tensor) -> Tensor:
    """Return ``[N, size, size]``: row i holds the weights that make pixel i of a line."""
    offsets = torch.arange(size, dtype=torch.float64)
    distance = (offsets[:, None] - offsets[None, :]).abs()
    matrices = []
    for sigma in sigmas.tolist():
        if sigma == 0:
            matrices.append(torch.eye(size, dtype=torch.float64))
            continue
        radius = int(_TRUNCATE * sigma + 0.5)
        whole = torch.arange(-radius, radius + 1, dtype=torch.float64)
        weights = torch.exp(-((distance / sigma) ** 2) / 2) * (distance <= radius)
        matrices.append(weights / torch.exp(-((whole / sigma) ** 2) / 2).sum())
    return torch.stack(matrices)
