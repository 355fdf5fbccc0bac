"""Does the heatmap depend on the classifier's weights? Model parameter randomisation tests.

Each holds the heatmaps against those of a classifier with weights drawn anew. A map that does not
change speaks of the image alone, as edge detectors do; null maps that ignore the model have a
similarity of 1. Weights are drawn once for each seed, the same for every image and explainer.
What a map without contrast, or without values, counts as: `xai_core.metrics.changed_maps`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np

from xai_core.arrays import Float32, Float64
from xai_core.errors import ClassifierError
from xai_core.metrics.changed_maps import all_finite, defined, maps_under, mean_similarity
from xai_core.metrics.declaration import ExplainedBy, metric, unusable_heatmaps
from xai_core.metrics.similarity import Similarity
from xai_core.postprocess import MinMax
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

Stages = Annotated[int, msgspec.Meta(ge=1)]
Samples = Annotated[int, msgspec.Meta(ge=1)]
Noise = Annotated[float, msgspec.Meta(gt=0)]
Order = Literal["top-down", "bottom-up"]

_BINS = 100


@runtime_checkable
class Reinitialisable(Protocol):
    """A classifier whose weights can be drawn anew, as those on torch can."""

    def parameter_layers(self) -> list[str]:
        """Return the layers that hold weights, in the order of their first use."""
        ...

    def reinitialised(self, layers: Sequence[str], *, seed: int) -> Classifier:
        """Return a classifier whose weights in ``layers`` are all drawn anew."""
        ...


@metric(better="lower", range=(-1, 1), source="Adebayo 2018, cascading randomization")
def mprt_cascading(
    classifier: Classifier,
    heatmaps: Float32,
    explained_by: ExplainedBy,
    *,
    order: Order = "top-down",
    stages: Stages = 4,
    similarity: Similarity = "spearman",
    seed: int = 0,
) -> Float64:
    """Mean similarity of the heatmap to those after ever more layers are drawn anew.

    Mean over k = 1..S of s(h, h_k), h_k the map of the classifier whose first ceil(k L / S) of L
    layers with weights, counted from the logits down (or from the image up), are initialised
    anew; h_S is that of an untrained network. Every weight of a layer is drawn, see
    `TorchClassifier.reinitialised`. The paper counts every layer: ``stages`` above L does.
    Each stage costs an explanation and a copy of the classifier.

    >>> METRICS["mprt_cascading"].configure({"order": "bottom-up"}).protocol
    'mprt_cascading@v1(order=bottom-up)'

    Args:
        classifier: on torch.
        heatmaps: ``[N, H, W]``.
        explained_by: gives the maps under another classifier.
        order: ``"top-down"`` leaves the first layers for last, ``"bottom-up"`` the last ones.
        stages: S.
        similarity: ``"spearman"``, ``"spearman_abs"``, ``"ssim"`` or ``"hog"``, see
            `xai_core.metrics.similarity`.
        seed: of the weights.

    Raises:
        ClassifierError: weights cannot be drawn anew on this back end.
        UndefinedMeasurementError: a map of another stage has values not finite.
    """

    def maps(other: Classifier) -> Float32:
        return maps_under(explained_by, other, heatmaps.shape)

    return mean_similarity(heatmaps, _cascade(classifier, order, stages, seed, maps), similarity)


@metric(better="lower", range=(-1, 1), source="Adebayo 2018, independent randomization")
def mprt_independent(
    classifier: Classifier,
    heatmaps: Float32,
    explained_by: ExplainedBy,
    *,
    stages: Stages = 4,
    similarity: Similarity = "spearman",
    seed: int = 0,
) -> Float64:
    """Mean similarity of the heatmap to those after one group of layers is drawn anew.

    Mean over k = 1..S of s(h, h_k): as `mprt_cascading`, but only the layers from
    ceil((k - 1) L / S) to ceil(k L / S) are initialised anew, in the order of their first use;
    all others stay as trained.

    >>> METRICS["mprt_independent"].configure({"stages": 1000}).protocol
    'mprt_independent@v1(stages=1000)'

    Args:
        classifier: on torch.
        heatmaps: ``[N, H, W]``.
        explained_by: gives the maps under another classifier.
        stages: S; above L for every layer on its own, as in the paper.
        similarity: as for `mprt_cascading`.
        seed: of the weights.

    Raises:
        ClassifierError: weights cannot be drawn anew on this back end.
        UndefinedMeasurementError: a map of another stage has values not finite.
    """

    changes = (
        (
            f"with weights drawn anew from {layers[0]!r} to {layers[-1]!r}",
            maps_under(explained_by, _reinitialised(classifier, layers, seed), heatmaps.shape),
        )
        for layers in _groups(classifier, "bottom-up", stages)
    )
    return mean_similarity(heatmaps, changes, similarity)


@metric(better="lower", range=(-1, 1), source="Hedström 2024, sMPRT")
def smooth_mprt(
    classifier: Classifier,
    heatmaps: Float32,
    explained_by: ExplainedBy,
    *,
    samples: Samples = 10,
    noise: Noise = 0.1,
    stages: Stages = 4,
    similarity: Similarity = "spearman",
    seed: int = 0,
) -> Float64:
    """Mean similarity as layers are drawn anew from the image up, of maps averaged over noise.

    `mprt_cascading` bottom-up, with every map the mean of those of ``samples`` noisy images
    clip(x + e, 0, 1), e normal with deviation ``noise`` x (max x - min x), the same for every
    stage. The paper takes 50 samples and every layer, which are 50 (L + 1) explanations; here
    they are ``samples`` (S + 1).

    >>> METRICS["smooth_mprt"].configure({"samples": 50, "stages": 1000}).protocol
    'smooth_mprt@v1(samples=50, stages=1000)'

    Args:
        classifier: on torch.
        heatmaps: ``[N, H, W]``.
        explained_by: gives the maps under a classifier, of noisy images.
        samples: noisy copies of each image.
        noise: deviation as a share of the image's range.
        stages: S, as for `mprt_cascading`.
        similarity: as for `mprt_cascading`.
        seed: of the weights and the noise.

    Raises:
        ClassifierError: weights cannot be drawn anew on this back end.
        UndefinedMeasurementError: the classifier's own mean map is constant, or one has values
            not finite.
    """

    def smooth(other: Classifier) -> Float32:
        total = np.zeros_like(heatmaps)
        for sample in range(samples):

            def noisy(images: Float32, purpose: str = f"smooth_mprt {sample}") -> Float32:
                return _noisy(images, noise, seed, purpose)

            total += maps_under(explained_by, other, heatmaps.shape, noisy)
        return total / np.float32(samples)

    own = smooth(classifier)
    reasons = {
        index: f"over {samples} noisy images, {why}"
        for index, why in unusable_heatmaps(own).items()
    }
    cascade = _cascade(classifier, "bottom-up", stages, seed, smooth)
    return mean_similarity(own, cascade, similarity, reasons)


@metric(
    version="hedstrom-2024",
    better="higher",
    range=(-1, float("inf")),
    source="Hedström 2024, eMPRT",
)
def efficient_mprt(
    classifier: Classifier, heatmaps: Float32, explained_by: ExplainedBy, *, seed: int = 0
) -> Float64:
    """Relative rise of the heatmap's entropy when every weight is drawn anew.

    (H(h') - H(h)) / H(h), h' the map of the untrained network, H the entropy of the histogram of
    the map's values, 100 bins from its smallest to its largest. An explanation of an untrained
    network should be more complex. A map that is constant then has no entropy: -1.

    >>> METRICS["efficient_mprt"].configure({}).protocol
    'efficient_mprt@hedstrom-2024'

    Args:
        classifier: on torch.
        heatmaps: ``[N, H, W]``.
        explained_by: gives the maps under another classifier.
        seed: of the weights.

    Raises:
        ClassifierError: weights cannot be drawn anew on this back end.
        UndefinedMeasurementError: a map of the untrained network has values not finite.
    """
    (layers,) = _groups(classifier, "bottom-up", 1)
    untrained = maps_under(explained_by, _reinitialised(classifier, layers, seed), heatmaps.shape)
    before = _entropies(heatmaps)
    rises: Float64 = (_entropies(untrained) - before) / before
    reasons = {
        int(index): "under an untrained network, the heatmap has values not finite"
        for index in np.flatnonzero(~all_finite(untrained))
    }
    return defined(rises, reasons)


def _groups(classifier: Classifier, order: Order, count: int) -> list[list[str]]:
    """Return the layers with weights in at most ``count`` groups of nearly equal size."""
    layers = _reinitialisable(classifier).parameter_layers()
    if not layers:
        msg = f"{classifier.name} has no weights that could be drawn anew"
        raise ClassifierError(msg)
    if order == "top-down":
        layers = layers[::-1]
    count = min(count, len(layers))
    ends = [-(-number * len(layers) // count) for number in range(count + 1)]
    return [layers[start:end] for start, end in itertools.pairwise(ends)]


def _reinitialisable(classifier: Classifier) -> Reinitialisable:
    if isinstance(classifier, Reinitialisable):
        return classifier
    msg = (
        f"{classifier.name} runs on a back end whose weights cannot be drawn anew; measure the "
        "torch module that it was made from"
    )
    raise ClassifierError(msg)


def _reinitialised(classifier: Classifier, layers: Sequence[str], seed: int) -> Classifier:
    return _reinitialisable(classifier).reinitialised(layers, seed=seed)


def _cascade(
    classifier: Classifier,
    order: Order,
    stages: int,
    seed: int,
    maps: Callable[[Classifier], Float32],
) -> Iterator[tuple[str, Float32]]:
    """Yield the maps when the first layers are drawn anew, then more, then all."""
    layers: list[str] = []
    for group in _groups(classifier, order, stages):
        layers = [*layers, *group]
        # Nothing holds the copy afterwards: one at a time is there.
        changed = maps(_reinitialised(classifier, layers, seed))
        yield f"with weights drawn anew in {len(layers)} layers", changed


def _noisy(images: Float32, noise: float, seed: int, purpose: str) -> Float32:
    drawn = np.stack(
        [
            generator_for(image, seed=seed, purpose=purpose).standard_normal(
                image.shape, dtype=np.float32
            )
            for image in images
        ]
    )
    spans = np.ptp(images, axis=(1, 2, 3), keepdims=True)
    noisy: Float32 = np.clip(images + np.float32(noise) * spans * drawn, 0, 1)
    return noisy


def _entropies(heatmaps: Float32) -> Float64:
    return np.array([_entropy(heatmap) for heatmap in MinMax()(heatmaps)], dtype=np.float64)


def _entropy(scaled: Float32) -> float:
    if not np.isfinite(scaled).all() or scaled.max() == scaled.min():
        return 0.0
    counts = np.histogram(scaled, bins=_BINS, range=(0, 1))[0]
    shares = counts[counts > 0] / counts.sum()
    return -float((shares * np.log(shares)).sum())
