"""Evaluations through a cache, made anew for every run, of which one thing may be changed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from xai_core.cache import DiskCache
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import Explanation, GradCAM, IntegratedGradients
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import METRICS, ConfiguredMetric
from xai_core.postprocess import Gaussian

SIZE = (16, 12)
COUNT = 7
RNG = np.random.default_rng(4)
IMAGES = RNG.random((COUNT, 3, *SIZE), dtype=np.float32)
MASKS = RNG.random((COUNT, *SIZE)) < 0.4
LABELS = (0, 1, 2, 0, 1, 2, 0)
GROUNDS = RNG.integers(0, 3, (COUNT, *SIZE))


class Net(nn.Module):
    """A small network whose forward pass reads attributes that neither repr nor weights show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.relu = nn.ReLU()
        self.out = nn.Linear(6, 3)
        self.scale = 1.0
        self.register_buffer("shift", torch.zeros(3), persistent=False)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape))

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.relu(self.conv(images)).mean(dim=(2, 3))
        return self.out(pooled) * self.scale + self.shift


def classifier_of(
    net: nn.Module | None = None, *, name: str = "small", batch: int = 3, **options: Any
) -> TorchClassifier:
    return TorchClassifier(net or Net(), name=name, size=SIZE, batch_size=batch, **options)


@dataclass
class Data:
    """What an image set of the tests is made of, to change one thing of it."""

    images: np.ndarray
    masks: np.ndarray
    grounds: np.ndarray
    labels: list[int | None]
    prefix: str = "image"
    classes: tuple[str, ...] = ("grass", "sky")

    @classmethod
    def plain(cls) -> Data:
        return cls(IMAGES.copy(), MASKS.copy(), GROUNDS.copy(), list(LABELS))

    def made(self, rows: tuple[int, ...] = tuple(range(COUNT))) -> ImageSet:
        entries = [
            Entry(
                f"{self.prefix}_{row}",
                self.labels[row],
                partial(np.copy, self.images[row]),
                partial(np.copy, self.masks[row]),
                "test",
                partial(np.copy, self.grounds[row]),
            )
            for row in rows
        ]
        names = dict(enumerate(self.classes, start=1))
        return ImageSet(entries, name="seven", transform=Resize(SIZE), background_classes=names)


CAM = Method("gradcam", GradCAM())
SMOOTH = Method("smooth", GradCAM(), (Gaussian(sigma=1),))
IG = Method("ig", IntegratedGradients(steps=3))


def configured(name: str, **settings: object) -> ConfiguredMetric:
    return METRICS[name].configure(settings)


def found(evaluation: Evaluation, stage: str) -> tuple[int, int]:
    """How many results of a stage were found in the cache, of how many looked up."""
    costs = [cost for (at, _), cost in evaluation.costs.items() if at == stage]
    return sum(cost.found for cost in costs), sum(cost.looked_up for cost in costs)


@dataclass
class Run:
    """One evaluation, to change one thing of it."""

    data: Data
    net: Net
    options: dict[str, Any]
    method: Method
    metric: ConfiguredMetric
    null: str | None = None
    seed: int = 0

    @classmethod
    def plain(cls) -> Run:
        return cls(Data.plain(), Net(), {}, SMOOTH, configured("insertion", steps=4))

    def measured(self, cache: DiskCache, device: str | None = None) -> Evaluation:
        classifier = classifier_of(self.net, **self.options)
        if device is not None:
            classifier.device = device
        at = Evaluation(classifier, self.data.made(), seed=self.seed, cache=cache)
        if self.null is None:
            at.measure(self.method, self.metric)
        else:
            at.measure_null(self.null, self.method, self.metric)
        return at


CALLS: list[int] = []


@dataclass(frozen=True)
class Counting:
    """Explains by one channel of the image and notes how many images it is asked for."""

    kind: ClassVar[str] = "counting"

    flat: bool = False

    def explain(
        self, classifier: Classifier, images: np.ndarray, targets: np.ndarray
    ) -> Explanation:
        CALLS.append(len(images))
        heatmaps = images[:, 0].copy()
        if self.flat:
            heatmaps[heatmaps[:, 0, 0] > 0.5] = 0.25
        return Explanation(heatmaps)
