"""Explainers: one file per family, each explainer a frozen dataclass of its parameters.

PYTEST_DONT_REWRITE
"""

from xai_core.explainers.attention import AttentionRollout, GradientRollout
from xai_core.explainers.blur_path import BlurIG
from xai_core.explainers.cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from xai_core.explainers.combination import Combination, combine
from xai_core.explainers.deeplift import DeepLIFT
from xai_core.explainers.expected import ExpectedGradients
from xai_core.explainers.explanation import Complete, Explainer, Explanation, reduce_channels
from xai_core.explainers.gradient import GradientTimesInput, Saliency
from xai_core.explainers.guided import GuidedBackprop
from xai_core.explainers.guided_path import GuidedIG
from xai_core.explainers.hybrids import GuidedGradCAM, IGTimesGradCAM
from xai_core.explainers.integrated_cam import IntegratedGradCAM
from xai_core.explainers.lime import LIME
from xai_core.explainers.lrp import LRP
from xai_core.explainers.noise import SmoothGrad, SmoothGradSquared, VarGrad
from xai_core.explainers.nulls import (
    NULL_MAPS,
    CentreMap,
    InvertedMap,
    RandomMap,
    SobelMap,
    null_maps,
)
from xai_core.explainers.occlusion import Occlusion
from xai_core.explainers.path import IntegratedGradients
from xai_core.explainers.registry import (
    EXPLAINERS,
    build_explainer,
    parse_explainer,
    split_explainer,
)
from xai_core.explainers.rise import RISE
from xai_core.explainers.score_cam import AblationCAM, EigenCAM, ScoreCAM
from xai_core.explainers.shap import KernelSHAP

__all__ = [
    "EXPLAINERS",
    "LIME",
    "LRP",
    "NULL_MAPS",
    "RISE",
    "AblationCAM",
    "AttentionRollout",
    "BlurIG",
    "CentreMap",
    "Combination",
    "Complete",
    "DeepLIFT",
    "EigenCAM",
    "ExpectedGradients",
    "Explainer",
    "Explanation",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientRollout",
    "GradientTimesInput",
    "GuidedBackprop",
    "GuidedGradCAM",
    "GuidedIG",
    "HiResCAM",
    "IGTimesGradCAM",
    "IntegratedGradCAM",
    "IntegratedGradients",
    "InvertedMap",
    "KernelSHAP",
    "LayerCAM",
    "Occlusion",
    "RandomMap",
    "Saliency",
    "ScoreCAM",
    "SmoothGrad",
    "SmoothGradSquared",
    "SobelMap",
    "VarGrad",
    "XGradCAM",
    "build_explainer",
    "combine",
    "null_maps",
    "parse_explainer",
    "reduce_channels",
    "split_explainer",
]
