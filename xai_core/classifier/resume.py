"""A forward pass from a layer on: what the rest of the model makes of another output there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xai_core.classifier.layers import find_layer, replaced_by_leaf

_LOG = logging.getLogger("xai_core")

Rest = Callable[[Tensor, Tensor], Tensor]
"""Maps normalised images and the layer's output for them to logits."""


@dataclass(frozen=True)
class Resumable:
    """One image's forward pass that was stopped at a layer, to be finished from other outputs.

    Class tokens, and whatever bypasses the layer, are the image's own.

    Attributes:
        rest: what follows the layer.
        image: normalised, ``[1, 3, H, W]``.
        own: the layer's output for it, as the model lays it out.
        to_channels_first: gives the view ``[N, C, h, w]`` of outputs laid out like ``own``.
    """

    rest: Rest
    image: Tensor
    own: Tensor
    to_channels_first: Callable[[Tensor], Tensor]

    def logits(self, activations: Tensor) -> Tensor:
        """Return the logits ``[m, K]`` for outputs ``[m, C, h, w]``; no autograd."""
        with torch.no_grad():
            return self._finish(self._outputs(activations))

    def gradients(self, activations: Tensor, target: int) -> tuple[Tensor, Tensor]:
        """Return the logits ``[m, K]`` and d logit of the target / d activations."""
        leaf = self._outputs(activations).requires_grad_()
        with torch.enable_grad():
            logits = self._finish(leaf.clone())  # models like DenseNet change it in place
        found = None
        if logits.requires_grad:
            (found,) = torch.autograd.grad(logits[:, target].sum(), leaf, allow_unused=True)
        gradients = self.to_channels_first(torch.zeros_like(leaf) if found is None else found)
        return logits.detach(), gradients

    def _outputs(self, activations: Tensor) -> Tensor:
        """Return ``activations`` as the model lays them out, among the image's own tokens."""
        outputs = self.own.repeat(len(activations), *[1] * (self.own.ndim - 1))
        self.to_channels_first(outputs).copy_(activations)
        return outputs

    def _finish(self, outputs: Tensor) -> Tensor:
        return self.rest(self.image.expand(len(outputs), -1, -1, -1), outputs)


def rest_of(module: nn.Module, name: str, images: Tensor) -> Rest:
    """Return what follows the layer called ``name``, as cheap as the model allows.

    Where the model can be traced, nothing below the layer runs unless something bypasses the
    layer; elsewhere the whole model runs and the layer's output is replaced.

    Args:
        module: a frozen model.
        name: a layer that runs once in a forward pass.
        images: normalised images to prove the shortcut on.
    """
    layer = find_layer(module, name)

    def whole(images: Tensor, output: Tensor) -> Tensor:
        handle = layer.register_forward_hook(lambda *_: output)
        try:
            logits: Tensor = module(images)
        finally:
            handle.remove()
        return logits

    with torch.no_grad():
        with replaced_by_leaf(layer, name) as leaves:
            expected = module(images)
        try:
            short = _traced_from(module, name)
            got = short(images, leaves[0].detach().clone())
            agrees = torch.allclose(got, expected, rtol=1e-4, atol=1e-5)
        except Exception as error:  # tracing runs the user's own forward, which may raise anything
            _LOG.debug("the whole model runs for each output of %s: %s", name, error)
            return whole
    return short if agrees else whole


class _WholeLayer(torch.fx.Tracer):
    """Traces a model without looking into one of its layers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self._name or super().is_leaf_module(
            m, module_qualified_name
        )


def _traced_from(module: nn.Module, name: str) -> Callable[..., Any]:
    graph = _WholeLayer(name).trace(module)
    (layer,) = (node for node in graph.nodes if node.op == "call_module" and node.target == name)
    (images,) = (node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(images):
        output = graph.placeholder("layer_output")
    layer.replace_all_uses_with(output)
    graph.erase_node(layer)
    rest = torch.fx.GraphModule(module, graph)
    rest.graph.eliminate_dead_code()
    rest.recompile()
    return rest
