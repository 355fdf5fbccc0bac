"""What the classifier says of images with parts removed: the one thing forward-only methods ask.

Only the forward primitives of a classifier are used, so any back end will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from xai_core.arrays import Float32, Float64, Int64
from xai_core.explainers.baselines import baseline_images

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

Output = Literal["probability", "logit"]
Keep = Callable[[Tensor], Tensor]
"""Indices of variants ``[B]`` -> how much of each pixel is left, ``[B, H, W]`` or, for one mask
that serves all channels, ``[B, 1, H, W]``; from 0 (removed) to 1 (kept), or bool."""

_BATCHES_PER_CALL = 64


class Removal:
    """Images, and what takes the place of the pixels that are removed from them.

    Args:
        classifier: asked for its forward pass only.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: class indices ``[N]``.
        substrate: what a removed pixel is replaced by: a text of `xai_core.explainers.baselines`.
        output: the target's ``probability`` or ``logit``.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Float32,
        targets: Int64,
        *,
        substrate: str,
        output: Output,
    ) -> None:
        self._forward = classifier.scores if output == "probability" else classifier.logits
        self._batch_size = classifier.batch_size(*images.shape[-2:])
        self.device = torch.device(classifier.device)
        self._targets = torch.from_numpy(targets).to(self.device)
        self._images = torch.from_numpy(images).to(self.device)
        removed = np.ascontiguousarray(baseline_images(substrate, classifier, images))
        self._removed = torch.tensor(removed, device=self.device)

    def outputs(self, owners: Tensor, keep: Keep) -> Float64:
        """Return the target's output for every variant, float64 ``[V]``.

        Variants of all images share batches, every batch but the last of a call is full, and
        memory does not grow with their number.

        Args:
            owners: which image each variant is made of, ``[V]``.
            keep: makes the masks of the variants whose indices it gets.
        """
        found = []
        for indices in torch.split(torch.arange(len(owners)), self._batch_size * _BATCHES_PER_CALL):
            outputs = self._forward(self._batches(indices, owners, keep))
            targets = self._targets[owners[indices].to(self.device)].to(outputs.device)
            found.append(outputs.gather(1, targets[:, None])[:, 0].cpu().numpy())
        return np.concatenate(found).astype(np.float64)

    def _batches(self, indices: Tensor, owners: Tensor, keep: Keep) -> Iterator[Tensor]:
        for batch in torch.split(indices, self._batch_size):
            image = owners[batch].to(self.device)
            kept = keep(batch).to(self.device)
            kept = kept[:, None] if kept.ndim == 3 else kept
            here, gone = self._images[image], self._removed[image]
            if kept.dtype == torch.bool:
                yield torch.where(kept, here, gone)
            else:
                yield here * kept + gone * (1 - kept)
