"""Expected Gradients: Integrated Gradients averaged over many baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from xai_core.arrays import Float32, Int64
from xai_core.explainers.baselines import baseline_images, check_baseline
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels
from xai_core.explainers.points import gradient_sums
from xai_core.parameters import require
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

COLOURS = "colours"
"""The baseline that is one colour all over, drawn anew for every sample, uniform in RGB."""


@dataclass(frozen=True)
class ExpectedGradients:
    """Expected Gradients, the estimator behind GradientSHAP [Erion et al. 2021].

    ``mean over x' ~ D, a ~ U(0, 1) of (x - x') * grad f(x' + a (x - x'))``, f the target's
    *logit*. The paper draws x' from training images. An explainer sees none, so by default D is
    uniform colours, under which no colour of the image is blind as black is to Integrated
    Gradients; name files of the data (``image:FILE``) for the paper's D. The draws are
    stratified: one ``a`` in each of ``samples`` equal parts of [0, 1] in random order, and every
    named baseline equally often, which leaves the mean as it is and lowers its variance.

    Args:
        samples: draws for each image.
        baseline: D: ``colours``, or one or several of ``black``, ``white``, ``mean``,
            ``blurred(sigma=10)``, ``image:FILE`` to draw from.
        seed: of the draws; an image gets the same ones whatever batch it stands in.
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "expected_gradients"
    needs: ClassVar[Needs] = "gradients"
    source: ClassVar[str] = "Erion et al. 2021"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            "dummy",
            "implementation_invariance",
            "linearity",
            "randomised_weights",
            "target_sensitivity",
        }
    )

    samples: int = 50
    baseline: str | tuple[str, ...] = COLOURS
    seed: int = 0
    reduce: Reduction = "abs-sum"

    def __post_init__(self) -> None:
        require(self.samples >= 1, f"`samples` must be at least 1, got {self.samples}")
        require(len(self._baselines) >= 1, "`baseline` must name at least one baseline")
        for text in self._baselines:
            if text != COLOURS:
                check_baseline(text)

    @property
    def _baselines(self) -> tuple[str, ...]:
        return (self.baseline,) if isinstance(self.baseline, str) else self.baseline

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        inputs = torch.from_numpy(images).to(classifier.device)
        classes = torch.from_numpy(targets).to(classifier.device)
        draws = [self._draw(image) for image in images]
        named = {
            index: baseline_images(text, classifier, images)
            for index, text in enumerate(self._baselines)
            if text != COLOURS
        }

        def reference(image: int, sample: int) -> Float32:
            draw = draws[image]
            which = int(draw.which[sample])
            if which in named:
                chosen: Float32 = named[which][image]
                return chosen
            colour: Float32 = np.broadcast_to(draw.colours[sample][:, None, None], images.shape[1:])
            return colour

        def points(image: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
            pairs = list(zip(image.tolist(), sample.tolist(), strict=True))
            drawn = torch.from_numpy(np.stack([reference(i, s) for i, s in pairs]))
            alpha = torch.tensor([float(draws[i].alpha[s]) for i, s in pairs]).view(-1, 1, 1, 1)
            start = drawn.to(inputs.device)
            difference = inputs[image] - start
            return start + alpha.to(inputs.device) * difference, difference

        (total,) = gradient_sums(classifier, inputs, classes, self.samples, points)
        attributions: Float32 = (total / self.samples).to("cpu", torch.float32).numpy()
        return Explanation(reduce_channels(attributions, self.reduce), attributions)

    def _draw(self, image: Float32) -> _Draws:
        generator = generator_for(image, seed=self.seed, purpose="expected-gradients")
        strata = generator.permutation(self.samples)
        return _Draws(
            alpha=((strata + generator.random(self.samples)) / self.samples).astype(np.float32),
            which=generator.permutation(self.samples) % len(self._baselines),
            colours=generator.random((self.samples, 3), dtype=np.float32),
        )


@dataclass(frozen=True)
class _Draws:
    """All that is random about one image: where on the way, from which baseline, which colour."""

    alpha: Float32
    which: Int64
    colours: Float32
