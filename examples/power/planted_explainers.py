"""Explainers with the mistakes that are made when one is written or wired up by hand.

Each does everything as Grad-CAM or Integrated Gradients do but for the one mistake it is named
after. What a path method says its attributions sum to is mistaken in the same way: whoever takes
the wrong function or baseline takes it twice, so a check of completeness is not told of it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from xai_core import GradCAM, IntegratedGradients
from xai_core.arrays import Float32, Float64, Int64
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.explainers import Explanation
from xai_core.explainers.explanation import Needs, Promise
from xai_core.explainers.layer_maps import enlarged, full_batches

GradCAMMistake = Literal["sign", "offset", "probability", "in-place", "target", "layer"]
IGMistake = Literal["sign", "absolute", "baseline", "steps", "probability", "target"]


@dataclass(frozen=True)
class MistakenGradCAM:
    """Grad-CAM with one mistake.

    Args:
        mistake: ``layer``: of another layer; ``sign``: the map negated; ``offset``: the map
            enlarged half a cell off; ``probability``: the gradient of the probability;
            ``in-place``: the gradient before the ReLU, with activations that the ReLU has
            overwritten; ``target``: of the class after the target.
        layer: of ``layer``.
    """

    kind: ClassVar[str] = "mistaken_gradcam"
    needs: ClassVar[Needs] = "activations"
    source: ClassVar[str] = "none"
    promises: ClassVar[frozenset[Promise]] = frozenset()

    mistake: GradCAMMistake
    layer: str = ""

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        if self.mistake == "layer":
            return GradCAM(layer=self.layer).explain(classifier, images, targets)
        if self.mistake == "in-place":
            return _overwritten_gradcam(classifier, images, targets)
        if self.mistake == "probability":
            layer = f"model.model.{classifier.default_layer()}"
            return GradCAM(layer=layer).explain(of_probability(classifier), images, targets)
        if self.mistake == "target":
            return GradCAM().explain(classifier, images, (targets + 1) % classifier.num_classes)
        plain = GradCAM().explain(classifier, images, targets)
        if self.mistake == "sign":
            return Explanation(-plain.heatmaps)
        assert plain.native is not None
        half = plain.heatmaps.shape[-1] // plain.native.shape[-1] // 2
        return Explanation(shifted(plain.heatmaps, half, half))


@dataclass(frozen=True)
class MistakenIntegratedGradients:
    """Integrated Gradients with one mistake.

    Args:
        mistake: ``sign``: the attributions negated; ``absolute``: the heatmap is their signed
            sum; ``baseline``: 0 after normalisation, where black was meant; ``steps``: 3 of
            them; ``probability``: of the probability; ``target``: of the class after the target.
        steps: otherwise.
    """

    kind: ClassVar[str] = "mistaken_integrated_gradients"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "none"
    promises: ClassVar[frozenset[Promise]] = frozenset()

    mistake: IGMistake
    steps: int

    @property
    def _inner(self) -> IntegratedGradients:
        return IntegratedGradients(
            steps=3 if self.mistake == "steps" else self.steps,
            baseline="mean" if self.mistake == "baseline" else "black",
            reduce="sum" if self.mistake == "absolute" else "abs-sum",
        )

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        plain = self._inner.explain(*self._asked(classifier, images, targets))
        if self.mistake != "sign":
            return plain
        assert plain.attributions is not None
        return Explanation(plain.heatmaps, -plain.attributions)

    def differences(self, classifier: Classifier, images: Float32, targets: Int64) -> Float64:
        """Return f(x) - f(x') of the function and the baseline that were taken."""
        return self._inner.differences(*self._asked(classifier, images, targets))

    def _asked(
        self, classifier: Classifier, images: Float32, targets: Int64
    ) -> tuple[Classifier, Float32, Int64]:
        if self.mistake == "probability":
            return of_probability(classifier), images, targets
        if self.mistake == "target":
            return classifier, images, (targets + 1) % classifier.num_classes
        return classifier, images, targets


def of_probability(classifier: Classifier) -> Classifier:
    """Return the classifier whose "logits" are the probabilities of this one."""
    assert isinstance(classifier, TorchClassifier)
    layers = OrderedDict(model=classifier.private_module(), softmax=nn.Softmax(dim=1))
    return TorchClassifier(
        nn.Sequential(layers), name=f"{classifier.name}, probability", size=classifier.size
    )


def shifted(maps: Float32, down: int, right: int) -> Float32:
    """Return maps ``[N, H, W]`` moved by whole pixels; what comes in at an edge is its own value.

    >>> shifted(np.float32([[[1, 2], [3, 4]]]), 1, 0)[0].tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    height, width = maps.shape[-2:]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return np.ascontiguousarray(maps[..., rows[:, None], columns[None, :]])


def _overwritten_gradcam(classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
    """Return the map of hooks at the input of the last ReLU, which works in place.

    The gradient there is nothing where the ReLU is silent; the activations that the hook kept are
    by then the ReLU's output.
    """
    at = classifier.default_layer()
    results = classifier.gradients(full_batches(classifier, images, targets), at=at)
    maps = []
    for found in results:
        before = found.gradients * (found.activations > 0)
        weights = before.mean(dim=(2, 3), keepdim=True)
        maps.append(torch.relu((weights * found.activations).sum(dim=1)))
    return enlarged(maps, images.shape[-2:])
