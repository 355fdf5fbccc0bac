"""Guided backpropagation: the gradient with ReLUs that let only positive evidence back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from xai_core.arrays import Float32, Int64
from xai_core.errors import ClassifierError
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels
from xai_core.explainers.inside import in_batches, private_module
from xai_core.explainers.rules import Call, Rules

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

_OTHER_ACTIVATIONS = {
    "celu": "CELU",
    "elu": "ELU",
    "gelu": "GELU",
    "glu": "GLU",
    "hardshrink": "Hardshrink",
    "hardswish": "Hardswish",
    "hardtanh": "ReLU6 or Hardtanh",
    "leaky_relu": "LeakyReLU",
    "logsigmoid": "LogSigmoid",
    "mish": "Mish",
    "prelu": "PReLU",
    "relu6": "ReLU6",
    "rrelu": "RReLU",
    "selu": "SELU",
    "silu": "SiLU",
    "softplus": "Softplus",
    "softshrink": "Softshrink",
    "softsign": "Softsign",
    "tanh": "Tanh",
    "tanhshrink": "Tanhshrink",
    "threshold": "Threshold",
}
"""Torch's functions that stand where a ReLU could: function name -> what people call it.

Sigmoid and softmax are not among them: in ReLU networks they are gates (squeeze-and-excitation),
which keep their derivative as every other operation does.
"""


@dataclass(frozen=True)
class GuidedBackprop:
    """Guided backpropagation [Springenberg et al. 2015, section 3.4].

    The gradient of the target's *logit* at the image, except that every ReLU passes back
    ``[x > 0] [g > 0] g`` of what reaches it, ``g``, instead of ``[x > 0] g``. ReLUs are found
    while the model runs, so it does not matter whether they are modules or function calls, in
    place or used more than once. Defined for networks of ReLUs only.

    Args:
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "guided_backprop"
    needs: ClassVar[Needs] = "module"
    source: ClassVar[str] = "Springenberg et al. 2015"
    promises: ClassVar[frozenset[Promise]] = frozenset({"flip_equivariance", "input_invariance"})

    reduce: Reduction = "max-abs"

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`.

        Raises:
            ClassifierError: the model has no ReLU, or activations that are not ReLUs.
        """
        module = private_module(classifier, self.kind)

        def attribute(batch: Tensor, classes: Tensor) -> Tensor:
            classifier.passes.count(gradients=len(batch))
            leaf = batch.contiguous(memory_format=torch.channels_last).requires_grad_()
            with torch.enable_grad(), _GuidedReLUs() as relus:
                logits: Tensor = module(leaf)
            relus.check(classifier.name)
            chosen = logits.gather(1, classes[:, None])
            (gradients,) = torch.autograd.grad(chosen.sum(), leaf)
            return gradients

        attributions = in_batches(classifier, images, targets, attribute)
        return Explanation(reduce_channels(attributions, self.reduce), attributions)


class _GuidedReLUs(Rules):
    """While open, makes every ReLU guided and notes activations that are none."""

    def __init__(self) -> None:
        super().__init__({"relu": self._relu} | dict.fromkeys(_OTHER_ACTIVATIONS, self._other))
        self._relus = 0
        self._others: set[str] = set()

    def _relu(self, call: Call) -> Tensor:
        self._relus += 1
        rectified = torch.relu(call.values)
        if rectified.requires_grad:
            rectified.register_hook(lambda gradient: gradient.clamp(min=0))  # type: ignore[no-untyped-call]
        return rectified

    def _other(self, call: Call) -> Tensor:
        self._others.add(_OTHER_ACTIVATIONS[call.name])
        return call.at(call.values)

    def check(self, model: str) -> None:
        """Raise unless all activations were ReLUs."""
        instead = "use `saliency`, `smoothgrad` or `integrated_gradients`"
        if self._others:
            msg = (
                f"guided_backprop is defined for ReLU networks, and {model} has "
                f"{', '.join(sorted(self._others))}; {instead}"
            )
            raise ClassifierError(msg)
        if not self._relus:
            msg = f"guided_backprop found no ReLU in {model}; {instead}"
            raise ClassifierError(msg)
