"""Train torchvision's DenseNet-121 on the demo's scenes, from random weights, in minutes.

It gives a large real architecture whose explanations have a known truth, without a download:

    python examples/densenet121/train.py
    pytest --xai-model densenet121 --xai-weights .cache/densenet121-demo.safetensors \\
        --xai-data demo

The watermarks of the training scenes are random, so the network has to look at the object. It
sees small scenes close up first, on a background that fades in, because outlines are slow to
learn in clutter; then whole scenes; then whole scenes at 224 pixels, the size at which it is
gated. Most steps are the early, cheap ones. Images are normalised as torchvision's own weights
expect them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from xai_core.arrays import Float32
from xai_core.demo.scenes import CLASSES, Scene, scene
from xai_core.torchvision_import import import_torchvision

import_torchvision()
from torchvision.models import densenet121  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GATING_SIZE = 224
OUT = Path(__file__).parents[2] / ".cache" / "densenet121-demo.safetensors"

_TRAIN_SEED = 3_000_000
_HELD_OUT_SEED = 4_000_000
_PEAK_RATE = 1.5e-3
_WARM_UP = 0.08


@dataclass(frozen=True)
class Phase:
    """A part of the training: scenes drawn at ``size``, of which it sees ``view`` pixels.

    Where ``view`` is smaller than ``size``, it is a window about the object. ``fade`` is the
    share of the phase in which the background comes up from a flat colour.
    """

    size: int
    view: int
    scenes: int
    epochs: int
    batch: int
    fade: float = 0.0

    @property
    def steps(self) -> int:
        """How many batches the phase takes."""
        return self.epochs * (self.scenes // self.batch)

    @property
    def cost(self) -> int:
        """Pixels per step: the learning rate follows the work done, not the steps."""
        return self.batch * self.view**2


PHASES = (
    Phase(size=112, view=80, scenes=1500, epochs=6, batch=16, fade=0.6),
    Phase(size=160, view=160, scenes=900, epochs=1, batch=16),
    Phase(size=224, view=224, scenes=640, epochs=2, batch=16),
)


def train(*, seed: int = 1) -> nn.Module:
    """Return a newly trained DenseNet-121 for the demo's classes, in evaluation mode."""
    torch.manual_seed(seed)
    dice = np.random.default_rng(seed)
    network: nn.Module = densenet121(weights=None, num_classes=len(CLASSES))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    whole, spent = sum(phase.steps * phase.cost for phase in PHASES), 0
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    network.train()
    for phase in PHASES:
        scenes = _scenes(phase)
        started, losses, hits = time.perf_counter(), [], []
        for step, chosen in enumerate(_batches(phase, dice), start=1):
            contrast = min(1.0, step / (phase.fade * phase.steps)) if phase.fade else 1.0
            views = [_view(scenes[index], phase.view, contrast, dice) for index in chosen]
            targets = torch.tensor([scenes[index].label for index in chosen])
            logits = network(normalised(torch.from_numpy(np.stack(views)).float()))
            loss = loss_of(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = _rate(spent / whole)
            optimizer.step()
            spent += phase.cost
            losses.append(loss.item())
            hits.append((logits.argmax(1) == targets).float().mean().item())
            if step % 25 == 0 or step == phase.steps:
                print(
                    f"{phase.view} px, step {step}/{phase.steps}: "
                    f"loss {np.mean(losses[-25:]):.3f}, accuracy {np.mean(hits[-25:]):.3f}, "
                    f"{time.perf_counter() - started:.0f} s",
                    flush=True,
                )
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.eval()


def accuracy(network: nn.Module, *, size: int = GATING_SIZE, count: int = 180) -> float:
    """Return the share of held-out scenes with random watermarks that the network names."""
    right = 0
    with torch.inference_mode():
        for index in range(count):
            drawn = scene(
                _HELD_OUT_SEED + index, size=size, label=index % len(CLASSES), watermark="random"
            )
            logits = network(normalised(torch.from_numpy(drawn.image)[None]))
            right += int(logits.argmax(1).item() == drawn.label)
    return right / count


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Return images in [0, 1] as torchvision's own weights take them."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _rate(done: float) -> float:
    """Return the learning rate after this share of the work: up, then down along a cosine."""
    if done < _WARM_UP:
        return _PEAK_RATE * (0.04 + 0.96 * done / _WARM_UP)
    return _PEAK_RATE * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))) / 2


def _scenes(phase: Phase) -> list[Scene]:
    first = _TRAIN_SEED + phase.size * 10_000
    return [
        scene(first + index, size=phase.size, label=index % len(CLASSES), watermark="random")
        for index in range(phase.scenes)
    ]


def _batches(phase: Phase, dice: np.random.Generator) -> Iterator[list[int]]:
    for _ in range(phase.epochs):
        order = dice.permutation(phase.scenes).tolist()
        for start in range(0, phase.scenes - phase.batch + 1, phase.batch):
            yield order[start : start + phase.batch]


def _view(one: Scene, view: int, contrast: float, dice: np.random.Generator) -> Float32:
    """Return the scene or a window of it, turned, mirrored and recoloured at random."""
    image, size = one.image, one.image.shape[1]
    if contrast < 1:
        flat = image.mean((1, 2), keepdims=True)
        image = np.where(one.mask, image, flat + contrast * (image - flat))
    if view < size:
        middle = [int(places.mean()) for places in np.nonzero(one.mask)]
        top, left = (
            int(np.clip(place - view * dice.uniform(0.45, 0.55), 0, size - view))
            for place in middle
        )
        image = image[:, top : top + view, left : left + view]
    image = np.rot90(image, int(dice.integers(4)), axes=(1, 2))
    if dice.integers(2):
        image = image[:, :, ::-1]
    return image[dice.permutation(3)]


def main() -> None:
    """Train, report on held-out scenes and save the weights under torchvision's names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="file (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    started = time.perf_counter()
    network = train()
    print(f"trained in {time.perf_counter() - started:.0f} s")
    print(f"accuracy on held-out scenes at {GATING_SIZE} px: {accuracy(network):.3f}")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_bytes(safetensors.torch.save(network.state_dict()))
    print(f"saved {chosen.out}")


if __name__ == "__main__":
    main()
