"""From one map for each image at a layer's resolution to heatmaps as large as the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from xai_core.arrays import Float32, Int64
from xai_core.explainers.explanation import Explanation
from xai_core.parameters import require

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier


def check_layer(layer: str | None) -> None:
    """Raise unless ``layer`` can be the name of a layer, or None for the default one."""
    require(layer != "", "`layer` must name a layer, or be left out for the default")


def full_batches(
    classifier: Classifier, images: Float32, targets: Int64
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and targets in the largest batches that the classifier takes, on its device."""
    step = classifier.batch_size(*images.shape[-2:])
    for start in range(0, len(images), step):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + step]))
        classes = torch.from_numpy(np.ascontiguousarray(targets[start : start + step]))
        yield batch.to(classifier.device), classes.to(classifier.device)


def enlarged(maps: Iterable[Tensor], size: tuple[int, int]) -> Explanation:
    """Return the explanation of a layer's maps: as they are, and as heatmaps of the image's size.

    Args:
        maps: batch by batch, ``[n, h, w]`` each.
        size: to which they are enlarged bilinearly.
    """
    native: list[Float32] = []
    heatmaps: list[Float32] = [np.zeros((0, *size), dtype=np.float32)]
    for some in maps:
        large = torch.nn.functional.interpolate(some[:, None], size=size, mode="bilinear")
        native.append(some.cpu().numpy())
        heatmaps.append(large[:, 0].cpu().numpy())
    return Explanation(np.concatenate(heatmaps), native=np.concatenate(native) if native else None)
