"""A model from a function of the user's, ``package.module:function``."""

from __future__ import annotations

import importlib
import operator
import re
from collections.abc import Callable

from torch import nn

from xai_core.classifier.classifier import Classifier
from xai_core.classifier.weight_sources import seeded, short
from xai_core.errors import ClassifierError, did_you_mean
from xai_core.torchvision_import import with_torchvision


def call_factory(spec: str, seed: int) -> nn.Module | Classifier:
    """Import and call ``package.module:function``.

    Raises:
        ClassifierError: it cannot be imported, fails, or returns something else.
    """
    module_name, _, attribute = spec.partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", spec):
        msg = f"expected 'package.module:function', got {spec!r}"
        raise ClassifierError(msg)
    try:
        module = with_torchvision(lambda: importlib.import_module(module_name))
    except ModuleNotFoundError as error:
        absent = error.name or ""
        if not f"{module_name}.".startswith(f"{absent}."):
            msg = f"{spec!r}: importing {module_name} needs {absent!r}, which is not installed"
            raise ClassifierError(msg) from error
        msg = (
            f"{spec!r}: there is no module {absent!r}; it must be installed, or its folder be on "
            f"PYTHONPATH or in pytest's 'pythonpath'"
        )
        raise ClassifierError(msg) from None
    except Exception as error:  # whatever the user's module raises while it is imported
        msg = f"{spec!r}: importing {module_name} raised {short(error)}"
        raise ClassifierError(msg) from error
    try:
        factory = operator.attrgetter(attribute)(module)
    except AttributeError:
        public = [name for name in vars(module) if not name.startswith("_")]
        msg = f"{spec!r}: {module_name} has no {attribute!r}; {did_you_mean(attribute, public)}"
        raise ClassifierError(msg) from None
    if not callable(factory) or isinstance(factory, nn.Module):
        msg = (
            f"{spec!r} is a {type(factory).__name__}; expected a function without arguments that "
            f"returns an nn.Module"
        )
        raise ClassifierError(msg)
    try:
        made = with_torchvision(lambda: _call(factory, seed))
    except Exception as error:
        msg = f"{spec!r}, called without arguments, raised {short(error)}"
        raise ClassifierError(msg) from error
    if isinstance(made, nn.Module | Classifier):
        return made
    msg = f"{spec!r} returned a {type(made).__name__}; expected an nn.Module or a Classifier"
    raise ClassifierError(msg)


def _call(factory: Callable[[], object], seed: int) -> object:
    with seeded(seed):
        return factory()
