"""What comes in is brought to one checked form, or refused with what to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from xai_core.arrays import (
    as_attributions,
    as_heatmaps,
    as_images,
    as_masks,
    as_numpy,
    as_targets,
)
from xai_core.errors import ShapeError

IMAGE = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
BATCH = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)


def test_a_tensor_with_history_becomes_an_array() -> None:
    tensor = torch.ones(2, 3, requires_grad=True) * 2
    assert np.array_equal(as_numpy(tensor), np.full((2, 3), 2.0))
    assert as_numpy([[1, 2]]).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "given",
    [IMAGE, IMAGE[None], IMAGE.astype(np.float64), torch.from_numpy(IMAGE), IMAGE.tolist()],
)
def test_one_image_becomes_a_batch_of_one(given: object) -> None:
    images = as_images(given)
    assert images.shape == (1, 3, 4, 5)
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    np.testing.assert_allclose(images[0], IMAGE)


def test_images_at_a_stride_become_contiguous() -> None:
    images = as_images(BATCH[::-1, :, ::2])
    assert images.flags.c_contiguous
    assert np.array_equal(images, BATCH[::-1, :, ::2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (BATCH[:, :1], r"expected RGB .* got shape \(2, 1, 4, 5\)"),
        (IMAGE[0], r"expected RGB .* got shape \(4, 5\)"),
        (IMAGE.transpose(1, 2, 0), r"expected RGB .* got shape \(4, 5, 3\)"),
        ((IMAGE * 255).astype(np.uint8), "expected floats .* got uint8; divide bytes by 255"),
        (IMAGE > 0.5, "expected floats .* got bool"),
        (IMAGE * 255, r"expected RGB in \[0, 1\], got values from 0 to 2\d\d; .* normalisation"),
        ((IMAGE - 0.5) / 0.2, "got values from -2.* give images before normalisation"),
        (np.full_like(IMAGE, np.nan), "got values from nan to nan"),
        (np.full_like(IMAGE, np.inf), "got values from 0 to inf"),
    ],
)
def test_other_images_are_refused(given: object, message: str) -> None:
    with pytest.raises(ShapeError, match=f"^mine: .*{message}"):
        as_images(given, name="mine")


def test_a_single_nan_pixel_is_found() -> None:
    images = BATCH.copy()
    images[1, 2, 3, 4] = np.nan
    with pytest.raises(ShapeError, match="nan"):
        as_images(images)


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (1, 1, 4, 5)])
def test_one_heatmap_becomes_a_batch_of_one(shape: tuple[int, ...]) -> None:
    for values in (IMAGE[0], np.arange(20).reshape(4, 5)):
        heatmaps = as_heatmaps(values.reshape(shape))
        assert heatmaps.shape == (1, 4, 5)
        assert heatmaps.dtype == np.float32


@pytest.mark.parametrize("given", [BATCH, np.zeros(4), np.zeros((4, 5), dtype=complex), ["a"]])
def test_other_heatmaps_are_refused(given: object) -> None:
    with pytest.raises(ShapeError, match=r"^heatmaps: expected one relevance per pixel"):
        as_heatmaps(given)


@pytest.mark.parametrize(
    "given",
    [
        np.array([[0, 1, 1]]),
        np.array([[0, 255, 255]], dtype=np.uint8),
        np.array([[False, True, True]]),
        np.array([[0.0, 1.0, 1.0]]),
        torch.tensor([[[0, 1, 1]]]),
        [[[[0, 1, 1]]]],
    ],
)
def test_a_mask_of_any_kind_becomes_bool(given: object) -> None:
    masks = as_masks(given)
    assert masks.dtype == np.bool_
    assert masks.tolist() == [[[False, True, True]]]


@pytest.mark.parametrize("given", [[[0, 1, 2]], [[0, 1, 255]], [[0.2, 1.0]], [[float("nan"), 0]]])
def test_a_mask_of_other_values_is_refused(given: object) -> None:
    with pytest.raises(ShapeError, match=r"^masks: expected a mask of 0/1, 0/255 or bool, got"):
        as_masks(given)


def test_attributions_keep_their_channels() -> None:
    assert as_attributions(IMAGE.astype(np.float64)).shape == (1, 3, 4, 5)
    assert as_attributions(BATCH).dtype == np.float32


@pytest.mark.parametrize(
    ("convert", "given"),
    [
        (as_attributions, np.zeros((4, 5))),
        (as_attributions, np.zeros((2, 3, 4, 5), dtype=np.int64)),
        (as_masks, np.zeros(5)),
        (as_masks, np.zeros((2, 3, 4, 5))),
    ],
)
def test_another_shape_is_refused_with_the_one_given(
    convert: Callable[[object], object], given: np.ndarray
) -> None:
    with pytest.raises(ShapeError, match="got ") as raised:
        convert(given)
    assert str(given.shape) in str(raised.value)


@pytest.mark.parametrize("given", [7, np.int32(7), torch.tensor(7), [7, 7, 7]])
def test_one_target_serves_every_image(given: object) -> None:
    targets = as_targets(given, 3)
    assert targets.dtype == np.int64
    assert targets.tolist() == [7, 7, 7]


@pytest.mark.parametrize("given", [1.0, [0.5], [True, False], [[1, 2]], ["cat"]])
def test_targets_that_are_no_class_indices_are_refused(given: object) -> None:
    with pytest.raises(ShapeError, match=r"^targets: expected class indices \[N\], got"):
        as_targets(given, 1)
