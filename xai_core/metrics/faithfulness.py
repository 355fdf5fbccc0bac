"""Does the classifier use the pixels that the heatmap calls relevant?

Curves of what the classifier says of the target as pixels go or come, most relevant first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.metrics.changed_maps import defined
from xai_core.metrics.curves import Curve, deletion_curve, insertion_curve, outputs_in_order
from xai_core.metrics.declaration import metric
from xai_core.metrics.removal import Removal, Steps, Substrate, changed_counts

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

Epsilon = Annotated[float, msgspec.Meta(gt=0, lt=1)]


@metric(version="rise-2018", better="lower", range=(0, 1), source="Petsiuk 2018, RISE")
def deletion(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    steps: Steps = 28,
    substrate: Substrate = "mean",
    seed: int = 0,
) -> Float64:
    """Area under the target's probability as pixels go, most relevant first.

    Trapezoids over the share of pixels removed, from 0 to 1 inclusive; see `deletion_curve`.
    RISE removes 1792 pixels of 224 x 224 a step, which are 28 steps, to the mean colour.
    Measured alone it is weak evidence: scattered holes break any classifier.

    >>> METRICS["deletion"].configure({"substrate": "blur"}).protocol
    'deletion@rise-2018(substrate=blur)'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        steps: at most so many, of ceil(H W / steps) pixels each.
        substrate: what a removed pixel is replaced by: ``"mean"``, ``"black"``, ``"white"``,
            ``"blur"`` or ``"inverted"``, see `xai_core.metrics.removal`; or ``"imputed"`` from
            the pixels that are left, anew at every step, which at 224 px takes about as long as
            one or two forward passes of ResNet-50 on a CPU.
        seed: the run's seed; it matters to what is imputed alone.
    """
    return _share(
        deletion_curve(
            classifier, images, heatmaps, targets, steps=steps, substrate=substrate, seed=seed
        )
    )


@metric(version="rise-2018", better="higher", range=(0, 1), source="Petsiuk 2018, RISE")
def insertion(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    steps: Steps = 28,
    substrate: Substrate = "blur",
    seed: int = 0,
) -> Float64:
    """Area under the target's probability as pixels come in, most relevant first.

    Trapezoids over the share of pixels given back to the blurred image, from 0 to 1 inclusive;
    see `insertion_curve`.

    >>> METRICS["insertion"].configure({"steps": 14}).protocol
    'insertion@rise-2018(steps=14)'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        steps: at most so many, of ceil(H W / steps) pixels each.
        substrate: what stands where pixels are still missing, as in `deletion`; ``"imputed"``
            from those that are there, anew at every step.
        seed: the run's seed; it matters to what is imputed alone.
    """
    return _share(
        insertion_curve(
            classifier, images, heatmaps, targets, steps=steps, substrate=substrate, seed=seed
        )
    )


@metric(better="higher", range=(-1, 1), source="Zhang 2021, Group-CAM, 'over-all'")
def faithfulness_gap(insertion: Float64, deletion: Float64) -> Float64:
    """Insertion minus deletion, both with the same steps.

    >>> faithfulness_gap([0.75], [0.25])
    array([0.5])

    Args:
        insertion: ``[N]``.
        deletion: ``[N]``.

    Raises:
        UndefinedMeasurementError: one of the two is not finite.
    """
    gaps: Float64 = insertion - deletion
    why = "insertion or deletion is not finite"
    return defined(gaps, {int(index): why for index in np.flatnonzero(~np.isfinite(gaps))})


@metric(
    version="bach-2015", better="higher", range=(float("-inf"), float("inf")), source="Bach 2015"
)
def pixel_flipping(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    steps: Steps = 28,
    substrate: Substrate = "inverted",
    seed: int = 0,
) -> Float64:
    """Mean fall of the target's logit as pixels are flipped, most relevant first.

    f(x) - area under f(x without its most relevant pixels), f the target's *logit*; trapezoids
    over the share of pixels flipped, from 0 to 1 inclusive, so it does not grow with the number
    of steps. A pixel is flipped to its negative 1 - x, as the paper turns black digits white; a
    grey one stays what it is. `deletion` differs in three ways: it takes the probability, which
    hardly moves while the classifier is sure; it removes to one colour; it is the area below.
    Scattered holes break any classifier here too, so compare with a map of noise.

    >>> METRICS["pixel_flipping"].configure({"substrate": "mean"}).protocol
    'pixel_flipping@bach-2015(substrate=mean)'

    Args:
        classifier: gives the logits.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        steps: at most so many, of ceil(H W / steps) pixels each.
        substrate: what a pixel is replaced by, as in `deletion`.
        seed: the run's seed; it matters to what is imputed alone.

    Raises:
        UndefinedMeasurementError: a logit that is not finite.
    """
    removal = Removal(classifier, images, substrate, seed=seed)
    counts = changed_counts(heatmaps[0].size, steps)
    logits = outputs_in_order(
        classifier, removal, heatmaps, targets, counts, "removed", output="logit"
    )
    falls: Float64 = logits[:, 0] - _area((counts / heatmaps[0].size, logits))
    return falls


@metric(version="nguyen-2020", better="lower", range=(0, 1), source="Nguyen & Martinez 2020")
def effective_complexity(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    epsilon: Epsilon = 0.1,
    steps: Steps = 28,
    substrate: Substrate = "blur",
    seed: int = 0,
) -> Float64:
    """Smallest share of pixels, most relevant first, that keeps the target's probability.

    The first share k / (H W) at which (p(x) - p(x with k pixels)) / p(x) <= epsilon, among the
    shares of `insertion` and on its curve: the other pixels are replaced by the substrate, which
    stands for the paper's mean over their values. A value always exists, as all pixels keep the
    probability; it is 0, for every map, where the substrate alone does.

    >>> METRICS["effective_complexity"].configure({"epsilon": 0.05}).protocol
    'effective_complexity@nguyen-2020(epsilon=0.05)'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        epsilon: share of the probability that may be lost.
        steps: at most so many, of ceil(H W / steps) pixels each.
        substrate: what a pixel is replaced by, as in `deletion`.
        seed: the run's seed; it matters to what is imputed alone.

    Raises:
        UndefinedMeasurementError: a probability on the image of zero.
    """
    shares, probabilities = insertion_curve(
        classifier, images, heatmaps, targets, steps=steps, substrate=substrate, seed=seed
    )
    whole = probabilities[:, -1:]
    why = "the target's probability on the image is 0, so that no share of it can be kept"
    reasons = {int(index): why for index in np.flatnonzero(whole[:, 0] == 0)}
    first: Float64 = shares[np.argmax(probabilities >= (1 - epsilon) * whole, axis=1)]
    return defined(first, reasons)


def _area(curve: Curve) -> Float64:
    shares, outputs = curve
    areas: Float64 = np.asarray(np.trapezoid(outputs, shares, axis=1))
    return areas


def _share(curve: Curve) -> Float64:
    return np.clip(_area(curve), 0.0, 1.0)  # a softmax may round to just above 1
