"""A mask and the boxes around its parts, against scikit-image and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_core.errors import ParameterError, UndefinedMeasurementError
from xai_core.metrics import METRICS
from xai_core.metrics.regions import regions

WITH_REGION = sorted(name for name, metric in METRICS.items() if "region" in metric.settings)
MASKS = hnp.arrays(bool, (2, 6, 7), elements=st.sampled_from((False, False, False, True))).filter(
    lambda masks: masks.any(axis=(1, 2)).all()
)


def diagonal() -> np.ndarray:
    """A slanted object, a speck that touches nothing, and a box that is one already."""
    mask = np.zeros((1, 16, 16), dtype=bool)
    for step in range(5):
        mask[0, 2 + step, 3 + step] = True
    mask[0, 12, 1] = True
    mask[0, 10:14, 9:13] = True
    return mask


def plain_boxes(mask: np.ndarray) -> np.ndarray:
    """Flood fill over sides and corners, then the smallest and largest row and column."""
    left = {tuple(place) for place in np.argwhere(mask).tolist()}
    boxes = np.zeros_like(mask)
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            part.add((row, column))
            around = {(row + dy, column + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
            for place in around & left:
                left.remove(place)
                edge.append(place)
        rows, columns = zip(*part, strict=True)
        boxes[min(rows) : max(rows) + 1, min(columns) : max(columns) + 1] = True
    return boxes


def test_the_metrics_that_hold_a_map_against_a_region_are_these() -> None:
    assert WITH_REGION == [
        "dice", "energy_pointing_game", "iou", "pixel_ap", "pointing_game", "precision",
        "recall", "relevance_rank", "top_k_intersection",
    ]  # fmt: skip


def test_boxes_are_those_of_scikit_image() -> None:
    from skimage.measure import label, regionprops

    masks = np.random.default_rng(31).random((5, 40, 30)) < 0.08
    for mask, boxes in zip(masks, regions(masks, "box"), strict=True):
        expected = np.zeros_like(mask)
        for part in regionprops(label(mask, connectivity=2)):
            top, left, bottom, right = part.bbox
            expected[top:bottom, left:right] = True
        np.testing.assert_array_equal(boxes, expected)


@settings(deadline=None)
@given(MASKS)
def test_boxes_equal_a_plain_flood_fill(masks: np.ndarray) -> None:
    expected = [plain_boxes(mask) for mask in masks]
    full = {index for index, boxes in enumerate(expected) if boxes.all()}
    if not full:
        np.testing.assert_array_equal(regions(masks, "box"), expected)
        return
    with pytest.raises(UndefinedMeasurementError) as caught:
        regions(masks, "box")
    assert set(caught.value.reasons) == full


def test_the_mask_is_left_as_it_is_and_not_written_to() -> None:
    mask = diagonal()
    assert regions(mask, "mask") is mask
    regions(mask, "box")
    np.testing.assert_array_equal(mask, diagonal())


@pytest.mark.parametrize("name", WITH_REGION)
def test_a_box_is_measured_as_a_mask_of_that_box(name: str) -> None:
    metric, noise = METRICS[name], np.random.default_rng(2).random((1, 16, 16))
    settings = {"tolerance": 0} if name == "pointing_game" else {}
    heatmaps = 0.1 * diagonal() + 0.001 * noise
    heatmaps[0, 2, 7] = 9  # in the box around the slanted object, outside of the object
    by_box = metric.function(heatmaps, diagonal(), region="box", **settings)
    mask_of_boxes = plain_boxes(diagonal()[0])
    np.testing.assert_array_equal(by_box, metric.function(heatmaps, mask_of_boxes, **settings))
    assert by_box[0] != metric.function(heatmaps, diagonal(), **settings)[0]


@pytest.mark.parametrize("name", WITH_REGION)
def test_boxes_that_cover_the_image_are_undefined_and_named(name: str) -> None:
    masks = np.concatenate([diagonal(), np.eye(16, dtype=bool)[None], diagonal()])
    heatmaps = np.random.default_rng(3).normal(size=(3, 16, 16))
    assert np.isfinite(METRICS[name].function(heatmaps, masks)).all()
    with pytest.raises(UndefinedMeasurementError, match="cover the whole image") as caught:
        METRICS[name].function(heatmaps, masks, region="box")
    assert set(caught.value.reasons) == {1}


@pytest.mark.parametrize("name", WITH_REGION)
def test_a_protocol_names_the_region_only_where_it_is_a_box(name: str) -> None:
    metric = METRICS[name]
    plain = f"{name}@{metric.version}"
    assert metric.configure({}).protocol == metric.configure({"region": "mask"}).protocol == plain
    assert metric.configure({"region": "box"}).protocol == f"{plain}(region=box)"
    with pytest.raises(ParameterError, match="region"):
        metric.configure({"region": "polygon"})


def test_top_mask_takes_as_many_pixels_as_the_box_has() -> None:
    heatmaps = np.random.default_rng(4).random((1, 16, 16))
    box = plain_boxes(diagonal()[0])
    chosen = np.argsort(-heatmaps.ravel())[: box.sum()]
    expected = box.ravel()[chosen].mean()
    found = METRICS["precision"].function(heatmaps, diagonal(), binarize="top=mask", region="box")
    assert found[0] == pytest.approx(expected)
