"""Layers by name: which one Grad-CAM looks at, and how its output lies in memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xai_core.errors import LayerError, did_you_mean

_POOLING = (
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AvgPool2d,
    nn.MaxPool2d,
)


@dataclass(frozen=True)
class _Call:
    """One finished call of a submodule during a forward pass, in order of completion."""

    name: str
    module: nn.Module
    output: Tensor


def find_layer(module: nn.Module, name: str) -> nn.Module:
    """Return the submodule called ``name``.

    Raises:
        LayerError: there is none; the message lists near names.
    """
    modules: dict[str, nn.Module] = dict(module.named_modules())
    modules.pop("", None)
    if name in modules:
        return modules[name]
    parent = name.rpartition(".")[0]
    if parent in modules:
        siblings = [f"{parent}.{child}" for child, _ in modules[parent].named_children()]
        raise LayerError(f"no layer {name!r}: {did_you_mean(name, siblings)}")
    names = [known for known in modules if known.count(".") <= 1]
    raise LayerError(f"no layer {name!r}: {did_you_mean(name, names)}")


def default_layer(module: nn.Module, images: Tensor) -> str:
    """Return the name of the last layer that still has space, after its ReLU.

    The rule follows one forward pass: of all submodules, in the order in which they finish, the
    last one whose output has more than one position and is not the output of a pooling layer.
    A container that ends in that layer is named instead of it, so ResNet gives ``layer4``; an
    identity that follows it is not.
    Vision transformers mix positions after their last attention, so for ViT and Swin of
    torchvision and timm, and modules of their shape, the input of the last block's attention or
    MLP is named.

    Args:
        module: the model in evaluation mode.
        images: normalised images to run, ``[N, 3, H, W]``.

    Raises:
        LayerError: no layer has space.
    """
    transformer = _last_transformer_norm(module)
    if transformer is not None:
        return transformer
    with torch.no_grad():
        calls, _ = _run(module, images)
    counts = Counter(call.name for call in calls)
    pooled = [call.output for call in calls if isinstance(call.module, _POOLING)]
    made = [call.output for call in calls if type(call.module) is not nn.Identity]
    for call in reversed(calls):
        spatial = call.output.ndim == 4 and min(call.output.shape[-2:]) > 1
        is_pooled = any(call.output is output for output in pooled)
        repeats = type(call.module) is nn.Identity and any(call.output is other for other in made)
        if spatial and not is_pooled and not repeats and counts[call.name] == 1:
            return call.name
    msg = "no layer of this model has space (an output [N, C, H, W] with H, W > 1); name a layer"
    raise LayerError(msg)


def layers_with_gradient(module: nn.Module, images: Tensor) -> list[str]:
    """Return the layers with space that some logit depends on, in the order they finish.

    Args:
        module: the model in evaluation mode.
        images: normalised images to run, ``[N, 3, H, W]``.
    """
    with torch.enable_grad():
        calls, logits = _run(module, images.detach().requires_grad_())
        if not logits.requires_grad:
            return []
        recorded = [call for call in calls if call.output.requires_grad]
        gradients = torch.autograd.grad(
            logits.sum(), [call.output for call in recorded], allow_unused=True
        )
    counts = Counter(call.name for call in calls)
    names = []
    for call, gradient in zip(recorded, gradients, strict=True):
        if gradient is None or counts[call.name] > 1:
            continue
        try:
            space = to_channels_first(gradient, call.module, module, call.name)
        except LayerError:
            continue
        if min(space.shape[-2:]) > 1 and bool(space.any()):
            names.append(call.name)
    return names


def to_channels_first(output: Tensor, layer: nn.Module, module: nn.Module, name: str) -> Tensor:
    """Return a layer's output as ``[N, C, h, w]``.

    Tokens ``[N, h * w, C]`` on a square grid, after one class token or as many others as timm's
    models say, and the channels-last maps of Swin, are brought to that form.

    Raises:
        LayerError: the output has no space.
    """
    if output.ndim == 4:
        if _is_channels_last(layer, module, name):
            return output.permute(0, 3, 1, 2)
        return output
    if output.ndim == 3:
        count = output.shape[1]
        for prefix in _prefix_tokens(module, name):
            side = math.isqrt(max(count - prefix, 0))
            if side > 1 and side * side == count - prefix:
                tokens = output[:, prefix:].transpose(1, 2)
                return tokens.reshape(*tokens.shape[:2], side, side)
    msg = (
        f"layer {name!r} gives an output of shape {tuple(output.shape)}, which has no space: "
        "expected [N, C, H, W], or tokens on a square grid"
    )
    raise LayerError(msg)


@contextmanager
def replaced_by_leaf(layer: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """Make the layer's output the start of the autograd graph while the context is open.

    Nothing below the layer is recorded, so the backward pass stops here. What follows gets a
    copy: models like DenseNet change the tensor in place.

    Yields:
        a list that holds the leaf after the forward pass.
    """
    leaves: list[Tensor] = []

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            msg = f"layer {name!r} gives a {type(output).__name__}, expected a tensor"
            raise LayerError(msg)
        if leaves:
            msg = (
                f"layer {name!r} runs more than once in a forward pass, so its gradient is "
                "ambiguous; name the block around it"
            )
            raise LayerError(msg)
        leaf = output.detach().requires_grad_()
        leaves.append(leaf)
        return leaf.clone()

    handle = layer.register_forward_hook(replace)
    try:
        yield leaves
    finally:
        handle.remove()


def _run(module: nn.Module, images: Tensor) -> tuple[list[_Call], Tensor]:
    """Return the calls of all submodules in one forward pass, and what it gave."""
    calls: list[_Call] = []
    handles = []
    for name, child in module.named_modules():
        if name:

            def record(layer: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
                if isinstance(output, Tensor):
                    calls.append(_Call(name, layer, output))

            handles.append(child.register_forward_hook(record))
    try:
        logits: Tensor = module(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls, logits


def _last_transformer_norm(module: nn.Module) -> str | None:
    """Name the layer to look at in ViT and Swin of torchvision and timm, wherever they stand."""
    for prefix, child in module.named_modules():
        stem = f"{prefix}." if prefix else ""
        swin = type(child).__name__.startswith("SwinTransformer")
        if type(child).__name__ == "VisionTransformer" and hasattr(child, "encoder"):
            return f"{stem}encoder.layers.{_last(child, 'encoder.layers')}.ln_1"
        if swin and hasattr(child, "features"):
            stage = f"features.{_last(child, 'features')}"
            return f"{stem}{stage}.{_last(child, stage)}.norm2"
        if swin and hasattr(child, "layers"):
            blocks = f"layers.{_last(child, 'layers')}.blocks"
            return f"{stem}{blocks}.{_last(child, blocks)}.norm2"
        if hasattr(child, "patch_embed") and hasattr(child, "blocks"):
            last = f"blocks.{_last(child, 'blocks')}"
            block = child.get_submodule(last)
            if hasattr(block, "attn") and hasattr(block, "norm1"):
                return f"{stem}{last}.norm1"
    return None


def _last(module: nn.Module, path: str) -> str:
    """Return the name of the last child of the submodule at ``path``."""
    return [name for name, _ in module.get_submodule(path).named_children()][-1]


def _prefix_tokens(module: nn.Module, name: str) -> tuple[int, ...]:
    """Return how many tokens may stand before those of the patches, the likeliest first."""
    for ancestor in _ancestors(module, name):
        count = getattr(ancestor, "num_prefix_tokens", None)  # timm says it
        if isinstance(count, int):
            return (count,)
    return (1, 0)


def _is_channels_last(layer: nn.Module, module: nn.Module, name: str) -> bool:
    # nn.LayerNorm normalises the last axis, so a map that leaves it has its channels there;
    # ConvNeXt's LayerNorm2d is a subclass that permutes back.
    if type(layer) is nn.LayerNorm:
        return True
    if isinstance(layer, nn.Conv2d) or getattr(layer, "dims", None) == [0, 3, 1, 2]:
        return False  # Swin's embedding of patches, and where torchvision's turns channels first
    return any(
        type(ancestor).__name__.startswith("SwinTransformer")
        for ancestor in _ancestors(module, name)
    )


def _ancestors(module: nn.Module, name: str) -> Iterator[nn.Module]:
    """Yield the modules that a layer stands in, from the outermost."""
    parts = name.split(".")
    for end in range(len(parts)):
        yield module.get_submodule(".".join(parts[:end]))
