"""A test of a concept as it may come out, without a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xai_core.concepts import TCAV, TCAVResult
from xai_core.statistics import Interval


def tcav_result(**changes: object) -> TCAVResult:
    """A concept that is learnt and present, of one test, with changes."""
    result = TCAVResult(
        tcav=TCAV(layer="body"),
        concept="ruler",
        against="random",
        model="net",
        target=3,
        layer="body",
        names=("one.png", "two.png"),
        concept_images=60,
        counterexamples=240,
        set_size=50,
        score=0.9,
        score_interval=Interval(0.7, 1.0),
        null_scores=(0.5, 0.3),
        magnitude_score=0.9,
        sensitivities=np.array([0.1, -2.0]),
        alignment=0.3,
        null_alignments=(0.0, 0.1),
        detectable=0.3,
        p=0.03,
        p_corrected=0.03,
        tests=1,
        logit_change=1.0,
        effect=0.3,
        effect_interval=Interval(0.1, 0.5),
        accuracy=0.9,
        accuracy_interval=Interval(0.8, 0.95),
        seconds=0.1,
        passes=10,
    )
    return replace(result, **changes)  # type: ignore[arg-type]
