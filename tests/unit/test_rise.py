"""RISE against the sum of its paper, mask by mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from forward_only import ForwardOnly
from torch import Tensor

from xai_core.errors import ParameterError
from xai_core.explainers import RISE

RNG = np.random.default_rng(3)
IMAGES = RNG.random((3, 3, 20, 26), dtype=np.float32)
TARGETS = np.array([0, 2, 1])
WEIGHTS = torch.from_numpy(RNG.normal(size=(3 * 20 * 26, 3)).astype(np.float32) / 6)


def linear(images: Tensor) -> Tensor:
    return images.flatten(1) @ WEIGHTS


def enlarged(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear enlargement, written out: pixel centres, clamped at the border."""
    rows = (np.arange(height) + 0.5) * grid.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * grid.shape[1] / width - 0.5
    result = np.zeros((height, width))
    for i, y in enumerate(np.clip(rows, 0, grid.shape[0] - 1)):
        for j, x in enumerate(np.clip(columns, 0, grid.shape[1] - 1)):
            top, left = int(y), int(x)
            below, right = min(top + 1, len(grid) - 1), min(left + 1, grid.shape[1] - 1)
            a, b = y - top, x - left
            result[i, j] = (
                (1 - a) * (1 - b) * grid[top, left]
                + (1 - a) * b * grid[top, right]
                + a * (1 - b) * grid[below, left]
                + a * b * grid[below, right]
            )
    return result


def test_it_is_the_mean_mask_weighted_by_the_probability() -> None:
    explainer = RISE(masks=23, cells=4, keep=0.4, seed=5)
    maps = explainer.explain(ForwardOnly(linear), IMAGES, TARGETS).heatmaps

    random = np.random.default_rng(5)
    grids = random.random((23, 4, 4)) < 0.4
    shifts = random.integers(0, (5, 7), size=(23, 2))  # a cell is 5 x 7 pixels
    mean = np.array(ForwardOnly.mean, dtype=np.float32)[:, None, None]
    for image, target, found in zip(IMAGES, TARGETS, maps, strict=True):
        total = np.zeros((20, 26))
        for grid, (top, left) in zip(grids, shifts, strict=True):
            mask = enlarged(grid.astype(float), 25, 35)[top : top + 20, left : left + 26]
            masked = ((image - mean) * mask + mean).astype(np.float32)
            scores = torch.softmax(linear(torch.from_numpy(masked)[None]), dim=1)
            total += float(scores[0, target]) * mask
        np.testing.assert_allclose(found, total / (23 * 0.4), rtol=1e-4)


def test_the_map_converges_to_where_a_linear_probability_looks() -> None:
    weights = np.zeros((20, 26), dtype=np.float32)
    weights[4:9, 15:22] = 1 / 200

    def first_class(images: Tensor) -> Tensor:
        share = (images.mean(dim=1) * torch.from_numpy(weights)).sum(dim=(1, 2))
        return torch.stack([share, 1 - share], dim=1)

    classifier = ForwardOnly(first_class, batch=256, probabilities=True)
    explainer = RISE(masks=3000, cells=6, substrate="black")
    (found,) = explainer.explain(
        classifier, np.ones((1, 3, 20, 26), dtype=np.float32), np.array([0])
    ).heatmaps
    inside = weights > 0
    assert np.unravel_index(found.argmax(), found.shape) in {tuple(p) for p in np.argwhere(inside)}
    assert found[inside].mean() > 1.1 * found[~inside].mean()


def test_every_mask_costs_one_forward_for_each_image_in_full_batches() -> None:
    classifier = ForwardOnly(linear, batch=7)
    RISE(masks=21).explain(classifier, IMAGES, TARGETS)
    assert classifier.forwards == 21 * 3
    assert {size for call in classifier.calls for size in call} == {7}


def test_masks_do_not_depend_on_the_size_of_a_batch() -> None:
    explainer = RISE(masks=20, seed=1)
    small, large = (
        explainer.explain(ForwardOnly(linear, batch=batch), IMAGES, TARGETS).heatmaps
        for batch in (1, 64)
    )
    np.testing.assert_allclose(small, large, rtol=1e-5)


def test_at_most_one_batch_of_masks_is_made_at_a_time() -> None:
    chunks = [len(chunk) for chunk in RISE(masks=20).random_masks(224, 224, chunk=8)]
    assert chunks == [8, 8, 4]


def test_an_image_has_one_map_whatever_stands_beside_it() -> None:
    explainer = RISE(masks=30)
    together = explainer.explain(ForwardOnly(linear), IMAGES, TARGETS).heatmaps
    alone = explainer.explain(ForwardOnly(linear), IMAGES[2:], TARGETS[2:]).heatmaps
    np.testing.assert_allclose(alone[0], together[2], rtol=1e-5)


def test_the_seed_decides_the_masks() -> None:
    def masks(seed: int) -> Tensor:
        return torch.cat(list(RISE(masks=5, seed=seed).random_masks(20, 26, 2)))

    assert torch.equal(masks(1), masks(1))
    assert not torch.equal(masks(1), masks(2))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"masks": 0}, "masks"),
        ({"cells": 0}, "cells"),
        ({"keep": 1.0}, "keep"),
        ({"seed": -1}, "seed"),
        ({"substrate": "blak"}, "did you mean 'black'"),
    ],
)
def test_a_wrong_parameter_is_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        RISE(**parameters)  # type: ignore[arg-type]
