"""What two concepts do to a class together, beyond what each does alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from xai_core.arrays import Float64
from xai_core.classifier.layered import with_layers
from xai_core.concepts.features import FeatureStore, LayerFeatures
from xai_core.errors import ConceptError
from xai_core.imageset import ImageSet
from xai_core.parameters import require
from xai_core.seeding import generator_of
from xai_core.statistics import Interval, mean_interval

_RESAMPLES = 2000


@dataclass(frozen=True)
class Interaction:
    """The joint effect of two concepts on a class's logit.

    Attributes:
        one: name of the first concept.
        other: name of the second.
        model: name of the classifier.
        target: index of the class.
        layer: name of the layer.
        names: of the class's images, ``N``.
        alone: mean change of the logit by the first and by the second concept alone.
        together: mean change by both.
        values: ``together - one - other`` for each image, float64 ``[N]``.
        interaction: their mean; above 0 both together give more than the sum of each.
        interval: class images, concept images and counterexamples resampled.
    """

    one: str
    other: str
    model: str
    target: int
    layer: str
    names: tuple[str, ...]
    alone: tuple[float, float]
    together: float
    values: Float64 = field(repr=False)
    interaction: float
    interval: Interval

    def headline(self) -> str:
        """Return the one line that says what was found."""
        kind = "no more and no less than the sum is proven"
        if self.interval.low > 0:
            kind = "more than the sum"
        elif self.interval.high < 0:
            kind = "less than the sum"
        return (
            f"{self.one} {self.alone[0]:+.2f}, {self.other} {self.alone[1]:+.2f}, together "
            f"{self.together:+.2f}: beyond the sum {self.interaction:+.2f} ({self.interval}), "
            f"{kind}"
        )


def interaction(
    store: FeatureStore,
    one: ImageSet,
    other: ImageSet,
    counterexamples: ImageSet,
    images: ImageSet,
    target: int,
    *,
    layer: str | None = None,
    draws: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interaction:
    """Return the joint effect of two concepts on a class, beyond the sum of each.

    A concept is added to an image by moving all positions of a layer by the difference ``d`` of
    the mean activations of concept and counterexamples. The interaction is
    ``f(A + d1 + d2) - f(A + d1) - f(A + d2) + f(A)`` with ``f`` the class's *logit*: a second
    difference, 0 where the rest of the network is linear. Derivatives alone could not show it,
    since they add up. ``draws`` resamples of the concept sets and the counterexamples, and the
    images resampled within each, give the interval.

    Args:
        store: the classifier, and what is known of its layers already.
        one: images of the first concept.
        other: images of the second.
        counterexamples: images of neither.
        images: of the class.
        target: index of the class.
        layer: name of the layer; None = the last one that still has space.
        draws: resamples of the concepts; each costs 4 outputs of the layer for each image.
        confidence: of the interval.
        seed: of the resampling.

    Raises:
        ConceptError: both concepts are the same images.
        ClassifierError: the classifier's layers cannot be reached, or it has no such class.
        LayerError: no such layer, or one without space.
    """
    require(draws >= 2, f"`draws` must be 2 or more, got {draws}")
    if store.digest(one) == store.digest(other):
        msg = f"concepts {one.name!r} and {other.name!r} are the same images"
        raise ConceptError(msg)
    at = layer or store.classifier.default_layer()
    means = [
        store.features(part, at, LayerFeatures()).astype(np.float64)
        for part in (one, other, counterexamples)
    ]
    rng = generator_of(seed, "interaction", *map(store.digest, (one, other, counterexamples)))
    moves = [_moves([part.mean(axis=0) for part in means])]
    for _ in range(draws):
        moves.append(_moves([rng.choice(part, len(part)).mean(axis=0) for part in means]))
    logits = np.stack(
        [_moved(store, image.image, target, at, moves) for image in images], axis=-1
    )  # [draws + 1, 4, N]
    plain, first, second, both = np.moveaxis(logits, 1, 0)
    values = both - first - second + plain
    resampled = [
        values[1 + index % draws, rng.integers(values.shape[1], size=values.shape[1])].mean()
        for index in range(_RESAMPLES)
    ]
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    if values.shape[1] == 1:  # one image says nothing of others
        alone = mean_interval(values[0], confidence=confidence)
        low, high = alone.low, alone.high
    return Interaction(
        one=one.name,
        other=other.name,
        model=store.classifier.name,
        target=target,
        layer=at,
        names=images.names,
        alone=(float((first - plain)[0].mean()), float((second - plain)[0].mean())),
        together=float((both - plain)[0].mean()),
        values=values[0],
        interaction=float(values[0].mean()),
        interval=Interval(float(low), float(high), confidence),
    )


def _moves(means: list[Float64]) -> Float64:
    """Return no move, that of one, of the other and of both, ``[4, C]``."""
    one, other = means[0] - means[2], means[1] - means[2]
    return np.stack([np.zeros_like(one), one, other, one + other])


def _moved(
    store: FeatureStore,
    image: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    target: int,
    at: str,
    moves: list[Float64],
) -> Float64:
    """Return the class's logit after each move, ``[len(moves), 4]``."""
    layers = with_layers(store.classifier, "concept interactions")
    batch = torch.from_numpy(np.ascontiguousarray(image))[None]
    own = layers.activations(batch, at)
    steps = torch.from_numpy(np.concatenate(moves)).to(own)[:, :, None, None]
    size = max(1, store.classifier.batch_size(*image.shape[-2:]))
    batches = (own + steps[start : start + size] for start in range(0, len(steps), size))
    found = layers.logits_from(batch, at, batches)[:, target]
    logits: Float64 = found.double().cpu().numpy().reshape(len(moves), 4)
    return logits
