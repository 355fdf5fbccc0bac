"""Null maps: what they are, and that they know nothing but the image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.explainers import (
    NULL_MAPS,
    CentreMap,
    GradCAM,
    InvertedMap,
    RandomMap,
    SobelMap,
    null_maps,
)
from xai_core.explainers.nulls import centre_maps, inverted_maps, random_maps, sobel_maps

RNG = np.random.default_rng(9)
IMAGES = RNG.random((4, 3, 9, 14), dtype=np.float32)
HEATMAPS = RNG.normal(size=(4, 9, 14)).astype(np.float32)
TARGETS = np.zeros(4, dtype=np.int64)


def plain_sobel(image: np.ndarray) -> list[list[float]]:
    """Edge strength of the luminance by the two 3 x 3 kernels, edges mirrored."""
    grey = 0.2125 * image[0] + 0.7154 * image[1] + 0.0721 * image[2]
    padded = np.pad(grey.astype(np.float64), 1, mode="symmetric")
    smooth, slope = (0.25, 0.5, 0.25), (1.0, 0.0, -1.0)
    rows = []
    for row in range(grey.shape[0]):
        line = []
        for column in range(grey.shape[1]):
            window = padded[row : row + 3, column : column + 3]
            down = sum(slope[i] * smooth[j] * window[i, j] for i in range(3) for j in range(3))
            across = sum(smooth[i] * slope[j] * window[i, j] for i in range(3) for j in range(3))
            line.append(math.sqrt((down**2 + across**2) / 2))
        rows.append(line)
    return rows


def test_random_maps_follow_the_image_and_not_its_place() -> None:
    maps = random_maps(IMAGES)
    order = [2, 0, 3, 1]
    assert np.array_equal(random_maps(IMAGES[order]), maps[order])
    assert np.array_equal(random_maps(IMAGES[1:2]), maps[1:2])


def test_random_maps_differ_between_images_and_between_seeds() -> None:
    maps = random_maps(IMAGES)
    assert len({image.tobytes() for image in maps}) == 4
    assert not np.array_equal(random_maps(IMAGES, seed=1), maps)
    nudged = IMAGES.copy()
    nudged[0, 0, 0, 0] += np.float32(1 / 255)
    assert not np.array_equal(random_maps(nudged)[0], maps[0])


def test_random_maps_are_uniform() -> None:
    values = np.sort(random_maps(np.zeros((1, 3, 100, 100), dtype=np.float32)).ravel())
    assert np.abs(values - np.linspace(0, 1, 10_000)).max() < 0.02  # Kolmogorov: 1.63 / 100


@pytest.mark.parametrize(("height", "width"), [(9, 14), (8, 8), (1, 5)])
def test_the_centre_map_is_the_same_seen_from_every_side(height: int, width: int) -> None:
    maps = centre_maps(np.zeros((2, 3, height, width), dtype=np.float32))
    assert maps.shape == (2, height, width)
    np.testing.assert_array_equal(maps, maps[:, ::-1])
    np.testing.assert_array_equal(maps, maps[:, :, ::-1])
    assert maps.argmax() in ((height // 2) * width + width // 2, _first_middle(height, width))


def _first_middle(height: int, width: int) -> int:
    return ((height - 1) // 2) * width + (width - 1) // 2


def test_the_centre_map_falls_as_a_gaussian_of_a_quarter_side() -> None:
    values = centre_maps(np.zeros((1, 3, 225, 225), dtype=np.float32))[0]
    assert values[112, 112] == 1
    assert values[112, 112 + 56] == pytest.approx(math.exp(-0.5 * (56 / 56.25) ** 2), rel=1e-5)
    assert values[112 + 56, 112 + 30] == pytest.approx(
        math.exp(-0.5 * (56**2 + 30**2) / 56.25**2), rel=1e-5
    )


def test_the_sobel_map_equals_plain_convolution() -> None:
    expected = [plain_sobel(image) for image in IMAGES]
    np.testing.assert_allclose(sobel_maps(IMAGES), expected, atol=1e-6)


def test_inverting_turns_the_ranks_around_and_back() -> None:
    inverted = inverted_maps(HEATMAPS)
    ranks, inverted_ranks = (maps.reshape(4, -1).argsort(axis=1) for maps in (HEATMAPS, inverted))
    np.testing.assert_array_equal(inverted_ranks[:, ::-1], ranks)
    assert (inverted >= 0).all()
    back = inverted_maps(inverted).reshape(4, -1).argsort(axis=1)
    np.testing.assert_array_equal(back, ranks)


@pytest.mark.parametrize("name", NULL_MAPS)
def test_every_null_map_has_one_value_for_each_pixel(name: str) -> None:
    maps = null_maps(name, IMAGES, HEATMAPS)
    assert maps.shape == (4, 9, 14)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()


def test_an_unknown_null_map_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ParameterError, match="no null map 'center': did you mean 'centre'"):
        null_maps("center", IMAGES, HEATMAPS)


def classifier() -> TorchClassifier:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    return TorchClassifier(net, name="small", size=(9, 14))


def test_null_maps_serve_as_explainers_that_never_run_the_classifier() -> None:
    for explainer, expected in [
        (RandomMap(seed=3), random_maps(IMAGES, seed=3)),
        (CentreMap(sigma=0.1), centre_maps(IMAGES, sigma=0.1)),
        (SobelMap(), sobel_maps(IMAGES)),
    ]:
        found = explainer.explain(None, IMAGES, TARGETS)
        np.testing.assert_array_equal(found.heatmaps, expected)
        assert found.attributions is None


def test_the_inverted_explainer_inverts_another_one() -> None:
    model = classifier()
    upright = GradCAM(layer="1").explain(model, IMAGES, TARGETS).heatmaps
    inverted = InvertedMap(of="gradcam(layer='1')").explain(model, IMAGES, TARGETS).heatmaps
    expected = upright.max(axis=(1, 2))[:, None, None] - upright
    np.testing.assert_allclose(inverted, expected, atol=1e-6)


def test_parameters_that_a_null_map_cannot_take_are_refused() -> None:
    with pytest.raises(ParameterError, match="`sigma` must be above 0"):
        CentreMap(sigma=0)
    with pytest.raises(ParameterError, match="no explainer 'gradcan': did you mean 'gradcam'"):
        InvertedMap(of="gradcan")


def test_a_classifier_is_only_needed_by_the_inverted_map() -> None:
    model = classifier()
    before = model.passes.forwards, model.passes.gradients
    for name in ("random", "centre", "sobel"):
        null_maps(name, IMAGES, HEATMAPS)
    assert (model.passes.forwards, model.passes.gradients) == before
    assert torch.is_grad_enabled()
