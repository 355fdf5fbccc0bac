"""A model whose explanations are known by hand; copied into the folder of each inner pytest run.

The network looks for bright red, green and blue, one channel for each class, and an image shows a
bright patch of its class's colour: Grad-CAM of the ReLU is the patch itself, so IoU, precision,
recall and pointing game are 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from xai_core.explainers import Explanation


def build() -> nn.Module:
    colours = nn.Conv2d(3, 3, 1)
    classes = nn.Linear(3, 3)
    with torch.no_grad():
        colours.weight.copy_(torch.eye(3)[:, :, None, None])
        colours.bias.fill_(-0.5)
        classes.weight.copy_(40 * torch.eye(3))
        classes.bias.zero_()
    return nn.Sequential(colours, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), classes).eval()


def images(blank: int = 0) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    for index in range(6):
        image = np.full((3, 16, 16), 0.1, dtype=np.float32)
        mask = np.zeros((16, 16), dtype=bool)
        mask[4:10, 1 + index : 7 + index] = True
        if index >= blank:
            image[index % 3][mask] = 1.0
        yield f"image-{index}", image, mask, index % 3


def one_blank() -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    """The first image shows nothing, so its Grad-CAM is zero everywhere."""
    return images(blank=1)


def without_masks() -> Iterator[tuple[str, np.ndarray, None, int]]:
    for name, image, _, label in images():
        yield name, image, None, label


@dataclass(frozen=True)
class Counting:
    """The centre, and a line in a file for every call."""

    kind: ClassVar[str] = "counting"
    power: int = 1

    def explain(self, classifier, images, targets):
        with Path("calls.txt").open("a") as file:
            file.write(f"{self.power}\n")
        y, x = np.mgrid[-8:8, -8:8]
        heatmap = np.exp(-((x**2 + y**2) / 50.0) * self.power).astype(np.float32)
        return Explanation(np.stack([heatmap] * len(images)))


@dataclass(frozen=True)
class NotANumber:
    kind: ClassVar[str] = "not-a-number"

    def explain(self, classifier, images, targets):
        heatmaps = images.mean(axis=1)
        heatmaps[0, 0, 0] = np.nan
        return Explanation(heatmaps)


@dataclass(frozen=True)
class Broken:
    kind: ClassVar[str] = "broken"

    def explain(self, classifier, images, targets):
        return Explanation(images / self.nothing)

    @property
    def nothing(self) -> int:
        raise ZeroDivisionError("the explainer's own mistake")
