"""Concepts: what a class rests on, tested with concept activation vectors, shown as maps.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from xai_core.concepts.cav import CAVs, fit_cavs, gram_matrix
from xai_core.concepts.features import FeatureStore, LayerFeatures
from xai_core.concepts.interaction import Interaction, interaction
from xai_core.concepts.loading import ConceptLibrary, concept_set, load_concept, load_concepts
from xai_core.concepts.result import TCAVResult, Verdict
from xai_core.concepts.tcav import TCAV, corrected

__all__ = [
    "TCAV",
    "CAVs",
    "ConceptLibrary",
    "FeatureStore",
    "Interaction",
    "LayerFeatures",
    "TCAVResult",
    "Verdict",
    "concept_set",
    "corrected",
    "fit_cavs",
    "gram_matrix",
    "interaction",
    "load_concept",
    "load_concepts",
]
