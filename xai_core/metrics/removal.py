"""What is left of images when pixels are removed?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np

from xai_core.arrays import Float32, Int64
from xai_core.metrics.imputation import NOISE, imputed
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier

FixedSubstrate = Literal["mean", "black", "white", "blur", "inverted"]
"""A substrate that does not depend on which pixels are removed; see `substrate_images`."""

Substrate = Literal[FixedSubstrate, "imputed"]
"""What a removed pixel is replaced by: see `substrate_images`; or ``"imputed"`` from the pixels
that are left, see `xai_core.metrics.imputation`, anew for each set of removed pixels: at 224 px
that takes as long as one or two forward passes of ResNet-50 on a CPU."""

Steps = Annotated[int, msgspec.Meta(ge=1)]


class Removal:
    """Images, and what takes the place of the pixels that are removed from them.

    Args:
        classifier: whose device is used, and whose mean colour.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        substrate: what a removed pixel is replaced by.
        seed: of the noise on what is imputed, one draw for each image.
    """

    def __init__(
        self, classifier: Classifier, images: Float32, substrate: Substrate, *, seed: int
    ) -> None:
        import torch

        self._images, self._device = images, classifier.device
        self._noise, self._here, self._gone = [], None, None
        if substrate == "imputed":
            streams = [generator_for(image, seed=seed, purpose="imputation") for image in images]
            shape = images.shape[1:]
            self._noise = [NOISE * s.standard_normal(shape, dtype=np.float32) for s in streams]
        else:
            gone = substrate_images(images, substrate, classifier.mean)
            self._here, self._gone = (
                torch.tensor(array, device=self._device) for array in (images, gone)
            )

    def without(self, image: Tensor, removed: Tensor) -> Tensor:
        """Return images without some of their pixels, ``[B, 3, H, W]``.

        Args:
            image: their indices, ``[B]``.
            removed: bool ``[B, H, W]``.
        """
        import torch

        if self._here is not None and self._gone is not None:
            return torch.where(removed[:, None], self._gone[image], self._here[image])
        filled = [
            imputed(self._images[index], pixels, self._noise[index])
            for index, pixels in zip(image.tolist(), removed.cpu().numpy(), strict=True)
        ]
        return torch.from_numpy(np.stack(filled)).to(self._device)


def substrate_images(
    images: Float32, substrate: FixedSubstrate, mean: tuple[float, float, float]
) -> Float32:
    """Return what is left of the images when every pixel is removed.

    ``"mean"`` is the colour that normalisation maps to zero, ``"black"`` RGB 0, ``"white"``
    RGB 1, ``"inverted"`` the image's negative 1 - x, ``"blur"`` the image through RISE's kernel:
    11 x 11, a Gaussian of sigma 5 on a Dirac, reflected at the kernel's border. Zero padding
    after normalisation, as RISE has it, is padding with the mean colour here.

    Args:
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        substrate: as above.
        mean: the classifier's.
    """
    colour = np.array(mean, dtype=np.float32)[:, None, None]
    if substrate == "mean":
        return np.broadcast_to(colour, images.shape).copy()
    if substrate in ("black", "white"):
        return np.full_like(images, 1.0 if substrate == "white" else 0.0)
    if substrate == "inverted":
        return 1 - images
    from scipy.ndimage import convolve1d, gaussian_filter1d

    kernel = gaussian_filter1d(np.eye(11)[5], sigma=5)  # the 2-D kernel is its outer product
    blurred = images - colour
    for axis in (-2, -1):
        blurred = convolve1d(blurred, kernel, axis=axis, mode="constant", cval=0.0)
    restored: Float32 = blurred + colour
    return restored


def changed_counts(pixels: int, steps: int) -> Int64:
    """Return how many pixels are changed after each step, from none to all, ``[S + 1]``.

    Each step takes ceil(pixels / steps), the last what is left; there are at most ``steps``.

    >>> changed_counts(10, 4).tolist()
    [0, 3, 6, 9, 10]
    """
    step = -(-pixels // steps)
    points = -(-pixels // step) + 1
    return np.minimum(np.arange(points, dtype=np.int64) * step, pixels)
