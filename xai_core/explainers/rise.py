"""RISE: which pixels the classifier is sure with, over random masks."""

from __future__ import annotations

from collections.abc import Iterator
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
class RISE:
    """RISE [Petsiuk et al. 2018, eq. 6].

    ``sum_i p(x * M_i) M_i / (masks * keep)`` over random masks M_i, p the target's *probability*.
    A mask is a grid of cells, each kept with the probability ``keep``, enlarged bilinearly and
    shifted by up to a cell. One set of masks, drawn from the seed, serves every image, so that
    two maps never differ by the draw alone; masks are made batch by batch and not kept.

    Args:
        masks: how many; each costs one forward.
        cells: cells of the grid along each side.
        keep: probability that a cell is kept.
        substrate: what is removed is replaced by: ``mean`` (as the authors' code, which
            multiplies normalised images), ``black``, ``white``, ``blurred(sigma=10)``.
        seed: of the masks.
    """

    kind: ClassVar[str] = "rise"
    needs: ClassVar[Needs] = "scores"
    source: ClassVar[str] = "Petsiuk et al. 2018"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {"target_sensitivity", "implementation_invariance", "randomised_weights"}
    )

    masks: int = 4000
    cells: int = 7
    keep: float = 0.5
    substrate: str = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.masks >= 1, f"`masks` must be at least 1, got {self.masks}")
        require(self.cells >= 1, f"`cells` must be at least 1, got {self.cells}")
        require(0 < self.keep < 1, f"`keep` must lie between 0 and 1, got {self.keep}")
        require(self.seed >= 0, f"`seed` must be at least 0, got {self.seed}")
        check_baseline(self.substrate)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        height, width = images.shape[-2:]
        removal = Removal(
            classifier, images, targets, substrate=self.substrate, output="probability"
        )
        sums = torch.zeros(images[:, 0].shape, device=removal.device)
        # A chunk has as many masks as a batch has images: N full batches, whatever N is.
        for masks in self.random_masks(height, width, classifier.batch_size(height, width)):
            masks = masks.to(removal.device)
            count = len(masks)
            owners = torch.arange(len(images)).repeat_interleave(count)

            def keep(index: Tensor, masks: Tensor = masks, count: int = count) -> Tensor:
                return masks[index % count]

            outputs = removal.outputs(owners, keep)
            weights = torch.from_numpy(outputs.reshape(-1, count)).to(sums)
            sums += torch.einsum("nm,mhw->nhw", weights, masks)
        return Explanation((sums / (self.masks * self.keep)).cpu().numpy())

    def random_masks(self, height: int, width: int, chunk: int) -> Iterator[Tensor]:
        """Yield all masks for images of that size, float32 ``[chunk, H, W]`` at a time."""
        random = np.random.default_rng(self.seed)
        grids = random.random((self.masks, self.cells, self.cells)) < self.keep
        cell = (-(-height // self.cells), -(-width // self.cells))
        shifts = random.integers(0, cell, size=(self.masks, 2))
        enlarged_size = ((self.cells + 1) * cell[0], (self.cells + 1) * cell[1])
        for first in range(0, self.masks, chunk):
            grid = torch.from_numpy(grids[first : first + chunk, None].astype(np.float32))
            enlarged = torch.nn.functional.interpolate(grid, enlarged_size, mode="bilinear")[:, 0]
            yield torch.stack(
                [
                    mask[top : top + height, left : left + width]
                    for mask, (top, left) in zip(
                        enlarged, shifts[first : first + chunk].tolist(), strict=True
                    )
                ]
            )
