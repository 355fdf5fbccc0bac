"""timm's architectures by name; an optional extra."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

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
from xai_core.errors import ClassifierError, MissingExtraError, did_you_mean
from xai_core.torchvision_import import import_torchvision

TIMM = "timm:"


def timm_preset(spec: str) -> Preset:
    """Return how images are prepared for ``timm:NAME``.

    Raises:
        ClassifierError: an unknown name.
        MissingExtraError: timm is not installed.
    """
    return _preset(_config(spec))


def from_timm(
    spec: str,
    weights: str | Path | None,
    size: tuple[int, int] | None,
    num_classes: int | None,
    seed: int,
) -> tuple[nn.Module, Preset]:
    """Return a timm model with its weights, and its preset; see `load_classifier`."""
    timm, config, name = _import_timm(), _config(spec), spec.removeprefix(TIMM)
    preset = _preset(config)

    def build(classes: int, *, pretrained: bool) -> nn.Module:
        image_size = size if config.fixed_input_size else None
        with seeded(seed):
            module: nn.Module = timm.create_model(
                name, pretrained=pretrained, num_classes=classes, img_size=image_size
            )
        return module

    if weights is None:
        if not config.has_weights or not config.num_classes:
            msg = f"{spec} has no published weights with classes: give weights={RANDOM!r} or a file"
            raise ClassifierError(msg)
        require_classes(num_classes, config.num_classes, f"the published weights of {spec}")
        host = "huggingface.co" if config.hf_hub_id else urlparse(config.url).hostname
        announce(f"{spec} from {host}, unless the local cache has it")
        try:
            return build(config.num_classes, pretrained=True), preset
        except Exception as error:  # the hub's client raises errors of many libraries
            raise unfetched(spec, error) from error
    classes = num_classes or config.num_classes
    if not classes:
        msg = f"{spec} has no classes of its own: give num_classes"
        raise ClassifierError(msg)
    module = build(classes, pretrained=False)
    if weights == RANDOM:
        return module, preset
    path = named_file(spec, weights, [])
    state = adapt_state_dict(module, read_state_dict(path))
    in_file = infer_num_classes(module, state) or classes
    require_classes(num_classes, in_file, str(path))
    if in_file != classes:
        module = build(in_file, pretrained=False)
    fit_state_dict(module, state, source=path)
    return module, preset


def _import_timm() -> Any:
    import_torchvision()  # timm imports it in the ordinary way
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise MissingExtraError("a model of timm", package="timm", extra="timm") from None


def _config(spec: str) -> Any:
    timm = _import_timm()
    name = spec.removeprefix(TIMM)
    if not timm.is_model(name):
        msg = f"unknown timm model {name!r}: {did_you_mean(name, timm.list_models())}"
        raise ClassifierError(msg)
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        architecture = name.partition(".")[0]
        known = did_you_mean(name, timm.list_pretrained(f"{architecture}.*"))
        msg = f"unknown weights of the timm model {name!r}: {known}"
        raise ClassifierError(msg) from None


def _preset(config: Any) -> Preset:
    _, height, width = config.input_size
    resize = math.floor(min(height, width) / config.crop_pct)
    mean, std = three(config.mean), three(config.std)
    return Preset((height, width), resize, mean, std, config.interpolation)
