"""What was asked for on the command line and in the ini file, in one place.

One precedence everywhere: command line > threshold file > ini > default. A value here that is
None was not asked for on the command line; `chosen` then falls through to the next source.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import pytest

from pytest_xai.image_sources import ImageSource, image_sources

T = TypeVar("T")
UpdateMode = Literal["new", "failing", "all"]
Sequential = Literal["set", "population"]


@dataclass(frozen=True)
class Settings:
    """The run's settings; ``ini_*`` are the project's own defaults.

    Attributes:
        models: names given by ``--xai-model``, without repetitions.
        explainers: texts given by ``--xai-explainer``, without repetitions.
        weights: model -> weights; the key ``""`` stands for the only model.
        data: image sets given by ``--xai-data``, without repetitions.
        concepts: folder of concepts given by ``--xai-concepts``.
        update: which thresholds ``--xai-update`` writes; None = none.
        allow_loosen: whether it may write one that demands less.
        sequential: what the verdicts are about of gates that measure as few images as settle
            them; None = gates measure all.
        advisory: whether gates that fail only warn.
        save: under which name ``--xai-save`` saves the run; None = it does not.
        compare: name or path of the run that gates are held against; None = none.
        calibrate: with how many seeds gates are measured instead of held; None = they are held.
        calibrate_rate: of false alarms, that thresholds are then proposed for.
        cache: folder of results of earlier runs, from the command line or the ini; None = none.
        cache_limit: how large it may get, in MiB; None = as large as the library's default.
    """

    models: tuple[str, ...]
    explainers: tuple[str, ...]
    weights: dict[str, str]
    data: tuple[ImageSource, ...]
    concepts: str | None
    thresholds: tuple[str, ...]
    limit: int | None
    device: str | None
    seed: int | None
    batch: int | None
    strict: bool
    sequential: Sequential | None
    advisory: bool
    update: UpdateMode | None
    allow_loosen: bool
    calibrate: int | None
    calibrate_rate: float
    save: str | None
    compare: str | None
    json: Path | None
    cache: Path | None
    cache_limit: int | None
    ini_models: tuple[str, ...]
    ini_explainers: tuple[str, ...]
    ini_thresholds: str
    ini_data: str | None
    ini_concepts: str | None
    ini_limit: int | None
    ini_device: str
    ini_seed: int
    ini_batch: int | None
    ini_runs: str

    @property
    def fixture_models(self) -> tuple[str, ...]:
        """The models that tests with the fixture ``xai_model`` run on."""
        return self.models or self.ini_models

    @property
    def fixture_explainers(self) -> tuple[str, ...]:
        """The explainers that tests with the fixture ``xai_explainer`` run on."""
        return self.explainers or self.ini_explainers

    def as_options(self) -> list[str]:
        """Return what was asked for on the command line, as far as it changes a verdict."""
        options: list[tuple[str, str]] = [("model", model) for model in self.models]
        for model, weights in self.weights.items():
            options.append(("weights", f"{model}={weights}" if model else weights))
        options += [("thresholds", path) for path in self.thresholds]
        options += [("data", source.option) for source in self.data]
        changing = ("concepts", "limit", "device", "seed", "batch", "sequential")
        for name in (*changing, "calibrate", "compare"):
            value = getattr(self, name)
            if value is not None:
                options.append((name, str(value)))
        listed = [f"--xai-{name}={value}" for name, value in options]
        return [*listed, "--xai-strict"] if self.strict else listed

    def weights_of(self, model: str) -> str | None:
        """Return the weights given on the command line for ``model``."""
        return self.weights.get(model, self.weights.get(""))


def chosen(*sources: T | None) -> T | None:
    """Return the first of ``sources`` that is not None; give them in the order of precedence."""
    return next((source for source in sources if source is not None), None)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and ini name of the plugin."""
    group = parser.getgroup("xai", "explanation quality of image classifiers (pytest-xai)")
    add = group.addoption
    add(
        "--xai-model",
        action="append",
        default=[],
        metavar="NAME",
        help="gate this model on thresholds/NAME.toml (repeatable): demo, demo-shortcut, a "
        "torchvision name such as densenet121, timm:NAME, package.module:function",
    )
    add(
        "--xai-explainer",
        action="append",
        default=[],
        metavar="NAME",
        help="run tests with the fixture xai_explainer on this explainer (repeatable): gradcam, "
        "'integrated_gradients(steps=20)', captum:NAME, package.module:Class",
    )
    add(
        "--xai-explainers",
        action="store_true",
        help="list all explainers with their parameters, needs and papers, and exit",
    )
    add(
        "--xai-metrics",
        action="store_true",
        help="list all metrics with protocol, direction, range, needs and settings, and exit",
    )
    add(
        "--xai-weights",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="the model's weights: a .safetensors, .pth or .pt state dict, 'random', or a name of "
        "torchvision's registry; NAME= says whose, with several models",
    )
    add(
        "--xai-data",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="the images: a folder with images/, masks/ and labels.csv, a COCO instance file, "
        "package.module:function, or 'demo'; repeat it to hold the same gates on several sets, "
        "NAME= is what a set is called (default: the name of the folder)",
    )
    add(
        "--xai-concepts",
        metavar="DIR",
        help="the concepts: a folder with one folder of images for each and one called 'random' "
        "with counterexamples, or 'demo'",
    )
    add(
        "--xai-thresholds",
        action="append",
        default=[],
        metavar="PATH",
        help="a threshold file, or a folder with one for each model (default: the ini "
        "xai_thresholds, 'thresholds')",
    )
    add("--xai-limit", type=_at_least(1), metavar="N", help="take the first N images only")
    add("--xai-device", metavar="NAME", help="cpu, cuda, cuda:1, mps or auto (default: cpu)")
    add(
        "--xai-seed",
        type=_at_least(0),
        metavar="N",
        help="seed of everything random that does not set its own (default: 0)",
    )
    add("--xai-batch", type=_at_least(1), metavar="N", help="images in one pass (default: by size)")
    add(
        "--xai-strict",
        action="store_true",
        help="pass only what is proven: a gate whose confidence interval holds the threshold fails",
    )
    add(
        "--xai-sequential",
        nargs="?",
        const="set",
        choices=("set", "population"),
        metavar="set|population",
        help="measure a gate on images in random order until they settle it; the verdict is about "
        "the mean of the image set (set, the default), or of what it was drawn from (population)",
    )
    add(
        "--xai-advisory",
        action="store_true",
        help="report everything and fail nothing: a gate that would fail warns, and is counted",
    )
    add(
        "--xai-update",
        nargs="?",
        const="new",
        choices=("new", "failing", "all"),
        metavar="new|failing|all",
        help="write measured thresholds into the threshold files, and a file where a model has "
        "none: of gates without one (new, the default), also of gates that failed (failing), or "
        "of all; review and commit what it writes",
    )
    add(
        "--xai-allow-loosen",
        action="store_true",
        help="let --xai-update write thresholds that demand less than those that stand",
    )
    add(
        "--xai-calibrate",
        type=_at_least(2),
        metavar="K",
        help="instead of holding gates, measure each with K seeds: show how far it moves with seed "
        "and images, how often its threshold is a false alarm, and propose one",
    )
    add(
        "--xai-calibrate-rate",
        type=_rate,
        default=0.01,
        metavar="RATE",
        help="the rate of false alarms that --xai-calibrate proposes thresholds for (default: .01)",
    )
    add(
        "--xai-save",
        metavar="NAME",
        help="save every measurement of every image as NAME in the folder of the ini xai_runs "
        "('xai_runs'), for --xai-compare",
    )
    add(
        "--xai-compare",
        metavar="NAME|PATH|last",
        help="hold gates that say `not_worse_by` against a saved run too, image by image",
    )
    add("--xai-json", metavar="PATH", help="write every measurement as JSON to this file")
    add(
        "--xai-cache",
        metavar="DIR|off",
        help="keep explanations and measurements in this folder, and take from it what an earlier "
        "run computed of the same weights, images, explainers and metrics (default: the ini "
        "xai_cache, or off)",
    )
    add(
        "--xai-cache-limit",
        type=_at_least(1),
        metavar="MIB",
        help="how large that folder may get; what was not used for longest goes first "
        "(default: 2048)",
    )
    ini = parser.addini
    ini("xai_models", "models for the fixture xai_model without --xai-model", type="args")
    ini(
        "xai_explainers",
        "explainers for the fixture xai_explainer without --xai-explainer",
        type="args",
    )
    ini("xai_thresholds", "folder of the threshold files", default="thresholds")
    ini("xai_data", "image set of a threshold file that names none", default="")
    ini("xai_concepts", "folder of concepts of a threshold file that names none", default="")
    ini("xai_limit", "take the first so many images only", default="")
    ini("xai_device", "cpu, cuda, cuda:1, mps or auto", default="cpu")
    ini("xai_seed", "seed of everything random", default="0")
    ini("xai_batch", "images in one pass", default="")
    ini("xai_runs", "folder of the runs that --xai-save saves", default="xai_runs")
    ini("xai_cache", "folder of results of earlier runs, or off", default="off")
    ini("xai_cache_limit", "how large the folder of xai_cache may get, in MiB", default="")


def read_settings(config: pytest.Config) -> Settings:
    """Return the settings of this run.

    Raises:
        pytest.UsageError: an option or ini value that cannot be.
    """
    option = config.getoption
    models = tuple(dict.fromkeys(option("--xai-model")))
    ini_models = tuple(config.getini("xai_models"))
    json_path = option("--xai-json")
    return Settings(
        models=models,
        explainers=tuple(dict.fromkeys(option("--xai-explainer"))),
        weights=_weights(option("--xai-weights"), models or ini_models),
        data=image_sources(option("--xai-data")),
        concepts=option("--xai-concepts") or None,
        thresholds=tuple(option("--xai-thresholds")),
        limit=option("--xai-limit"),
        device=option("--xai-device"),
        seed=option("--xai-seed"),
        batch=option("--xai-batch"),
        strict=option("--xai-strict"),
        sequential=option("--xai-sequential"),
        advisory=option("--xai-advisory"),
        update=option("--xai-update"),
        allow_loosen=option("--xai-allow-loosen"),
        calibrate=option("--xai-calibrate"),
        calibrate_rate=option("--xai-calibrate-rate"),
        save=option("--xai-save"),
        compare=option("--xai-compare"),
        json=Path(os.path.abspath(json_path)) if json_path else None,  # noqa: PTH100 - no symlinks
        cache=_cache(config),
        cache_limit=chosen(
            option("--xai-cache-limit"), _ini_number(config, "xai_cache_limit", least=1)
        ),
        ini_models=ini_models,
        ini_explainers=tuple(config.getini("xai_explainers")),
        ini_thresholds=config.getini("xai_thresholds"),
        ini_data=config.getini("xai_data") or None,
        ini_concepts=config.getini("xai_concepts") or None,
        ini_limit=_ini_number(config, "xai_limit", least=1),
        ini_device=config.getini("xai_device"),
        ini_seed=_ini_number(config, "xai_seed", least=0) or 0,
        ini_batch=_ini_number(config, "xai_batch", least=1),
        ini_runs=config.getini("xai_runs") or "xai_runs",
    )


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process is a worker of pytest-xdist, which shows and writes nothing."""
    return hasattr(config, "workerinput")


def project_root(config: pytest.Config) -> Path:
    """Return the folder that paths in ini and threshold files are relative to.

    It is pytest's root directory, unless pytest was led astray: before it knows our options, it
    takes ``--xai-data PATH`` for the path of a test, and looks for its ini file around that.
    """
    started_in = config.invocation_params.dir
    found = config.inipath is not None or config.getoption("rootdir")
    return config.rootpath if found and started_in.is_relative_to(config.rootpath) else started_in


def _cache(config: pytest.Config) -> Path | None:
    """Return the folder of the cache; the ini's is relative to the project's root."""
    given = config.getoption("--xai-cache")
    if given is not None:
        return None if given in ("", "off") else Path(os.path.abspath(given))  # noqa: PTH100
    ini = config.getini("xai_cache")
    return None if ini in ("", "off") else project_root(config) / ini


def _at_least(least: int) -> Callable[[str], int]:
    """Return what reads a whole number, and says what it expected of any other text."""

    def number(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = least - 1
        if found < least:
            msg = f"expected a whole number, {least} or more, got {text!r}"
            raise argparse.ArgumentTypeError(msg)
        return found

    return number


def _rate(text: str) -> float:
    """Return a number between 0 and 1."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1:
        msg = f"expected a rate between 0 and 1, such as 0.01, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return found


def _ini_number(config: pytest.Config, name: str, *, least: int) -> int | None:
    text = str(config.getini(name)).strip()
    if not text:
        return None
    try:
        return _at_least(least)(text)
    except argparse.ArgumentTypeError as error:
        msg = f"ini {name}: {error}"
        raise pytest.UsageError(msg) from None


def _weights(given: list[str], models: tuple[str, ...]) -> dict[str, str]:
    weights: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if equals and (name in models or (not models and os.sep not in name)):
            weights[name] = path
        elif len(models) <= 1:
            weights[""] = text
        else:
            msg = (
                f"--xai-weights {text!r}: with several models say whose they are, e.g. "
                f"--xai-weights {models[0]}={text}"
            )
            raise pytest.UsageError(msg)
    return weights
