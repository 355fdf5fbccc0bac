"""Concept maps: where in an image a concept is, and what it adds to a class (Visual-TCAV)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from xai_core.arrays import ArrayLike, Float32, Float64, as_images, as_numpy, as_targets
from xai_core.classifier.layered import with_layers
from xai_core.concepts.layer_gradients import integrated_from
from xai_core.errors import ConceptError, ShapeError
from xai_core.parameters import require
from xai_core.quadrature import Rule
from xai_core.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


def pattern_cav(concept_pooled: ArrayLike, random_pooled: ArrayLike) -> Float64:
    """Return the pattern CAV: mean of the concept's vectors minus mean of the counterexamples'.

    De Santis et al. 2024, arXiv 2411.05698, on activations averaged over positions.

    >>> pattern_cav([[1.0, 0.0], [3.0, 0.0]], [[0.0, 1.0]])
    array([ 2., -1.])

    Args:
        concept_pooled: ``[n, C]``, n >= 1.
        random_pooled: ``[m, C]``, m >= 1.

    Raises:
        ShapeError: no vectors, vectors of different length, or values not finite.
    """
    concept, random = (
        as_numpy(values).astype(np.float64) for values in (concept_pooled, random_pooled)
    )
    shapes = f"{concept.shape} and {random.shape}"
    if concept.ndim != 2 or random.ndim != 2 or concept.shape[1:] != random.shape[1:]:
        msg = f"a pattern CAV needs vectors [n, C] and [m, C] of one length, got {shapes}"
        raise ShapeError(msg)
    if not len(concept) or not len(random):
        msg = f"a pattern CAV needs at least one vector on each side, got {shapes}"
        raise ShapeError(msg)
    if not (np.isfinite(concept).all() and np.isfinite(random).all()):
        msg = "a pattern CAV needs finite vectors, got NaN or infinity"
        raise ShapeError(msg)
    cav: Float64 = concept.mean(axis=0) - random.mean(axis=0)
    return cav


def strengths(activations: Tensor, cav: Float64) -> Tensor:
    """Return how strongly each position points along a CAV, ``ReLU(sum_c v_c A_c)``, ``[N, h, w]``.

    Args:
        activations: ``[N, C, h, w]``.
        cav: ``[C]``.
    """
    weights = torch.from_numpy(cav).to(activations)
    return torch.relu(torch.einsum("nchw,c->nhw", activations, weights))


@dataclass(frozen=True, eq=False)
class GlobalAttribution:
    """What a concept adds to a class over a set of images.

    Attributes:
        values: the local attribution of each image, float64 ``[N]``.
        interval: of their mean.
    """

    values: Float64 = field(repr=False)
    interval: Interval

    @property
    def mean(self) -> float:
        """The global attribution."""
        return float(self.values.mean())


@dataclass(frozen=True, eq=False)
class ConceptMapper:
    """Visual-TCAV of one concept at one layer [De Santis et al. 2024, arXiv 2411.05698].

    The concept map of an image with activations ``A`` ``[C, h, w]`` is
    ``clip((s - n) / (p - n), 0, 1)`` with ``s = ReLU(sum_c v_c A_c)``, ``v`` the pattern CAV. The
    emblems ``p`` and ``n`` are the medians, over the concept's images and over the
    counterexamples, of the contraharmonic mean ``sum s^2 / sum s`` over an image's positions: 0 is
    what counterexamples show, 1 what the concept's own images do. No class has a part in it.

    The local attribution of the concept to a class ``t`` is

    ``share * sum_c u_c sum_ij M_ij a_cij / sum_cij a_cij``, in [0, 1], where ``M`` is the concept
    map, ``a = ReLU(layer integrated gradients of t)`` from activations of zero, ``share =
    ReLU(f_t(A) - f_t(0)) / max_k ReLU(f_k(A) - f_k(0))`` over all classes' *logits* (1 for the one
    that the activations raise most), and ``u = ReLU(d v) / max_c ReLU(d v)``. ``d_c`` is -1 where
    channel c is negative in sum over the map (``sum_ij M_ij A_cij < 0``), else 1: after a ReLU it
    is always 1; before one, a channel that the concept pushes down counts as one that carries it.
    It is 0 where no activation speaks for the class, or the map is empty.

    Args:
        classifier: a torch classifier.
        concept: its name.
        layer: name of the layer.
        cav: the pattern CAV ``v``, float64 ``[C]``.
        positive_emblem: ``p``.
        negative_emblem: ``n``, below ``p``.
        steps: nodes of the integrated gradients.
        rule: ``gauss-legendre`` or ``trapezoid``; the authors' code takes the latter.

    Raises:
        ConceptError: the emblems say that the layer does not tell the concept from its
            counterexamples. (The authors' code then gives maps of zeros.)
    """

    classifier: Classifier
    concept: str
    layer: str
    cav: Float64 = field(repr=False)
    positive_emblem: float
    negative_emblem: float
    steps: int = 50
    rule: Rule = "gauss-legendre"

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}")
        if not self.positive_emblem > self.negative_emblem:
            msg = (
                f"layer {self.layer!r} of {self.classifier.name} does not tell the concept "
                f"{self.concept!r} from its counterexamples: the emblem of its images is "
                f"{self.positive_emblem:.3g}, theirs is {self.negative_emblem:.3g}; name another "
                "layer, or give clearer examples"
            )
            raise ConceptError(msg)

    def native_maps(self, images: ArrayLike) -> Float32:
        """Return the concept maps of images ``[N, 3, H, W]`` at the layer's size, ``[N, h, w]``."""
        return np.concatenate([maps.cpu().numpy() for _, _, maps in self._batches(images)])

    def maps(self, images: ArrayLike) -> Float32:
        """Return the concept maps of images ``[N, 3, H, W]``, enlarged bilinearly."""
        parts = []
        for batch, _, maps in self._batches(images):
            size = batch.shape[-2:]
            large = torch.nn.functional.interpolate(maps[:, None], size=size, mode="bilinear")
            parts.append(large[:, 0].cpu().numpy())
        return np.concatenate(parts)

    def attributions(self, images: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the local attribution of the concept to each image's target, ``[N]``, in [0, 1].

        It takes ``steps`` gradients (one more with ``trapezoid``) and five forward passes for
        each image.

        Args:
            images: RGB in [0, 1], ``[N, 3, H, W]``.
            targets: class indices ``[N]``, or one for all.

        Raises:
            ClassifierError: a target that is no class.
            ParameterError: not one target for each image.
        """
        images = as_images(images)
        classes = as_targets(targets, len(images))
        require(len(classes) == len(images), f"got {len(classes)} targets for {len(images)} images")
        values: list[float] = []
        for batch, activations, maps in self._batches(images):
            for index, seen in enumerate(maps.cpu().numpy()):
                image, own = batch[index : index + 1], activations[index : index + 1]
                values.append(self._attribution(image, own, seen, int(classes[len(values)])))
        return np.array(values, dtype=np.float64)

    def global_attribution(
        self, images: ArrayLike, target: int, *, confidence: float = 0.95, seed: int = 0
    ) -> GlobalAttribution:
        """Return the mean local attribution of images of one class, with its interval.

        The interval is a bootstrap over the images (`xai_core.statistics.mean_interval`); the
        paper's two standard errors, cut off at 0, take the attributions for normal, which shares
        that pile up at 0 are not.

        Args:
            images: RGB in [0, 1], ``[N, 3, H, W]``, of the class.
            target: index of the class.
            confidence: between 0 and 1.
            seed: of the resampling.
        """
        values = self.attributions(images, target)
        interval = mean_interval(values, confidence=confidence, bounds=(0.0, 1.0), seed=seed)
        return GlobalAttribution(values, interval)

    def _batches(self, images: ArrayLike) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """Yield images, their activations ``[n, C, h, w]`` and native maps ``[n, h, w]``."""
        images = as_images(images)
        require(len(images) > 0, "concept maps need at least one image")
        layers = with_layers(self.classifier, "a concept map", instead="a torch model")
        step = self.classifier.batch_size(*images.shape[-2:])
        for start in range(0, len(images), step):
            batch = torch.from_numpy(images[start : start + step])
            activations = layers.activations(batch, self.layer)
            scale = self.positive_emblem - self.negative_emblem
            scaled = (strengths(activations, self.cav) - self.negative_emblem) / scale
            yield batch, activations, scaled.clamp(0, 1)

    def _attribution(self, image: Tensor, own: Tensor, seen: Float32, target: int) -> float:
        layers = with_layers(self.classifier, "a concept map", instead="a torch model")
        ends = layers.logits_from(image, self.layer, [torch.cat([own, torch.zeros_like(own)])])
        rises = (ends[0] - ends[1]).clamp_min(0).cpu().numpy().astype(np.float64)
        integrated = integrated_from(
            self.classifier, image, target, self.layer, own, steps=self.steps, rule=self.rule
        )
        positive = integrated.clamp_min(0).cpu().numpy().astype(np.float64)
        activations = own[0].cpu().numpy().astype(np.float64)
        signs = np.where(np.sum(seen * activations, axis=(1, 2)) < 0, -1.0, 1.0)
        weights = np.maximum(signs * self.cav, 0)
        if rises[target] == 0 or not positive.any() or not weights.any():
            return 0.0
        by_channel = np.sum(seen * positive, axis=(1, 2)) / positive.sum()
        return float(rises[target] / rises.max() * (weights @ by_channel) / weights.max())
