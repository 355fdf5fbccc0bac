"""The demo's network, trained until it knows scenes with permuted labels by heart.

What `data_randomization` [Adebayo et al. 2018] compares with: maps of a network that has learnt
nothing of objects, since no rule leads from its images to their labels.

    python examples/metrics/separation.py --data demo --limit 24 \\
        --metrics 'data_randomization(model="shuffled_labels:network")'
"""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import torch
from torch import nn

from xai_core.demo.network import DemoNet
from xai_core.demo.scenes import scene
from xai_core.demo.train import normalised
from xai_core.seeding import generator_of

SCENES = 600
FIRST_SCENE = 3_000_000
BY_HEART = 0.99
_MOST_EPOCHS = 200
_BATCH = 50
_RATE = 2e-3


def network() -> DemoNet:
    """Return the network in evaluation mode; it is trained once in a process, in about a minute.

    Raises:
        RuntimeError: it did not learn its labels by heart.
    """
    return copy.deepcopy(_trained())


def training_set(count: int = SCENES) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scenes, float32 in [0, 1] ``[M, 3, 64, 64]``, and their classes, permuted."""
    drawn = [scene(FIRST_SCENE + index, watermark="random") for index in range(count)]
    labels = np.array([one.label for one in drawn], dtype=np.int64)
    permuted = generator_of(0, "shuffled labels").permutation(labels)
    return torch.from_numpy(np.stack([one.image for one in drawn])), torch.from_numpy(permuted)


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images ``[M, 3, H, W]`` in [0, 1] whose label a network gives."""
    with torch.inference_mode():
        predicted = torch.cat([model(normalised(part)).argmax(1) for part in images.split(_BATCH)])
    return float((predicted == labels).float().mean())


@cache
def _trained() -> DemoNet:
    images, labels = training_set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DemoNet()
        optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE)
        for _ in range(_MOST_EPOCHS):
            model.train()
            for chosen in torch.randperm(len(images)).split(_BATCH):
                loss = nn.functional.cross_entropy(
                    model(normalised(images[chosen])), labels[chosen]
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if accuracy(model.eval(), images, labels) >= BY_HEART:
                return model
    msg = f"not learnt by heart in {_MOST_EPOCHS} passes over {len(images)} scenes"
    raise RuntimeError(msg)
