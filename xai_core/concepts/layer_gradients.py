"""Integrated gradients at a layer: what its activations add to a class's logit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from xai_core.arrays import ArrayLike, Float32, as_images, as_targets
from xai_core.classifier.layered import with_layers
from xai_core.parameters import require
from xai_core.quadrature import Rule, quadrature

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


def layer_integrated_gradients(
    classifier: Classifier,
    images: ArrayLike,
    targets: ArrayLike,
    at: str | None = None,
    *,
    steps: int = 50,
    rule: Rule = "gauss-legendre",
) -> Float32:
    """Return the integrated gradients of a layer's activations, from activations of zero.

    ``A * integral over a in [0, 1] of d f(a A) / d A`` [Sundararajan et al. 2017, eq. 1, at a
    layer], ``A`` the activations of the image and ``f`` the target's *logit* as a function of
    them; class tokens, and whatever bypasses the layer, stay the image's own. They sum to
    ``f(A) - f(0)``. (Captum's `LayerIntegratedGradients` starts from the activations of a
    baseline *image* instead, which a bias keeps from zero.)
    Points of one image share full batches, so memory beyond what is returned is bounded by the
    batch, whatever ``steps``.

    Args:
        classifier: a torch classifier.
        images: RGB in [0, 1], ``[N, 3, H, W]``.
        targets: class indices ``[N]``, or one for all.
        at: name of the layer; None = the last one that still has space, after its ReLU.
        steps: nodes of the integral.
        rule: ``gauss-legendre`` (``steps`` gradients) or ``trapezoid`` (``steps + 1``).

    Returns:
        float32 ``[N, C, h, w]``.

    Raises:
        ClassifierError: the classifier's layers cannot be reached.
        LayerError: ``at`` names no layer, one without space, or one without any gradient.
        ParameterError: no steps.
    """
    images = as_images(images)
    classes = as_targets(targets, len(images))
    require(len(images) > 0, "integrated gradients need at least one image")
    require(len(classes) == len(images), f"got {len(classes)} targets for {len(images)} images")
    layers = with_layers(classifier, "layer_integrated_gradients", instead="a torch model")
    at = at or classifier.default_layer()
    step = classifier.batch_size(*images.shape[-2:])
    parts = []
    for start in range(0, len(images), step):
        batch = torch.from_numpy(images[start : start + step])
        activations = layers.activations(batch, at)
        for index, target in enumerate(classes[start : start + step].tolist()):
            image, own = batch[index : index + 1], activations[index : index + 1]
            found = integrated_from(classifier, image, target, at, own, steps=steps, rule=rule)
            parts.append(found.cpu().numpy())
    return np.stack(parts)


def integrated_from(
    classifier: Classifier,
    image: Tensor,
    target: int,
    at: str,
    activations: Tensor,
    *,
    steps: int = 50,
    rule: Rule = "gauss-legendre",
) -> Tensor:
    """Return the integrated gradients ``[C, h, w]`` of activations that are known already.

    Args:
        classifier: a torch classifier.
        image: whose activations they are, ``[1, 3, H, W]``.
        target: the class.
        at: name of the layer.
        activations: its output for the image, ``[1, C, h, w]``.
        steps: nodes of the integral.
        rule: ``gauss-legendre`` (``steps`` gradients) or ``trapezoid`` (``steps + 1``).

    Raises:
        ClassifierError: the classifier's layers cannot be reached, or ``target`` is no class.
        LayerError: ``at`` names no layer, one without space, or one without any gradient.
        ParameterError: no steps.
    """
    require(steps >= 1, f"`steps` must be at least 1, got {steps}")
    nodes, weights = (
        torch.from_numpy(array).to(activations.device, torch.float32).view(-1, 1, 1, 1)
        for array in quadrature(rule, steps)
    )
    slices = torch.split(torch.arange(len(nodes)), classifier.batch_size(*image.shape[-2:]))
    layers = with_layers(classifier, "layer_integrated_gradients", instead="a torch model")
    points = (nodes[some] * activations for some in slices)
    integral = torch.zeros_like(activations[0])
    found = layers.gradients_from(image, target, at, points)
    for some, result in zip(slices, found, strict=True):
        integral += (weights[some] * result.gradients).sum(dim=0)
    return activations[0] * integral
