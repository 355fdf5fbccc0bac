"""Explainers by name, from a threshold file's table or from a text."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from typing import cast

from xai_core.errors import ParameterError, did_you_mean
from xai_core.explainers import captum_bridge
from xai_core.explainers.attention import AttentionRollout, GradientRollout
from xai_core.explainers.blur_path import BlurIG
from xai_core.explainers.cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from xai_core.explainers.combination import Combination
from xai_core.explainers.deeplift import DeepLIFT
from xai_core.explainers.expected import ExpectedGradients
from xai_core.explainers.explanation import Explainer
from xai_core.explainers.gradient import GradientTimesInput, Saliency
from xai_core.explainers.guided import GuidedBackprop
from xai_core.explainers.guided_path import GuidedIG
from xai_core.explainers.hybrids import GuidedGradCAM, IGTimesGradCAM
from xai_core.explainers.integrated_cam import IntegratedGradCAM
from xai_core.explainers.lime import LIME
from xai_core.explainers.lrp import LRP
from xai_core.explainers.noise import SmoothGrad, SmoothGradSquared, VarGrad
from xai_core.explainers.nulls import CentreMap, InvertedMap, RandomMap, SobelMap
from xai_core.explainers.occlusion import Occlusion
from xai_core.explainers.path import IntegratedGradients
from xai_core.explainers.rise import RISE
from xai_core.explainers.score_cam import AblationCAM, EigenCAM, ScoreCAM
from xai_core.explainers.shap import KernelSHAP
from xai_core.parameters import from_table, parse_call

EXPLAINERS: dict[str, type[Explainer]] = {
    cls.kind: cls
    for cls in (
        GradCAM,
        GradCAMPlusPlus,
        HiResCAM,
        LayerCAM,
        XGradCAM,
        ScoreCAM,
        AblationCAM,
        EigenCAM,
        IntegratedGradCAM,
        AttentionRollout,
        GradientRollout,
        GuidedGradCAM,
        IGTimesGradCAM,
        Combination,
        IntegratedGradients,
        RandomMap,
        CentreMap,
        SobelMap,
        InvertedMap,
        GuidedBackprop,
        RISE,
        Occlusion,
        LIME,
        KernelSHAP,
        Saliency,
        GradientTimesInput,
        SmoothGrad,
        SmoothGradSquared,
        VarGrad,
        ExpectedGradients,
        BlurIG,
        GuidedIG,
        DeepLIFT,
        LRP,
    )
}
"""Every explainer by the name that threshold files use."""


def build_explainer(kind: str, parameters: Mapping[str, object]) -> Explainer:
    """Return the explainer ``kind`` with ``parameters``, names and types checked.

    Args:
        kind: a name in `EXPLAINERS`, ``"captum:NAME"`` for a class of ``captum.attr``, or
            ``"package.module:Class"`` for one of your own.
        parameters: its fields.

    Raises:
        ParameterError: an unknown kind or parameter (with the nearest name), a wrong type.
    """
    cls: type[Explainer] | None
    if kind.startswith(captum_bridge.PREFIX):
        cls = captum_bridge.captum_explainer(kind.removeprefix(captum_bridge.PREFIX))
    else:
        cls = _imported(kind) if ":" in kind else EXPLAINERS.get(kind)
    if cls is None:
        msg = f"no explainer {kind!r}: {did_you_mean(kind, EXPLAINERS)}"
        raise ParameterError(msg)
    return from_table(cls, parameters, what=f"explainer {kind!r}")


def parse_explainer(text: str) -> Explainer:
    """Return the explainer that ``"kind"`` or ``"kind(parameter=value)"`` names.

    One of your own is named by where it stands: ``"package.module:Class(parameter=value)"``.

    >>> parse_explainer("integrated_gradients(steps=20)").steps
    20

    Raises:
        ParameterError: another form, an unknown kind or parameter, a wrong type.
    """
    return build_explainer(*split_explainer(text))


def split_explainer(text: str) -> tuple[str, dict[str, object]]:
    """Return the kind and the parameters in the text of an explainer; see `parse_explainer`.

    >>> split_explainer("captum:Occlusion(strides=4)")
    ('captum:Occlusion', {'strides': 4})

    Raises:
        ParameterError: the text is not of that form.
    """
    spec = re.match(r"\s*([\w.]+:)", text)
    module = spec[1] if spec else ""
    kind, parameters = parse_call(text.strip().removeprefix(module))
    return module + kind, parameters


def _imported(spec: str) -> type[Explainer]:
    module_name, _, name = spec.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # the user's own module may raise anything
        msg = f"explainer {spec!r} cannot be imported: {error}"
        raise ParameterError(msg) from error
    promises = hasattr(cls, "explain") and hasattr(cls, "kind")
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls) and promises):
        msg = (
            f"explainer {spec!r} must be a frozen dataclass with a `kind` and a method "
            "`explain(classifier, images, targets)`"
        )
        raise ParameterError(msg)
    return cast(type[Explainer], cls)
