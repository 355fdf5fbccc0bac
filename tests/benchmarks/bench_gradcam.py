"""Grad-CAM costs little more than the forward pass that it needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from xai_core.classifier import load_classifier
from xai_core.explainers import GradCAM
from xai_core.torchvision_import import import_torchvision

IMAGES, ROUNDS, DEARER = 16, 5, 1.3


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.parametrize("name", ["resnet50", "densenet121"])
def test_gradcam_costs_at_most_a_third_more_than_a_forward_pass(name: str, benchmark: Any) -> None:
    torch.manual_seed(0)
    net = import_torchvision().models.get_model(name, weights=None).eval()
    classifier = load_classifier(net, normalization="imagenet", name=name)
    images = np.random.default_rng(0).random((IMAGES, 3, 224, 224), dtype=np.float32)
    batch, targets = torch.from_numpy(images), np.arange(IMAGES)
    explainer = GradCAM()
    forward: list[float] = []
    plain_forward: list[float] = []

    def explain() -> None:
        explainer.explain(classifier, images, targets)

    def run_references() -> None:
        forward.append(seconds(lambda: classifier.scores(batch)))
        with torch.no_grad():
            plain_forward.append(seconds(lambda: net(batch)))

    run_references()  # all are warm before the clock counts
    explain()
    forward.clear()
    plain_forward.clear()
    benchmark.pedantic(explain, setup=run_references, rounds=ROUNDS)
    ours = benchmark.stats.stats.data
    ratios = [our / reference for our, reference in zip(ours, forward, strict=True)]
    plain_ratios = [our / reference for our, reference in zip(ours, plain_forward, strict=True)]
    benchmark.extra_info |= {
        "forward_passes": [round(ratio, 2) for ratio in ratios],
        "median_forward_passes": round(median(ratios), 2),
        "median_forward_passes_of_the_users_module": round(median(plain_ratios), 2),
        "our_forward_seconds": round(median(forward), 2),
        "users_forward_seconds": round(median(plain_forward), 2),
    }
    print(benchmark.extra_info)
    assert median(ratios) <= DEARER
