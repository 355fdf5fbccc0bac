"""DeepLIFT: the difference from a baseline, shared out layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from xai_core.arrays import Float32, Float64, Int64
from xai_core.errors import ClassifierError
from xai_core.explainers.baselines import baseline_images, check_baseline
from xai_core.explainers.explanation import Explanation, Needs, Promise, Reduction, reduce_channels
from xai_core.explainers.inside import in_batches, private_module
from xai_core.explainers.rules import Call, Rules, with_slope

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

_NEARLY_EQUAL = 1e-6  # differences below it are rounding: the derivative stands for the quotient
_ACTIVATIONS = (
    *("celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid"),
    *("mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh"),
)


@dataclass(frozen=True)
class DeepLIFT:
    """DeepLIFT with the Rescale rule [Shrikumar et al. 2017, section 3.5.1].

    ``(x - x') * m``, m the multiplier of the target's *logit*: the chain rule with
    ``(f(z) - f(z')) / (z - z')`` in place of the derivative of every activation f, z and z' what
    reaches it from the image and from the baseline. A max pooling's difference goes to the
    winner of whichever of the two is larger. Activations are found while the model runs, as
    modules or function calls, in place or used more than once.

    Not through Captum 0.9: its attributions do not sum to f(x) - f(x') where max pooling's windows
    overlap or a ReLU follows it, and may depend on the first image of the batch (its issue 1276).

    Args:
        baseline: ``black``, ``white``, ``mean``, ``blurred(sigma=10)`` or ``image:FILE``.
        reduce: how the channels of the signed attributions become a heatmap.
    """

    kind: ClassVar[str] = "deeplift"
    needs: ClassVar[Needs] = "module"
    source: ClassVar[str] = "Shrikumar et al. 2017"
    promises: ClassVar[frozenset[Promise]] = frozenset(
        {"completeness", "randomised_weights", "sensitivity", "target_sensitivity"}
    )

    baseline: str = "black"
    reduce: Reduction = "abs-sum"

    def __post_init__(self) -> None:
        check_baseline(self.baseline)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`.

        Raises:
            ClassifierError: the model computes something that the method has no rule for, so
                that the attributions would not sum to f(x) - f(x').
        """
        module = private_module(classifier, self.kind)

        def attribute(batch: Tensor, classes: Tensor) -> Tensor:
            reference = baseline_images(self.baseline, classifier, batch.cpu().numpy())
            start = torch.from_numpy(reference.copy()).to(batch)
            classifier.passes.count(gradients=2 * len(batch))
            result, ends = _contributions(module, batch, start, classes)
            _check_complete(result, ends, classifier.name)
            return result

        attributions = in_batches(classifier, images, targets, attribute, share=2)
        return Explanation(reduce_channels(attributions, self.reduce), attributions)

    def differences(self, classifier: Classifier, images: Float32, targets: Int64) -> Float64:
        """Return f(x) - f(x') in logits; see `Complete`."""
        reference = baseline_images(self.baseline, classifier, images)
        end, start = (
            classifier.logits(torch.from_numpy(np.ascontiguousarray(batch))).cpu().numpy()
            for batch in (images, reference)
        )
        rows = np.arange(len(targets))
        differences: Float64 = end[rows, targets].astype(np.float64) - start[rows, targets]
        return differences


def _contributions(
    module: nn.Module, images: Tensor, starts: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``(x - x') * m``, and f(x) and f(x') as ``[2, n]``; both run as one batch."""
    count = len(images)
    leaf = images.clone().requires_grad_()
    rules = dict.fromkeys(_ACTIVATIONS, _rescaled) | {
        "max_pool2d": _max_pooled,
        "adaptive_max_pool2d": _max_pooled,
    }
    with torch.enable_grad(), Rules(rules):
        both = torch.cat([leaf, starts]).contiguous(memory_format=torch.channels_last)
        logits: Tensor = module(both)
    chosen = logits.gather(1, targets.repeat(2)[:, None])[:, 0]
    (multipliers,) = torch.autograd.grad(chosen[:count].sum(), leaf)
    return (images - starts) * multipliers, chosen.detach().view(2, count)


def _rescaled(call: Call) -> Tensor:
    """The Rescale rule: an activation's slope is that of its chord."""
    values = call.values
    if not values.requires_grad:  # no activation, but something made of weights alone
        return call.at(values)
    inside = values.detach().requires_grad_()
    result = call.at(inside)
    (derivative,) = torch.autograd.grad(result.sum(), inside)
    step, rise = _between(values), _between(result)
    is_flat = step.abs() < _NEARLY_EQUAL
    chord = rise / torch.where(is_flat, 1.0, step)
    # Only the image's half is asked for its gradient; the baseline's gets the same slopes.
    slopes = torch.where(is_flat, derivative.chunk(2)[0], chord)
    return with_slope(values, result, torch.cat([slopes, slopes]))


def _max_pooled(call: Call) -> Tensor:
    """Share each window's difference to the winner, of image or baseline, that made it."""
    values = call.values
    pool = getattr(nn.functional, f"{call.name}_with_indices")
    options = {key: value for key, value in call.options.items() if key != "return_indices"}
    result, winners = pool(values.detach(), *call.rest, **options)
    step, rise = _between(values).flatten(2), _between(result).flatten(2)
    of_image, of_start = (half.flatten(2) for half in winners.chunk(2))
    winner = torch.where(rise >= 0, of_image, of_start)
    moved = step.gather(2, winner)
    is_flat = moved.abs() < _NEARLY_EQUAL
    slopes = torch.where(is_flat, 1.0, rise / torch.where(is_flat, 1.0, moved))
    image = values.chunk(2)[0].flatten(2).gather(2, winner)
    shared = (slopes * (image - image.detach())).view_as(result.chunk(2)[0])
    pooled: Tensor = result + torch.cat([shared, torch.zeros_like(shared)])
    return pooled


def _between(both: Tensor) -> Tensor:
    image, start = both.detach().chunk(2)
    return image - start


def _check_complete(contributions: Tensor, ends: Tensor, model: str) -> None:
    """Raise unless every image's contributions sum to f(x) - f(x'), up to rounding."""
    differences = ends[0] - ends[1]
    total = contributions.flatten(1).sum(1)
    size = contributions.abs().flatten(1).sum(1)
    rounding = 1e-4 * size + 1e-5 * ends.abs().amax(dim=0)
    gaps = (total - differences).abs() - 0.01 * differences.abs() - rounding
    if bool((gaps > 0).any()):
        worst = int(gaps.argmax())
        msg = (
            f"deeplift does not fit {model}: its attributions sum to {float(total[worst]):.4g} "
            f"instead of f(x) - f(x') = {float(differences[worst]):.4g}, because the model "
            "multiplies or normalises activations (squeeze-and-excitation, attention, layer "
            "norm), for which the method has no rule; use `integrated_gradients`"
        )
        raise ClassifierError(msg)
