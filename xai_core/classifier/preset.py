"""How a model expects its images: normalisation and size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xai_core.parameters import require


@dataclass(frozen=True)
class Normalization:
    """What a model expects to be done to RGB in [0, 1]: ``(image - mean) / std`` by channel.

    Args:
        mean: red, green, blue, in [0, 1].
        std: red, green, blue, above 0.

    Raises:
        ParameterError: not three numbers each, or out of range.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for field, values in (("mean", self.mean), ("std", self.std)):
            three = len(values) == 3 and all(math.isfinite(value) for value in values)
            require(three, f"normalization: {field} must be three numbers, got {values!r}")
        scale = "images are RGB in [0, 1]; divide values for the 0-255 scale by 255"
        in_range = all(0 <= value <= 1 for value in self.mean)
        require(in_range, f"normalization: mean must lie in [0, 1], got {self.mean!r}; {scale}")
        positive = all(value > 0 for value in self.std)
        require(positive, f"normalization: std must be above 0, got {self.std!r}")


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Preset:
    """How the images were prepared that a set of published weights was validated on.

    Attributes:
        size: height and width of what the model sees, in pixels.
        resize: length of the shorter side before the centre crop to ``size``; None = the whole
            image is resized to ``size``.
        mean: subtracted from RGB in [0, 1].
        std: divides afterwards.
        interpolation: of the resize, ``"bilinear"`` or ``"bicubic"``.
    """

    size: tuple[int, int]
    resize: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


def three(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the values of the three colour channels."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue
