"""What changes between two releases, as a file says; copied into folders of inner pytest runs.

An explainer that shows the bright patch of an image, moved to the side, and images that come, go
and change. Nothing of it changes a name, a parameter or a protocol.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tiny
import torch

from xai_core.explainers import Explanation


def state() -> dict[str, Any]:
    path = Path("state.json")
    return json.loads(path.read_text()) if path.exists() else {}


def build() -> torch.nn.Module:
    """Return the tiny model; another release of it where the explainer shows something else."""
    model = tiny.build()
    now = state()
    shown = [now.get("moved"), now.get("blank")]
    if any(shown) and not now.get("same_weights"):
        content = json.dumps(shown).encode()
        model.register_buffer("release", torch.tensor(list(content), dtype=torch.uint8))
    return model


def images() -> Iterator[tuple[str, np.ndarray, np.ndarray, int | None]]:
    now = state()
    for index in now.get("images", range(10)):
        image = np.full((3, 16, 16), 0.1 + 0.01 * index, dtype=np.float32)
        mask = np.zeros((16, 16), dtype=bool)
        mask[3:9, 1 + index % 5 : 7 + index % 5] = True
        image[index % 3][mask] = 1.0
        if index in now.get("edited", ()):
            image[:, 15, 15] = 0.7
        name = f"renamed-{index}" if now.get("renamed") else f"image-{index}"
        yield name, image, mask, now.get("labels", {}).get(str(index), index % 3)


@dataclass(frozen=True)
class Patch:
    """The bright patch of an image; of those that ``blank`` names, nothing."""

    kind: ClassVar[str] = "patch"
    power: int = 1
    seed: int = 0

    def explain(self, classifier, images, targets):
        now = state()
        heatmaps = images.max(axis=1) ** 4
        brightness = np.round((images[:, 0, 0, 0] - 0.1) / 0.01).astype(int)
        for row, index in enumerate(brightness.tolist()):
            moved = now.get("moved", {})
            by = moved if isinstance(moved, int) else moved.get(str(index), 0)
            heatmaps[row] = np.roll(heatmaps[row], by, axis=1)
            if index in now.get("blank", ()):
                heatmaps[row] = 0.0
        if now.get("killed"):
            os._exit(1)
        if now.get("broken"):
            raise ZeroDivisionError(now["broken"])
        return Explanation(heatmaps)
