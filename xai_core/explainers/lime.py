"""LIME: a linear model of what the classifier says of an image with superpixels removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.explainers.baselines import check_baseline
from xai_core.explainers.explanation import Explanation, Needs, Promise
from xai_core.explainers.removal import Removal
from xai_core.explainers.superpixels import Coalitions, Segmented, check_superpixels
from xai_core.parameters import require
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class LIME:
    """LIME [Ribeiro et al. 2016, eq. 2 and algorithm 1] on SLIC superpixels.

    The coefficients of a ridge regression of the target's *probability* on which superpixels are
    left; samples weigh ``exp(-d^2 / width^2 / 2)``, d the cosine distance to the whole image, as
    in the authors' code. Every superpixel is left with probability one half; the first sample is
    the whole image. Each pixel of the map has its superpixel's coefficient.

    It is not Captum's `Lime`, which draws from torch's global generator and takes one image at a
    time; the tests hold the two against each other.

    Args:
        samples: how many; each costs one forward.
        segments: about how many superpixels.
        compactness: how much nearness counts against likeness of colour in SLIC.
        width: of the kernel.
        ridge: weight of the penalty on the squared coefficients.
        substrate: what is removed is replaced by: ``mean``, ``black``, ``white``,
            ``blurred(sigma=10)``.
        seed: of the samples, which also depend on the image.
    """

    kind: ClassVar[str] = "lime"
    needs: ClassVar[Needs] = "scores"
    source: ClassVar[str] = "Ribeiro et al. 2016"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {"target_sensitivity", "implementation_invariance", "randomised_weights"}
    )

    samples: int = 1000
    segments: int = 50
    compactness: float = 10.0
    width: float = 0.25
    ridge: float = 1.0
    substrate: str = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.samples >= 2, f"`samples` must be at least 2, got {self.samples}")
        require(self.width > 0, f"`width` must be above 0, got {self.width}")
        require(self.ridge > 0, f"`ridge` must be above 0, got {self.ridge}")
        check_superpixels(self.segments, self.compactness)
        check_baseline(self.substrate)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        parts = Segmented.of(images, segments=self.segments, compactness=self.compactness)
        removal = Removal(
            classifier, images, targets, substrate=self.substrate, output="probability"
        )
        coalitions = [
            self._sample(image, count) for image, count in zip(images, parts.counts, strict=True)
        ]
        outputs = parts.outputs(removal, coalitions)
        coefficients = [
            weighted_ridge(rows, values, self._weights(rows), self.ridge)
            for rows, values in zip(coalitions, outputs, strict=True)
        ]
        return Explanation(parts.paint(coefficients))

    def _sample(self, image: Float32, count: int) -> Coalitions:
        generator = generator_for(image, seed=self.seed, purpose="lime")
        left = generator.random((self.samples, count)) < 0.5
        left[0] = True
        return left

    def _weights(self, coalitions: Coalitions) -> Float64:
        # The cosine between a row of zeros and ones and a row of ones.
        distances = 1 - np.sqrt(coalitions.mean(axis=1))
        weights: Float64 = np.exp(-(distances**2) / self.width**2 / 2)
        return weights


def weighted_ridge(rows: Coalitions, values: Float64, weights: Float64, penalty: float) -> Float64:
    """Return the coefficients of a weighted ridge regression with an intercept.

    Args:
        rows: the regressors, ``[S, M]``.
        values: ``[S]``.
        weights: of the samples, ``[S]``.
        penalty: on the squared coefficients, not on the intercept.
    """
    shares = weights / weights.sum()
    centred = rows - shares @ rows
    gram = (centred.T * weights) @ centred + penalty * np.eye(rows.shape[1])
    coefficients: Float64 = np.linalg.solve(
        gram, centred.T @ (weights * (values - shares @ values))
    )
    return coefficients
