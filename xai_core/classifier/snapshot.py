"""A model as the classifier runs it: a private, frozen copy, with batch norm folded away.

The user's module is copied once and never touched: its training flags, ``requires_grad``,
hooks and gradients stay as they are.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from xai_core.errors import ClassifierError

_LOG = logging.getLogger("xai_core")


def frozen_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """Return a float32 copy in evaluation mode that records no gradients of its own.

    Raises:
        ClassifierError: the module cannot be copied.
    """
    try:
        private = copy.deepcopy(module, _detached_results(module))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        msg = (
            f"{type(module).__name__} cannot be copied ({error}); "
            "give a factory 'package.module:function' that builds it instead"
        )
        raise ClassifierError(msg) from error
    private = private.eval().requires_grad_(False).float().to(device)
    private.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return private


def fold_batch_norm(module: nn.Module, images: Tensor) -> tuple[nn.Module, frozenset[str]]:
    """Return a copy whose convolutions absorb the batch norm that follows them.

    Layer names stay; the batch norm becomes an identity. Whatever is not folded shares its
    weights with ``module``.

    Args:
        module: a frozen model.
        images: normalised images on which the folded model must agree with ``module``.

    Returns:
        the copy and the names of the layers whose own output is no longer what it was (the
        convolutions that absorbed something, and what holds them without their batch norm);
        ``module`` itself and nothing where the model cannot be folded.
    """
    keep: dict[int, object] = {id(tensor): tensor for tensor in module.parameters()}
    keep |= {id(tensor): tensor for tensor in module.buffers()}
    try:
        # The copy is traced, because a forward pass may keep what it sees: the tracer's proxies.
        folded = copy.deepcopy(module, keep)
        pairs = _conv_bn_pairs(folded)
        if not pairs:
            return module, frozenset()
        changed = _changed_layers(folded, pairs)
        for conv, bn in pairs:
            _fold_pair(folded, conv, bn)
        with torch.no_grad():
            expected, got = module(images), folded(images)
    except Exception as error:  # the user's own forward runs here, which may raise anything
        _LOG.debug("batch norm not folded: %s", error)
        return module, frozenset()
    # A trace sees one path through the model; only agreement on real numbers proves the fold.
    scale = expected.abs().max().clamp_min(1e-12)
    if not float((expected - got).abs().max() / scale) < 1e-3:
        _LOG.debug("batch norm not folded: the folded model disagrees")
        return module, frozenset()
    return folded, changed


def _detached_results(module: nn.Module) -> dict[int, object]:
    """Return the memo of a deep copy that detaches tensors kept from a forward pass.

    A module may keep a result that has a history, as weight norm and home-made Grad-CAM do;
    torch refuses to copy those.
    """
    kept = (value for child in module.modules() for value in vars(child).values())
    return {
        id(value): value.detach().clone()
        for value in kept
        if isinstance(value, Tensor) and not value.is_leaf
    }


def _fold_pair(module: nn.Module, conv_name: str, bn_name: str) -> None:
    conv = cast(nn.Conv2d, module.get_submodule(conv_name))
    bn = cast(nn.BatchNorm2d, module.get_submodule(bn_name))
    # In float64, on the CPU (Apple's GPUs have none): weights that are rounded once keep the
    # gradients as near to the model's true ones as unfolded weights do.
    weight, bias = fuse_conv_bn_weights(
        _exact(conv.weight),
        None if conv.bias is None else _exact(conv.bias),
        _exact(cast(Tensor, bn.running_mean)),
        _exact(cast(Tensor, bn.running_var)),
        bn.eps,
        None if bn.weight is None else _exact(bn.weight),
        None if bn.bias is None else _exact(bn.bias),
    )
    like = conv.weight
    conv.weight = nn.Parameter(weight.detach().to(like), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach().to(like), requires_grad=False)
    parent, _, child = bn_name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Identity())


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


def _changed_layers(module: nn.Module, pairs: list[tuple[str, str]]) -> frozenset[str]:
    """Name the layers that give something else once folded: around a convolution, not its norm."""
    ends = [(module.get_submodule(conv), module.get_submodule(bn)) for conv, bn in pairs]
    changed = []
    for name, child in module.named_modules():
        inside = set(child.modules())
        if any(conv in inside and bn not in inside for conv, bn in ends):
            changed.append(name)
    return frozenset(changed)


def _conv_bn_pairs(module: nn.Module) -> list[tuple[str, str]]:
    graph = torch.fx.symbolic_trace(module).graph
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not node.args:
            continue
        before = node.args[0]
        if not isinstance(before, torch.fx.Node) or before.op != "call_module":
            continue
        bn, conv = module.get_submodule(node.target), module.get_submodule(str(before.target))
        if (
            type(bn) is nn.BatchNorm2d
            and bn.running_mean is not None
            and type(conv) is nn.Conv2d
            and len(before.users) == 1
            and calls[node.target] == calls[before.target] == 1
        ):
            pairs.append((str(before.target), str(node.target)))
    return pairs
