"""Superpixels: an image cut into parts."""

from __future__ import annotations

import numpy as np
import pytest

from xai_core.errors import ParameterError
from xai_core.explainers.superpixels import Segmented, check_superpixels
from xai_core.superpixels import superpixels

RNG = np.random.default_rng(6)


@pytest.mark.parametrize("contrast", [0.0, 0.2, 1.0])
def test_even_noise_falls_into_about_as_many_parts_as_asked_for(contrast: float) -> None:
    noise = 0.5 + contrast * (RNG.random((3, 40, 50), dtype=np.float32) - np.float32(0.5))
    labels = superpixels(noise, segments=12, compactness=10.0)
    assert labels.shape == (40, 50)
    assert labels.dtype == np.int64
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert 6 <= labels.max() + 1 <= 24


def test_flat_tiles_are_found_again() -> None:
    tiles = RNG.permutation(8).reshape(2, 4)
    image = np.kron(tiles / 8, np.ones((16, 16))).astype(np.float32)
    labels = superpixels(np.stack([image] * 3), segments=8, compactness=1.0)
    assert {(a, b) for a, b in zip(labels.ravel(), image.ravel(), strict=True)} == {
        (labels[16 * i, 16 * j], image[16 * i, 16 * j]) for i in range(2) for j in range(4)
    }
    assert labels.max() == 7


def test_a_pixel_gets_its_superpixels_value() -> None:
    labels = np.array([[[0, 1], [1, 2]], [[0, 0], [0, 1]]])
    parts = Segmented(labels, (3, 2))
    painted = parts.paint([np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0])])
    assert painted.dtype == np.float32
    assert painted.tolist() == [[[1, 2], [2, 3]], [[4, 4], [4, 5]]]
    assert [sizes.tolist() for sizes in parts.sizes()] == [[1, 2, 1], [3, 1]]


def test_too_few_segments_and_no_compactness_are_refused() -> None:
    with pytest.raises(ParameterError, match="segments"):
        check_superpixels(1, 10.0)
    with pytest.raises(ParameterError, match="compactness"):
        check_superpixels(8, 0.0)
