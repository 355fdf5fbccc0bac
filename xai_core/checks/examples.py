"""Example images, masks and heatmaps that print themselves as the call that makes them."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np

from xai_core.arrays import Bool, Float32
from xai_core.parameters import require

ImagePattern = Literal["flat", "object", "tiles", "noise"]
MaskPattern = Literal["rectangle", "ellipse", "two"]
HeatmapPattern = Literal["constant", "blob", "noise", "signed"]


class Example(np.ndarray[Any, Any]):
    """An array whose repr is the call that makes it; what is computed from it prints as usual."""

    _call: str | None = None

    def __array_finalize__(self, source: object) -> None:
        self._call = None

    def __repr__(self) -> str:
        return self._call or repr(self.view(np.ndarray))


def example_images(
    count: int = 3,
    height: int = 24,
    width: int = 32,
    pattern: ImagePattern = "tiles",
    seed: int = 0,
) -> Float32:
    """Return RGB images in [0, 1], float32 ``[count, 3, height, width]``.

    ``flat``: one colour. ``object``: a textured square in the middle, on black. ``tiles``: 4 x 4
    tiles of distinct colours, faintly textured. ``noise``: every value on its own.

    >>> example_images(1, 8, 8)
    example_images(1, 8, 8, 'tiles', seed=0)
    """
    require(min(count, height, width) >= 1, "`count`, `height` and `width` must be at least 1")
    random = np.random.default_rng(seed)
    shape = (count, 3, height, width)
    if pattern == "noise":
        values = random.random(shape)
    elif pattern == "flat":
        values = np.broadcast_to(random.random((count, 3, 1, 1)), shape)
    elif pattern == "object":
        rows, columns = _middle(height), _middle(width)
        values = np.zeros(shape)
        texture = 0.3 + 0.7 * random.random((count, 3, rows.stop, columns.stop))
        values[:, :, rows, columns] = texture[:, :, rows, columns]
    else:
        colours = 0.1 + 0.8 * random.random((count, 3, 4, 4))
        y, x = np.arange(height) * 4 // height, np.arange(width) * 4 // width
        texture = 0.04 * (random.random(shape) - 0.5)
        values = colours[:, :, y[:, None], x] + texture
    call = f"example_images({count}, {height}, {width}, {pattern!r}, seed={seed})"
    return cast(Float32, _example(values.astype(np.float32), call))


def example_masks(
    count: int = 3,
    height: int = 24,
    width: int = 32,
    pattern: MaskPattern = "rectangle",
    seed: int = 0,
) -> Bool:
    """Return object masks, bool ``[count, height, width]``, none empty and none full.

    An image of a single pixel has its mask full.

    ``rectangle``, ``ellipse``: one object somewhere. ``two``: two rectangles, which may overlap.
    """
    require(min(count, height, width) >= 1, "`count`, `height` and `width` must be at least 1")
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    masks = np.zeros((count, height, width), dtype=bool)
    for mask in masks:
        for _ in range(2 if pattern == "two" else 1):
            (top, bottom), (left, right) = (_interval(random, side) for side in (height, width))
            if pattern == "ellipse":
                radii = (bottom - top + 1) / 2, (right - left + 1) / 2
                apart = ((y - (top + bottom) / 2) / radii[0]) ** 2
                mask |= apart + ((x - (left + right) / 2) / radii[1]) ** 2 <= 1
            else:
                mask |= (y >= top) & (y <= bottom) & (x >= left) & (x <= right)
        if mask.all() and mask.size > 1:
            mask[0, 0] = False
    call = f"example_masks({count}, {height}, {width}, {pattern!r}, seed={seed})"
    return cast(Bool, _example(masks, call))


def example_heatmaps(
    count: int = 3,
    height: int = 24,
    width: int = 32,
    pattern: HeatmapPattern = "blob",
    seed: int = 0,
) -> Float32:
    """Return heatmaps, float32 ``[count, height, width]``.

    ``constant``: one value (most metrics call it undefined). ``blob``: a Gaussian somewhere, in
    [0, 1]. ``noise``: uniform in [0, 1]. ``signed``: normal, of both signs.
    """
    require(min(count, height, width) >= 1, "`count`, `height` and `width` must be at least 1")
    random = np.random.default_rng(seed)
    shape = (count, height, width)
    if pattern == "constant":
        values = np.broadcast_to(random.random((count, 1, 1)), shape)
    elif pattern == "noise":
        values = random.random(shape)
    elif pattern == "signed":
        values = random.normal(size=shape)
    else:
        y, x = np.mgrid[:height, :width]
        centres = random.random((2, count, 1, 1)) * np.array([[[[height]]], [[[width]]]])
        away = ((y - centres[0]) / height) ** 2 + ((x - centres[1]) / width) ** 2
        values = np.exp(-8 * away)
    call = f"example_heatmaps({count}, {height}, {width}, {pattern!r}, seed={seed})"
    return cast(Float32, _example(values.astype(np.float32), call))


def _example(values: np.ndarray[Any, Any], call: str) -> Example:
    example = values.view(Example)
    example._call = call
    return example


def _middle(side: int) -> slice:
    return slice(side * 3 // 8, max(side * 5 // 8, side * 3 // 8 + 1))


def _interval(random: np.random.Generator, side: int) -> tuple[int, int]:
    first, last = sorted(random.integers(0, side, size=2).tolist())
    return first, last
