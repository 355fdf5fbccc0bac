"""Where a network's weights come from: a file, a fetch that is announced, a seed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from xai_core.errors import ClassifierError, WeightsError, did_you_mean

_log = logging.getLogger("xai_core")

RANDOM = "random"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's generator within the block, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it also seeds accelerators, which are not put back.
        torch.default_generator.manual_seed(seed)
        yield


def weights_by_model(texts: Iterable[str], models: Sequence[str], *, option: str) -> dict[str, str]:
    """Read texts ``NAME=FILE`` or ``NAME=random`` of a command line: model -> weights.

    >>> weights_by_model(["resnet50=random"], ["resnet50", "vgg11"], option="--weights")
    {'resnet50': 'random'}

    Args:
        texts: as they were given.
        models: the names there are.
        option: how an error calls where they were given.

    Raises:
        WeightsError: a text of another form, or a name that is not among ``models``.
    """
    found: dict[str, str] = {}
    for text in texts:
        model, equals, source = text.partition("=")
        if not equals or not source:
            msg = f"{option} {text}: expected NAME=FILE or NAME={RANDOM}"
            raise WeightsError(msg)
        if model not in models:
            msg = f"{option} {text}: no such model here: {did_you_mean(model, models)}"
            raise WeightsError(msg)
        found[model] = source
    return found


def named_file(name: str, weights: str | Path | None, entries: list[str]) -> Path:
    """Return the file that ``weights`` means.

    Raises:
        WeightsError: it looks like a mistyped name of published weights.
    """
    path = Path(weights or "")
    if path.name == str(weights) and not path.suffix and not path.exists():
        known = did_you_mean(str(weights), [RANDOM, *entries])
        msg = f"{name}: no weights called {str(weights)!r}, and no such file; {known}"
        raise WeightsError(msg)
    return path


def require_classes(asked: int | None, there: int, source: str) -> None:
    """Raise if the number of classes asked for is not the one that the weights have.

    Raises:
        ClassifierError: they differ.
    """
    if asked is not None and asked != there:
        msg = (
            f"num_classes={asked}, but {source} has {there} classes; leave num_classes out, or "
            f"give weights={RANDOM!r}"
        )
        raise ClassifierError(msg)


def announce(what: str) -> None:
    """Say what is about to be fetched, and how to give a file instead."""
    # A warning, because nobody should touch the network unseen.
    _log.warning("fetching weights: %s; to stay offline give a file with weights=PATH", what)


def unfetched(what: str, error: Exception) -> WeightsError:
    """Return the error for weights that could not be fetched."""
    return WeightsError(
        f"the weights of {what} could not be fetched ({short(error)}); give a local file with "
        f"weights=PATH, or weights={RANDOM!r} for an untrained network"
    )


def short(error: BaseException) -> str:
    """Return kind and first line of an error."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
