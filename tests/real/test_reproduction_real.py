"""Other kernels of the same library round otherwise: that is no other computation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from xai_core import (
    METRICS,
    Evaluation,
    IntegratedGradients,
    Method,
    load_classifier,
    load_imageset,
)
from xai_core.arrays import Float64
from xai_core.statistics import reproduction

DATA = Path(__file__).parents[3] / "shared/data"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside this repository"),
]


def measured(*, onednn: bool) -> dict[str, Float64]:
    before, *_ = torch.backends.mkldnn.set_flags(onednn)
    try:
        classifier = load_classifier("resnet50", weights=DATA / "weights/resnet50.safetensors")
        images = load_imageset(DATA / "coco", size=classifier.size, limit=8)
        evaluation, ig = Evaluation(classifier, images), Method("ig", IntegratedGradients(steps=8))
        return {
            name: evaluation.measure(ig, METRICS[name].configure({})).values
            for name in ("completeness", "energy_pointing_game", "sparseness")
        }
    finally:
        torch.backends.mkldnn.set_flags(before)


def test_integrated_gradients_of_other_kernels_are_reproduced() -> None:
    """A thousandth of completeness itself is not: rounding flips ReLUs of the gradients."""
    usual, other = (measured(onednn=flag) for flag in (True, False))
    for name, values in other.items():
        metric = METRICS[name]
        found = reproduction(values, usual[name], bounds=metric.range, scale=metric.scale)
        assert found.moved <= 2, (name, found)
    assert (other["completeness"] != usual["completeness"]).any()  # they do round otherwise
