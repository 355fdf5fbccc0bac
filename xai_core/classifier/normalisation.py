"""Normalisation as a layer, for a model that is given away whole."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


def with_normalisation(
    model: nn.Module, mean: Tensor, std: Tensor, layout: torch.memory_format
) -> nn.Sequential:
    """Return a model of RGB in [0, 1], whose children are ``normalise`` and ``model``.

    Args:
        model: maps normalised images ``[N, 3, H, W]`` to logits.
        mean: subtracted, ``[1, 3, 1, 1]``.
        std: divides afterwards, same shape.
        layout: in which the model gets the images.
    """
    return nn.Sequential(OrderedDict(normalise=_Normalise(mean, std, layout), model=model))


class _Normalise(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, layout: torch.memory_format) -> None:
        super().__init__()
        self._layout = layout
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        normalised: Tensor = (images - self.mean) / self.std
        return normalised.contiguous(memory_format=self._layout)
