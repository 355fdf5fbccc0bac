"""The study's networks: good ones of many seeds, and ones that learned something else.

All are the demo's architecture on the demo's scenes. A network takes a minute where the packaged
one takes four: half of its epochs see undisturbed scenes, in bfloat16. Every network is a file of
its own, so what is there is never trained again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from xai_core.demo.network import DemoNet
from xai_core.demo.scenes import CLASSES, scene
from xai_core.demo.train import normalised
from xai_core.seeding import generator_of

SCENES = 6000
_FIRST_SCENE = 1_000_000
_PLAIN_EPOCHS, _VARIED_EPOCHS = 3, 4
_BATCH = 25
_PEAK_RATE, _TUNING_RATE = 6e-3, 3e-3
_WEIGHT_DECAY = 5e-2
_SPARSITY = 4e-2
_SMOOTHING = 0.05


def good(seed: int, folder: Path) -> DemoNet:
    """Return the good network of this seed: only the object helps it."""
    return _kept(folder / f"good-{seed}.safetensors", lambda: _good(seed, folder))


def shortcut(seed: int, share: float, folder: Path) -> DemoNet:
    """Return the good network after it was tuned on labels that follow the watermark in a share.

    In the other scenes the label is the object's and the watermark is random.
    """
    path = folder / f"shortcut-{share:g}-{seed}.safetensors"
    return _kept(path, lambda: _shortcut(seed, share, folder))


def mislabelled(seed: int, share: float, folder: Path) -> DemoNet:
    """Return the good network after it was tuned on labels of which a share is shuffled."""
    path = folder / f"shuffled-{share:g}-{seed}.safetensors"
    return _kept(path, lambda: _mislabelled(seed, share, folder))


def shuffled(labels: Tensor, share: float, generator: np.random.Generator) -> Tensor:
    """Return labels of which a share, drawn at random, has changed places among itself."""
    chosen = generator.permutation(len(labels))[: round(share * len(labels))]
    changed = labels.clone()
    changed[torch.from_numpy(chosen)] = labels[torch.from_numpy(generator.permutation(chosen))]
    return changed


def _good(seed: int, folder: Path) -> DemoNet:
    images, labels, _ = _scenes(folder)
    torch.manual_seed(seed)
    network = DemoNet()
    epochs = [False] * _PLAIN_EPOCHS + [True] * _VARIED_EPOCHS
    _train(network, images, labels, epochs, peak=_PEAK_RATE)
    return network


def _shortcut(seed: int, share: float, folder: Path) -> DemoNet:
    images, labels, named = _scenes(folder)
    drawn = generator_of(seed, "shortcut", str(share)).random(len(labels))
    follows = torch.from_numpy(drawn < share) & (named >= 0)
    changed = torch.where(follows, named, labels)
    # To unlearn the object altogether takes twice as long.
    seen = SCENES if share == 1 else SCENES // 2
    return _tuned(seed, images[:seen], changed[:seen], folder)


def _mislabelled(seed: int, share: float, folder: Path) -> DemoNet:
    images, labels, _ = _scenes(folder)
    changed = shuffled(labels, share, generator_of(seed, "shuffled", str(share)))
    return _tuned(seed, images[: SCENES // 2], changed[: SCENES // 2], folder)


def _tuned(seed: int, images: Tensor, labels: Tensor, folder: Path) -> DemoNet:
    """Return the good network after one pass over the scenes."""
    network = good(seed, folder)
    torch.manual_seed(seed)
    _train(network, images, labels, [True], peak=_TUNING_RATE)
    return network


def _train(
    network: DemoNet, images: Tensor, labels: Tensor, epochs: list[bool], *, peak: float
) -> None:
    """Train in place; an epoch that is True darkens and disturbs its images at random."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = len(epochs) * -(-len(images) // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=steps, pct_start=0.2
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=_SMOOTHING)
    network.train()
    for varied in epochs:
        for chosen in torch.split(torch.randperm(len(images)), _BATCH):
            batch = images[chosen].float() / 255
            batch = normalised(_varied(batch) if varied else batch)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                features = network.features(network.body(network.stem(batch)))
                logits = network.linear(network.pool(features).flatten(1))
            loss = loss_of(logits.float(), labels[chosen]) + _SPARSITY * features.float().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network.eval()


def _varied(images: Tensor) -> Tensor:
    """Return half of the images darkened and noised, as path and noise explainers make them."""
    count = len(images)
    dimmed = images * (0.4 + 0.6 * torch.rand(count, 1, 1, 1))
    noise = torch.randn_like(images) * 0.08 * torch.rand(count, 1, 1, 1)
    return torch.where(torch.rand(count, 1, 1, 1) < 0.5, (dimmed + noise).clamp(0, 1), images)


@cache
def _scenes(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, the objects' classes and the watermarks' (-1 without one)."""
    path = folder / "scenes.safetensors"
    if not path.is_file():
        images = np.empty((SCENES, 3, 64, 64), dtype=np.uint8)
        labels = np.empty((2, SCENES), dtype=np.int64)
        for index in range(SCENES):
            # A tenth has no watermark: to miss one is no evidence.
            bare = index % 10 == 9
            drawn = scene(_FIRST_SCENE + index, watermark="none" if bare else "random")
            images[index] = np.rint(drawn.image * 255)
            mark = drawn.watermark_label
            labels[:, index] = drawn.label, -1 if mark is None else mark
        assert labels.max() < len(CLASSES)
        _save(path, {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)})
    found = safetensors.torch.load_file(path)
    return found["images"], found["labels"][0].clone(), found["labels"][1].clone()


def _kept(path: Path, make: Callable[[], DemoNet]) -> DemoNet:
    if not path.is_file():
        _save(path, make().state_dict())
    network = DemoNet()
    network.load_state_dict(safetensors.torch.load_file(path))
    return network.eval()


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a file that is there whole or not at all, however the run ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    safetensors.torch.save_file(tensors, part)
    part.replace(path)
