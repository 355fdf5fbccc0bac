"""Weights drawn anew: a network that knows nothing more of what it had learnt in some layers.

*Weights* are the parameters and buffers in floating point that a weights file holds. Integers
(Swin's index of relative positions, the batches that batch norm has counted) and buffers that no
file holds (attention masks) are structure and stay.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xai_core.classifier.weight_sources import seeded, short
from xai_core.errors import ClassifierError, LayerError, did_you_mean

_LOG = logging.getLogger("xai_core")

_SPREAD_OF_ZEROS = 0.02
"""Standard deviation of what takes the place of zeros, as vision transformers are initialised."""


def parameter_layers(module: nn.Module, images: Tensor) -> list[str]:
    """Return the modules that own weights themselves, in the order of their first use.

    A layer is used where one of its weights takes part in an operation, called as a layer or not
    (the output projection of ``nn.MultiheadAttention`` never is). Layers that the forward pass
    does not use stand at the end, as they are defined. The model itself is called ``""``.

    Args:
        module: the model in evaluation mode.
        images: normalised images to run, ``[N, 3, H, W]``.
    """
    owned = _owned(module)
    uses = _FirstUses()
    with torch.no_grad(), uses:
        module(images)
    never = len(uses.places)

    def first_use(layer: str) -> int:
        return min(uses.places.get(id(tensor), never) for tensor in owned[layer].values())

    return sorted(owned, key=first_use)


def reinitialise(module: nn.Module, layers: Sequence[str], *, seed: int) -> float:
    """Draw every weight of ``layers`` anew, in place; return their share of the model's weights.

    What a layer initialises itself (``reset_parameters``, ``_reset_parameters``), it does:
    batch norm starts again with the statistics 0 and 1. Every other weight is drawn from the
    normal distribution with the mean and standard deviation of its tensor; a constant tensor gets
    half its size as deviation, zeros get 0.02, and where no value was negative the sign is dropped.

    A layer's draw depends on its name and the seed, not on the other layers. A tensor that two
    layers share is drawn anew for both if it is for one. torch's own random state stays.

    Args:
        module: a private model on the CPU.
        layers: some of `parameter_layers`.
        seed: of the draws.

    Raises:
        LayerError: a name that is no layer with weights of its own.
        ClassifierError: weights that cannot be drawn, because they are not finite or not real.
    """
    owned = _owned(module)
    for name in layers:
        if name not in owned:
            raise LayerError(_no_such_layer(name, owned))
    chosen = {name: owned[name] for name in owned if name in set(layers)}
    drawn = _by_identity(chosen.values())
    modules = dict(module.named_modules())
    missed: list[str] = []
    for name, weights in chosen.items():
        with seeded(_seed_of(name, seed)), torch.no_grad():
            missed += _reinitialise_layer(modules[name], weights, drawn)
    if missed:
        msg = (
            f"of the layers to be initialised anew, {len(missed)} tensors cannot be: "
            f"{', '.join(missed)}; their values are not finite or not real numbers"
        )
        raise ClassifierError(msg)
    total = sum(tensor.numel() for tensor in _by_identity(owned.values()).values())
    return sum(tensor.numel() for tensor in drawn.values()) / max(total, 1)


class _FirstUses(TorchFunctionMode):
    """Notes in which order tensors first take part in an operation, by identity."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, int] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if any(True for _ in _tensors(result)):  # to ask for a shape or a type is no use
            for tensor in _tensors((args, tuple(kwargs.values()))):
                self.places.setdefault(id(tensor), len(self.places))
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _owned(module: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return layer -> path -> weight, for the weights that it owns itself."""
    in_files = module.state_dict(keep_vars=True)
    owned: dict[str, dict[str, Tensor]] = {}
    for name, layer in module.named_modules():
        stem = f"{name}." if name else ""
        tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        weights = {
            stem + key: tensor
            for key, tensor in tensors
            if stem + key in in_files and (tensor.is_floating_point() or tensor.is_complex())
        }
        if weights:
            owned[name] = weights
    return owned


def _by_identity(groups: Iterable[dict[str, Tensor]]) -> dict[int, Tensor]:
    return {id(tensor): tensor for group in groups for tensor in group.values()}


def _no_such_layer(name: str, owned: dict[str, Any]) -> str:
    inside = [layer for layer in owned if layer.startswith(f"{name}.")]
    if inside:
        shown = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "")
        return f"layer {name!r} has no weights of its own; name the layers in it: {shown}"
    return f"no layer {name!r} with weights: {did_you_mean(name, owned)}"


def _seed_of(name: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}|{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # torch takes 63 bits


def _reinitialise_layer(
    layer: nn.Module, weights: dict[str, Tensor], drawn: dict[int, Tensor]
) -> list[str]:
    """Draw a layer's own weights; return the paths of those that cannot be."""
    before = {path: tensor.clone() for path, tensor in weights.items()}
    missed = []
    for path in _not_reset(layer, weights, drawn):
        if not _draw_like(before[path], weights[path]):
            missed.append(path)
    return missed


def _not_reset(layer: nn.Module, weights: dict[str, Tensor], drawn: dict[int, Tensor]) -> list[str]:
    """Let the layer initialise itself; return the paths of the weights that it did not set.

    Whatever it changes beyond the weights that are to be drawn is put back.
    """
    initialiser = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
    if not callable(initialiser):
        return list(weights)
    others = [
        (tensor, tensor.clone())
        for tensor in (*layer.parameters(), *layer.buffers())
        if id(tensor) not in drawn
    ]
    for tensor in weights.values():
        tensor.fill_(float("nan"))  # what is NaN afterwards has not been set
    try:
        initialiser()
    except Exception as error:  # a module of the user's may raise anything, or take arguments
        _LOG.debug("%s does not initialise itself: %s", type(layer).__name__, short(error))
    for tensor, value in others:
        tensor.copy_(value)
    return [path for path, tensor in weights.items() if bool(tensor.isnan().any())]


def _draw_like(original: Tensor, tensor: Tensor) -> bool:
    """Fill ``tensor`` with a normal draw of the original's mean and deviation, if it has them."""
    if original.is_complex() or not bool(original.isfinite().all()):
        return False
    if original.numel() == 0:
        return True
    mean, spread = float(original.mean()), float(original.std(correction=0))
    lowest, highest = float(original.min()), float(original.max())
    if lowest == highest:
        spread = abs(mean) / 2 or _SPREAD_OF_ZEROS
    tensor.normal_(mean, spread)
    if lowest >= 0 and highest > 0:  # a variance, a scale
        tensor.abs_()
    return True
