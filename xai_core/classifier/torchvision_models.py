"""torchvision's classification architectures by name."""

from __future__ import annotations

import http.client
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from xai_core.classifier.preset import Preset, three
from xai_core.classifier.weight_sources import (
    RANDOM,
    announce,
    named_file,
    require_classes,
    seeded,
    unfetched,
)
from xai_core.classifier.weights import (
    adapt_state_dict,
    fit_state_dict,
    infer_num_classes,
    read_state_dict,
)
from xai_core.demo.network import DEMO_NAMES
from xai_core.errors import ClassifierError, did_you_mean
from xai_core.torchvision_import import import_torchvision

OTHER_FORMS = (
    "Other forms: 'timm:NAME', or 'package.module:function' for a function that returns an "
    "nn.Module"
)
# torchvision's packages of models that are not image classifiers, and what they are.
_OTHER_TASKS = {
    "quantization": "a quantised model, which has no gradients",
    "segmentation": "a segmentation model",
    "detection": "a detection model",
    "video": "a video model",
    "optical_flow": "an optical flow model",
}
# Heads that only training uses; files come with and without them.
_AUXILIARY_HEADS = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


def torchvision_preset(name: str, weights: str | Path | None) -> Preset:
    """Return how images are prepared for an architecture, by the weights' own transforms.

    Raises:
        ClassifierError: an unknown name.
    """
    registry = _registry(name)
    return _preset(_registered_weights(registry, weights) or registry.DEFAULT)


def from_torchvision(
    name: str,
    weights: str | Path | None,
    size: tuple[int, int] | None,
    num_classes: int | None,
    seed: int,
) -> tuple[nn.Module, Preset]:
    """Return an architecture with its weights, and its preset; see `load_classifier`."""
    registry = _registry(name)
    entry = _registered_weights(registry, weights)
    preset = _preset(entry or registry.DEFAULT)
    if entry is None and weights == RANDOM:
        module = _build_torchvision(name, num_classes or 1000, size or preset.size, seed)
        _fill_zero_head(module, seed)
        return module, preset
    if entry is not None:
        if not entry.meta.get("categories"):
            msg = f"{name}: the weights {entry.name} are of a feature extractor without classes"
            raise ClassifierError(msg)
        require_classes(num_classes, len(entry.meta["categories"]), f"the weights {entry.name}")
        path = _fetched(name, entry)
    else:
        path = named_file(name, weights, [*registry.__members__])
    module = _build_torchvision(name, 1000, preset.size, seed)
    auxiliary = _AUXILIARY_HEADS.get(name, ())
    state = {
        key: tensor
        for key, tensor in adapt_state_dict(module, read_state_dict(path)).items()
        if not key.startswith(auxiliary)
    }
    classes = infer_num_classes(module, state) or 1000
    require_classes(num_classes, classes, str(path))
    trained_size = preset.size
    if name.startswith("vit_") and "encoder.pos_embedding" in state:
        # The position embedding has one row for each patch, and one for the class token.
        patches = state["encoder.pos_embedding"].shape[1:2].numel() - 1
        side = math.isqrt(max(patches, 1)) * int(name.rpartition("_")[2])
        trained_size = (side, side)
        if size is not None and size != trained_size:
            msg = f"{name}: {path} is for {side} x {side} images, got size {size}"
            raise ClassifierError(msg)
    if (classes, trained_size) != (1000, preset.size):
        module = _build_torchvision(name, classes, trained_size, seed)
    fit_state_dict(module, state, source=path)
    return module, replace(preset, size=trained_size)


def _registry(name: str) -> Any:
    """Return torchvision's enum of the weights of a classification architecture."""
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name in known:
        return models.get_model_weights(name)
    if name in models.list_models():
        package = models.get_model_builder(name).__module__.split(".")[2]
        task = _OTHER_TASKS.get(package, "not an image classifier")
        msg = f"{name!r} is {task}; expected an image classifier in floating point. {OTHER_FORMS}"
        raise ClassifierError(msg)
    if Path(name).suffix in (".pth", ".pt", ".bin", ".safetensors"):
        msg = (
            f"{name!r} looks like a file of weights; give the architecture as the model and the "
            f"file as its weights, e.g. model 'densenet121', weights {name!r}"
        )
        raise ClassifierError(msg)
    msg = f"unknown model {name!r}: {did_you_mean(name, [*DEMO_NAMES, *known])}. {OTHER_FORMS}"
    raise ClassifierError(msg)


def _registered_weights(registry: Any, weights: str | Path | None) -> Any:
    """Return the entry of the registry that is meant, or None if none is."""
    if weights is None:
        return registry.DEFAULT
    entry = str(weights).removeprefix(f"{registry.__name__}.")
    return registry.__members__.get(entry)


def _preset(entry: Any) -> Preset:
    transforms = entry.transforms()
    (crop,), (resize,) = transforms.crop_size, transforms.resize_size
    return Preset(
        (crop, crop),
        resize,
        three(transforms.mean),
        three(transforms.std),
        transforms.interpolation.value,
    )


def _build_torchvision(name: str, classes: int, size: tuple[int, int], seed: int) -> nn.Module:
    options: dict[str, Any] = {"num_classes": classes}
    if name in _AUXILIARY_HEADS:
        # As torchvision builds them for its own weights, whose input range they convert to.
        options |= {"aux_logits": False, "init_weights": False, "transform_input": True}
    if name.startswith("vit_"):
        if size[0] != size[1]:
            msg = f"{name} takes square images, got size {size}"
            raise ClassifierError(msg)
        options["image_size"] = size[0]
    if name == "maxvit_t":
        options["input_size"] = size
    try:
        with seeded(seed):
            module: nn.Module = import_torchvision().models.get_model(name, weights=None, **options)
    except (AssertionError, ValueError) as error:
        msg = f"{name} cannot be built for size {size} and {classes} classes: {error}"
        raise ClassifierError(msg) from error
    return module


def _fill_zero_head(module: nn.Module, seed: int) -> None:
    """Initialise a head of zeros, as torchvision's ViT has it: nothing below would get a gradient.

    The spread is that of the ViT paper's other layers.
    """
    heads = [child for child in module.modules() if isinstance(child, nn.Linear)]
    if heads and not bool(heads[-1].weight.any()):
        with seeded(seed):
            nn.init.trunc_normal_(heads[-1].weight, std=0.02)


def _fetched(name: str, entry: Any) -> Path:
    """Return the file of published weights in torch's cache, fetched if it is not there."""
    url: str = entry.url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.is_file():
        return path
    megabytes = entry.meta.get("_file_size")
    size = f", {megabytes:.0f} MB" if megabytes else ""
    announce(f"{name} {entry.name} from {urlparse(url).hostname}{size}, to {path}")
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=digest[1] if digest else None, progress=False
        )
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise unfetched(f"{name} {entry.name} ({url})", error) from error
    return path
