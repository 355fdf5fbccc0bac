"""Integrated Gradients against Captum's default call: time of the same work, and the same answer."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import captum.attr
import numpy as np
import torch
from torch import nn

from xai_core.classifier import load_classifier
from xai_core.explainers import IntegratedGradients
from xai_core.torchvision_import import import_torchvision

WEIGHTS = Path(__file__).parents[3] / "shared/data/weights/resnet50.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS, ROUNDS, FASTER = 50, 3, 2.0


class Normalised(nn.Module):
    """The user's model as a function of RGB, as one would hand it to Captum."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net((images - self.mean) / self.std)


def resnet50() -> nn.Module:
    import_torchvision()
    import safetensors.torch
    from torchvision.models import resnet50

    torch.manual_seed(0)
    net = resnet50(weights=None).eval()
    if WEIGHTS.is_file():
        state = {key: value.float() for key, value in safetensors.torch.load_file(WEIGHTS).items()}
        net.load_state_dict(state, strict=False)
    return net


def test_ig_is_at_least_twice_as_fast_as_captums_default_call(benchmark: Any) -> None:
    net = resnet50()
    image = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
    target = np.array([340])
    classifier = load_classifier(net, normalization="imagenet", name="resnet50")
    explainer = IntegratedGradients(steps=STEPS)
    reference = captum.attr.IntegratedGradients(Normalised(net))
    answers: dict[str, np.ndarray] = {}
    theirs: list[float] = []

    def run_captum() -> None:
        start = time.perf_counter()
        attributions = reference.attribute(
            torch.from_numpy(image), target=int(target[0]), n_steps=STEPS, method="gausslegendre"
        )
        theirs.append(time.perf_counter() - start)
        answers["captum"] = attributions.detach().numpy()

    def run_ours() -> None:
        attributions = explainer.explain(classifier, image, target).attributions
        assert attributions is not None
        answers["ours"] = attributions

    run_captum()  # both are warm before the clock counts
    run_ours()
    theirs.clear()
    benchmark.pedantic(run_ours, setup=run_captum, rounds=ROUNDS)
    ratios = [their / our for their, our in zip(theirs, benchmark.stats.stats.data, strict=True)]
    difference = np.linalg.norm(answers["ours"] - answers["captum"])
    relative = float(difference / np.linalg.norm(answers["captum"]))
    benchmark.extra_info |= {
        "captum_seconds": [round(seconds, 2) for seconds in theirs],
        "times_faster_than_captum": [round(ratio, 2) for ratio in ratios],
        "median_times_faster": round(median(ratios), 2),
        "relative_difference": relative,
        "weights": WEIGHTS.name if WEIGHTS.is_file() else "random",
    }
    print(benchmark.extra_info)
    assert relative < 1e-3
    assert median(ratios) >= FASTER
