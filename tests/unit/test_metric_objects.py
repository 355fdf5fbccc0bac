"""Whether all objects are found, against plain loops and known layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label

from xai_core.errors import ParameterError
from xai_core.metrics import METRICS, binarize, objects_found

MAPS = hnp.arrays(np.float32, (2, 6, 7), elements=st.integers(-4, 4).map(float)).filter(
    lambda maps: (maps.max(axis=(1, 2)) > maps.min(axis=(1, 2))).all()
)
SOME_MASKS = hnp.arrays(bool, (2, 6, 7)).filter(
    lambda masks: (masks.any(axis=(1, 2)) & ~masks.all(axis=(1, 2))).all()
)


def three_objects() -> np.ndarray:
    """A square of 36 px, one of 16 px, and a speck of 4 px."""
    mask = np.zeros((24, 24), dtype=bool)
    mask[2:8, 2:8] = mask[12:16, 12:16] = mask[20:22, 2:4] = True
    return mask


def plain_objects_found(
    binary: np.ndarray, mask: np.ndarray, overlap: float, min_size: int
) -> float:
    parts = label(mask, connectivity=2)
    sizes = {part: int((parts == part).sum()) for part in range(1, parts.max() + 1)}
    objects = [part for part, size in sizes.items() if size >= min_size]
    if not objects:
        objects = [part for part, size in sizes.items() if size == max(sizes.values())]
    found = [(binary & (parts == part)).sum() / sizes[part] >= overlap for part in objects]
    return sum(found) / len(found)


@settings(deadline=None)
@given(MAPS, SOME_MASKS, st.sampled_from((0.1, 0.5, 0.75, 1.0)), st.integers(1, 12))
def test_objects_found_equals_a_plain_loop(
    heatmaps: np.ndarray, masks: np.ndarray, overlap: float, min_size: int
) -> None:
    found = objects_found(heatmaps, masks, overlap=overlap, min_size=min_size)
    for value, binary, mask in zip(found, binarize(heatmaps), masks, strict=True):
        assert value == pytest.approx(plain_objects_found(binary, mask, overlap, min_size))


def test_a_map_on_one_of_two_objects_finds_half() -> None:
    mask = three_objects()
    heatmap = np.zeros((24, 24))
    heatmap[2:8, 2:8] = 1
    assert objects_found(heatmap, mask)[0] == 0.5
    assert objects_found(heatmap, mask, min_size=1)[0] == pytest.approx(1 / 3)
    assert objects_found(heatmap, mask, min_size=17)[0] == 1.0


def test_a_map_on_all_objects_finds_all_and_one_beside_them_none() -> None:
    mask = three_objects()
    assert objects_found(mask.astype(float), mask, min_size=1)[0] == 1.0
    assert objects_found(1.0 - mask, mask, min_size=1)[0] == 0.0


def test_an_object_at_exactly_the_overlap_is_found() -> None:
    mask = np.zeros((12, 12), dtype=bool)
    mask[:10, :10] = True
    heatmap = np.zeros((12, 12))
    heatmap[0, :7] = 1  # 7 of 100; 0.07 x 100 is above 7 in floating point
    assert objects_found(heatmap, mask, overlap=0.07)[0] == 1.0
    assert objects_found(heatmap, mask, overlap=0.0701)[0] == 0.0


def test_where_no_part_is_large_enough_the_largest_ones_count() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0:3] = mask[4, 0:3] = mask[6, 6] = True
    heatmap = np.zeros((8, 8))
    heatmap[0, 0:3] = heatmap[6, 6] = 1
    assert objects_found(heatmap, mask, min_size=16)[0] == 0.5


def test_pixels_that_touch_at_a_corner_are_one_object() -> None:
    heatmap, mask = np.zeros((4, 4)), np.eye(4, dtype=bool)
    heatmap[0, 0] = heatmap[1, 1] = 1
    assert objects_found(heatmap, mask, min_size=1)[0] == 1.0


@pytest.mark.parametrize("method", ["otsu", "fraction=0.5", "top=mask"])
def test_the_map_is_made_binary_as_asked(method: str) -> None:
    heatmaps = np.random.default_rng(37).normal(size=(4, 24, 24))
    masks = np.stack([three_objects()] * 4)
    expected = [
        plain_objects_found(binary, mask, 0.3, 1)
        for binary, mask in zip(binarize(heatmaps, method, masks), masks, strict=True)
    ]
    found = objects_found(heatmaps, masks, binarize=method, overlap=0.3, min_size=1)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_array_equal(
        objects_found(heatmaps * 16, masks, binarize=method, overlap=0.3, min_size=1), found
    )


@pytest.mark.parametrize(
    "wrong", [{"overlap": 0.0}, {"overlap": 1.5}, {"min_size": 0}, {"binarize": "half"}]
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        METRICS["objects_found"].configure(wrong)
