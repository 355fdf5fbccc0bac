"""Names for ReLUs that a model calls as functions, so that one can look at what leaves them.

``F.relu(self.conv3(x))`` gives a tensor that no layer's name stands for, and often it is the very
one to look at: the last that still has space, after its ReLU. Here the call becomes a layer,
``conv3_relu``. DenseNet of torchvision is of this kind (``features_relu``).
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import Tensor, nn

_LOG = logging.getLogger("xai_core")

_FUNCTIONS = (nn.functional.relu, nn.functional.relu_, torch.relu, torch.relu_)
_METHODS = ("relu", "relu_")


def name_functional_relus(module: nn.Module, images: Tensor) -> None:
    """Turn ReLUs called on what a layer gives out into layers called after it, in place.

    A forward pass that cannot be traced, and a ReLU whose result is what the module around it
    returns and thus has a name already, stay as they are.

    Args:
        module: a private, frozen model; no weight changes.
        images: normalised images on which it must give the same as before.
    """
    keep: dict[int, object] = {id(tensor): tensor for tensor in module.parameters()}
    keep |= {id(tensor): tensor for tensor in module.buffers()}
    try:
        # A copy is traced, because a forward pass may keep what it sees: the tracer's proxies.
        twin = copy.deepcopy(module, keep)
    except (RuntimeError, TypeError):
        return
    changed = []
    for name, child in list(module.named_modules()):
        if not type(child).__module__.startswith("torch.nn."):
            kind, names = type(child), _name_relus_of(child, twin.get_submodule(name))
            changed += [(child, kind, names)] if names else []
    # A trace sees one path through the model; only agreement on real numbers proves it.
    if changed and not _same(twin, module, images):
        for child, kind, names in changed:
            child.__class__ = kind
            for name in names:
                delattr(child, name)


def _same(one: nn.Module, other: nn.Module, images: Tensor) -> bool:
    try:
        with torch.no_grad():
            return torch.allclose(one(images), other(images), rtol=1e-4, atol=1e-5)
    except Exception as error:  # the user's own forward runs here, which may raise anything
        _LOG.debug("functional ReLUs not named: %s", error)
        return False


class _OwnForward(torch.fx.Tracer):
    """Traces what a module itself does, without looking into the modules that it calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return True


def _name_relus_of(module: nn.Module, twin: nn.Module) -> list[str]:
    """Give a module layers for its functional ReLUs, as its untouched twin is traced; name them."""
    try:
        graph = _OwnForward().trace(twin)
    except Exception:  # the user's own forward runs here, which may raise anything
        return []
    names = []
    for node in list(graph.nodes):
        name = _name_for(node)
        if name is not None and name not in names and not hasattr(module, name):
            with graph.inserting_before(node):
                layer = graph.call_module(name, (node.all_input_nodes[0],))
            node.replace_all_uses_with(layer)
            graph.erase_node(node)
            names.append(name)
    # A tensor that the forward pass makes itself is known to the tracer alone.
    made = any(node.op == "get_attr" and not _has(module, str(node.target)) for node in graph.nodes)
    if not names or made:
        return []
    for name in names:
        module.add_module(name, nn.ReLU())
    # A subclass keeps what a traced module would lose: the type, its attributes, its other methods.
    kind = type(module)
    traced: dict[str, Any] = {
        "forward": type(torch.fx.GraphModule(module, graph)).forward,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    module.__class__ = type(kind.__name__, (kind,), traced)
    return names


def _name_for(node: torch.fx.Node) -> str | None:
    """Return how to call the ReLU that ``node`` is; None where it is none or has a name."""
    function = node.op == "call_function" and node.target in _FUNCTIONS
    method = node.op == "call_method" and node.target in _METHODS
    if not (function or method) or len(node.all_input_nodes) != 1:
        return None
    (source,) = node.all_input_nodes
    if source.op != "call_module" or any(user.op == "output" for user in node.users):
        return None
    return f"{str(source.target).replace('.', '_')}_relu"


def _has(module: nn.Module, path: str) -> bool:
    value: Any = module
    for part in path.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True
