"""Baselines of path methods: the reference images that stand for "nothing there".

A baseline is named by a text, in RGB space: ``black``, ``white``, ``mean`` (the colour that the
classifier's normalisation maps to zero), ``blurred`` or ``blurred(sigma=10)`` (the image itself
without detail), ``image:FILE``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xai_core.arrays import Float32
from xai_core.errors import ParameterError, did_you_mean
from xai_core.parameters import parse_call, require

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

_FILE = "image:"
_NAMES = ("black", "white", "mean", "blurred")


def check_baseline(text: str) -> None:
    """Raise unless ``text`` names a baseline.

    Raises:
        ParameterError: an unknown name (with the nearest one), a wrong parameter, no such file.
    """
    if text.startswith(_FILE):
        path = Path(text.removeprefix(_FILE))
        require(path.is_file(), f"baseline {text!r}: there is no file {path}")
        return
    name, values = parse_call(text)
    if name not in _NAMES:
        msg = f"no baseline {text!r}: {did_you_mean(name, (*_NAMES, 'image:FILE'))}"
        raise ParameterError(msg)
    require(
        not values or (name == "blurred" and set(values) == {"sigma"}),
        f"baseline {text!r}: only `blurred` has a parameter, `sigma` (pixels)",
    )
    sigma = values.get("sigma", 1)
    require(
        isinstance(sigma, int | float) and not isinstance(sigma, bool) and 0 < sigma < math.inf,
        f"baseline {text!r}: `sigma` must be a number above 0",
    )


def baseline_images(text: str, classifier: Classifier, images: Float32) -> Float32:
    """Return the baseline of every image, float32 ``[N, 3, H, W]``, RGB in [0, 1]."""
    if text.startswith(_FILE):
        return np.broadcast_to(_read(text, images.shape[-2:]), images.shape)
    name, values = parse_call(text)
    if name == "blurred":
        from scipy.ndimage import gaussian_filter

        # A sixteenth of the side leaves colours and lighting, and no shape of an object.
        sigma = float(str(values.get("sigma", min(images.shape[-2:]) / 16)))
        blurred: Float32 = gaussian_filter(images, sigma=(0, 0, sigma, sigma), mode="nearest")
        return blurred
    colours = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0), "mean": classifier.mean}
    colour = np.asarray(colours[name], dtype=np.float32)
    return np.broadcast_to(colour[None, :, None, None], images.shape)


def _read(text: str, size: tuple[int, ...]) -> Float32:
    from PIL import Image, UnidentifiedImageError

    path = Path(text.removeprefix(_FILE))
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except (OSError, UnidentifiedImageError) as error:
        msg = f"baseline {text!r} cannot be read as an image: {error}"
        raise ParameterError(msg) from None
    return np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
