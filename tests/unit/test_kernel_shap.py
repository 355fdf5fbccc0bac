"""KernelSHAP against Shapley values by their definition, and against Captum."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from forward_only import ForwardOnly
from torch import Tensor

from xai_core.errors import ParameterError
from xai_core.explainers import Complete, KernelSHAP
from xai_core.superpixels import superpixels

RNG = np.random.default_rng(8)
TILES = RNG.permutation(np.linspace(0.2, 0.9, 8)).reshape(2, 4)
IMAGE = np.stack([np.kron(TILES, np.ones((16, 16)))] * 3)[None].astype(np.float32)
WEIGHTS = torch.from_numpy(RNG.normal(size=(8, 3))).float()


def wavy(images: Tensor) -> Tensor:
    """Logits of three classes in which the tiles work together."""
    tiles = torch.nn.functional.adaptive_avg_pool2d(images[:, :1], (2, 4)).flatten(1)
    return torch.sin(4 * tiles) @ WEIGHTS + 5 * tiles[:, :3] * tiles[:, 3:6] * tiles[:, 5:]


def shapley_values(colour: float, target: int) -> np.ndarray:
    """The definition: what a tile adds, averaged over the orders in which tiles come in."""
    values = np.zeros(8)

    def output(present: tuple[int, ...]) -> float:
        tiles = np.full(8, colour)
        tiles[list(present)] = TILES.ravel()[list(present)]
        image = np.stack([np.kron(tiles.reshape(2, 4), np.ones((16, 16)))] * 3)[None]
        return float(wavy(torch.from_numpy(image).float())[0, target])

    known = {
        present: output(present)
        for size in range(9)
        for present in itertools.combinations(range(8), size)
    }
    for tile in range(8):
        for present in known:
            if tile in present:
                continue
            chance = math.factorial(len(present)) * math.factorial(7 - len(present))
            gain = known[tuple(sorted((*present, tile)))] - known[present]
            values[tile] += chance / math.factorial(8) * gain
    return values


@pytest.mark.parametrize("target", [0, 2])
def test_on_eight_superpixels_it_is_the_exact_shapley_value(target: int) -> None:
    explainer = KernelSHAP(samples=254, segments=8, compactness=1.0, substrate="black")
    classifier = ForwardOnly(wavy, batch=64)
    (found,) = explainer.explain(classifier, IMAGE, np.array([target])).heatmaps
    expected = np.kron(shapley_values(0.0, target).reshape(2, 4), np.ones((16, 16)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert classifier.forwards == 2**8


def test_drawn_coalitions_come_near_the_exact_values() -> None:
    explainer = KernelSHAP(samples=250, segments=8, compactness=1.0, substrate="black")
    classifier = ForwardOnly(wavy, batch=64)
    (found,) = explainer.explain(classifier, IMAGE, np.array([1])).heatmaps
    expected = np.kron(shapley_values(0.0, 1).reshape(2, 4), np.ones((16, 16)))
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert np.abs(found - expected).max() > 1e-4
    assert classifier.forwards == 252


def test_it_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    labels = superpixels(IMAGE[0], segments=8, compactness=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = captum.KernelShap(wavy).attribute(
            torch.from_numpy(IMAGE),
            target=0,
            feature_mask=torch.from_numpy(labels)[None, None],
            n_samples=3000,
            perturbations_per_eval=500,
        )
    explainer = KernelSHAP(samples=300, segments=8, compactness=1.0, substrate="black")
    (found,) = explainer.explain(ForwardOnly(wavy, batch=256), IMAGE, np.array([0])).heatmaps
    assert np.corrcoef(found.ravel(), expected[0, 0].numpy().ravel())[0, 1] > 0.999


@pytest.mark.parametrize("samples", [4, 40, 1000])
def test_attributions_sum_to_the_difference_however_few_samples(samples: int) -> None:
    images = np.concatenate([IMAGE, RNG.random(IMAGE.shape, dtype=np.float32)])
    explainer = KernelSHAP(samples=samples, segments=8, compactness=1.0)
    assert isinstance(explainer, Complete)
    classifier, targets = ForwardOnly(wavy), np.array([2, 0])
    attributions = explainer.explain(classifier, images, targets).attributions
    assert attributions is not None
    colour = np.array(ForwardOnly.mean, np.float32)[None, :, None, None]
    nothing = torch.from_numpy(np.broadcast_to(colour, images.shape).copy())
    change = (wavy(torch.from_numpy(images)) - wavy(nothing)).numpy()[[0, 1], targets]
    np.testing.assert_allclose(attributions.sum(axis=(1, 2, 3)), change, rtol=1e-4)
    np.testing.assert_allclose(
        explainer.differences(classifier, images, targets), change, rtol=1e-4
    )


def test_a_superpixel_of_its_own_gets_everything() -> None:
    flat = np.full((1, 3, 16, 16), 0.7, np.float32)
    explainer = KernelSHAP(segments=2, substrate="black", compactness=1e-3)
    classifier = ForwardOnly(lambda x: torch.stack([x.mean(dim=(1, 2, 3)), x[:, 0, 0, 0]], 1))
    attributions = explainer.explain(classifier, flat, np.array([0])).attributions
    assert attributions is not None
    assert attributions.sum() == pytest.approx(0.7, rel=1e-5)


def test_an_image_has_one_map_whatever_stands_beside_it_and_whatever_ran_before() -> None:
    images = np.concatenate([IMAGE, RNG.random(IMAGE.shape, dtype=np.float32)])
    explainer = KernelSHAP(samples=60, segments=12)
    together = explainer.explain(ForwardOnly(wavy), images, np.array([0, 1])).heatmaps
    torch.rand(3)
    alone = explainer.explain(ForwardOnly(wavy, batch=3), images[1:], np.array([1])).heatmaps
    np.testing.assert_allclose(alone[0], together[1], atol=1e-4)


def test_images_share_full_batches() -> None:
    images = np.concatenate([IMAGE, IMAGE[..., ::-1]])
    classifier = ForwardOnly(wavy, batch=16)
    KernelSHAP(samples=20, segments=8, compactness=1.0).explain(
        classifier, images, np.array([0, 1])
    )
    assert classifier.calls == [[16, 16, 12]]


@pytest.mark.parametrize("field", ["samples", "segments", "compactness"])
def test_a_wrong_parameter_is_refused(field: str) -> None:
    with pytest.raises(ParameterError, match=field):
        KernelSHAP(**{field: 0})  # type: ignore[arg-type]
