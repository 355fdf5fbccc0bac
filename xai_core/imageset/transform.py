"""How an image, its mask and its background come to the classifier's input size, together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from xai_core.arrays import Bool, Float32
from xai_core.errors import ParameterError, did_you_mean
from xai_core.imageset.background import Indices
from xai_core.parameters import from_table, identity, parse_call, require
from xai_core.torchvision_import import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable

Pixels: TypeAlias = npt.NDArray[np.uint8] | Float32
"""An image before the transform: bytes ``[H, W, 3]`` from a file, or float32 ``[3, H, W]``."""

Interpolation: TypeAlias = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Resize:
    """Resize to ``size`` without keeping the aspect ratio.

    An image that already has ``size`` passes through exactly.

    Args:
        size: height and width in pixels.
        interpolation: of the image, with antialias; masks and backgrounds are always nearest.

    Raises:
        ParameterError: a size below 1.
    """

    size: tuple[int, int] = (224, 224)
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        _require_size(self.size)

    def __str__(self) -> str:
        return identity("resize", self)


@dataclass(frozen=True)
class CenterCrop:
    """Resize the shorter side to ``resize``, then cut ``size`` out of the middle.

    This is the preprocessing that torchvision's weights name. An image of ``size`` is still
    enlarged to ``resize`` first, as it is there.

    Args:
        size: height and width in pixels of what is cut out.
        resize: length in pixels of the shorter side before the cut.
        interpolation: of the image, with antialias; masks and backgrounds are always nearest.

    Raises:
        ParameterError: a size below 1, or a ``resize`` that the crop does not fit into.
    """

    size: tuple[int, int] = (224, 224)
    resize: int = 256
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        _require_size(self.size)
        require(
            self.resize >= max(self.size),
            f"`resize` must be at least the crop's longer side, {max(self.size)}: "
            f"got {self.resize}",
        )

    def __str__(self) -> str:
        return identity("center-crop", self)


@dataclass(frozen=True)
class OffCenterCrop:
    """Cut out a window that puts the object off its centre, then resize it to ``size``.

    Photographers put their subject in the middle, so a blob in the middle finds it. Here the
    window, ``share`` of the image's sides, lies where the visible object's centroid is farthest
    from the window's centre, among the windows that show at least ``keep`` of as much of the
    object as any window of that size does; of equally good ones the first in reading order. It
    depends on the mask alone, so all explainers get the same images. An object that fills the
    image cannot be put off the centre.

    Args:
        size: height and width in pixels of the result.
        share: of the image's height and width that the window has.
        keep: share of the object that must stay in view.
        interpolation: of the image, with antialias; masks and backgrounds are always nearest.

    Raises:
        ParameterError: a size below 1, or a share outside (0, 1].
    """

    size: tuple[int, int] = (224, 224)
    share: float = 0.7
    keep: float = 0.9
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        _require_size(self.size)
        for name in ("share", "keep"):
            value = getattr(self, name)
            require(0 < value <= 1, f"`{name}` must be above 0 and at most 1, got {value}")

    def __str__(self) -> str:
        return identity("off-center-crop", self)

    def window(self, mask: Bool) -> tuple[slice, slice]:
        """Return the rows and columns of the window; the middle one where the mask is empty."""
        height, width = (max(1, round(self.share * side)) for side in mask.shape)
        if not mask.any():
            top, left = (mask.shape[0] - height) // 2, (mask.shape[1] - width) // 2
        else:
            top, left = _off_center(mask, height, width, self.keep)
        return slice(top, top + height), slice(left, left + width)


Transform: TypeAlias = Resize | CenterCrop | OffCenterCrop


def _off_center(mask: Bool, height: int, width: int, keep: float) -> tuple[int, int]:
    """Return the corner of the window of that size that `OffCenterCrop` describes."""
    rows, columns = np.indices(mask.shape, dtype=np.float64)

    def window_sums(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        total = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        below, above = total[height:], total[:-height]
        sums: npt.NDArray[np.float64] = (
            below[:, width:] - below[:, :-width] - above[:, width:] + above[:, :-width]
        )
        return sums

    area = window_sums(mask.astype(np.float64))
    tops, lefts = np.indices(area.shape)
    seen = area >= keep * area.max()
    with np.errstate(divide="ignore", invalid="ignore"):
        away = [
            window_sums(mask * place) / area - (first + (side - 1) / 2)
            for place, first, side in ((rows, tops, height), (columns, lefts, width))
        ]
        # In parts of the window's sides; rounded, that equally far stays equal.
        distance = np.round(np.hypot(away[0] / height, away[1] / width), 9)
    top, left = divmod(int(np.where(seen, distance, -1.0).argmax()), area.shape[1])
    return top, left


def parse_transform(text: str, *, size: tuple[int, int] = (224, 224)) -> Transform:
    """Return the transform that a text such as ``"center-crop(resize=256)"`` names.

    ``"center-crop"`` alone resizes to 256/224 of the crop's longer side, the usual ratio.

    >>> parse_transform("center-crop(resize=232)")
    CenterCrop(size=(224, 224), resize=232, interpolation='bilinear')

    Args:
        text: ``"resize"``, ``"center-crop"`` or ``"off-center-crop"``, with parameters in
            brackets where wanted.
        size: height and width in pixels, where the text does not give them.

    Raises:
        ParameterError: an unknown name or parameter, or a value that it cannot take.
    """
    # A hyphen is no part of a Python name, which is what parse_call reads.
    head, bracket, tail = text.partition("(")
    name, values = parse_call(head.replace("-", "_") + bracket + tail)
    table = {"size": size, **values}
    if name == "resize":
        return from_table(Resize, table, what="transform 'resize'")
    if name == "center_crop":
        table.setdefault("resize", round(max(size) * 256 / 224))
        return from_table(CenterCrop, table, what="transform 'center-crop'")
    if name == "off_center_crop":
        return from_table(OffCenterCrop, table, what="transform 'off-center-crop'")
    shown, known = name.replace("_", "-"), ("resize", "center-crop", "off-center-crop")
    msg = f"unknown transform {shown!r}: {did_you_mean(shown, known)}"
    raise ParameterError(msg)


def window_of(transform: Transform, mask: Bool | None) -> tuple[slice, slice]:
    """Return the rows and columns that are transformed: all, or those that the mask decides."""
    if isinstance(transform, OffCenterCrop) and mask is not None:
        return transform.window(mask)
    return slice(None), slice(None)


def transform_image(transform: Transform, pixels: Pixels) -> Float32:
    """Return the transformed image as float32 RGB in [0, 1], ``[3, H, W]``, a new array.

    What lies outside of `window_of` has been cut off before.
    Bytes go through Pillow, as in torchvision's own presets, and are divided by 255 last.
    """
    steps = _steps(transform, transform.interpolation)
    if pixels.dtype == np.uint8:
        resized = np.asarray(steps(Image.fromarray(pixels)))
        return np.ascontiguousarray(resized.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)

    import torch

    # torch takes neither read-only nor mirrored arrays; the copy is neither.
    tensor = steps(torch.from_numpy(np.array(pixels, dtype=np.float32)))
    # Bicubic interpolation overshoots at edges.
    floats: Float32 = tensor.clamp(0, 1).contiguous().numpy()
    return floats


def transform_mask(transform: Transform, mask: Bool) -> Bool:
    """Return the transformed mask, bool ``[H, W]``, a new array.

    Each pixel takes the value of the one under its centre. What torchvision does to a
    ``tv_tensors.Mask`` unasked takes the corner instead, which shifts the mask against its image
    by up to half a pixel.
    """
    steps = _steps(transform, "nearest-exact")
    drawn = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(steps(drawn)) > 0


def transform_background(transform: Transform, indices: Indices) -> Indices:
    """Return the transformed indices ``[H, W]``, a new array, each as `transform_mask` takes it."""
    steps = _steps(transform, "nearest-exact")
    drawn = Image.fromarray(indices.astype(np.int32))
    return np.asarray(steps(drawn)).astype(np.uint16)


def _steps(transform: Transform, interpolation: str) -> Callable[[Any], Any]:
    """Return the torchvision transform; the geometry depends on nothing but the input's size."""
    import_torchvision()
    from torchvision.transforms import v2

    mode = v2.InterpolationMode(interpolation)
    if not isinstance(transform, CenterCrop):
        whole: Callable[[Any], Any] = v2.Resize(list(transform.size), interpolation=mode)
        return whole
    cut: Callable[[Any], Any] = v2.Compose(
        [
            v2.Resize([transform.resize], interpolation=mode),
            v2.CenterCrop(list(transform.size)),
        ]
    )
    return cut


def _require_size(size: tuple[int, int]) -> None:
    require(
        len(size) == 2 and min(size) >= 1,
        f"`size` must be a height and a width of at least 1 pixel, got {size}",
    )
