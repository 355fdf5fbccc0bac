"""An image and its mask stay one: the same geometry, whatever the sizes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from xai_core.arrays import Bool
from xai_core.errors import ParameterError
from xai_core.imageset import CenterCrop, Resize, Transform, parse_transform
from xai_core.imageset.transform import transform_image, transform_mask
from xai_core.torchvision_import import import_torchvision

sides = st.integers(8, 60)
transforms: st.SearchStrategy[Transform] = st.one_of(
    st.builds(Resize, size=st.tuples(sides, sides)),
    st.builds(
        lambda size, margin: CenterCrop(size=size, resize=max(size) + margin),
        st.tuples(sides, sides),
        st.integers(0, 20),
    ),
)
masks = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.bool_, shape))


def painted(mask: Bool) -> np.ndarray:
    """The mask as an image: white on the object, black elsewhere."""
    return np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * np.uint8(255)


@settings(max_examples=60, deadline=None)
@given(mask=masks, transform=transforms)
def test_a_pixel_that_saw_only_object_is_in_the_mask_and_one_that_saw_none_is_not(
    mask: Bool, transform: Transform
) -> None:
    image = transform_image(transform, painted(mask))
    moved = transform_mask(transform, mask)
    assert image.shape == (3, *transform.size)
    assert moved.shape == transform.size
    assert moved[image[0] == 1].all()
    assert not moved[image[0] == 0].any()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(60, 120), st.integers(60, 120)),
    size=st.tuples(st.integers(30, 120), st.integers(30, 120)),
    at=st.floats(0.4, 0.6),
    down=st.booleans(),
)
def test_an_edge_lies_where_the_image_crosses_half(
    shape: tuple[int, int], size: tuple[int, int], at: float, down: bool
) -> None:
    mask = np.zeros(shape, dtype=bool)
    if down:
        mask[round(at * shape[0]) :] = True
    else:
        mask[:, round(at * shape[1]) :] = True
    image = transform_image(Resize(size=size), painted(mask))[0]
    moved = transform_mask(Resize(size=size), mask)
    # Within one byte of half, rounding may decide either way.
    clear = abs(image - 0.5) > 1.5 / 255
    np.testing.assert_array_equal(moved[clear], image[clear] > 0.5)


@settings(max_examples=60, deadline=None)
@given(mask=masks, size=st.tuples(sides, sides))
def test_a_resized_mask_takes_the_pixel_under_its_centre(mask: Bool, size: tuple[int, int]) -> None:
    centres = [
        [(index + Fraction(1, 2)) * Fraction(length, new) for index in range(new)]
        for length, new in zip(mask.shape, size, strict=True)
    ]
    expected = mask[[int(row) for row in centres[0]]][:, [int(column) for column in centres[1]]]
    # A centre exactly between two pixels may take either.
    clear = np.ix_(*([centre.denominator != 1 for centre in axis] for axis in centres))
    moved = transform_mask(Resize(size=size), mask)
    np.testing.assert_array_equal(moved[clear], expected[clear])


def test_an_image_of_the_right_size_passes_exactly() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    pixels[..., 1] = pixels[::-1, :, 1]
    moved = transform_image(Resize(size=(16, 16)), pixels)
    expected = pixels.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, expected)


def test_floats_of_the_right_size_pass_exactly_as_a_copy() -> None:
    pixels = np.random.default_rng(0).random((3, 9, 7), dtype=np.float32)
    moved = transform_image(Resize(size=(9, 7)), pixels)
    np.testing.assert_array_equal(moved, pixels)
    assert not np.shares_memory(moved, pixels)


def test_a_mirrored_read_only_array_is_taken() -> None:
    pixels = np.random.default_rng(0).random((3, 9, 7), dtype=np.float32)
    mirrored = pixels[:, :, ::-1]
    mirrored.setflags(write=False)
    moved = transform_image(Resize(size=(9, 7)), mirrored)
    np.testing.assert_array_equal(moved, mirrored)


def test_bicubic_floats_stay_between_0_and_1() -> None:
    pixels = np.zeros((3, 12, 12), dtype=np.float32)
    pixels[:, 4:8, 4:8] = 1
    moved = transform_image(Resize(size=(31, 31), interpolation="bicubic"), pixels)
    assert moved.min() == 0
    assert moved.max() == 1


@pytest.mark.parametrize("shape", [(300, 400), (401, 299), (224, 224)])
def test_center_crop_equals_the_preset_of_torchvision(shape: tuple[int, int]) -> None:
    import_torchvision()
    from torchvision.transforms._presets import ImageClassification

    preset = ImageClassification(crop_size=224, mean=(0, 0, 0), std=(1, 1, 1))
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = preset(Image.fromarray(pixels)).numpy()
    np.testing.assert_array_equal(transform_image(CenterCrop(), pixels), expected)


def test_an_unevenly_long_image_is_cropped_in_its_middle() -> None:
    mask = np.zeros((21, 61), dtype=bool)
    mask[:, 30] = True
    moved = transform_mask(CenterCrop(size=(20, 21), resize=21), mask)
    assert np.unique(np.argwhere(moved)[:, 1]).tolist() == [10]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resize", Resize(size=(32, 48))),
        ("resize(interpolation='bicubic')", Resize((32, 48), "bicubic")),
        ("resize(size=(8, 9))", Resize((8, 9))),
        ("center-crop", CenterCrop((32, 48), resize=55)),
        ("center-crop(resize=64)", CenterCrop((32, 48), resize=64)),
    ],
)
def test_a_text_names_a_transform(text: str, expected: Transform) -> None:
    assert parse_transform(text, size=(32, 48)) == expected


@given(transform=transforms)
def test_the_text_of_a_transform_reads_back(transform: Transform) -> None:
    assert parse_transform(str(transform)) == transform


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("centre-crop", "did you mean 'center-crop'"),
        ("center-crop(resise=256)", "did you mean 'resize'"),
        ("center-crop(resize=100)", "at least the crop's longer side, 224"),
        ("resize(size=(0, 5))", "at least 1 pixel"),
        ("resize(interpolation='lanczos')", "lanczos"),
        ("resize(", "expected 'name'"),
    ],
)
def test_a_text_that_names_no_transform_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_transform(text)
