"""Gradients at many points of every image, summed while they stream by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

Points: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps n pairs (index of an image, index of one of its points) to the n points, RGB
``[n, 3, H, W]``, and the factor of each one's gradient, which broadcasts to the same shape."""


def gradient_sums(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor,
    count: int,
    points: Points,
    *,
    powers: tuple[int, ...] = (1,),
) -> tuple[Tensor, ...]:
    """Return ``sum over an image's points of (factor * gradient) ** power``, for each power.

    All points of all images share full batches, so one image of 50 points costs as little as 50
    images, and memory does not grow with ``count``.

    Args:
        classifier: gives the gradients of the targets' logits.
        images: RGB in [0, 1], ``[N, 3, H, W]``, on the classifier's device.
        targets: class indices ``[N]``, same device.
        count: points of each image.
        points: makes them; asked for image after image, each image's points in order.
        powers: the powers to sum.

    Returns:
        one tensor like ``images`` for each power, in float64 where the device has it.
    """
    total = len(images) * count
    size = classifier.batch_size(*images.shape[-2:])
    pending: list[tuple[Tensor, Tensor]] = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, total, size):
            flat = torch.arange(start, min(start + size, total))
            owner = (flat // count).to(images.device)
            where, factor = points(owner, (flat % count).to(images.device))
            pending.append((owner, factor))
            yield where, targets[owner]

    dtype = torch.float32 if images.device.type == "mps" else torch.float64
    sums = tuple(torch.zeros_like(images, dtype=dtype) for _ in powers)
    for result in classifier.gradients(batches()):
        owner, factor = pending.pop()
        term = result.gradients.to(dtype) * factor
        for power, summed in zip(powers, sums, strict=True):
            summed.index_add_(0, owner, term if power == 1 else term**power)
    return sums
