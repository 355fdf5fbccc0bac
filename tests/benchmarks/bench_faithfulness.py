"""What the faithfulness curves cost beyond the forward passes that they ask for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from references import interleaved, middle, resnet50
from torch import Tensor

from xai_core.metrics import deletion, insertion

# Two curves of 16 images with 28 steps are 928 forward passes: over half a minute on two cores, in
# which a neighbour's load comes and goes. What is claimed is the cost beyond each pass. What a step
# adds to it (changed pixels) is the same however many steps there are; what an image adds (its
# ranks, its substrate) is shared by the passes of its curve. So a curve of 4 steps carries more of
# it for each pass than one of 28, and what holds there holds for 28 too; in rounds that are short
# enough for both sides to meet the same load, and many enough for a median.
IMAGES, STEPS, ROUNDS = 16, 4, 15


def test_deletion_and_insertion_cost_at_most_1_15_times_their_forward_passes(benchmark):
    _, classifier = resnet50()
    rng = np.random.default_rng(0)
    images = rng.random((IMAGES, 3, 224, 224), dtype=np.float32)
    heatmaps = rng.random((IMAGES, 224, 224), dtype=np.float32)
    targets = np.full(IMAGES, 340)
    forwards = 2 * IMAGES * (STEPS + 1)

    def ours():
        for measured in (deletion, insertion):
            measured(classifier, images, heatmaps, targets, steps=STEPS)

    def bare():
        size = classifier.batch_size(224, 224)
        batch = torch.from_numpy(images[:size])

        def batches() -> Iterator[Tensor]:
            for start in range(0, forwards, size):
                yield batch[: min(size, forwards - start)]

        classifier.scores(batches())

    classifier.scores(torch.from_numpy(images))  # warm-up
    before = classifier.passes.forwards
    ours()
    assert classifier.passes.forwards - before == forwards
    ratios = interleaved(ours, bare, rounds=ROUNDS)
    benchmark.extra_info["deletion and insertion / bare forwards"] = ratios
    benchmark.pedantic(lambda: None, rounds=1)
    print(
        f"\ndeletion and insertion / bare forwards: {middle(ratios):.3f} of {np.round(ratios, 3)}"
    )
    assert middle(ratios) <= 1.15
