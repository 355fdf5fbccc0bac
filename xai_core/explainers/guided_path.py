"""Guided IG: gradients integrated along a path that avoids where the model is steep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from xai_core.arrays import Bool, Float32, Float64, Int64
from xai_core.explainers.baselines import baseline_images, check_baseline
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels
from xai_core.parameters import require

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class GuidedIG:
    """Guided Integrated Gradients [Kapishnikov et al. 2021, algorithm 1].

    Integrates the gradient of the target's *logit* along a path from the baseline to the image
    that is made step by step: of all input values, the ``fraction`` with the smallest gradient
    moves first, as far as it may, until the L1 distance to the image has shrunk by 1/steps. As in
    the authors' code no value may run ahead of the straight line, or fall behind it, by more than
    ``max_distance``; 0 gives Integrated Gradients, 1 the unbounded path of the paper. The
    gradient is taken once a step, at its start, so the sum falls short of completeness by
    O(1/steps).

    The path is chaotic: which values move first hangs on the last digits of the gradient, and a
    batch of another size, or the same network with its channels in another order, changes those
    (maps of a small network were up to 8 % of their maximum apart, unbounded ones 87 %). So each
    image walks alone, and implementation invariance, which holds on paper, is not promised.

    Args:
        steps: steps of the path, each one gradient.
        fraction: share of the input values that moves at once.
        max_distance: how far a value may leave the straight line, as a share of its way.
        baseline: ``black``, ``white``, ``mean``, ``blurred(sigma=10)`` or ``image:FILE``.
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "guided_ig"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "Kapishnikov et al. 2021"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "completeness",
            "dummy",
            "randomised_weights",
            "target_sensitivity",
        }
    )

    steps: int = 50
    fraction: float = 0.25
    max_distance: float = 0.02
    baseline: str = "black"
    reduce: Reduction = "abs-sum"

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}")
        require(0 < self.fraction <= 1, f"`fraction` must lie in (0, 1], got {self.fraction}")
        require(
            0 <= self.max_distance <= 1,
            f"`max_distance` must lie in [0, 1], got {self.max_distance}",
        )
        check_baseline(self.baseline)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        starts = baseline_images(self.baseline, classifier, images)
        attributions = np.zeros_like(images)
        for index, target in enumerate(targets):
            attributions[index] = self._integrate(
                classifier, images[index], starts[index], torch.tensor([int(target)])
            )
        return Explanation(reduce_channels(attributions, self.reduce), attributions)

    def differences(self, classifier: Classifier, images: Float32, targets: Int64) -> Float64:
        """Return f(x) - f(x') in logits; see `Complete`."""
        starts = baseline_images(self.baseline, classifier, images)
        end, start = (
            classifier.logits(torch.from_numpy(np.ascontiguousarray(batch))).cpu().numpy()
            for batch in (images, starts)
        )
        rows = np.arange(len(targets))
        differences: Float64 = end[rows, targets].astype(np.float64) - start[rows, targets]
        return differences

    def _integrate(
        self, classifier: Classifier, image: Float32, start: Float32, target: Tensor
    ) -> Float64:
        """Return the attributions of one image."""
        position = start.astype(np.float64).ravel()
        path = _Path(position, image.astype(np.float64).ravel())
        total = np.zeros_like(position)
        for step in range(self.steps):
            here = torch.from_numpy(position.reshape(1, *image.shape).astype(np.float32))
            result = classifier.gradients(here, target).gradients
            gradient = result.contiguous().cpu().numpy().astype(np.float64).ravel()
            moved = path.step(
                position,
                gradient,
                left=1 - (step + 1) / self.steps,
                fraction=self.fraction,
                max_distance=self.max_distance,
            )
            total += (moved - position) * gradient
            position = moved
        return total.reshape(image.shape)


@dataclass(frozen=True)
class _Path:
    """The way of one image from its baseline, values flattened."""

    start: Float64
    end: Float64

    def step(
        self,
        position: Float64,
        gradient: Float64,
        *,
        left: float,
        fraction: float,
        max_distance: float,
    ) -> Float64:
        """Return the position whose L1 distance to the end is ``left`` times the whole way."""
        way = self.end - self.start
        lowest = self.start + max(1 - left - max_distance, 0.0) * way
        highest = self.start + min(1 - left + max_distance, 1.0) * way
        is_behind = (position - lowest) * np.sign(way) < 0
        moved = np.where(is_behind, lowest, position)
        room = np.abs(highest - moved)
        gap = np.abs(self.end - moved).sum() - left * np.abs(way).sum()
        tolerance = 1e-9 * np.abs(way).sum()
        steepness = np.abs(gradient)
        for group in _flattest_first(steepness, room > 0, fraction):
            if gap <= tolerance:
                break
            reach = room[group].sum()
            share = min(gap / reach, 1.0)
            moved[group] += share * (highest - moved)[group]
            gap -= share * reach
        return moved


def _flattest_first(steepness: Float64, can_move: Bool, fraction: float) -> list[Int64]:
    """Return groups of the values that can move, the flattest first, ties in one group.

    A group is as large as ``fraction`` of *all* values.
    """
    movable = np.flatnonzero(can_move)
    order = movable[np.argsort(steepness[movable], kind="stable")]
    ordered = steepness[order]
    size = int(fraction * (len(steepness) - 1)) + 1
    groups = []
    first = 0
    while first < len(order):
        last = min(first + size, len(order)) - 1
        end = int(np.searchsorted(ordered, ordered[last], side="right"))
        groups.append(order[first:end])
        first = end
    return groups
