"""The off-centre crop: the object leaves the middle, image and mask stay one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_core.arrays import Bool
from xai_core.errors import ImageSetError, ParameterError
from xai_core.explainers import null_maps
from xai_core.imageset import Entry, ImageSet, OffCenterCrop, Resize, parse_transform
from xai_core.metrics import pointing_game


def square(side: int = 40, *, top: int = 14, left: int = 16, size: int = 8) -> Bool:
    mask = np.zeros((side, side), dtype=bool)
    mask[top : top + size, left : left + size] = True
    return mask


def best_by_a_loop(mask: Bool, height: int, width: int, keep: float) -> tuple[int, int]:
    """The window of the docstring, found by looking at each."""
    corners = [
        (top, left)
        for top in range(mask.shape[0] - height + 1)
        for left in range(mask.shape[1] - width + 1)
    ]
    views = {(t, left): mask[t : t + height, left : left + width] for t, left in corners}
    most = max(view.sum() for view in views.values())

    def distance(corner: tuple[int, int]) -> float:
        rows, columns = np.nonzero(views[corner])
        down = (rows.mean() - (height - 1) / 2) / height
        right = (columns.mean() - (width - 1) / 2) / width
        return round(float(np.hypot(down, right)), 9)

    return max((c for c in corners if views[c].sum() >= keep * most), key=distance)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(4, 14), st.integers(4, 14)),
    share=st.floats(0.3, 1.0),
    keep=st.sampled_from([0.5, 0.9, 1.0]),
)
def test_the_window_is_the_one_that_a_loop_over_all_finds(
    seed: int, shape: tuple[int, int], share: float, keep: float
) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.2
    mask[seed % shape[0], seed % shape[1]] = True
    rows, columns = OffCenterCrop(share=share, keep=keep).window(mask)
    height, width = (max(1, round(share * side)) for side in shape)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (height, width)
    assert (rows.start, columns.start) == best_by_a_loop(mask, height, width, keep)


def test_an_object_in_the_middle_ends_at_the_border() -> None:
    rows, columns = OffCenterCrop(share=0.5, keep=1.0).window(square())
    assert (rows, columns) == (slice(2, 22), slice(4, 24))  # the object is in the last corner


def test_an_object_that_fills_the_image_stays_where_it_is() -> None:
    full = np.ones((20, 20), dtype=bool)
    assert OffCenterCrop(share=0.5).window(full) == (slice(0, 10), slice(0, 10))


def test_an_empty_mask_gets_the_window_in_the_middle() -> None:
    window = OffCenterCrop(share=0.5).window(np.zeros((20, 40), dtype=bool))
    assert window == (slice(5, 15), slice(10, 30))


@pytest.mark.parametrize("bytes_", [True, False])
def test_image_and_mask_are_cut_alike(bytes_: bool) -> None:
    mask = square()
    white = np.repeat(mask[None], 3, axis=0)
    pixels = np.uint8(255) * white.transpose(1, 2, 0) if bytes_ else white.astype(np.float32)
    entry = Entry("one", 0, lambda: pixels, lambda: mask, "test")
    crop = OffCenterCrop(size=(20, 20), share=0.5, keep=1.0)
    sample = ImageSet([entry], name="set", transform=crop)[0]
    assert sample.mask is not None
    np.testing.assert_array_equal(sample.image[0] == 1, sample.mask)
    assert sample.mask[12:, 12:].all()
    assert sample.mask.sum() == 64


@pytest.mark.parametrize(("transform", "hit"), [("resize", 1.0), ("off-center-crop", 0.0)])
def test_a_blob_in_the_middle_no_longer_points_at_what_stood_there(
    transform: str, hit: float
) -> None:
    mask = square(size=12)
    white = np.repeat(mask[None], 3, axis=0).astype(np.float32)
    entry = Entry("one", 0, lambda: white, lambda: mask, "test")
    sample = ImageSet([entry], name="set", transform=parse_transform(transform, size=(40, 40)))[0]
    centre = null_maps("centre", sample.image[None], sample.image[:1])
    assert pointing_game(centre, sample.mask, tolerance=0) == [hit]


def test_an_image_without_a_mask_is_refused() -> None:
    entry = Entry("one", 0, lambda: np.zeros((3, 8, 8), np.float32), None, "here.csv")
    with pytest.raises(ImageSetError, match=r"here.csv: 'one' has no mask, without which off-cen"):
        ImageSet([entry], name="set", transform=OffCenterCrop(size=(4, 4)))[0]


def test_the_text_of_a_threshold_file_names_it_and_its_parameters() -> None:
    crop = parse_transform("off-center-crop(share=0.5, keep=1.0)", size=(32, 32))
    assert crop == OffCenterCrop(size=(32, 32), share=0.5, keep=1.0)
    assert str(crop).startswith("off-center-crop(size=")
    assert parse_transform("resize") == Resize()
    with pytest.raises(ParameterError, match="did you mean 'off-center-crop'"):
        parse_transform("off-centre-crop")


@pytest.mark.parametrize("field", ["share", "keep"])
@pytest.mark.parametrize("value", [0.0, 1.5, float("nan")])
def test_a_share_outside_of_what_it_can_be_is_refused(field: str, value: float) -> None:
    with pytest.raises(ParameterError, match=f"`{field}` must be above 0 and at most 1"):
        OffCenterCrop(**{field: value})
