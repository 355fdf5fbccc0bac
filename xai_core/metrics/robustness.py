"""Does the heatmap survive what does not change the image?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
import numpy as np

from xai_core.arrays import Float32, Float64, Int64, as_heatmaps
from xai_core.errors import ShapeError, UndefinedMeasurementError
from xai_core.metrics import similarity as similarities
from xai_core.metrics.declaration import metric, unusable_heatmaps
from xai_core.seeding import generator_for

Sigma = Annotated[float, msgspec.Meta(gt=0)]
Samples = Annotated[int, msgspec.Meta(ge=1)]
Similarity = Literal["ssim", "spearman"]


@metric(better="higher", range=(-1, 1), source="input noise as in Smilkov 2017; SSIM, Wang 2004")
def stability(
    explain: Callable[[Float32, Int64], Float32],
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
    alike = {"ssim": similarities.ssim, "spearman": similarities.spearman}[similarity]
    streams = [generator_for(image, seed=seed, purpose="stability") for image in images]
    totals = np.zeros(len(images))
    reasons: dict[int, str] = {}
    for sample in range(samples):
        noise = np.stack([s.standard_normal(images.shape[1:], dtype=np.float32) for s in streams])
        noisy = as_heatmaps(explain(np.clip(images + np.float32(sigma) * noise, 0, 1), targets))
        if noisy.shape != heatmaps.shape:
            msg = f"explain: expected heatmaps of shape {heatmaps.shape}, got {noisy.shape}"
            raise ShapeError(msg)
        for index, why in unusable_heatmaps(noisy).items():
            reasons.setdefault(index, f"under noise (sample {sample + 1} of {samples}), {why}")
        usable = np.array([index not in reasons for index in range(len(images))])
        totals[usable] += alike(heatmaps[usable], noisy[usable])
    if reasons:
        raise UndefinedMeasurementError(reasons)
    return totals / samples
