"""Which explainers are surveyed, with which parameters, and what the table calls them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from xai_core.explainers import EXPLAINERS, Explainer, build_explainer, parse_explainer
from xai_core.parameters import identity

CAPTUM = ("captum:Deconvolution", "captum:InputXGradient")
"""Two of the bridge, for all of it: one that hooks into ReLUs, one that takes a plain gradient."""

QUICK: Mapping[str, Mapping[str, Any]] = {
    "integrated_gradients": {"steps": 25},
    "ig_times_gradcam": {"steps": 25},
    "integrated_gradcam": {"steps": 25},
    "blur_ig": {"steps": 25},
    "guided_ig": {"steps": 25},
    "combine": {"b": "integrated_gradients(steps=25)"},
    "expected_gradients": {"samples": 25},
    "smoothgrad": {"samples": 10},
    "smoothgrad_squared": {"samples": 10},
    "vargrad": {"samples": 10},
    "rise": {"masks": 300},
    "occlusion": {"window": 32, "stride": 16},
    "lime": {"samples": 150},
    "kernel_shap": {"samples": 150},
}
"""What ``--quick`` changes: the parameters that the cost hangs on, enough for a first look.

Score-CAM and Ablation-CAM are not among them: they take one forward for each channel of the layer
and have no parameter to make that fewer. Give them fewer images instead.
"""


def chosen(texts: Sequence[str], *, quick: bool) -> list[Explainer]:
    """Return the explainers that ``texts`` name, all where there are none, none of them twice.

    Quick parameters are for names alone: a text with parameters of its own means these.

    Raises:
        ParameterError: a text names no explainer, or gives it what it cannot take.
    """
    found: dict[str, Explainer] = {}
    for text in texts or everything():
        name = text.strip()
        is_quick = quick and name in QUICK
        explainer = build_explainer(name, QUICK[name]) if is_quick else parse_explainer(name)
        # An evaluation explains once: a second row of the same would cost nothing.
        found.setdefault(identity(explainer.kind, explainer), explainer)
    return list(found.values())


def everything() -> list[str]:
    """Return the names of the registry, and of the bridge where Captum is installed."""
    return [*EXPLAINERS, *(CAPTUM if find_spec("captum") else ())]


def title(explainer: Explainer) -> str:
    """Return kind and parameters: those not at their defaults, and those that the cost hangs on."""
    costly = QUICK.get(explainer.kind, {})
    shown = []
    for field in dataclasses.fields(explainer):  # type: ignore[arg-type]  # a dataclass by contract
        value = getattr(explainer, field.name)
        if field.name in costly or value != field.default:
            shown.append(f"{field.name}={value!r}")
    return f"{explainer.kind}({', '.join(shown)})" if shown else explainer.kind
