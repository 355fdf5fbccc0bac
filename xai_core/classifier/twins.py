"""Another network of the same function, to ask whether an explanation depends on the form."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_LOG = logging.getLogger("xai_core")

_ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Dropout,
    nn.Identity,
)
_WITHIN_CHANNELS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def with_channels_reordered(module: nn.Module, images: Tensor) -> nn.Module | None:
    """Return a copy whose channels between layers lie in the opposite order; None if none can be.

    Reordered are the channels between two convolutions, or two linear layers, with nothing but
    operations within a channel between them; found in the trace of the model or, where it has
    none, of the largest parts that have one.

    Args:
        module: a frozen model.
        images: normalised images on which the copy must agree with ``module``.
    """
    keep: dict[int, object] = {id(tensor): tensor for tensor in module.parameters()}
    keep |= {id(tensor): tensor for tensor in module.buffers()}
    # A forward pass may keep what it sees, the tracer's proxies too: one copy is traced only.
    chains = list(_chains(copy.deepcopy(module, keep)))
    if not chains:
        return None
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for chain in chains:
            _reorder([twin.get_submodule(name) for name in chain])
        expected, got = module(images), twin(images)
    # A trace sees one path through the model; only agreement on real numbers proves it.
    scale = expected.abs().max().clamp_min(1e-12)
    if not float((expected - got).abs().max() / scale) < 1e-3:
        _LOG.debug("channels not reordered: the reordered model disagrees")
        return None
    return twin


def _chains(module: nn.Module, stem: str = "") -> Iterator[list[str]]:
    """Yield the layers with weights from one that makes channels to one that takes them up."""
    try:
        graph = torch.fx.symbolic_trace(module).graph
    except Exception as error:  # the user's own forward runs here, which may raise anything
        _LOG.debug("%s is not traced: %s", stem or "the model", error)
        for name, child in module.named_children():
            yield from _chains(child, f"{stem}{name}.")
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        chain = _chain_from(module, node)
        weighted = [name for name in chain if _has_weights(module.get_submodule(name))]
        if chain and all(calls[name] == 1 for name in weighted):
            yield [stem + name for name in weighted]


def _chain_from(module: nn.Module, node: torch.fx.Node) -> list[str]:
    """Return the layers of the chain that starts at ``node``; none where none does."""
    if node.op != "call_module" or not _mixes_channels(module.get_submodule(str(node.target))):
        return []
    names = [str(node.target)]
    kind = type(module.get_submodule(names[0]))
    while len(node.users) == 1:
        (following,) = node.users
        if following.op != "call_module" or following.args != (node,) or following.kwargs:
            break
        node = following
        names.append(str(node.target))
        layer = module.get_submodule(names[-1])
        if _mixes_channels(layer) and type(layer) is kind:
            return names
        if not _keeps_channels_apart(layer, kind):
            break
    return []


def _has_weights(layer: nn.Module) -> bool:
    return bool(layer.state_dict())


def _mixes_channels(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.groups == 1)


def _keeps_channels_apart(layer: nn.Module, kind: type[nn.Module]) -> bool:
    if type(layer) in _ELEMENTWISE:
        return True
    of_maps = type(layer) in (*_WITHIN_CHANNELS, nn.BatchNorm2d) or (
        type(layer) is nn.Conv2d and layer.groups == layer.in_channels == layer.out_channels
    )
    return kind is nn.Conv2d and of_maps


def _reorder(layers: list[nn.Module]) -> None:
    *before, last = layers
    for layer in before:
        for tensor in (*layer.parameters(), *layer.buffers()):
            if tensor.ndim:
                tensor.copy_(tensor.flip(0))
    weight = last.get_parameter("weight")
    weight.copy_(weight.flip(1))
