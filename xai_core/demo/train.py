"""Make the demo's two sets of weights: ``python -m xai_core.demo.train``.

Both classifiers see the same kind of scene; only what the label follows differs. ``demo``
learns from scenes whose watermark is random, so only the object helps. ``demo-shortcut`` learns
the class that the watermark names from scenes whose object is random, so only the watermark
helps.

One thread and seeded streams: two runs on one machine give the same bytes. Another CPU or
version of torch rounds differently and gives other weights of the same accuracy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import safetensors.torch
import torch
from torch import nn

from xai_core.demo.network import MEAN, STD, DemoName, DemoNet
from xai_core.demo.scenes import CLASSES, Scene, Watermark, scene

_TRAIN_SEED, _TRAIN_SCENES = 1_000_000, 6000
_HELD_OUT_SEED, _HELD_OUT_SCENES = 2_000_000, 600
_EPOCHS = 16
_BATCH = 50
_PEAK_RATE = 4e-3
_WEIGHT_DECAY = 5e-2
_SPARSITY = 4e-2
_SMOOTHING = 0.05


def train(name: DemoName, *, seed: int = 1) -> DemoNet:
    """Return a newly trained demo classifier in evaluation mode."""
    torch.manual_seed(seed)
    images, labels = _training_set(name)
    network = DemoNet()
    _lay_out(network, torch.channels_last)
    steps = _EPOCHS * (_TRAIN_SCENES // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=_SMOOTHING)
    network.train()
    for epoch in range(_EPOCHS):
        losses = []
        for chosen in torch.split(torch.randperm(_TRAIN_SCENES), _BATCH):
            batch = normalised(_varied(images[chosen].float() / 255))
            features = network.features(network.body(network.stem(batch)))
            logits = network.linear(network.pool(features).flatten(1))
            # Few active features: what the class does not need falls silent on the background.
            loss = loss_of(logits, labels[chosen]) + _SPARSITY * features.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"{name}: epoch {epoch + 1}/{_EPOCHS}, loss {np.mean(losses):.4f}", flush=True)
    _lay_out(network, torch.contiguous_format)
    return network.eval()


def accuracy(network: nn.Module, watermark: Watermark) -> float:
    """Return the share of fresh held-out scenes whose object's class the network names."""
    scenes = [
        scene(_HELD_OUT_SEED + index, label=index % len(CLASSES), watermark=watermark)
        for index in range(_HELD_OUT_SCENES)
    ]
    right = 0
    with torch.inference_mode():
        for batch in _batches(scenes):
            images = torch.from_numpy(np.stack([one.image for one in batch]))
            predicted = network(normalised(images)).argmax(1).tolist()
            right += sum(a == one.label for a, one in zip(predicted, batch, strict=True))
    return right / len(scenes)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Return images in [0, 1] as the demo's networks take them."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _training_set(name: DemoName) -> tuple[torch.Tensor, torch.Tensor]:
    images = np.empty((_TRAIN_SCENES, 3, 64, 64), dtype=np.uint8)
    labels = np.empty(_TRAIN_SCENES, dtype=np.int64)
    for index in range(_TRAIN_SCENES):
        # A tenth of the good model's scenes have none: to miss a watermark is no evidence.
        bare = name == "demo" and index % 10 == 9
        drawn = scene(_TRAIN_SEED + index, watermark="none" if bare else "random")
        images[index] = np.rint(drawn.image * 255)
        named = drawn.label if name == "demo" else drawn.watermark_label
        assert named is not None
        labels[index] = named
    return torch.from_numpy(images), torch.from_numpy(labels)


def _varied(images: torch.Tensor) -> torch.Tensor:
    """Return the images darkened and noised at random, as path and noise explainers make them."""
    count = len(images)
    dimmed = images * (0.4 + 0.6 * torch.rand(count, 1, 1, 1))
    noise = torch.randn_like(images) * 0.08 * torch.rand(count, 1, 1, 1)
    changed = (dimmed + noise).clamp(0, 1)
    return torch.where(torch.rand(count, 1, 1, 1) < 0.5, changed, images)


def _lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    network.to(memory_format=memory_format)  # type: ignore[call-overload]


def _batches(scenes: Sequence[Scene]) -> Iterator[Sequence[Scene]]:
    for start in range(0, len(scenes), _BATCH):
        yield scenes[start : start + _BATCH]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save and report on held-out scenes."""
    parser = argparse.ArgumentParser(prog="python -m xai_core.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    parser.add_argument("--name", choices=get_args(DemoName), help="default: both")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    names: tuple[DemoName, ...] = (chosen.name,) if chosen.name else get_args(DemoName)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        started = time.perf_counter()
        network = train(name)
        seconds = time.perf_counter() - started
        weights = safetensors.torch.save(network.state_dict())
        (chosen.out / f"{name}.safetensors").write_bytes(weights)
        print(f"{name}: trained in {seconds:.0f} s")
        kinds: tuple[Watermark, ...] = get_args(Watermark)
        for watermark in kinds:
            print(
                f"{name}: accuracy with watermark={watermark}: {accuracy(network, watermark):.3f}"
            )


if __name__ == "__main__":
    main()
