"""Gates on the number of failing images and on every class, as a run shows and reports them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

# The centre's IoU differs from image to image; the six images are of three classes in turn.
CENTRE = "[explainers.centre]\n[gates.centre]\n"


def test_max_failures_counts_the_images_on_the_wrong_side(project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {{ above = 0.9, max_failures = 2 }}\n")
    result = project.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "iou[[]centre[]] tiny: 6 images < 0.900, 2 allowed (95% CI *..6.000, n=6, detects *)",
            "worst class: ? 0.*, n=2",
            "    images < 0.900 * 6  <= 2 *",
        ]
    )
    project.thresholds(f"{CENTRE}iou = {{ above = 0.9, max_failures = 6 }}\n")
    assert project.run("--xai-model", "tiny").ret == pytest.ExitCode.OK


def test_per_class_names_the_worst_class_and_the_json_has_them_all(project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {{ above = 0.9, per_class = true }}\n")
    (gate,) = project.json("--xai-model", "tiny")["gates"]
    means = {name: one["mean"] for name, one in gate["classes"].items()}
    assert {name: one["images"] for name, one in gate["classes"].items()} == dict.fromkeys("012", 2)
    worst = min(means, key=lambda name: means[name])
    (demand,) = gate["demands"]
    assert demand["of"] == "worst class"
    assert demand["value"] == means[worst]
    assert gate["mean"] == pytest.approx(sum(means.values()) / 3)
    result = project.run("--xai-model", "tiny")
    result.stdout.fnmatch_lines(
        [
            f"iou[[]centre[]] tiny: worst of 3 classes '{worst}' {means[worst]:.3f} < 0.900 "
            "(95% CI *..*, n=2)",
            "    worst class * >= 0.900 *",
        ]
    )
    result.stdout.no_fnmatch_line("worst class: *")


def test_a_failing_gate_names_the_worst_class(project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {{ above = 0.9 }}\n")
    (gate,) = project.json("--xai-model", "tiny")["gates"]
    worst = min(gate["classes"], key=lambda name: gate["classes"][name]["mean"])
    result = project.run("--xai-model", "tiny")
    result.stdout.fnmatch_lines(
        [
            "iou[[]centre[]] tiny: * < 0.900 *",
            f"worst class: {worst} {gate['classes'][worst]['mean']:.3f}, n=2",
            "worst images:",
        ]
    )


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        ("above = 0.5, max_failures = -1", "`max_failures` is a number of images"),
        ("above = 0.5, max_failures = 1.5", "max_failures"),
        ("above = 0.5, mostly = 0.9, max_failures = 1", "exclude each other"),
        ("above = 0.5, per_class = 1", "per_class"),
    ],
)
def test_a_mistake_names_line_and_key(demand: str, message: str, project: Project) -> None:
    project.thresholds(f"{CENTRE}iou = {{ {demand} }}\n")
    result = project.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*thresholds/tiny.toml:11: gates.centre.iou: *{message}*"])
