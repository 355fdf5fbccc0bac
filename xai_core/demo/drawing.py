"""Fields and shapes of the demo's scenes, in the unit square, at any resolution.

Everything is built of ``+ - * /``, square roots, floors and comparisons, all exactly defined by
IEEE 754, so a scene has the same bytes on every machine; sines are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xai_core.arrays import Float64

Shape = Literal["disc", "triangle", "square", "ellipse"]
Texture = Literal["striped", "dotted", "checked", "mottled", "plain"]


@dataclass(frozen=True)
class Canvas:
    """A square raster of ``size`` x ``size`` pixels over the unit square, or a window of it."""

    size: int
    rows: slice
    columns: slice

    @classmethod
    def whole(cls, size: int) -> Canvas:
        """Return the canvas of the whole unit square."""
        return cls(size, slice(0, size), slice(0, size))

    def around(self, x: float, y: float, reach: float) -> Canvas:
        """Return the window of all pixels within ``reach`` of (x, y); it may be empty."""
        return Canvas(self.size, self._span(y, reach), self._span(x, reach))

    def _span(self, place: float, reach: float) -> slice:
        first = math.floor((place - reach) * self.size) - 1
        last = math.floor((place + reach) * self.size) + 2
        return slice(min(max(first, 0), self.size), min(max(last, 0), self.size))

    @property
    def pixel(self) -> float:
        """Side of one pixel."""
        return 1.0 / self.size

    @property
    def x(self) -> Float64:
        """Horizontal place of the pixels' middles, ``[1, W]``."""
        return ((np.arange(self.size) + 0.5) / self.size)[None, self.columns]

    @property
    def y(self) -> Float64:
        """Vertical place of the pixels' middles, ``[H, 1]``."""
        return ((np.arange(self.size) + 0.5) / self.size)[self.rows, None]

    def coverage(self, distance: Float64) -> Float64:
        """Return how much of each pixel lies where the signed ``distance`` is negative."""
        return np.clip(0.5 - distance / self.pixel, 0.0, 1.0)


@dataclass(frozen=True)
class Frame:
    """A place and a direction: the axes in which a shape or a texture is drawn."""

    x: float
    y: float
    cosine: float
    sine: float

    @classmethod
    def at(cls, x: float, y: float, turn: float) -> Frame:
        """Return the frame at (x, y), turned by -90 to 90 degrees as ``turn`` goes from -1 to 1."""
        length = 1 + turn * turn
        return cls(x, y, (1 - turn * turn) / length, 2 * turn / length)

    def axes(self, canvas: Canvas) -> tuple[Float64, Float64]:
        """Return the two coordinates of every pixel in this frame, each ``[H, W]``."""
        x, y = canvas.x - self.x, canvas.y - self.y
        return self.cosine * x + self.sine * y, self.cosine * y - self.sine * x


def shape_distance(shape: Shape, area: float, frame: Frame, canvas: Canvas) -> Float64:
    """Return the signed distance ``[H, W]`` to the outline of a shape of this area."""
    u, v = frame.axes(canvas)
    if shape == "disc":
        return np.sqrt(u * u + v * v) - math.sqrt(area / math.pi)
    if shape == "ellipse":
        return np.sqrt(u * u / 2 + v * v * 2) - math.sqrt(area / math.pi)
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - math.sqrt(area) / 2
    slope = math.sqrt(3) / 2
    sides = np.maximum(v, np.maximum(slope * u - v / 2, -slope * u - v / 2))
    return sides - triangle_radius(area) / 2


def reach_of(shape: Shape, area: float) -> float:
    """Return the radius of a circle about the middle that holds a shape of this area."""
    if shape == "triangle":
        return triangle_radius(area)
    if shape == "square":
        return math.sqrt(area / 2)
    radius = math.sqrt(area / math.pi)
    return radius if shape == "disc" else radius * math.sqrt(2)


def triangle_radius(area: float) -> float:
    """Return the distance of the corners of an equilateral triangle from its middle."""
    return math.sqrt(area * 4 / (3 * math.sqrt(3)))


def half_extent(shape: Shape, area: float, frame: Frame) -> tuple[float, float, float, float]:
    """Return how far a disc or triangle reaches left, right, up and down of its middle."""
    if shape == "disc":
        radius = math.sqrt(area / math.pi)
        return radius, radius, radius, radius
    radius = triangle_radius(area)
    slope = math.sqrt(3) / 2
    corners = [(0.0, -radius), (slope * radius, radius / 2), (-slope * radius, radius / 2)]
    xs = [frame.cosine * u - frame.sine * v for u, v in corners]
    ys = [frame.sine * u + frame.cosine * v for u, v in corners]
    return -min(xs), max(xs), -min(ys), max(ys)


def texture_field(
    texture: Texture, period: float, frame: Frame, canvas: Canvas, lattice: Float64
) -> Float64:
    """Return a texture ``[H, W]`` in [0, 1]: 0 shows the first colour, 1 the second.

    ``lattice`` holds the random numbers of the irregular texture ``mottled``.
    """
    u, v = frame.axes(canvas)
    if texture == "plain":
        return np.zeros_like(u)
    if texture == "striped":
        return canvas.coverage(_stripe_distance(u, period))
    if texture == "checked":
        across = canvas.coverage(_stripe_distance(u, 1.3 * period))
        along = canvas.coverage(_stripe_distance(v, 1.3 * period))
        return across + along - 2 * across * along
    if texture == "dotted":
        du, dv = _within_cell(u, period), _within_cell(v, period)
        return canvas.coverage(np.sqrt(du * du + dv * dv) - 0.32 * period)
    middle = (lattice.shape[0] - 1) / 2
    noise = value_noise(u / period + middle, v / period + middle, lattice)
    return canvas.coverage((noise - 0.5) * 0.7 * period)


def value_noise(x: Float64, y: Float64, lattice: Float64) -> Float64:
    """Return smooth noise: ``lattice`` [n + 1, n + 1] read between its points, held at its rim."""
    last = lattice.shape[0] - 2
    x, y = np.clip(x, 0, last + 1), np.clip(y, 0, last + 1)
    column = np.clip(np.floor(x), 0, last).astype(np.int64)
    row = np.clip(np.floor(y), 0, last).astype(np.int64)
    right, down = _ease(x - column), _ease(y - row)
    top = lattice[row, column] * (1 - right) + lattice[row, column + 1] * right
    bottom = lattice[row + 1, column] * (1 - right) + lattice[row + 1, column + 1] * right
    return top * (1 - down) + bottom * down


def _ease(share: Float64) -> Float64:
    return share * share * (3 - 2 * share)


def _within_cell(position: Float64, period: float) -> Float64:
    return (position / period - np.floor(position / period) - 0.5) * period


def _stripe_distance(position: Float64, period: float) -> Float64:
    return np.abs(_within_cell(position, period)) - 0.25 * period
