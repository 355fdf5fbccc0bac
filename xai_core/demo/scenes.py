"""Generated scenes with known truth: one textured object off centre, one watermark in a corner.

The class of a scene is the shape and the texture of its object. The watermark names a class
too, its own or another, so a classifier can be right for the wrong reason, and a map that lies
on the watermark proves it. Same seed, same bytes: on every machine and at every size the same
picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from xai_core.arrays import Bool, Float32, Float64
from xai_core.demo.drawing import (
    Canvas,
    Frame,
    Shape,
    Texture,
    half_extent,
    reach_of,
    shape_distance,
    texture_field,
    value_noise,
)
from xai_core.errors import ParameterError, did_you_mean

SHAPES: tuple[Shape, ...] = ("disc", "triangle")
TEXTURES: tuple[Texture, ...] = ("striped", "dotted", "checked")
CLASSES: tuple[str, ...] = tuple(f"{texture}_{shape}" for shape in SHAPES for texture in TEXTURES)
BACKGROUND_CLASSES: dict[int, str] = {1: "watermark", 2: "clutter"}
"""Index -> name of what the background of a scene shows beside its plain backdrop."""

CONCEPTS: tuple[str, ...] = (
    *TEXTURES,
    *SHAPES,
    "watermark",
    *(f"watermark_{name}" for name in CLASSES),
    "random",
)

Watermark = Literal["class", "random", "none", "other"]
"""Which class the watermark names: the object's, any, no watermark at all, or another one's."""

_GLYPHS = ("100010001", "001010100", "111000111", "101101101", "010111010", "101000101")
_GLYPH_SIDE = 0.14
_EDGE = 0.03
_SMALLEST = 16


@dataclass(frozen=True, eq=False)
class Scene:
    """One generated image and what is true of it.

    Attributes:
        name: file name, e.g. ``"003_striped_disc.png"``.
        image: RGB in [0, 1], ``[3, H, W]``, whole 255ths, so an 8-bit file loses nothing.
        mask: the object's pixels, ``[H, W]``.
        label: index of the object's class in ``CLASSES``.
        watermark: the pixels of the watermark, ``[H, W]``; never any of the object's.
        watermark_label: index of the class that the watermark names; None without one.
        clutter: the pixels of the shapes behind the object that show, ``[H, W]``; none of the
            object's, none of the watermark's.
    """

    name: str
    image: Float32
    mask: Bool
    label: int
    watermark: Bool
    watermark_label: int | None
    clutter: Bool

    @property
    def background(self) -> npt.NDArray[np.uint8]:
        """For each pixel the index in ``BACKGROUND_CLASSES``, 0 on plain backdrop and object."""
        return np.select([self.watermark, self.clutter], [np.uint8(1), np.uint8(2)], np.uint8(0))


def scene(
    seed: int, *, size: int = 64, label: int | None = None, watermark: Watermark = "class"
) -> Scene:
    """Return the scene of this seed.

    ``label`` and ``watermark`` change only what they name: scenes of one seed that differ in
    ``watermark`` are the same picture but for the watermark's pixels.

    Args:
        seed: 0 or more.
        size: height and width in pixels, 16 or more.
        label: index into ``CLASSES``; by default drawn from the seed.
        watermark: the class that the watermark names.

    Raises:
        ParameterError: a size, label or watermark out of range.
    """
    if label is not None and not 0 <= label < len(CLASSES):
        msg = f"label: expected 0 to {len(CLASSES) - 1}, got {label}"
        raise ParameterError(msg)
    if watermark not in get_args(Watermark):
        msg = f"watermark: got {watermark!r}; {did_you_mean(watermark, get_args(Watermark))}"
        raise ParameterError(msg)
    canvas = _canvas(size)
    dice = _Dice(seed)
    drawn_label, drawn_glyph = dice.below(len(CLASSES)), dice.below(len(CLASSES))
    drawn_shift = 1 + dice.below(len(CLASSES) - 1)
    label = drawn_label if label is None else label
    glyph: int | None = {
        "class": label,
        "random": drawn_glyph,
        "none": None,
        "other": (label + drawn_shift) % len(CLASSES),
    }[watermark]

    image, clutter = _backdrop(canvas, dice)
    shape = SHAPES[label // len(TEXTURES)]
    texture = TEXTURES[label % len(TEXTURES)]
    area = dice.between(0.08, 0.15)
    turn = dice.between(-1, 1)
    left, right, up, down = half_extent(shape, area, Frame.at(0, 0, turn))
    across, along = _off_centre(dice)
    x = _place(left, right, across)
    y = _place(up, down, along)
    frame = Frame.at(x, y, turn)
    _draw(image, canvas, dice, shape, area, frame, texture)

    box = (x - left, y - up, x + right, y + down)
    stamp, stamped = _watermark(canvas, dice, box, glyph)
    image = np.where(stamped, stamp, image)
    mask = shape_distance(shape, area, frame, canvas) < 0
    return Scene(
        name=f"{seed:03d}_{CLASSES[label]}.png",
        image=_quantised(image),
        mask=mask,
        label=label,
        watermark=stamped,
        watermark_label=glyph,
        clutter=clutter & ~mask & ~stamped,
    )


def demo_images(*, size: int = 64, count: int = 60, seed: int = 20_000) -> list[Scene]:
    """Return the scenes that the demo is gated on, the classes in turn, watermark = class.

    Both demo classifiers are right on them; only their explanations tell them apart.
    """
    labels = [index % len(CLASSES) for index in range(count)]
    return [
        replace(
            scene(seed + index, size=size, label=label), name=f"{index:03d}_{CLASSES[label]}.png"
        )
        for index, label in enumerate(labels)
    ]


def concept_images(concept: str, count: int, *, size: int = 64, seed: int = 0) -> Float32:
    """Return example images of one human idea, ``[count, 3, H, W]``, RGB in [0, 1].

    Each is a scene's background with one object on it: for a texture an object of that texture
    without the classes' outlines, for a shape one of that shape without their textures. A
    watermark (of any class, or ``watermark_striped_disc`` that of one) and ``random``, the
    counterexample, have an object with neither, so that nothing but the idea differs.

    Raises:
        ParameterError: an unknown concept.
    """
    images = np.empty((count, 3, size, size), dtype=np.float32)
    for index in range(count):
        images[index] = concept_image(concept, index, size=size, seed=seed)
    return images


def concept_image(concept: str, index: int, *, size: int = 64, seed: int = 0) -> Float32:
    """Return one of `concept_images`, ``[3, H, W]``."""
    if concept not in CONCEPTS:
        msg = f"concept: got {concept!r}; {did_you_mean(concept, CONCEPTS)}"
        raise ParameterError(msg)
    canvas = _canvas(size)
    # One stream per concept: concepts must not share their backgrounds.
    dice = _Dice(seed, CONCEPTS.index(concept) + 1, index)
    image, _ = _backdrop(canvas, dice)
    frame = Frame.at(dice.between(0.3, 0.7), dice.between(0.3, 0.7), dice.between(-1, 1))
    outline: Shape = "square" if dice.below(2) else "ellipse"
    area = dice.between(0.08, 0.15)
    texture: Texture = "mottled"
    if concept in TEXTURES:
        texture = concept
    elif concept in SHAPES:
        outline = concept
    _draw(image, canvas, dice, outline, area, frame, texture)
    if concept.startswith("watermark"):
        _, _, owner = concept.partition("_")
        glyph = CLASSES.index(owner) if owner else index % len(CLASSES)
        stamp, stamped = _watermark(canvas, dice, (0.5, 0.5, 0.5, 0.5), glyph)
        image = np.where(stamped, stamp, image)
    return _quantised(image)


class _Dice:
    """Random numbers of one scene, all from ``Generator.random``, the stablest of its methods."""

    def __init__(self, *seeds: int) -> None:
        entropy = seeds[0] if len(seeds) == 1 else list(seeds)
        self._generator = np.random.Generator(np.random.PCG64(entropy))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._generator.random())

    def below(self, count: int) -> int:
        return int(self.between(0, count))

    def lattice(self, points: int) -> Float64:
        return self._generator.random((points, points))


def _canvas(size: int) -> Canvas:
    if size < _SMALLEST:
        msg = f"size: expected {_SMALLEST} or more pixels, got {size}"
        raise ParameterError(msg)
    return Canvas.whole(size)


def _quantised(image: Float64) -> Float32:
    bytes_ = np.floor(np.clip(image, 0.0, 1.0) * 255 + 0.5)
    return (bytes_ / 255).astype(np.float32)


def _paint(image: Float64, coverage: Float64, fill: Float64) -> None:
    image += coverage * (fill - image)


def _draw(
    image: Float64,
    canvas: Canvas,
    dice: _Dice,
    shape: Shape,
    area: float,
    frame: Frame,
    texture: Texture,
    *,
    contrast: tuple[float, float] = (0.3, 0.45),
    thin: float = 1.0,
) -> tuple[Canvas, Bool]:
    """Draw a textured shape, in the window of the canvas that it needs; return both."""
    window = canvas.around(frame.x, frame.y, reach_of(shape, area))
    distance = shape_distance(shape, area, frame, window)
    cover = window.coverage(distance)
    fill = _fill(window, dice, texture, frame, contrast)
    opacity = 1.0 if thin == 1 else dice.between(thin, 1.0)
    _paint(image[:, window.rows, window.columns], cover * opacity, fill)
    return window, distance < 0


def _noise(canvas: Canvas, dice: _Dice, cells: int) -> Float64:
    x, y = np.broadcast_arrays(canvas.x * cells, canvas.y * cells)
    return value_noise(x, y, dice.lattice(cells + 1))


def _colour(dice: _Dice, low: float, high: float) -> Float64:
    return np.array([dice.between(low, high) for _ in range(3)])[:, None, None]


def _fill(
    canvas: Canvas,
    dice: _Dice,
    texture: Texture,
    frame: Frame,
    contrast: tuple[float, float] = (0.3, 0.45),
) -> Float64:
    """Return a textured colour field ``[3, H, W]``; colours say nothing of the class."""
    dark = _colour(dice, 0.1, 0.5)
    light = dark + _colour(dice, *contrast)
    turned = Frame.at(
        frame.x + dice.between(-0.1, 0.1), frame.y + dice.between(-0.1, 0.1), dice.between(-1, 1)
    )
    period = dice.between(0.085, 0.115)
    field = texture_field(texture, period, turned, canvas, dice.lattice(35))
    return dark + field * (light - dark)


def _backdrop(canvas: Canvas, dice: _Dice) -> tuple[Float64, Bool]:
    """Return a background ``[3, H, W]`` and its clutter, without a shape or texture of a class."""
    smooth = [
        0.3 + 0.28 * _noise(canvas, dice, 3) + 0.12 * _noise(canvas, dice, 11) for _ in range(3)
    ]
    image = np.stack(smooth)
    clutter = np.zeros(image.shape[1:], dtype=np.bool_)
    for index in range(11):
        x, y, turn = dice.between(0, 1), dice.between(0, 1), dice.between(-1, 1)
        frame = Frame.at(x, y, turn)
        shape: Shape = "square" if dice.below(2) else "ellipse"
        texture: Texture = "mottled" if index >= 3 else "plain"
        area = dice.between(0.015, 0.05)
        # Edges stronger than the object's: a map of edges must not find the object.
        window, inside = _draw(
            image, canvas, dice, shape, area, frame, texture, contrast=(0.4, 0.6), thin=0.7
        )
        clutter[window.rows, window.columns] |= inside
    return image, clutter


def _off_centre(dice: _Dice) -> tuple[float, float]:
    """Return a place on a square ring: each in [-1, 1], the larger one 0.65 or more in size."""
    across, along = dice.between(-1, 1), dice.between(-1, 1)
    stretch = dice.between(0.65, 1) / max(abs(across), abs(along), 1e-9)
    return across * stretch, along * stretch


def _place(before: float, after: float, offset: float) -> float:
    """Return where a thing of this extent stands as ``offset`` goes from -1 to 1."""
    low, high = _EDGE + before, 1 - _EDGE - after
    return low + (high - low) * (offset + 1) / 2


def _watermark(
    canvas: Canvas, dice: _Dice, box: tuple[float, float, float, float], glyph: int | None
) -> tuple[Float64, Bool]:
    """Return the stamp ``[1, H, W]`` and its pixels, in a corner that ``box`` leaves free."""
    jitter_x, jitter_y = dice.between(0.02, 0.06), dice.between(0.02, 0.06)
    first = dice.below(4)
    bright, dim = dice.between(0.9, 1.0), dice.between(0.0, 0.1)
    left, top = jitter_x, jitter_y
    for corner in (first, first + 1, first + 2, first + 3):
        left = jitter_x if corner % 2 == 0 else 1 - jitter_x - _GLYPH_SIDE
        top = jitter_y if corner // 2 % 2 == 0 else 1 - jitter_y - _GLYPH_SIDE
        if _apart((left, top, left + _GLYPH_SIDE, top + _GLYPH_SIDE), box, by=0.04):
            break
    u = (canvas.x - left) / _GLYPH_SIDE
    v = (canvas.y - top) / _GLYPH_SIDE
    stamped = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    if glyph is None:
        return np.zeros((1, 1, 1)), np.zeros_like(stamped)
    cells = np.array([int(bit) for bit in _GLYPHS[glyph]]).reshape(3, 3)
    column = np.clip(np.floor(u * 3), 0, 2).astype(np.int64)
    row = np.clip(np.floor(v * 3), 0, 2).astype(np.int64)
    return np.where(cells[row, column] == 1, bright, dim)[None], stamped


def _apart(
    one: tuple[float, float, float, float], two: tuple[float, float, float, float], *, by: float
) -> bool:
    across = max(one[0] - two[2], two[0] - one[2])
    along = max(one[1] - two[3], two[1] - one[3])
    return max(across, along) >= by
