"""Does the relevance say by how much the output changes?

Relevance comes in two units, and each is held against the change that it can predict: the share
that pixels have in the output (integrated gradients, SHAP, most heatmaps), which adds up over
the pixels that are removed; and the slope of the output (gradients), times how far each value
moves. As in the authors' code, squares go with the former and noise with the latter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.errors import ShapeError
from xai_core.metrics.changed_maps import defined
from xai_core.metrics.declaration import metric
from xai_core.metrics.outputs import outputs_of_variants
from xai_core.metrics.removal import Removal, Substrate
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier

Samples = Annotated[int, msgspec.Meta(ge=1)]
Largest = Annotated[float, msgspec.Meta(gt=0, le=1)]
Sigma = Annotated[float, msgspec.Meta(gt=0)]

_UNIT = "logits squared"


@metric(
    version="yeh-2019",
    better="lower",
    range=(0, float("inf")),
    unit=_UNIT,
    source="Yeh 2019, definition 2.1; squares",
)
def infidelity(
    classifier: Classifier,
    images: Float32,
    attributions: Float32,
    targets: Int64,
    *,
    samples: Samples = 100,
    largest: Largest = 0.36,
    substrate: Substrate = "black",
    scaled: bool = False,
    seed: int = 0,
) -> Float64:
    """Mean squared error of the attributions' sum as a forecast of the logit's fall.

    Mean over squares S of (sum of the attributions in S - (f(x) - f(x without S)))^2, f the
    target's logit. Every square of a side from 1 px to ``largest`` is equally likely, as in the
    paper, whose sides of up to 10 of 28 px are 0.36. The attributions are shares of f(x) - f(x'),
    so ``substrate`` is to be the method's own baseline x'; plain gradients are for
    `infidelity_noise`. With ``scaled`` they are first multiplied by the one number for each image
    that makes the error smallest, as the authors' code does and the paper does not.

    >>> METRICS["infidelity"].configure({"scaled": True}).protocol
    'infidelity@yeh-2019(scaled=True)'

    Args:
        classifier: gives the logits.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        attributions: ``[N, C, H, W]``; one channel will do.
        targets: ``[N]``.
        samples: squares for each image.
        largest: side of the largest square, as a share of the image's shorter one.
        substrate: what a square is replaced by, as in `deletion`.
        scaled: whether the attributions may be multiplied by a number.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: ``scaled``, and no square has any relevance; or a logit that
            is not finite.
    """
    relevance = attributions.sum(axis=1, dtype=np.float64)
    forecasts, falls = _squares(
        classifier, images, relevance, targets, samples, largest, substrate, seed
    )
    return _errors(forecasts, falls, _scales(forecasts, falls) if scaled else None)


@metric(
    version="yeh-2019",
    better="lower",
    range=(0, float("inf")),
    unit=_UNIT,
    source="Yeh 2019, definition 2.1; noisy baseline",
)
def infidelity_noise(
    classifier: Classifier,
    images: Float32,
    attributions: Float32,
    targets: Int64,
    *,
    samples: Samples = 100,
    sigma: Sigma = 0.2,
    scaled: bool = False,
    seed: int = 0,
) -> Float64:
    """Mean squared error of the attributions as slopes that forecast the logit's fall to noise.

    Mean over draws of (sum of I x attributions - (f(x) - f(x - I)))^2, f the target's logit and
    x - I = clip(e, 0, 1) a noisy black image, e normal with deviation ``sigma`` for every value
    [Yeh 2019, "noisy baseline"]. The attributions are gradients, not multiplied by the image;
    relevance in units of the output is for `infidelity`. ``scaled`` as there.

    >>> METRICS["infidelity_noise"].configure({"samples": 10}).protocol
    'infidelity_noise@yeh-2019(samples=10)'

    Args:
        classifier: gives the logits.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        attributions: ``[N, 3, H, W]``; of one channel, it serves all three.
        targets: ``[N]``.
        samples: draws for each image.
        sigma: standard deviation of the noise, in units of RGB in [0, 1].
        scaled: whether the attributions may be multiplied by a number.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: ``scaled``, and all attributions are zero; or a logit that is
            not finite.
        ShapeError: attributions of two channels, or more than three.
    """
    import torch

    if attributions.shape[1] not in (1, 3):
        msg = f"attributions: expected 1 or 3 channels, got {attributions.shape[1]}"
        raise ShapeError(msg)

    def drawn(index: int, draw: int) -> Float32:
        stream = generator_for(images[index], seed=seed, purpose=f"infidelity_noise|{draw}")
        noise = stream.standard_normal(images.shape[1:], dtype=np.float32)
        noisy: Float32 = np.clip(np.float32(sigma) * noise, 0, 1)
        return noisy

    def build(image: Tensor, variant: Tensor) -> Tensor:
        pairs = zip(image.tolist(), variant.tolist(), strict=True)
        made = [drawn(index, draw - 1) if draw else images[index] for index, draw in pairs]
        return torch.from_numpy(np.stack(made)).to(classifier.device)

    size = images.shape[2], images.shape[3]
    logits = outputs_of_variants(classifier, build, targets, samples + 1, size, output="logit")
    forecasts = np.array(
        [
            [
                np.sum((image - drawn(index, draw)) * slopes, dtype=np.float64)
                for draw in range(samples)
            ]
            for index, (image, slopes) in enumerate(zip(images, attributions, strict=True))
        ]
    )
    falls = logits[:, :1] - logits[:, 1:]
    return _errors(forecasts, falls, _scales(forecasts, falls) if scaled else None)


@metric(
    better="lower",
    range=(0, float("inf")),
    unit=_UNIT,
    source="Yeh 2019, scaled as in the authors' code",
)
def heatmap_infidelity(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    samples: Samples = 100,
    largest: Largest = 0.36,
    substrate: Substrate = "black",
    seed: int = 0,
) -> Float64:
    """Mean squared error of the heatmap's sum, suitably scaled, as a forecast of the logit's fall.

    `infidelity` for methods whose maps have no unit: mean over squares S of (b x sum of the
    heatmap in S - (f(x) - f(x without S)))^2, with the b >= 0 for each image that makes it
    smallest. A negative b, which the authors' code allows, would let a map pass whose relevance
    is upside down; the worst map scores as one that says nothing, the mean squared fall.

    >>> METRICS["heatmap_infidelity"].configure({"substrate": "mean"}).protocol
    'heatmap_infidelity@v1(substrate=mean)'

    Args:
        classifier: gives the logits.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        samples: squares for each image.
        largest: side of the largest square, as a share of the image's shorter one.
        substrate: what a square is replaced by, as in `deletion`.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: no square has any relevance, or a logit that is not finite.
    """
    relevance = heatmaps.astype(np.float64)
    forecasts, falls = _squares(
        classifier, images, relevance, targets, samples, largest, substrate, seed
    )
    return _errors(forecasts, falls, np.maximum(_scales(forecasts, falls), 0))


def _squares(
    classifier: Classifier,
    images: Float32,
    relevance: Float64,
    targets: Int64,
    samples: int,
    largest: float,
    substrate: Substrate,
    seed: int,
) -> tuple[Float64, Float64]:
    """Return squares' sums of relevance and the logit's fall without them, ``[N, samples]``."""
    import torch

    height, width = size = images.shape[2], images.shape[3]
    drawn = np.stack([_drawn_squares(image, samples, largest, seed) for image in images])
    forecasts = np.array(
        [
            [found[top:bottom, left:right].sum() for top, bottom, left, right in squares]
            for found, squares in zip(relevance, drawn, strict=True)
        ]
    )
    nothing = np.zeros((len(images), 1, 4), dtype=np.int64)
    device = classifier.device
    edges = torch.from_numpy(np.concatenate([nothing, drawn], axis=1)).to(device)
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    removal = Removal(classifier, images, substrate, seed=seed)

    def build(image: Tensor, variant: Tensor) -> Tensor:
        top, bottom, left, right = edges[image, variant, :, None].unbind(dim=1)
        vertical, horizontal = (
            (rows >= top) & (rows < bottom),
            (columns >= left) & (columns < right),
        )
        return removal.without(image, vertical[:, :, None] & horizontal[:, None, :])

    logits = outputs_of_variants(classifier, build, targets, samples + 1, size, output="logit")
    return forecasts, logits[:, :1] - logits[:, 1:]


def _drawn_squares(image: Float32, samples: int, largest: float, seed: int) -> Int64:
    """Return squares of an image, each as likely as any other, as top, bottom, left, right."""
    height, width = image.shape[1:]
    stream = generator_for(image, seed=seed, purpose="infidelity")
    sides = np.arange(1, max(1, round(largest * min(height, width))) + 1)
    places = (height - sides + 1) * (width - sides + 1)
    side = stream.choice(sides, size=samples, p=places / places.sum())
    top, left = (stream.integers(0, length - side + 1) for length in (height, width))
    return np.stack([top, top + side, left, left + side], axis=1)


def _scales(forecasts: Float64, falls: Float64) -> Float64:
    """Return the factors of the forecasts with the smallest error, ``[N]``; NaN where all are 0."""
    with np.errstate(invalid="ignore"):
        scales: Float64 = (forecasts * falls).sum(axis=1) / np.square(forecasts).sum(axis=1)
    return scales


def _errors(forecasts: Float64, falls: Float64, scales: Float64 | None) -> Float64:
    scales = np.ones(len(forecasts)) if scales is None else scales
    why = "there is no relevance in any change, so that it cannot be scaled"
    reasons = {int(index): why for index in np.flatnonzero(np.isnan(scales))}
    errors = np.square(scales[:, None] * forecasts - falls).mean(axis=1)
    return defined(errors, reasons)
