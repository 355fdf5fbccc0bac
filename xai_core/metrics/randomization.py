"""Does the heatmap depend on the class asked for, and on what the classifier was taught?

The tests that draw the weights themselves anew stand in `xai_core.metrics.mprt`; what a map
without contrast, or without values, counts as, in `xai_core.metrics.changed_maps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.errors import ClassifierError, ParameterError
from xai_core.metrics.changed_maps import maps_under, mean_similarity, of_shape
from xai_core.metrics.declaration import ExplainedBy, metric
from xai_core.metrics.similarity import Similarity
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@metric(version="sixt-2020", better="lower", range=(-1, 1), source="Sixt 2020")
def random_logit(
    classifier: Classifier,
    explain: Callable[[Float32, Int64], Float32],
    images: Float32,
    targets: Int64,
    heatmaps: Float32,
    *,
    similarity: Similarity = "ssim",
    seed: int = 0,
) -> Float64:
    """Similarity of the heatmap to that of another class, drawn at random for each image.

    s(h(x, target), h(x, other)), every other class as likely.

    >>> METRICS["random_logit"].configure({"similarity": "hog"}).protocol
    'random_logit@sixt-2020(similarity=hog)'

    Args:
        classifier: says how many classes there are.
        explain: images ``[N, 3, H, W]`` and targets ``[N]`` to heatmaps ``[N, H, W]``.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: ``[N]``.
        heatmaps: those of ``images`` and ``targets``, ``[N, H, W]``.
        similarity: as for `mprt_cascading`.
        seed: of the class.

    Raises:
        UndefinedMeasurementError: the map of the other class has values not finite.
        ShapeError: ``explain`` gives maps of another shape.
    """
    streams = (generator_for(image, seed=seed, purpose="random_logit") for image in images)
    drawn = np.array([stream.integers(classifier.num_classes - 1) for stream in streams])
    others: Int64 = drawn + (drawn >= targets)
    maps = of_shape(explain(images, others), heatmaps.shape, "explain")
    return mean_similarity(heatmaps, [("for another class", maps)], similarity)


@metric(version="adebayo-2018", better="lower", range=(-1, 1), source="Adebayo 2018")
def data_randomization(
    classifier: Classifier,
    heatmaps: Float32,
    explained_by: ExplainedBy,
    *,
    model: str = "",
    similarity: Similarity = "spearman",
) -> Float64:
    """Similarity of the heatmap to that of a network trained on permuted labels.

    s(h, h'), h' the map under the network that ``model`` gives: the same architecture, trained
    until it has learnt its training images by heart, with their labels shuffled. Training is the
    user's; it is fair to keep the weights beside the model's own.

    >>> METRICS["data_randomization"].configure({"model": "our.models:shuffled"}).protocol
    'data_randomization@adebayo-2018(model=our.models:shuffled)'

    Args:
        classifier: the one that is measured.
        heatmaps: ``[N, H, W]``.
        explained_by: gives the maps under another classifier.
        model: ``"package.module:function"``, a function without arguments that returns an
            ``nn.Module``, which then gets this classifier's normalisation, or a `Classifier`.
        similarity: as for `mprt_cascading`.

    Raises:
        ParameterError: no ``model`` is given.
        ClassifierError: it cannot be made, or has other classes.
        UndefinedMeasurementError: a map of the other network has values not finite.
    """
    other = _from_function(model, classifier)
    maps = maps_under(explained_by, other, heatmaps.shape)
    return mean_similarity(heatmaps, [(f"under {model}", maps)], similarity)


def _from_function(model: str, classifier: Classifier) -> Classifier:
    """Return the classifier that ``model`` names, prepared as ``classifier`` is."""
    if not model:
        msg = (
            "metric 'data_randomization' needs its setting model='package.module:function', which "
            "returns the same network trained on permuted labels"
        )
        raise ParameterError(msg)
    from torch import nn

    from xai_core.classifier import TorchClassifier
    from xai_core.classifier.factory import call_factory

    made = call_factory(model, seed=0)
    if isinstance(made, nn.Module):
        if not isinstance(classifier, TorchClassifier):
            msg = f"{model!r} returned an nn.Module; {classifier.name} is none: return a Classifier"
            raise ClassifierError(msg)
        made = classifier.around(made)
    if made.num_classes != classifier.num_classes:
        msg = (
            f"{model!r} has {made.num_classes} classes, {classifier.name} {classifier.num_classes}"
            "; give the same architecture"
        )
        raise ClassifierError(msg)
    return made
