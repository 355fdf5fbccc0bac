"""Layer-wise relevance propagation: the logit, handed back from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from xai_core.arrays import Float32, Int64
from xai_core.errors import ClassifierError
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels
from xai_core.explainers.inside import in_batches, private_module
from xai_core.explainers.rules import Call, Rule, Rules, with_slope
from xai_core.parameters import require

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

PropagationRule = Literal["composite", "epsilon", "alpha1beta0"]

_PASS = (
    *("celu", "elu", "gelu", "hardswish", "hardtanh", "leaky_relu", "mish", "prelu", "relu6"),
    *("selu", "silu", "softsign", "tanh"),
)
"""Activations with f(0) = 0, which hand relevance on as it is; of ReLU the derivative does so."""

_WITHOUT_RULE = {
    "group_norm": "group norm",
    "exp": "exponentials",
    "hardsigmoid": "sigmoid gates",
    "instance_norm": "instance norm",
    "layer_norm": "layer norm",
    "multi_head_attention_forward": "attention",
    "scaled_dot_product_attention": "attention",
    "pow": "powers",
    "sigmoid": "sigmoid gates",
    "softmax": "softmax",
}
_PRODUCTS = ("mul", "imul", "div", "truediv", "matmul", "bmm")


@dataclass(frozen=True)
class LRP:
    """Layer-wise relevance propagation [Bach et al. 2015, eq. 58 and 60].

    The target's *logit* is handed back to the inputs of each layer by their share in its output.
    ``epsilon``: by contribution, ``x_i w_ij / (z_j + epsilon sign z_j)``, which for a tiny epsilon
    is gradient x input on ReLU networks; ``alpha1beta0``: by positive contribution alone, so that
    a logit without any hands back nothing;
    ``composite``, the field's practice [Montavon et al. 2019]: alpha1beta0 in convolutions,
    epsilon in linear layers. Sums (residual connections) are shared by contribution, max pooling
    hands on to the winner, activations as they are. Batch norm is folded into the convolution
    before it where it can be, else taken as a linear layer. Biases keep what they contribute, so
    the sum may differ from the logit. Relevance is taken at the normalised image: what the
    model's normalisation maps to zero gets none.

    Not through Captum 0.9, which hands a sum's whole relevance to both of its sides, so that on
    ResNet-18 the attributions of a logit of .13 summed to 1e10.

    Args:
        rule: ``composite``, ``epsilon`` or ``alpha1beta0``.
        epsilon: the stabiliser of the epsilon rule, in units of the layer's output.
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "lrp"
    needs: ClassVar[Needs] = "module"
    source: ClassVar[str] = "Bach et al. 2015"
    promises: ClassVar[frozenset[Promise]] = frozenset({"target_sensitivity"})

    rule: PropagationRule = "composite"
    epsilon: float = 1e-6
    reduce: Reduction = "sum"

    def __post_init__(self) -> None:
        require(self.epsilon >= 0, f"`epsilon` must be at least 0, got {self.epsilon}")

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`.

        Raises:
            ClassifierError: the model has operations without a rule (attention, layer norm,
                products of activations).
        """
        module = private_module(classifier, self.kind, folded=True)
        zero = torch.tensor(classifier.mean, device=classifier.device).view(1, 3, 1, 1)

        def attribute(batch: Tensor, classes: Tensor) -> Tensor:
            classifier.passes.count(gradients=len(batch))
            leaf = batch.contiguous(memory_format=torch.channels_last).requires_grad_()
            with torch.enable_grad(), Rules(self._rules(classifier.name)):
                logits: Tensor = module(leaf)
            chosen = logits.gather(1, classes[:, None])
            (gradients,) = torch.autograd.grad(chosen.sum(), leaf)
            return (leaf.detach() - zero) * gradients

        attributions = in_batches(classifier, images, targets, attribute)
        return Explanation(reduce_channels(attributions, self.reduce), attributions)

    def _rules(self, model: str) -> dict[str, Rule]:
        """Return the rules as derivatives d with relevance = activation * d, layer by layer."""

        def refuse(call: Call) -> Tensor:
            msg = (
                f"lrp has no rule for {_WITHOUT_RULE[call.name]}, which {model} uses; "
                "use `integrated_gradients`"
            )
            raise ClassifierError(msg)

        def product(call: Call) -> Tensor:
            others = [value for value in call.rest if isinstance(value, Tensor)]
            if call.values.requires_grad and any(other.requires_grad for other in others):
                msg = (
                    f"lrp has no rule for products of activations, which {model} uses; "
                    "use `integrated_gradients`"
                )
                raise ClassifierError(msg)
            return call.at(call.values)

        convolve = self._epsilon_rule if self.rule == "epsilon" else _positive_rule
        linear = _positive_rule if self.rule == "alpha1beta0" else self._epsilon_rule
        return {
            **dict.fromkeys(_WITHOUT_RULE, refuse),
            **dict.fromkeys(_PRODUCTS, product),
            **dict.fromkeys(_PASS, _handed_on),
            "conv2d": convolve,
            "linear": linear,
        }

    def _epsilon_rule(self, call: Call) -> Tensor:
        result = call.at(call.values)
        return _as_share(result, result, self.epsilon)


def _positive_rule(call: Call) -> Tensor:
    """alpha1beta0: contributions x_i w_ij above zero alone, of the inputs of either sign."""
    weight, bias = call.argument(0, "weight"), call.argument(1, "bias")
    options = {key: value for key, value in call.options.items() if key not in ("weight", "bias")}

    def run(values: Tensor, weights: Tensor, offset: Tensor | None) -> Tensor:
        result: Tensor = call.function(values, weights, offset, *call.rest[2:], **options)
        return result

    positive = run(
        call.values.clamp(min=0), weight.clamp(min=0), None if bias is None else bias.clamp(min=0)
    ) + run(call.values.clamp(max=0), weight.clamp(max=0), None)
    return _as_share(run(call.values, weight, bias), positive, 0.0)


def _as_share(result: Tensor, parts: Tensor, epsilon: float) -> Tensor:
    """Return ``result`` with the derivative by which relevance goes to the shares of ``parts``."""
    whole = parts.detach()
    whole = whole + torch.where(whole < 0, -epsilon, epsilon)
    share = torch.where(whole == 0, 0.0, result.detach() / torch.where(whole == 0, 1.0, whole))
    return with_slope(parts, result, share)


def _handed_on(call: Call) -> Tensor:
    """An activation's relevance is its input's: the slope of the chord from zero."""
    result = call.at(call.values.detach())
    values = call.values.detach()
    is_zero = values.abs() < 1e-12
    slope = torch.where(is_zero, 0.0, result / torch.where(is_zero, 1.0, values))
    return with_slope(call.values, result, slope)
