"""The demo's classifier: small, convolutional, one pooling and one linear layer at its end.

Global average pooling and a linear layer make Grad-CAM of ``features`` equal to the class
activation map / (H x W) [Zhou 2016], so every Grad-CAM can be held against a closed form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast, get_args

import safetensors
import safetensors.torch
import torch
from torch import nn

from xai_core.demo.scenes import CLASSES
from xai_core.errors import ClassifierError, WeightsError, did_you_mean

DemoName = Literal["demo", "demo-shortcut"]
DEMO_NAMES: tuple[str, ...] = get_args(DemoName)

MEAN: tuple[float, float, float] = (0.5, 0.5, 0.5)
STD: tuple[float, float, float] = (0.25, 0.25, 0.25)


class DemoNet(nn.Module):
    """A convolutional network of 91 000 weights for normalised RGB ``[N, 3, H, W]``.

    ``features`` is its last block; its output, after the ReLU, is a quarter of the image's
    height and width. Each of its places sees 27 pixels across, about one object, so
    what it says, it says of the object that it lies on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _block(3, 24, stride=2)
        self.body = nn.Sequential(
            _block(24, 32),
            _block(32, 48, stride=2),
            _block(48, 64),
            _block(64, 64),
        )
        self.features = _block(64, 64, kernel=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, len(CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[N, 6]`` of normalised images."""
        features = self.features(self.body(self.stem(images)))
        return cast(torch.Tensor, self.linear(self.pool(features).flatten(1)))


def load_demo(name: DemoName) -> DemoNet:
    """Return one of the two trained classifiers, on the CPU and in evaluation mode.

    ``demo`` looks at the object. ``demo-shortcut`` has the same architecture and the same
    accuracy on ``demo_images`` but looks at the watermark. Both expect images normalised with
    ``MEAN`` and ``STD``.

    Raises:
        ClassifierError: another name.
        WeightsError: the packaged file is missing or damaged.
    """
    if name not in DEMO_NAMES:
        msg = f"demo classifier: got {name!r}; {did_you_mean(name, DEMO_NAMES)}"
        raise ClassifierError(msg)
    path = Path(__file__).with_name(f"{name}.safetensors")
    try:
        state = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        msg = (
            f"{path}: cannot read the weights of {name!r} ({error}); reinstall the package, "
            f"or make them again: python -m xai_core.demo.train --name {name}"
        )
        raise WeightsError(msg) from error
    network = DemoNet()
    network.load_state_dict(state)
    return network.eval()


def _block(incoming: int, outgoing: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outgoing),
        nn.ReLU(),
    )
