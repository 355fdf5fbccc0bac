"""What a file's pixels are: the one place where images, masks and backgrounds are decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from xai_core.arrays import Bool
from xai_core.errors import ImageSetError
from xai_core.imageset.background import Indices, listed, unknown_indices

T = TypeVar("T")

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""The file name endings, in lower case, that are taken for images."""

_EIGHT_BIT = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr"})


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Return an image file as RGB bytes ``[H, W, 3]``, upright.

    The EXIF orientation is applied. Grey, palette and CMYK images are converted; transparent
    pixels are laid over white, as a viewer shows them (dropping the alpha channel would bring
    up colours that nobody has seen).

    Raises:
        ImageSetError: the file is missing, corrupt, animated, too large for Pillow's limit, or
            has more than 8 bits a channel.
    """
    return _decode(path, "image", _rgb)


def read_mask(path: Path) -> Bool:
    """Return a mask file as bool ``[H, W]``, upright; True is the object.

    One channel of 0 and 1 or of 0 and 255 is read; of a palette image, the indices.

    Raises:
        ImageSetError: the file is missing, corrupt, too large for Pillow's limit, has several
            channels or any other value.
    """
    return _decode(path, "mask", _one_channel)


def read_background(path: Path, classes: Mapping[int, str]) -> Indices:
    """Return a file with the indices of classes of background as ``[H, W]``, upright.

    One channel of 8 bits is read, grey or, of a palette image, the indices.

    Args:
        path: of the file.
        classes: index -> name; 0, what is not annotated, is none of them.

    Raises:
        ImageSetError: the file is missing, corrupt, too large for Pillow's limit, has several
            channels, another depth, or an index that is no class.
    """

    def indices(opened: Image.Image, path: Path) -> Indices:
        if opened.mode not in ("L", "P"):
            msg = (
                f"{path}: expected one index for each pixel, got Pillow mode {opened.mode!r}; save "
                "it as 8-bit grey or with a palette"
            )
            raise ImageSetError(msg)
        found = np.array(opened, dtype=np.uint16)
        unknown = unknown_indices(found, classes)
        if unknown:
            more = ", ..." if len(unknown) > 8 else ""
            msg = (
                f"{path}: index {', '.join(map(str, unknown[:8]))}{more} is no class of "
                f"background.csv, which has {listed(classes)}; correct the pixels or add the class"
            )
            raise ImageSetError(msg)
        return found

    return _decode(path, "background", indices)


def _decode(path: Path, what: str, read: Callable[[Image.Image, Path], T]) -> T:
    try:
        with Image.open(path) as opened:
            # MPO is a phone's JPEG with a second view behind the picture itself.
            if opened.format != "MPO" and getattr(opened, "n_frames", 1) > 1:
                msg = f"{path}: {what} has several frames; save the one that is meant"
                raise ImageSetError(msg)
            return read(ImageOps.exif_transpose(opened), path)
    except ImageSetError:
        raise
    except FileNotFoundError:
        msg = f"{path}: {what} is gone since the set was loaded; restore it or load again"
        raise ImageSetError(msg) from None
    # A warning of Pillow's is raised where warnings are errors, as in many test suites.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        msg = (
            f"{path}: {what} is larger than Pillow's limit against decompression bombs "
            f"({error}); scale it down before it enters the set"
        )
        raise ImageSetError(msg) from error
    # Pillow's decoders raise nearly every type on a broken file; the file is what matters.
    except Exception as error:
        msg = f"{path}: corrupt {what} ({error or type(error).__name__}); replace the file"
        raise ImageSetError(msg) from error


def _rgb(opened: Image.Image, path: Path) -> npt.NDArray[np.uint8]:
    if opened.mode not in _EIGHT_BIT:
        # Pillow would clip such values to 255 without a word.
        msg = f"{path}: expected 8 bits a channel, got Pillow mode {opened.mode!r}; convert it"
        raise ImageSetError(msg)
    if opened.has_transparency_data:
        white = Image.new("RGBA", opened.size, (255, 255, 255, 255))
        opened = Image.alpha_composite(white, opened.convert("RGBA"))
    return np.array(opened.convert("RGB"))


def _one_channel(opened: Image.Image, path: Path) -> Bool:
    if len(opened.getbands()) != 1:
        msg = (
            f"{path}: expected a mask of one channel, got Pillow mode {opened.mode!r}; "
            "save it as 8-bit grey with 0 = background, 255 = object"
        )
        raise ImageSetError(msg)
    opened.load()
    if opened.mode == "P" and (opened.getpalette() or [0, 0, 0])[:3] != [0, 0, 0]:
        msg = (
            f"{path}: index 0 of the mask's palette is not black, so it is unclear what is "
            "background; save it as 8-bit grey with 0 = background, 255 = object"
        )
        raise ImageSetError(msg)
    values = np.asarray(opened)
    if values.dtype == np.bool_:
        return np.array(values)
    found = np.unique(values)
    if not (np.isin(found, (0, 1)).all() or np.isin(found, (0, 255)).all()):
        shown = ", ".join(str(value) for value in found[:8].tolist())
        more = ", ..." if len(found) > 8 else ""
        msg = (
            f"{path}: expected a mask of 0 and 1 or of 0 and 255, got the values {shown}{more}; "
            "save 0 = background, 255 = object, without smoothing or JPEG compression"
        )
        raise ImageSetError(msg)
    return values > 0
