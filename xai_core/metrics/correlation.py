"""Does more relevance mean more change of the output?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from xai_core.arrays import Bool, Float32, Float64, Int64
from xai_core.metrics.changed_maps import defined
from xai_core.metrics.declaration import metric
from xai_core.metrics.outputs import outputs_of_variants
from xai_core.metrics.ranking import descending_ranks
from xai_core.metrics.removal import Removal, Substrate, changed_counts
from xai_core.metrics.similarity import spearman
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier

Subset = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Subsets = Annotated[int, msgspec.Meta(ge=2)]
Groups = Annotated[int, msgspec.Meta(ge=2)]
Draws = Annotated[int, msgspec.Meta(ge=1)]


@metric(version="bhatt-2020", better="higher", range=(-1, 1), source="Bhatt 2020")
def faithfulness_correlation(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    subset: Subset = 0.2,
    samples: Subsets = 100,
    substrate: Substrate = "mean",
    seed: int = 0,
) -> Float64:
    """Correlation of random pixels' relevance with the fall of the probability without them.

    Pearson's r, over ``samples`` random sets S of as many pixels, of the sum of the heatmap over
    S and p(x) - p(x without S). Sets of pixels that lie scattered all over the image have nearly
    the same relevance, so the values of photographs are small, about as small as chance makes
    them over 100 sets (0.1 an image): it takes many images to tell maps apart.

    >>> METRICS["faithfulness_correlation"].configure({"subset": 0.05}).protocol
    'faithfulness_correlation@bhatt-2020(subset=0.05)'

    Args:
        classifier: gives the probabilities.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        subset: share of the pixels in a set.
        samples: sets for each image.
        substrate: what they are replaced by, as in `deletion`.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: all sets have the same relevance, or the same probability
            without them; or a probability is not finite.
    """
    import torch

    pixels = heatmaps[0].size
    count = max(1, round(subset * pixels))

    def drawn(index: int, sample: int) -> Bool:
        stream = generator_for(
            images[index], seed=seed, purpose=f"faithfulness_correlation|{sample}"
        )
        chosen = np.zeros(pixels, dtype=np.bool_)
        chosen[stream.choice(pixels, count, replace=False)] = True
        return chosen.reshape(heatmaps.shape[1:])

    removal = Removal(classifier, images, substrate, seed=seed)

    def build(image: Tensor, sample: Tensor) -> Tensor:
        pairs = zip(image.tolist(), sample.tolist(), strict=True)
        removed = np.stack([drawn(index, number) for index, number in pairs])
        return removal.without(image, torch.from_numpy(removed).to(classifier.device))

    size = heatmaps.shape[1], heatmaps.shape[2]
    # p(x) is the same for all sets of an image, so the correlation does without it.
    left = outputs_of_variants(classifier, build, targets, samples, size)
    sums = np.array(
        [
            [heatmap[drawn(index, sample)].sum(dtype=np.float64) for sample in range(samples)]
            for index, heatmap in enumerate(heatmaps)
        ]
    )
    values = np.zeros(len(images))
    reasons: dict[int, str] = {}
    for index, (relevance, probabilities) in enumerate(zip(sums, left, strict=True)):
        if np.ptp(relevance) == 0:
            reasons[index] = "all random sets of pixels have the same relevance"
        elif np.ptp(probabilities) == 0:
            reasons[index] = "the probability is the same without any of the random sets of pixels"
        else:
            values[index] = np.corrcoef(relevance, -probabilities)[0, 1]
    return defined(values, reasons)


@metric(version="nguyen-2020", better="higher", range=(-1, 1), source="Nguyen & Martinez 2020")
def monotonicity(
    classifier: Classifier,
    images: Float32,
    heatmaps: Float32,
    targets: Int64,
    *,
    groups: Groups = 14,
    draws: Draws = 4,
    seed: int = 0,
) -> Float64:
    """Rank correlation of relevance with the change of the probability in its pixels' absence.

    Spearman's rho, over groups of pixels of like |h|, of the mean |h| of a group and the mean
    over draws of (p(x) - p(x'))^2, x' the image with random colours, uniform in RGB, in the
    group's place. The sign of the relevance does not count, in the paper neither. (Arya 2019's
    monotonicity asks whether no pixel lowers the probability as pixels come in, yes or no; for
    images the answer is no.)

    >>> METRICS["monotonicity"].configure({"groups": 28}).protocol
    'monotonicity@nguyen-2020(groups=28)'

    Args:
        classifier: gives the probabilities, 1 + groups x draws forwards an image.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        heatmaps: ``[N, H, W]``.
        targets: ``[N]``.
        groups: at most so many, of ceil(H W / groups) pixels each, by the rank of |h|.
        draws: of the colours.
        seed: the run's seed.

    Raises:
        UndefinedMeasurementError: |h| is constant, no group changes the probability more than
            another, or a probability is not finite.
    """
    import torch

    sizes = np.abs(heatmaps)
    ranks = descending_ranks(sizes)
    edges = changed_counts(heatmaps[0].size, groups)
    group = np.searchsorted(edges[1:], ranks, side="right")
    found = len(edges) - 1
    whole, member = (torch.tensor(array, device=classifier.device) for array in (images, group))

    def colours(index: int, draw: int) -> Float32:
        stream = generator_for(images[index], seed=seed, purpose=f"monotonicity|{draw}")
        return stream.random(images.shape[1:], dtype=np.float32)

    def build(image: Tensor, variant: Tensor) -> Tensor:
        # The first variant is the image itself: no group is called -1.
        draw, hidden = (variant - 1) // found, (variant - 1) % found
        hidden = torch.where(variant == 0, -1, hidden)
        pairs = list(zip(image.tolist(), draw.tolist(), strict=True))
        drawn = {pair: colours(*pair) for pair in set(pairs)}
        random = torch.from_numpy(np.stack([drawn[pair] for pair in pairs])).to(whole.device)
        is_hidden = member[image] == hidden[:, None, None]
        return torch.where(is_hidden[:, None], random, whole[image])

    size = heatmaps.shape[1], heatmaps.shape[2]
    outputs = outputs_of_variants(classifier, build, targets, 1 + draws * found, size)
    changes = np.square(outputs[:, 1:] - outputs[:, :1]).reshape(len(images), draws, found)
    effects = changes.mean(axis=1)
    relevance = _means(sizes, group, found)
    reasons: dict[int, str] = {}
    for index in range(len(images)):
        if np.ptp(relevance[index]) == 0:
            reasons[index] = "the heatmap is of one size everywhere, whatever its sign"
        elif np.ptp(effects[index]) == 0:
            reasons[index] = "no group of pixels changes the probability more than another"
    pairs = (values.astype(np.float32)[:, None] for values in (relevance, effects))
    return defined(spearman(*pairs), reasons)


def _means(values: Float32, group: Int64, count: int) -> Float64:
    """Return the mean of each group's values, ``[N, count]``."""
    flat = zip(values.astype(np.float64), group, strict=True)
    return np.array(
        [
            np.bincount(of.ravel(), weights=value.ravel(), minlength=count)
            / np.bincount(of.ravel(), minlength=count)
            for value, of in flat
        ]
    )
