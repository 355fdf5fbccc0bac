"""Noise methods: what the gradients of noisy copies of the image have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from xai_core.arrays import Float32, Int64
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels
from xai_core.explainers.points import gradient_sums
from xai_core.parameters import require
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class _Noisy:
    """The parameters of the noise, and the moments of the gradient under it."""

    sigma: float = 0.15
    samples: int = 50
    seed: int = 0
    reduce: Reduction = "abs-sum"

    def __post_init__(self) -> None:
        require(self.sigma > 0, f"`sigma` must be above 0, got {self.sigma}")
        require(self.samples >= 1, f"`samples` must be at least 1, got {self.samples}")

    def _moments(
        self, classifier: Classifier, images: Float32, targets: Int64, *powers: int
    ) -> tuple[Tensor, ...]:
        """Return the mean over the noise of the gradient to each of ``powers``."""
        inputs = torch.from_numpy(images).to(classifier.device)
        classes = torch.from_numpy(targets).to(classifier.device)
        # One purpose for all methods: they see the same noise, as Var g = E g^2 - (E g)^2 needs.
        generators = [generator_for(image, seed=self.seed, purpose="noise") for image in images]

        def points(image: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
            drawn = [
                generators[index].standard_normal(images.shape[1:], dtype=np.float32)
                for index in image.tolist()
            ]
            noise = torch.from_numpy(np.stack(drawn)).to(inputs.device)
            return inputs[image] + self.sigma * noise, inputs.new_ones(len(sample), 1, 1, 1)

        sums = gradient_sums(classifier, inputs, classes, self.samples, points, powers=powers)
        return tuple(summed / self.samples for summed in sums)

    def _explanation(self, result: Tensor) -> Explanation:
        attributions: Float32 = result.to("cpu", torch.float32).numpy()
        return Explanation(reduce_channels(attributions, self.reduce), attributions)


@dataclass(frozen=True)
class SmoothGrad(_Noisy):
    """SmoothGrad [Smilkov et al. 2017, section 3].

    ``mean over e ~ N(0, sigma^2) of grad f(x + e)``, f the target's *logit*. Images x samples
    share full batches, so memory does not grow with ``samples``.

    Args:
        sigma: standard deviation of the noise in RGB, where an image spans [0, 1] (the paper
            advises .1 to .2 of the span); the noisy images are not clipped.
        samples: noisy copies of each image.
        seed: of the noise; an image gets the same noise whatever batch it stands in.
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "smoothgrad"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "Smilkov et al. 2017"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "dummy",
            "implementation_invariance",
            "linearity",
            "randomised_weights",
            "target_sensitivity",
        }
    )

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        (mean,) = self._moments(classifier, images, targets, 1)
        return self._explanation(mean)


@dataclass(frozen=True)
class SmoothGradSquared(_Noisy):
    """SmoothGrad-squared [Hooker et al. 2019, section 3.2].

    ``mean over e ~ N(0, sigma^2) of (grad f(x + e))^2``, f the target's *logit*; never negative.

    Args:
        sigma: standard deviation of the noise in RGB, where an image spans [0, 1].
        samples: noisy copies of each image.
        seed: of the noise.
        reduce: how the channels become a heatmap.
    """

    kind: ClassVar[str] = "smoothgrad_squared"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "Hooker et al. 2019"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {"dummy", "implementation_invariance", "randomised_weights", "target_sensitivity"}
    )

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        (square,) = self._moments(classifier, images, targets, 2)
        return self._explanation(square)


@dataclass(frozen=True)
class VarGrad(_Noisy):
    """VarGrad [Adebayo et al. 2018, "Local Explanation Methods for Deep Neural Networks..."].

    ``variance over e ~ N(0, sigma^2) of grad f(x + e)`` (divided by the number of samples), f the
    target's *logit*; never negative, and zero where the model is linear.

    Args:
        sigma: standard deviation of the noise in RGB, where an image spans [0, 1].
        samples: noisy copies of each image, at least 2.
        seed: of the noise.
        reduce: how the channels become a heatmap.
    """

    kind: ClassVar[str] = "vargrad"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "Adebayo et al. 2018"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {"dummy", "implementation_invariance", "randomised_weights"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.samples >= 2, f"`samples` must be at least 2 for a variance, got {self.samples}"
        )

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        mean, square = self._moments(classifier, images, targets, 1, 2)
        # In float64 the difference of moments loses nothing; rounding may leave -1e-17.
        return self._explanation((square - mean**2).clamp(min=0))
