"""Gates on maps as the explainer made them, on boxes, objects and the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

SMOOTHED = """\
[explainers.gradcam]
postprocess = ["gaussian(sigma=3)"]
[gates.gradcam]
"""
OF_THE_PATCH = 1 - 36 / 256
"""The Gini index of tiny's Grad-CAM, a patch of 6 x 6 on 16 x 16 that is the same everywhere."""


def test_a_gate_on_a_native_map_does_not_see_the_post_processing(project: Project) -> None:
    demand = f"{{ above = {OF_THE_PATCH - 1e-6} }}"
    project.thresholds(f"{SMOOTHED}native_sparseness = {demand}\nsparseness = {demand}\n")
    result = project.run("--xai-model", "tiny")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["sparseness[[]gradcam[]] tiny: * < 0.859*"])


@pytest.mark.parametrize("beaten", ["centre", "random", "sobel", "inverted"])
def test_a_native_map_is_held_against_null_maps(beaten: str, project: Project) -> None:
    project.thresholds(f"{SMOOTHED}native_sparseness = {{ beats = '{beaten}' }}\n")
    project.run("--xai-model", "tiny").assert_outcomes(passed=1)


def test_boxes_objects_and_background_are_gated_as_any_other_metric(project: Project) -> None:
    project.thresholds(
        "[explainers.gradcam]\n[gates.gradcam]\n"
        "iou = { above = 0.99, region = 'box' }\n"
        "relevance_rank = { above = 0.99, skill_above = 0.9 }\n"
        "objects_found = { above = 1.0, overlap = 0.9 }\n"
        "far_background = { below = 0.01, beats = 'centre' }\n"
    )
    found = project.json("--xai-model", "tiny")
    assert [gate["protocol"] for gate in found["gates"]] == [
        "iou@v1(region=box)",
        "relevance_rank@arras-2022",
        "objects_found@v1(overlap=0.9)",
        "far_background@v1",
    ]
    assert [gate["mean"] for gate in found["gates"]] == [1.0, 1.0, 1.0, 0.0]
