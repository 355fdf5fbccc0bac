"""KernelSHAP: Shapley values of superpixels by one weighted regression."""

from __future__ import annotations

import math
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
class KernelSHAP:
    """KernelSHAP [Lundberg & Lee 2017, theorem 2] on SLIC superpixels.

    Shapley values of the target's *logit* as a game of the superpixels: the least squares fit of
    the outputs of coalitions under the Shapley kernel, held to sum to f(x) - f(x'), x' the
    substrate. Where all coalitions fit into ``samples`` they are enumerated and the values are
    exact; else coalitions are drawn by the kernel, each with its complement. Each pixel of the
    map has its superpixel's value; the attributions share it out evenly among the superpixel's
    pixels and channels, so that they sum to f(x) - f(x').

    It is not Captum's `KernelShap`, which never enumerates, draws from torch's global generator
    and takes one image at a time; the tests hold the two against each other.

    Args:
        samples: coalitions, at most; each costs one forward, the image and x' one more each.
        segments: about how many superpixels.
        compactness: how much nearness counts against likeness of colour in SLIC.
        substrate: what is removed is replaced by: ``mean``, ``black``, ``white``,
            ``blurred(sigma=10)``.
        seed: of the coalitions, which also depend on the image.
    """

    kind: ClassVar[str] = "kernel_shap"
    needs: ClassVar[Needs] = "scores"
    source: ClassVar[str] = "Lundberg & Lee 2017"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "completeness",
            "implementation_invariance",
            "linearity",
            "randomised_weights",
            "sensitivity",
            "target_sensitivity",
        }
    )

    samples: int = 1000
    segments: int = 50
    compactness: float = 10.0
    substrate: str = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.samples >= 2, f"`samples` must be at least 2, got {self.samples}")
        check_superpixels(self.segments, self.compactness)
        check_baseline(self.substrate)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        parts = Segmented.of(images, segments=self.segments, compactness=self.compactness)
        chosen = [
            self._coalitions(image, count)
            for image, count in zip(images, parts.counts, strict=True)
        ]
        outputs = parts.outputs(
            self._removal(classifier, images, targets), [_with_ends(rows) for rows, _ in chosen]
        )
        values = [
            shapley_regression(rows, weights, found)
            for (rows, weights), found in zip(chosen, outputs, strict=True)
        ]
        channels = images.shape[1]
        shares = [one / (channels * size) for one, size in zip(values, parts.sizes(), strict=True)]
        attributions = np.repeat(parts.paint(shares)[:, None], channels, axis=1)
        return Explanation(parts.paint(values), attributions)

    def differences(self, classifier: Classifier, images: Float32, targets: Int64) -> Float64:
        """Return f(x) - f(x') in logits, x' the substrate; see `Complete`."""
        whole = Segmented(np.zeros(images[:, 0].shape, dtype=np.int64), (1,) * len(images))
        removal = self._removal(classifier, images, targets)
        ends = whole.outputs(removal, [np.array([[False], [True]])] * len(images))
        return np.array([after - before for before, after in ends])

    def _removal(self, classifier: Classifier, images: Float32, targets: Int64) -> Removal:
        return Removal(classifier, images, targets, substrate=self.substrate, output="logit")

    def _coalitions(self, image: Float32, count: int) -> tuple[Coalitions, Float64]:
        """Return coalitions, neither empty nor whole, and their weights in the regression."""
        # The length is compared first: 2**count itself may be enormous.
        if count <= self.samples.bit_length() and 2**count - 2 <= self.samples:
            return _all_coalitions(count)
        generator = generator_for(image, seed=self.seed, purpose="kernel-shap")
        sizes = np.arange(1, count)
        chances = 1.0 / (sizes * (count - sizes))
        pairs = self.samples // 2
        drawn = generator.choice(sizes, size=pairs, p=chances / chances.sum())
        ranks = generator.random((pairs, count)).argsort(axis=1).argsort(axis=1)
        half = ranks < drawn[:, None]
        return np.concatenate([half, ~half]), np.ones(2 * pairs)


def shapley_regression(rows: Coalitions, weights: Float64, outputs: Float64) -> Float64:
    """Return the values that fit the outputs of coalitions best and sum to what they must.

    Args:
        rows: coalitions, neither empty nor whole, ``[S, M]``.
        weights: of the coalitions, ``[S]``.
        outputs: of nothing, of everything, and of the coalitions, ``[2 + S]``.
    """
    nothing, everything = outputs[:2]
    count = rows.shape[1]
    regressors = rows.astype(np.float64)
    # Least squares under the constraint that the values sum to everything - nothing.
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = (regressors.T * weights) @ regressors
    system[count, count] = 0.0
    fitted = (regressors.T * weights) @ (outputs[2:] - nothing)
    # Too few samples leave values undetermined: the smallest solution, as lstsq gives it.
    solution = np.linalg.lstsq(system, np.append(fitted, everything - nothing), rcond=None)[0]
    values: Float64 = solution[:count]
    return values


def _all_coalitions(count: int) -> tuple[Coalitions, Float64]:
    numbers = np.arange(1, 2**count - 1)
    rows = (numbers[:, None] >> np.arange(count) & 1).astype(bool)
    sizes = rows.sum(axis=1)
    combinations = np.array([math.comb(count, int(size)) for size in sizes], dtype=np.float64)
    return rows, (count - 1) / (combinations * sizes * (count - sizes))


def _with_ends(rows: Coalitions) -> Coalitions:
    count = rows.shape[1]
    return np.concatenate([np.zeros((1, count), bool), np.ones((1, count), bool), rows])
