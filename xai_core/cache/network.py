"""What a classifier computes beyond its weights: its code, and settings that its text lacks."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xai_core.cache.code import Code
from xai_core.classifier import Classifier, TorchClassifier

_HASHED_ELSEWHERE = {"_parameters", "_buffers", "_modules", "training"}
_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout)


def network_digest(classifier: Classifier, code: Code) -> str:
    """Return a digest of what may change a classifier's results beside its fingerprint.

    The code of its back end and, of a torch model, of every layer's class; the attributes of
    layers, which a forward pass may read though neither the weights nor the model's text show
    them; its hooks; buffers that no state dict holds; the size that it was made for.

    Raises:
        UnidentifiedError: the code of a layer cannot be told.
    """
    described = _Description(code)
    described.add("size", tuple(classifier.size))
    described.add("kind", type(classifier))
    if isinstance(classifier, TorchClassifier):
        model = classifier.private_module().get_submodule("model")
        for name, module in model.named_modules():
            described.add_module(name, module)
    return described.digest()


class _Description:
    """Hashes values of any kind by what they hold, never by where they lie in memory."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._hasher = hashlib.sha256()
        self._seen: dict[int, object] = {}

    def digest(self) -> str:
        return self._hasher.hexdigest()

    def add(self, name: object, value: object) -> None:
        self._text(f"{name!r} of {type(value).__module__}.{type(value).__qualname__}")
        if value is None or isinstance(value, _PLAIN):
            self._text(repr(value))
        elif id(value) in self._seen:
            self._text("seen before")
        else:
            self._seen[id(value)] = value  # kept, so that no other object gets its place
            self._add_contents(value)

    def add_module(self, name: str, module: nn.Module) -> None:
        self._seen[id(module)] = module
        self.add(f"class of {name}", type(module))
        if isinstance(module, torch.jit.ScriptModule):
            self._text(str(module.code))
            return
        for key in sorted(module._non_persistent_buffers_set):
            self.add(key, module._buffers.get(key))
        others = sorted(set(vars(module)) - _HASHED_ELSEWHERE)
        self._add_items((key, vars(module)[key]) for key in others)

    def _add_contents(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._text(f"{tuple(value.shape)} {value.dtype}")
            plain = value.detach().cpu().contiguous().flatten()
            self._hasher.update(plain.view(torch.uint8).numpy().tobytes())
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._text(f"{value.shape} {value.dtype}")
            self._hasher.update(value.tobytes())
        elif isinstance(value, nn.Module):
            for name, module in value.named_modules():
                self.add_module(name, module)
                self._add_items(module.named_parameters(recurse=False))
                self._add_items(module.named_buffers(recurse=False))
        elif isinstance(value, Mapping):
            self._add_items(value.items())
        elif isinstance(value, set | frozenset):
            self._text(repr(sorted(map(repr, value))))
        elif isinstance(value, list | tuple):
            self._add_items(enumerate(value))
        elif isinstance(value, torch.fx.Graph):
            self._text(str(value))
        elif isinstance(value, functools.partial):
            self._add_items([("function", value.func), ("given", value.args)])
            self._add_items(sorted(value.keywords.items()))
        elif inspect.ismethod(value):
            self._add_items([("function", value.__func__), ("self", value.__self__)])
        elif isinstance(value, type) or inspect.isroutine(value):
            self._text(f"{value.__module__}.{value.__qualname__} {self._code.behind(value)}")
            if inspect.isfunction(value):
                self._add_items(sorted(inspect.getclosurevars(value).nonlocals.items()))
                self._add_items([("defaults", value.__defaults__)])
        else:
            self.add("class", type(value))
            self._add_items(sorted(getattr(value, "__dict__", {}).items()))

    def _add_items(self, items: Iterable[tuple[object, object]]) -> None:
        for key, value in items:
            self.add(key, value)

    def _text(self, text: str) -> None:
        self._hasher.update(f"{len(text)}:{text}".encode())
