"""Occlusion: how much the classifier loses when a window of the image is covered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from xai_core.arrays import Float32, Int64
from xai_core.explainers.baselines import check_baseline
from xai_core.explainers.explanation import Explanation, Needs, Promise
from xai_core.explainers.removal import Removal
from xai_core.parameters import require

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class Occlusion:
    """Occlusion [Zeiler & Fergus 2014, section 4.2].

    Each pixel gets the mean loss of the target's *probability* over the square windows that
    cover it. Windows stand ``stride`` pixels apart; the last of a row or column ends at the
    image's border.

    Args:
        window: side of the covered square, in pixels; at most the image's shorter side.
        stride: distance between neighbouring windows, in pixels.
        substrate: what covers: ``mean`` (grey, as in the paper), ``black``, ``white``,
            ``blurred(sigma=10)``.
    """

    kind: ClassVar[str] = "occlusion"
    needs: ClassVar[Needs] = "scores"
    source: ClassVar[str] = "Zeiler & Fergus 2014"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {"target_sensitivity", "implementation_invariance", "randomised_weights", "sensitivity"}
    )

    window: int = 16
    stride: int = 8
    substrate: str = "mean"

    def __post_init__(self) -> None:
        require(self.window >= 1, f"`window` must be at least 1, got {self.window}")
        require(
            1 <= self.stride <= self.window,
            f"`stride` must lie between 1 and `window` ({self.window}), so that every pixel is "
            f"covered; got {self.stride}",
        )
        check_baseline(self.substrate)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`.

        Raises:
            ParameterError: the window is larger than the images.
        """
        height, width = images.shape[-2:]
        require(
            self.window <= min(height, width),
            f"`window` is {self.window} px and the images are {height} x {width}: make it smaller",
        )
        tops, lefts = self._starts(height), self._starts(width)
        corners = [(top, left) for top in tops for left in lefts]
        # Variant 0 of an image is the image itself: a window that lies outside of it.
        first_row, first_column = torch.tensor([(height, width), *corners]).unbind(1)
        rows, columns = torch.arange(height), torch.arange(width)

        def keep(index: Tensor) -> Tensor:
            variant = index % len(first_row)
            covered_rows = _within(rows, first_row[variant], self.window)
            covered_columns = _within(columns, first_column[variant], self.window)
            return ~(covered_rows[:, :, None] & covered_columns[:, None, :])

        removal = Removal(
            classifier, images, targets, substrate=self.substrate, output="probability"
        )
        owners = torch.arange(len(images)).repeat_interleave(len(first_row))
        outputs = removal.outputs(owners, keep).reshape(len(images), -1)
        losses = outputs[:, :1] - outputs[:, 1:]
        sums = np.zeros(images[:, 0].shape)
        covers = np.zeros((height, width))
        for (top, left), loss in zip(corners, losses.T, strict=True):
            here = np.s_[top : top + self.window, left : left + self.window]
            sums[:, *here] += loss[:, None, None]
            covers[here] += 1
        return Explanation((sums / covers).astype(np.float32))

    def _starts(self, side: int) -> list[int]:
        last = side - self.window
        return [*range(0, last, self.stride), last]


def _within(places: Tensor, first: Tensor, length: int) -> Tensor:
    """Return which places lie in the intervals that begin at ``first``, ``[B, places]``."""
    return (places >= first[:, None]) & (places < first[:, None] + length)
