"""Null maps: heatmaps that know nothing of the model, to hold real ones against.

A metric that a null map satisfies says little; the gain over the best null map does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from xai_core.arrays import Float32, Int64
from xai_core.errors import ParameterError, did_you_mean
from xai_core.explainers.explanation import Explanation, Needs, Promise
from xai_core.parameters import require
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

NULL_MAPS = ("random", "centre", "sobel", "inverted")


def random_maps(images: Float32, *, seed: int = 0) -> Float32:
    """Return uniform noise for every image, ``[N, H, W]``, seeded by the image's own pixels."""
    return np.stack(
        [
            generator_for(image, seed=seed, purpose="null-map").random(
                image.shape[-2:], dtype=np.float32
            )
            for image in images
        ]
    )


def centre_maps(images: Float32, *, sigma: float = 0.25) -> Float32:
    """Return a Gaussian in the middle of every image, ``[N, H, W]``.

    ``sigma`` is in parts of the image's side: 0.25 of 224 px are 56 px.
    """
    height, width = images.shape[-2:]
    y = (np.arange(height) - (height - 1) / 2) / (sigma * height)
    x = (np.arange(width) - (width - 1) / 2) / (sigma * width)
    gaussian = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2).astype(np.float32)
    return np.broadcast_to(gaussian, (len(images), height, width)).copy()


def sobel_maps(images: Float32) -> Float32:
    """Return the edge strength (Sobel) of every image's luminance, ``[N, H, W]``."""
    from skimage.color import rgb2gray
    from skimage.filters import sobel

    grey = rgb2gray(images, channel_axis=1)
    return np.stack([sobel(image) for image in grey]).astype(np.float32)


def inverted_maps(heatmaps: Float32) -> Float32:
    """Return every heatmap upside down, ``max(h) - h``, ``[N, H, W]``."""
    inverted: Float32 = heatmaps.max(axis=(1, 2), keepdims=True) - heatmaps
    return inverted


def null_maps(name: str, images: Float32, heatmaps: Float32, *, seed: int = 0) -> Float32:
    """Return the null maps called ``name`` for ``images``, ``[N, H, W]``.

    Args:
        name: one of `NULL_MAPS`.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: the maps that ``inverted`` turns upside down, ``[N, H, W]``.
        seed: of ``random``.

    Raises:
        ParameterError: an unknown name.
    """
    if name == "random":
        return random_maps(images, seed=seed)
    if name == "centre":
        return centre_maps(images)
    if name == "sobel":
        return sobel_maps(images)
    if name == "inverted":
        return inverted_maps(heatmaps)
    msg = f"no null map {name!r}: {did_you_mean(name, NULL_MAPS)}"
    raise ParameterError(msg)


@dataclass(frozen=True)
class RandomMap:
    """Uniform noise as an explainer.

    Args:
        seed: of the noise; the same image always gets the same map.
    """

    kind: ClassVar[str] = "random"
    needs: ClassVar[Needs] = "nothing"
    source: ClassVar[str] = "null map"
    promises: ClassVar[frozenset[Promise]] = frozenset()

    seed: int = 0

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:  # noqa: ARG002 - a null map ignores the model
        """Return noise; see `Explainer.explain`."""
        return Explanation(random_maps(images, seed=self.seed))


@dataclass(frozen=True)
class CentreMap:
    """A Gaussian in the middle of the image as an explainer.

    Args:
        sigma: its width in parts of the image's side.
    """

    kind: ClassVar[str] = "centre"
    needs: ClassVar[Needs] = "nothing"
    source: ClassVar[str] = "null map"
    promises: ClassVar[frozenset[Promise]] = frozenset()

    sigma: float = 0.25

    def __post_init__(self) -> None:
        require(self.sigma > 0, f"`sigma` must be above 0, got {self.sigma}")

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:  # noqa: ARG002 - a null map ignores the model
        """Return the blob; see `Explainer.explain`."""
        return Explanation(centre_maps(images, sigma=self.sigma))


@dataclass(frozen=True)
class SobelMap:
    """The edges of the image as an explainer."""

    kind: ClassVar[str] = "sobel"
    needs: ClassVar[Needs] = "nothing"
    source: ClassVar[str] = "null map"
    promises: ClassVar[frozenset[Promise]] = frozenset()

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:  # noqa: ARG002 - a null map ignores the model
        """Return the edges; see `Explainer.explain`."""
        return Explanation(sobel_maps(images))


@dataclass(frozen=True)
class InvertedMap:
    """Another explainer's heatmaps upside down.

    Args:
        of: the other explainer, ``"gradcam"`` or ``"integrated_gradients(steps=20)"``.
    """

    kind: ClassVar[str] = "inverted"
    needs: ClassVar[Needs] = "module"
    source: ClassVar[str] = "null map"
    promises: ClassVar[frozenset[Promise]] = frozenset()

    of: str = "gradcam"

    def __post_init__(self) -> None:
        from xai_core.explainers.registry import parse_explainer

        parse_explainer(self.of)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Return the inverted maps; see `Explainer.explain`."""
        from xai_core.explainers.registry import parse_explainer

        upright = parse_explainer(self.of).explain(classifier, images, targets)
        return Explanation(inverted_maps(upright.heatmaps))
