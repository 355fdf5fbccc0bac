"""Attention rollout: which patches a vision transformer's class token has listened to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from xai_core.arrays import Float32, Int64
from xai_core.errors import ClassifierError
from xai_core.explainers.explanation import Explanation, Needs, Promise
from xai_core.explainers.inside import private_module
from xai_core.explainers.layer_maps import enlarged, full_batches

if TYPE_CHECKING:
    from xai_core.classifier import Classifier


@dataclass(frozen=True)
class AttentionRollout:
    """Attention rollout [Abnar & Zuidema 2020, eq. 1], for torchvision's ``VisionTransformer``.

    The product over all blocks of ``(W + I) / 2``, ``W`` the block's attention averaged over its
    heads and ``I`` the residual connection; of it, the class token's row over the patches,
    enlarged to the image bilinearly. The same for every target.
    """

    kind: ClassVar[str] = "attention_rollout"
    needs: ClassVar[Needs] = "module"
    source: ClassVar[str] = "Abnar & Zuidema 2020"
    promises: ClassVar[frozenset[Promise]] = frozenset({"randomised_weights"})

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images``; the targets make no difference. See `Explainer.explain`.

        Raises:
            ClassifierError: the model is no torchvision ``VisionTransformer``.
        """
        averages: list[Tensor] = []
        module = _opened(classifier, self.kind, lambda weights: averages.append(weights.mean(1)))
        maps = []
        for batch, _ in full_batches(classifier, images, targets):
            averages.clear()
            with torch.no_grad():
                module(batch)
            classifier.passes.count(forwards=len(batch))
            rollout = _identity_like(averages[0])
            for average in averages:
                rollout = (average + _identity_like(average)) / 2 @ rollout
            maps.append(_patches(rollout))
        return enlarged(maps, images.shape[-2:])


@dataclass(frozen=True)
class GradientRollout:
    """Gradient-weighted rollout [Chefer, Gur & Wolf 2021, ICCV, eq. 5-6], same models.

    ``R = I``, then for every block ``R = R + W R`` with ``W`` the mean over heads of
    ``ReLU(g * attention)``, ``g`` the gradient of the target's *logit* with respect to that
    attention; of it, the class token's row over the patches, enlarged to the image bilinearly.
    The relevance propagation of the authors' CVPR paper of the same year is not part of it.
    """

    kind: ClassVar[str] = "gradient_rollout"
    needs: ClassVar[Needs] = "module"
    source: ClassVar[str] = "Chefer et al. 2021"
    promises: ClassVar[frozenset[Promise]] = frozenset({"target_sensitivity", "randomised_weights"})

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`.

        Raises:
            ClassifierError: the model is no torchvision ``VisionTransformer``.
        """
        attentions: list[Tensor] = []
        module = _opened(classifier, self.kind, attentions.append)
        maps = []
        for batch, classes in full_batches(classifier, images, targets):
            attentions.clear()
            with torch.enable_grad():
                logits = module(batch.requires_grad_())
            gradients = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), attentions)
            classifier.passes.count(gradients=len(batch))
            rollout = _identity_like(attentions[0][:, 0])
            for attention, gradient in zip(attentions, gradients, strict=True):
                rollout = rollout + torch.relu(gradient * attention.detach()).mean(1) @ rollout
            maps.append(_patches(rollout))
        return enlarged(maps, images.shape[-2:])


class _OpenAttention(nn.Module):
    """Self-attention that shows its attention matrices ``[N, heads, T, T]``.

    torch's own gives them out only beside the graph: their gradient cannot be taken.
    """

    def __init__(self, attention: nn.MultiheadAttention, see: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._attention = attention
        self._see = see

    def forward(self, query: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        attention = self._attention
        assert attention.in_proj_weight is not None
        count, tokens, width = query.shape
        heads = attention.num_heads
        projected = nn.functional.linear(query, attention.in_proj_weight, attention.in_proj_bias)
        split = projected.view(count, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = split
        scaled = queries @ keys.transpose(-2, -1) / math.sqrt(width // heads)
        weights = torch.softmax(scaled, dim=-1)
        self._see(weights)
        mixed = (weights @ values).transpose(1, 2).reshape(count, tokens, width)
        return attention.out_proj(mixed), None


def _opened(classifier: Classifier, kind: str, see: Callable[[Tensor], None]) -> nn.Module:
    """Return a private copy of a ViT that shows every block's attention to ``see``, in order."""
    module = private_module(classifier, kind)
    for child in module.modules():
        if type(child).__name__ == "VisionTransformer" and hasattr(child, "encoder"):
            for block in child.get_submodule("encoder.layers").children():
                attention = cast(nn.MultiheadAttention, block.self_attention)
                block.self_attention = _OpenAttention(attention, see)
            return module
    msg = (
        f"{kind} needs the attention of torchvision's VisionTransformer (vit_b_16, ...), which "
        f"{classifier.name} is not; gradcam and its family work on other models"
    )
    raise ClassifierError(msg)


def _identity_like(square: Tensor) -> Tensor:
    return torch.eye(square.shape[-1], device=square.device).expand_as(square)


def _patches(rollout: Tensor) -> Tensor:
    """Return the class token's row ``[N, h, w]`` over the patches of a rollout ``[N, T, T]``."""
    row = rollout[:, 0, 1:]
    side = math.isqrt(row.shape[1])
    return row.reshape(len(row), side, side).clone()  # a view would keep all of the rollout
