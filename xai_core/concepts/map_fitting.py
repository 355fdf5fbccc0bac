"""Concept maps from example images: the CAV and the scale that a concept's maps are made with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from xai_core.arrays import ArrayLike, Float32, Float64, as_numpy
from xai_core.concepts.layer_activations import LayerActivations
from xai_core.concepts.loading import ConceptLibrary, concept_set
from xai_core.concepts.maps import ConceptMapper, pattern_cav, strengths
from xai_core.concepts.tcav import FEWEST
from xai_core.errors import ConceptError
from xai_core.quadrature import Rule

if TYPE_CHECKING:
    from xai_core.classifier import Classifier
    from xai_core.imageset import ImageSet


def contraharmonic_means(maps: ArrayLike) -> Float64:
    """Return ``sum s^2 / sum s`` of each map of values >= 0, ``[N]``; 0 for a map of zeros.

    A mean that leans towards the large values: a map that is zero but for one plateau has the
    height of the plateau, whatever its size.

    >>> contraharmonic_means([[[0.0, 3.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]])
    array([3., 0.])

    Args:
        maps: ``[N, h, w]``.
    """
    flat = as_numpy(maps).astype(np.float64)
    flat = flat.reshape(len(flat), -1)
    sums = flat.sum(axis=1)
    means: Float64 = np.square(flat).sum(axis=1) / np.where(sums > 0, sums, 1.0)
    return means


def fit_concept_mapper(
    classifier: Classifier,
    concept: ArrayLike | ImageSet,
    random: ArrayLike | ImageSet,
    *,
    layer: str | None = None,
    steps: int = 50,
    rule: Rule = "gauss-legendre",
) -> ConceptMapper:
    """Return the mapper of a concept, from images of it and counterexamples.

    One forward pass for each image; a second one where the activations of a set are larger than
    half a gibibyte.

    Args:
        classifier: a torch classifier.
        concept: images that show it, RGB in [0, 1], ``[n, 3, H, W]``.
        random: images that need not, ``[m, 3, H, W]``.
        layer: name of the layer; None = the last one that still has space, after its ReLU.
        steps: nodes of the integrated gradients.
        rule: ``gauss-legendre`` or ``trapezoid``.

    Raises:
        ConceptError: fewer than 20 images of either, or the layer does not tell the concept from
            its counterexamples.
        ClassifierError: the classifier's layers cannot be reached.
        LayerError: no such layer, or one without space.
    """
    at = layer or classifier.default_layer()
    both = [
        LayerActivations(classifier, concept_set(name, images), at)
        for name, images in (("concept", concept), ("random", random))
    ]
    return _fit(classifier, *both, layer=at, steps=steps, rule=rule)


class ConceptMaps:
    """The maps of any concept of a library, for `xai_core.evaluation.Evaluation`.

    Mappers are made when first asked for; the counterexamples run through a layer once for all
    concepts where their activations fit into half a gibibyte.

    Args:
        library: the concepts and their counterexamples.
    """

    def __init__(self, library: ConceptLibrary) -> None:
        self._library = library
        self._random: dict[tuple[str, str], LayerActivations] = {}
        self._mappers: dict[tuple[str, str, str], ConceptMapper] = {}

    def __call__(
        self, classifier: Classifier, concept: str, layer: str, images: Float32
    ) -> Float32:
        """Return the concept maps of images ``[N, 3, H, W]``, ``[N, H, W]``; see `mapper`."""
        return self.mapper(classifier, concept, layer).maps(images)

    def mapper(self, classifier: Classifier, concept: str, layer: str = "") -> ConceptMapper:
        """Return the mapper of a concept, made once for each classifier (by its weights) and layer.

        Args:
            classifier: a torch classifier.
            concept: its name in the library.
            layer: name of the layer; ``""`` = the default one.

        Raises:
            ConceptError: no such concept, fewer than 20 images of it or of its counterexamples,
                or a layer that does not tell them apart.
            ClassifierError: the classifier's layers cannot be reached.
            LayerError: no such layer, or one without space.
        """
        at = layer or classifier.default_layer()
        key = (classifier.fingerprint, at, concept)
        if key not in self._mappers:
            shown = LayerActivations(classifier, self._library.concept(concept), at)
            if key[:2] not in self._random:
                self._random[key[:2]] = LayerActivations(classifier, self._library.random, at)
            self._mappers[key] = _fit(classifier, shown, self._random[key[:2]], layer=at)
        return self._mappers[key]


def _fit(
    classifier: Classifier,
    concept: LayerActivations,
    random: LayerActivations,
    *,
    layer: str,
    steps: int = 50,
    rule: Rule = "gauss-legendre",
) -> ConceptMapper:
    for images in (concept.images, random.images):
        if len(images) < FEWEST:
            msg = f"{images.name!r} has {len(images)} images; a concept map needs {FEWEST} or more"
            raise ConceptError(msg)
    cav = pattern_cav(_pooled(concept), _pooled(random))
    positive, negative = (_emblem(activations, cav) for activations in (concept, random))
    name = concept.images.name
    return ConceptMapper(classifier, name, layer, cav, positive, negative, steps=steps, rule=rule)


def _pooled(batches: Iterable[Tensor]) -> Float64:
    """Return the means over positions, ``[n, C]``."""
    parts = [batch.mean(dim=(2, 3)).cpu().numpy() for batch in batches]
    return np.concatenate(parts).astype(np.float64)


def _emblem(batches: Iterable[Tensor], cav: Float64) -> float:
    """Return the median over images of the contraharmonic mean of ``ReLU(sum_c v_c A_c)``."""
    means = [contraharmonic_means(strengths(batch, cav)) for batch in batches]
    return float(np.median(np.concatenate(means)))
