"""Does the heatmap survive what does not change the image?

One metric for each change: noise, brightness, compression, a shift of a few pixels. How far the
heatmap moves for its step is another question, see `xai_core.metrics.sensitivity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Annotated, Literal

import msgspec
import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.errors import ShapeError
from xai_core.metrics import similarity as similarities
from xai_core.metrics.changed_maps import defined, of_shape
from xai_core.metrics.declaration import metric, unusable_heatmaps
from xai_core.seeding import generator_for

Explain = Callable[[Float32, Int64], Float32]
"""Images ``[N, 3, H, W]`` and targets ``[N]`` to heatmaps ``[N, H, W]``."""

Sigma = Annotated[float, msgspec.Meta(gt=0)]
Samples = Annotated[int, msgspec.Meta(ge=1)]
Similarity = Literal["ssim", "spearman"]
Factor = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Offset = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Quality = Annotated[int, msgspec.Meta(ge=1, le=95)]
Pixels = Annotated[int, msgspec.Meta(ge=1)]

_SMALLEST_SIDE = 3


@metric(better="higher", range=(-1, 1), source="input noise as in Smilkov 2017; SSIM, Wang 2004")
def stability(
    explain: Explain,
    images: Float32,
    targets: Int64,
    heatmaps: Float32,
    *,
    sigma: Sigma = 0.05,
    samples: Samples = 5,
    similarity: Similarity = "ssim",
    seed: int = 0,
) -> Float64:
    """Mean similarity of the heatmap to the heatmaps of the image under noise.

    Mean over samples of s(h(x), h(clip(x + e, 0, 1))), e normal with deviation ``sigma`` for
    every value, drawn from the image's own stream; see `xai_core.metrics.similarity`.

    >>> import numpy as np
    >>> image, heatmap = np.full((3, 4, 4), 0.5), np.eye(4)
    >>> stability(lambda images, targets: heatmap, image, 0, heatmap)
    array([1.])

    Args:
        explain: images ``[N, 3, H, W]`` and targets ``[N]`` to heatmaps ``[N, H, W]``; called
            once a sample.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: ``[N]``.
        heatmaps: those of ``images``, ``[N, H, W]``.
        sigma: standard deviation of the noise, in units of RGB in [0, 1].
        samples: noisy copies of each image.
        similarity: ``"ssim"`` or ``"spearman"``.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: a noisy image's heatmap is constant or not finite.
        ShapeError: ``explain`` gives maps of another shape.
    """
    streams = [generator_for(image, seed=seed, purpose="stability") for image in images]

    def under_noise() -> Iterator[tuple[str, Float32]]:
        for sample in range(samples):
            drawn = [s.standard_normal(images.shape[1:], dtype=np.float32) for s in streams]
            noisy = np.clip(images + np.float32(sigma) * np.stack(drawn), 0, 1)
            maps = of_shape(explain(noisy, targets), heatmaps.shape, "explain")
            yield f"under noise (sample {sample + 1} of {samples})", maps

    return _mean_similarity(heatmaps, under_noise(), similarity)


@metric(better="higher", range=(-1, 1), source="as in Hendrycks 2019; SSIM, Wang 2004")
def stability_brightness(
    explain: Explain,
    images: Float32,
    targets: Int64,
    heatmaps: Float32,
    *,
    factor: Factor = 0.2,
    offset: Offset = 0.1,
    samples: Samples = 5,
    similarity: Similarity = "ssim",
    seed: int = 0,
) -> Float64:
    """Mean similarity of the heatmap to the heatmaps of the image in other light.

    Mean over samples of s(h(x), h(clip(a x + b, 0, 1))), a uniform in [1 - ``factor``, 1 +
    ``factor``] and b in [-``offset``, ``offset``], one of each for a whole image, drawn from the
    image's own stream.

    >>> import numpy as np
    >>> image, heatmap = np.full((3, 4, 4), 0.5), np.eye(4)
    >>> stability_brightness(lambda images, targets: heatmap, image, 0, heatmap)
    array([1.])

    Args:
        explain: as for `stability`.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: ``[N]``.
        heatmaps: those of ``images``, ``[N, H, W]``.
        factor: how far the factor goes from 1.
        offset: how far the offset goes from 0, in units of RGB in [0, 1].
        samples: copies of each image.
        similarity: ``"ssim"`` or ``"spearman"``.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: a changed image's heatmap is constant or not finite.
        ShapeError: ``explain`` gives maps of another shape.
    """
    streams = [generator_for(image, seed=seed, purpose="stability_brightness") for image in images]

    def in_other_light() -> Iterator[tuple[str, Float32]]:
        for sample in range(samples):
            drawn = np.array([stream.uniform(-1, 1, size=2) for stream in streams])
            scaled = (drawn * (factor, offset)).astype(np.float32)
            factors, offsets = scaled.T[..., None, None, None]
            lit = np.clip(images * (1 + factors) + offsets, 0, 1)
            maps = of_shape(explain(lit, targets), heatmaps.shape, "explain")
            yield f"in other light (sample {sample + 1} of {samples})", maps

    return _mean_similarity(heatmaps, in_other_light(), similarity)


@metric(better="higher", range=(-1, 1), source="as in Hendrycks 2019; SSIM, Wang 2004")
def stability_jpeg(
    explain: Explain,
    images: Float32,
    targets: Int64,
    heatmaps: Float32,
    *,
    quality: Quality = 75,
    similarity: Similarity = "ssim",
) -> Float64:
    """Similarity of the heatmap to that of the image after JPEG compression.

    s(h(x), h(decode(encode(x)))): 8 bits a value, Pillow's encoder at ``quality``, chroma
    subsampled 4:2:0. Nothing is drawn.

    >>> import numpy as np
    >>> image, heatmap = np.full((3, 4, 4), 0.5), np.eye(4)
    >>> stability_jpeg(lambda images, targets: heatmap, image, 0, heatmap)
    array([1.])

    Args:
        explain: as for `stability`; called once.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: ``[N]``.
        heatmaps: those of ``images``, ``[N, H, W]``.
        quality: from 1 to 95, higher is closer to the image.
        similarity: ``"ssim"`` or ``"spearman"``.

    Raises:
        UndefinedMeasurementError: the compressed image's heatmap is constant or not finite.
        ShapeError: ``explain`` gives maps of another shape.
    """
    compressed = np.stack([_compressed(image, quality) for image in images])
    maps = of_shape(explain(compressed, targets), heatmaps.shape, "explain")
    return _mean_similarity(heatmaps, [(f"after JPEG at quality {quality}", maps)], similarity)


@metric(better="higher", range=(-1, 1), source="as in Azulay 2019; SSIM, Wang 2004")
def stability_shift(
    explain: Explain,
    images: Float32,
    targets: Int64,
    heatmaps: Float32,
    *,
    pixels: Pixels = 4,
    samples: Samples = 5,
    similarity: Similarity = "ssim",
    seed: int = 0,
) -> Float64:
    """Mean similarity of the heatmap to that of the image a few pixels aside, shifted back.

    Mean over samples of s(h(x), h(x shifted by d) shifted by -d), d any shift of up to ``pixels``
    whole pixels down or up and right or left but none, each as likely, drawn from the image's own
    stream. The edge goes on where the image was; ``pixels`` of every side of the maps are cut away
    before they are compared, so that no pixel without an image under it has a part.

    >>> import numpy as np
    >>> def brightness(images, targets):
    ...     return images.mean(axis=1)
    >>> image = np.arange(192.0).reshape(3, 8, 8) / 255
    >>> stability_shift(brightness, image, 0, image.mean(axis=0), pixels=2).round(3)
    array([1.])

    Args:
        explain: as for `stability`.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: ``[N]``.
        heatmaps: those of ``images``, ``[N, H, W]``.
        pixels: of the map given, the farthest shift in each direction.
        samples: shifted copies of each image.
        similarity: ``"ssim"`` or ``"spearman"``.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: what is left of a map is constant or not finite.
        ShapeError: ``explain`` gives maps of another shape, or too little is left to compare.
    """
    height, width = heatmaps.shape[-2:]
    if min(height, width) - 2 * pixels < _SMALLEST_SIDE:
        msg = (
            f"heatmaps of {height} x {width}: shifts of up to {pixels} px cut away {2 * pixels} of "
            f"each side, and at least {_SMALLEST_SIDE} must be left; give fewer `pixels`"
        )
        raise ShapeError(msg)
    streams = [generator_for(image, seed=seed, purpose="stability_shift") for image in images]
    unmoved = [(0, 0)] * len(images)

    def aside() -> Iterator[tuple[str, Float32]]:
        for sample in range(samples):
            shifts = [_shift(stream, pixels) for stream in streams]
            opposite = [(-down, -right) for down, right in shifts]
            padded = np.pad(images, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)), "edge")
            moved = _windows(padded, opposite, pixels)
            maps = of_shape(explain(moved, targets), heatmaps.shape, "explain")
            yield f"shifted (sample {sample + 1} of {samples})", _windows(maps, shifts, pixels)

    inner = _windows(heatmaps, unmoved, pixels)
    reasons = {
        index: f"{pixels} px from the border, {why}"
        for index, why in unusable_heatmaps(inner).items()
    }
    return _mean_similarity(inner, aside(), similarity, reasons)


def _mean_similarity(
    heatmaps: Float32,
    changes: Iterable[tuple[str, Float32]],
    similarity: Similarity,
    reasons: dict[int, str] | None = None,
) -> Float64:
    """Return how alike the heatmaps are to those of the changed images, mean over the changes.

    Args:
        heatmaps: ``[N, H, W]``.
        changes: what was changed, and the heatmaps after it.
        similarity: how alike.
        reasons: index -> why there is no value, known before.

    Raises:
        UndefinedMeasurementError: a changed map is constant or not finite, or there are reasons.
    """
    alike = similarities.SIMILARITIES[similarity]
    reasons = dict(reasons or {})
    totals, count = np.zeros(len(heatmaps)), 0
    for what, maps in changes:
        for index, why in unusable_heatmaps(maps).items():
            reasons.setdefault(index, f"{what}, {why}")
        usable = np.array([index not in reasons for index in range(len(heatmaps))])
        totals[usable] += alike(heatmaps[usable], maps[usable])
        count += 1
    return defined(totals / count, reasons)


def _compressed(image: Float32, quality: int) -> Float32:
    from PIL import Image

    stream = BytesIO()
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(stream) as decoded:
        return np.asarray(decoded).transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def _shift(stream: np.random.Generator, pixels: int) -> tuple[int, int]:
    """Draw how far down and right an image goes, at most so many ``pixels`` each, not both 0."""
    side = 2 * pixels + 1
    drawn = int(stream.integers(side * side - 1))
    drawn += drawn >= side * side // 2  # passes over the one in the middle, which is none
    down, right = divmod(drawn, side)
    return down - pixels, right - pixels


def _windows(arrays: Float32, places: Iterable[tuple[int, int]], margin: int) -> Float32:
    """Return each array without ``margin`` on every side, moved down and right by its place."""
    height, width = arrays.shape[-2] - 2 * margin, arrays.shape[-1] - 2 * margin
    cut = [
        array[..., margin + down : margin + down + height, margin + right : margin + right + width]
        for array, (down, right) in zip(arrays, places, strict=True)
    ]
    return np.stack(cut)
