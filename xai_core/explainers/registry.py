"""Explainers by name, from a threshold file's table or from a text."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from xai_core.errors import ParameterError, did_you_mean
from xai_core.explainers.cam import GradCAM
from xai_core.explainers.explanation import Explainer
from xai_core.explainers.nulls import CentreMap, InvertedMap, RandomMap, SobelMap
from xai_core.explainers.path import IntegratedGradients
from xai_core.parameters import from_table, parse_call

EXPLAINERS: dict[str, type[Explainer]] = {
    cls.kind: cls
    for cls in (GradCAM, IntegratedGradients, RandomMap, CentreMap, SobelMap, InvertedMap)
}
"""Every explainer by the name that threshold files use."""


def build_explainer(kind: str, parameters: Mapping[str, object]) -> Explainer:
    """Return the explainer ``kind`` with ``parameters``, names and types checked.

    Args:
        kind: a name in `EXPLAINERS`, or ``"package.module:Class"`` for one of your own.
        parameters: its fields.

    Raises:
        ParameterError: an unknown kind or parameter (with the nearest name), a wrong type.
    """
    cls = _imported(kind) if ":" in kind else EXPLAINERS.get(kind)
    if cls is None:
        msg = f"no explainer {kind!r}: {did_you_mean(kind, EXPLAINERS)}"
        raise ParameterError(msg)
    return from_table(cls, parameters, what=f"explainer {kind!r}")


def parse_explainer(text: str) -> Explainer:
    """Return the explainer that ``"kind"`` or ``"kind(parameter=value)"`` names.

    >>> parse_explainer("integrated_gradients(steps=20)").steps
    20
    """
    kind, parameters = parse_call(text)
    return build_explainer(kind, parameters)


def _imported(spec: str) -> type[Explainer]:
    module_name, _, name = spec.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        msg = f"explainer {spec!r} cannot be imported: {error}"
        raise ParameterError(msg) from error
    if not (isinstance(cls, type) and hasattr(cls, "explain") and hasattr(cls, "kind")):
        msg = (
            f"explainer {spec!r} must be a frozen dataclass with a `kind` and a method "
            "`explain(classifier, images, targets)`"
        )
        raise ParameterError(msg)
    return cls
