"""From what a user names to a classifier: a known architecture, a function, a module in hand."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from xai_core.classifier.classifier import Classifier
from xai_core.classifier.factory import call_factory
from xai_core.classifier.preset import IMAGENET, Normalization, Preset
from xai_core.classifier.timm_models import TIMM, from_timm, timm_preset
from xai_core.classifier.torch_backend import TorchClassifier
from xai_core.classifier.torchvision_models import from_torchvision, torchvision_preset
from xai_core.classifier.weight_sources import RANDOM
from xai_core.classifier.weights import fit_state_dict, read_state_dict
from xai_core.demo.network import DEMO_NAMES, MEAN, STD, DemoName, load_demo
from xai_core.errors import ClassifierError

_DEMO_SIZE = (64, 64)
_DEFAULT_SIZE = (224, 224)


def load_classifier(
    spec: str | nn.Module | Classifier,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    size: tuple[int, int] | None = None,
    normalization: Literal["imagenet", "none"] | Normalization | None = None,
    num_classes: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Classifier:
    """Return the classifier that ``spec`` names.

    The network is touched only for ``weights=None`` with a name of torchvision or timm whose
    weights are not cached yet; a warning on the logger ``xai_core`` then says what is fetched
    and how to give a file instead. The global random state stays as it was.

    Args:
        spec: a classification architecture of torchvision (``"densenet121"``); ``"timm:NAME"``;
            ``"demo"`` or ``"demo-shortcut"``; ``"package.module:function"`` for a function
            without arguments, importable as it would be from a test, that returns an
            ``nn.Module`` or a `Classifier`; an ``nn.Module``, which is not changed; a
            `Classifier`, which is returned as it is; one that a function returns may be given
            a ``name``, and nothing else.
        weights: None for the published ones (or those that the module has), a file (see
            `read_state_dict`), ``"random"`` for an initialisation that depends on ``seed``
            alone, or a name of torchvision's registry such as ``"IMAGENET1K_V1"``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"`` for the best of
            these that is there.
        batch_size: images in one pass; None lets the classifier choose.
        size: height and width; None = the preset's, 224 x 224 where there is none.
        normalization: None = the preset's; required for an ``nn.Module`` that is in hand or
            comes from a function: ``"imagenet"``, ``"none"``, or a `Normalization`.
        num_classes: of an architecture of torchvision or timm with ``"random"`` weights; for a
            file it is read from the file.
        seed: of random weights, and while a function builds its module.
        name: how reports call it; None = ``spec``, or the class of the module.

    Raises:
        ClassifierError: an unknown name, a device that is not there, arguments that do not go
            together, a function that fails.
        WeightsError: weights that cannot be fetched, read, or fitted.
        MissingExtraError: ``timm:`` without timm.
    """
    given = {
        "weights": weights,
        "device": None if device == "cpu" else device,
        "batch_size": batch_size,
        "size": size,
        "normalization": normalization,
        "num_classes": num_classes,
        "name": name,
    }
    if not isinstance(spec, str | nn.Module | Classifier):
        msg = f"expected a name, an nn.Module or a Classifier, got {type(spec).__name__}"
        raise ClassifierError(msg)
    made: str | nn.Module | Classifier = spec
    if isinstance(spec, str) and _is_factory(spec):
        made = call_factory(spec, seed)
    if isinstance(made, Classifier):
        own = isinstance(spec, str)  # made just now, so it is ours to name
        superfluous = [
            key for key, value in given.items() if value is not None and not (own and key == "name")
        ]
        if superfluous:
            msg = f"a Classifier is taken as it is; it cannot be given {', '.join(superfluous)}"
            raise ClassifierError(msg)
        return _named(made, name) if own and name is not None else made
    place = _resolve_device(device)
    if size is not None and (len(size) != 2 or min(size) < 1):
        msg = f"size must be (height, width) in pixels, got {size!r}"
        raise ClassifierError(msg)
    preset: Preset | None = None
    if isinstance(made, nn.Module):
        module = _with_weights(made, weights, num_classes)
    elif made in DEMO_NAMES:
        module, preset = _demo(made, weights, num_classes)
    elif made.startswith(TIMM):
        module, preset = from_timm(made, weights, size, num_classes, seed)
    else:
        module, preset = from_torchvision(made, weights, size, num_classes, seed)
    applied = _normalization(normalization, preset)
    return TorchClassifier(
        module,
        name=name or (spec if isinstance(spec, str) else type(made).__name__),
        size=size or (preset.size if preset else _DEFAULT_SIZE),
        mean=applied.mean if applied else None,
        std=applied.std if applied else None,
        device=place,
        batch_size=batch_size,
    )


def _named(made: Classifier, name: str) -> Classifier:
    """Return a classifier that was made just now under the name that reports look it up by."""
    if made.name != name:
        try:
            cast(Any, made).name = name
        except AttributeError:
            msg = (
                f"the {type(made).__name__} called {made.name!r} is asked for as {name!r}, and its "
                "`name` cannot be set: make it an ordinary attribute, or return that name"
            )
            raise ClassifierError(msg) from None
    return made


def preset_of(spec: str, *, weights: str | Path | None = None) -> Preset:
    """Return how images are prepared for a named model; nothing is built or fetched.

    Args:
        spec: a name of torchvision, ``"timm:NAME"`` or a demo.
        weights: a name of torchvision's registry; anything else means the default's preset.

    Raises:
        ClassifierError: an unknown name, or ``"package.module:function"``, which has no preset.
        MissingExtraError: ``timm:`` without timm.
    """
    if spec in DEMO_NAMES:
        return Preset(_DEMO_SIZE, None, MEAN, STD, "bilinear")
    if spec.startswith(TIMM):
        return timm_preset(spec)
    if _is_factory(spec):
        msg = f"{spec!r} has no preset of its own: give size and normalization"
        raise ClassifierError(msg)
    return torchvision_preset(spec, weights)


def _demo(
    name: str, weights: str | Path | None, num_classes: int | None
) -> tuple[nn.Module, Preset]:
    if weights is not None or num_classes is not None:
        msg = f"{name!r} comes with its weights and classes: it takes no weights and num_classes"
        raise ClassifierError(msg)
    return load_demo(cast(DemoName, name)), preset_of(name)


def _is_factory(spec: str) -> bool:
    return ":" in spec and not spec.startswith(TIMM)


def _with_weights(
    module: nn.Module, weights: str | Path | None, num_classes: int | None
) -> nn.Module:
    if num_classes is not None or weights == RANDOM:
        msg = (
            f"a {type(module).__name__} has its own classes and initialisation: num_classes and "
            f"weights={RANDOM!r} are for architectures by name"
        )
        raise ClassifierError(msg)
    if weights is None:
        return module
    state = read_state_dict(weights)
    private = deepcopy(module)
    fit_state_dict(private, state, source=weights)
    return private


def _normalization(
    given: Literal["imagenet", "none"] | Normalization | None, preset: Preset | None
) -> Normalization | None:
    if isinstance(given, Normalization):
        return given
    if given == "imagenet":
        return IMAGENET
    if given == "none":
        return None
    if given is not None:
        msg = f"normalization: expected 'imagenet', 'none' or a Normalization, got {given!r}"
        raise ClassifierError(msg)
    if preset is None:
        msg = (
            "an nn.Module does not tell how its input is normalised: give normalization="
            "'imagenet', 'none' (it takes RGB in [0, 1]), or Normalization(mean, std)"
        )
        raise ClassifierError(msg)
    return Normalization(preset.mean, preset.std)


def _resolve_device(device: str) -> str:
    """Return a torch device that is there."""
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    if device == "cpu" or (device == "mps" and mps):
        return device
    number = re.fullmatch(r"cuda(?::(\d+))?", device)
    if number and int(number[1] or 0) < cuda:
        return device
    there = ["auto", "cpu", *(f"cuda:{index}" for index in range(cuda)), *(["mps"] if mps else [])]
    if number or device == "mps":
        msg = f"the device {device!r} is not available to torch here; there is: {', '.join(there)}"
    else:
        msg = f"unknown device {device!r}; expected one of {', '.join(there)}"
    raise ClassifierError(msg)
