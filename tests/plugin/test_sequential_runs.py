"""``--xai-sequential``: gates that stop early, and what the report says of them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import conftest
import pytest

if TYPE_CHECKING:
    from conftest import Project

MANY = """\
import numpy as np

def images():
    for index in range(48):
        image = np.full((3, 16, 16), 0.1, dtype=np.float32)
        mask = np.zeros((16, 16), dtype=bool)
        mask[3 + index % 5:10, 1 + index % 6:8 + index % 3] = True
        image[index % 3][mask] = 1.0
        yield f"image-{index:02}", image, mask, index % 3

def blanks():
    for name, image, mask, label in images():
        yield name, image * 0 if name < "image-20" else image, mask, label
"""
HEAD = conftest.HEAD.replace("tiny:images", "many:images")
GATES = """\
[explainers.gradcam]
[explainers.centre]
[gates.gradcam]
iou = { above = 0.4, beats = "centre" }
complexity = { below = 9.0 }
sufficiency = { below = 1.0 }
[gates.centre]
iou = { above = 0.9 }
"""


@pytest.fixture
def many(project: Project) -> Project:
    project.pytester.makepyfile(many=MANY)
    project.thresholds(GATES, head=HEAD)
    return project


def rows_of(found: dict[str, Any]) -> dict[str, Any]:
    return {f"{row['gate']}[{row['method']}]": row for row in found["gates"]}


def test_gates_stop_early_and_the_table_says_of_how_many_images(many: Project) -> None:
    result = many.run("--xai-model", "tiny", "--xai-sequential")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "iou[[]centre[]] tiny: * < 0.900 (95% CI *, n=8 of 48)",
            "  pytest --xai-model=tiny --xai-sequential=set thresholds/tiny.toml::centre::iou",
            "48 images of many:images, top-1 accuracy 1.000",
            "  iou *  >= 0.400 * 16 of 48 *pass",
            "    over centre *",
            "  complexity * all 48 *pass",
            "  sufficiency * all 48 *pass",
            "  iou *  >= 0.900 * 8 of 48 *fail",
            "sequential: 8 (iou[[]centre[]]) to 16 (iou[[]gradcam[]]) of 48 images settled 2 gates;",
            "  72 of 96 values were not needed",
            "measured in full: complexity[[]gradcam[]] (its values have no bounds),",
            "  sufficiency[[]gradcam[]] (each value rests on all images)",
        ]
    )


def test_only_as_many_images_as_are_needed_are_classified_and_explained(many: Project) -> None:
    many.thresholds("[explainers.gradcam]\n[gates.gradcam]\niou = { above = 0.4 }\n", head=HEAD)
    result = many.run("--xai-model", "tiny", "--xai-sequential", "--xai-json", "found.json")
    result.stdout.fnmatch_lines(
        [
            "48 images of many:images, top-1 accuracy 1.000 of the 8 that were classified",
            "sequential: 8 of 48 images settled iou[[]gradcam[]]; 40 of 48 values were not needed",
            "explaining: gradcam 8 gradients",
        ]
    )
    found = json.loads((many.path / "found.json").read_text())
    (facts,) = found["models"]
    assert (facts["images"], facts["classified"]) == (48, 8)
    (gate,) = found["gates"]
    assert (gate["images"], gate["of_images"], gate["in_full"]) == (8, 48, None)
    (cost,) = [cost for cost in found["costs"] if cost["stage"] == "explain"]
    assert cost["gradients"] == 8


def test_the_file_has_one_record_of_each_image_that_came(many: Project) -> None:
    found = many.json("--xai-model", "tiny", "--xai-sequential")
    rows = rows_of(found)
    assert rows["complexity[gradcam]"]["in_full"] == "its values have no bounds"
    for metric, method, count in [
        ("iou", "gradcam", 16),
        ("iou", "centre", 16),  # of which the null map is measured too
        ("complexity", "gradcam", 48),
        ("sufficiency", "gradcam", 48),
    ]:
        records = [
            record["image"]
            for record in found["measurements"]
            if (record["metric"], record["method"], record["explainer"]) == (metric, method, method)
        ]
        assert len(set(records)) == count, (metric, method)
    (facts,) = found["models"]
    assert facts["classified"] == 48


def test_one_explainer_under_two_names_has_records_under_both(many: Project) -> None:
    many.thresholds(
        "[explainers.gradcam]\n[explainers.again]\nkind = 'gradcam'\n"
        "[gates.gradcam]\niou = { above = 0.4 }\n[gates.again]\niou = { above = 0.4 }\n",
        head=HEAD,
    )
    found = many.json("--xai-model", "tiny", "--xai-sequential")
    methods = [record["method"] for record in found["measurements"]]
    assert methods.count("gradcam") == methods.count("again") == 8


def test_verdicts_are_those_of_all_images(many: Project) -> None:
    whole = rows_of(many.json("--xai-model", "tiny"))
    found = rows_of(many.json("--xai-model", "tiny", "--xai-sequential"))
    for name, row in found.items():
        assert row["passed"] is whole[name]["passed"]
        assert whole[name]["of_images"] is None
    for name in ("complexity[gradcam]", "sufficiency[gradcam]"):
        assert found[name]["demands"] == whole[name]["demands"]


def test_the_same_seed_gives_the_same_with_and_without_a_cache(many: Project) -> None:
    asked = ("--xai-model", "tiny", "--xai-sequential")
    plain = many.json(*asked)
    for _ in range(2):
        cached = many.json(*asked, "--xai-cache", "cache")
        assert cached["gates"] == plain["gates"]
        assert cached["measurements"] == plain["measurements"]
    assert cached["cache"]["found"] == cached["cache"]["looked_up"] > 0
    other = many.json(*asked, "--xai-seed", "3")
    images = [
        {record["image"] for record in found["measurements"] if record["metric"] == "iou"}
        for found in (plain, other)
    ]
    assert images[0] != images[1]


def test_images_without_a_value_end_it_at_once(many: Project) -> None:
    many.thresholds(
        "[explainers.gradcam]\n[gates.gradcam]\niou = { above = 0.4, undefined = 2 }\n",
        head=HEAD.replace("many:images", "many:blanks"),
    )
    result = many.run("--xai-model", "tiny", "--xai-sequential")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"iou\[gradcam\] tiny: \d of 8 images undefined, 2 allowed \(image-\d\d: .*zero every",
            r"sequential: 8 of 48 images settled iou\[gradcam\]; .*",
        ]
    )


def test_a_gate_about_the_population_may_stay_unsettled(many: Project) -> None:
    many.thresholds("[explainers.centre]\n[gates.centre]\niou = { above = 0.0 }\n", head=HEAD)
    (gate,) = many.json("--xai-model", "tiny")["gates"]
    near = f"iou = {{ above = {gate['mean'] - 0.001} }}"
    many.thresholds(f"[explainers.centre]\n[gates.centre]\n{near}\n", head=HEAD)
    of_set = many.run("--xai-model", "tiny", "--xai-sequential", "--xai-strict")
    of_set.assert_outcomes(passed=1)
    of_set.stdout.fnmatch_lines(["  iou * 48 of 48 *pass"])
    result = many.run("--xai-model", "tiny", "--xai-sequential=population", "--xai-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "iou[[]centre[]] tiny: * n=48 of 48): not proven",
            "  iou * 48 of 48 *fail[?]",
            "not settled by all images: iou[[]centre[]]",
        ]
    )


@pytest.mark.parametrize(
    "other",
    [["--xai-update"], ["--xai-calibrate", "3"], ["--xai-save", "x"], ["--xai-compare", "last"]],
    ids=lambda args: args[0],
)
def test_it_excludes_what_needs_every_image(other: list[str], many: Project) -> None:
    result = many.run("--xai-model", "tiny", "--xai-sequential", *other)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --xai-sequential and {other[0]} exclude each other: *"])


def test_a_run_that_is_not_sequential_says_nothing_of_it(many: Project) -> None:
    result = many.run("--xai-model", "tiny")
    assert not re.search(r"sequential:|measured in full|of 48", result.stdout.str())
