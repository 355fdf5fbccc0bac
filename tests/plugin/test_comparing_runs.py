"""``--xai-compare``: what a run says and decides beside a saved one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from releases import GATES, HEAD, PATCH, Releases

if TYPE_CHECKING:
    from conftest import Project

# Unlike an IoU of 1 on every image, which ten images do not prove to be the mean.
SPARSENESS = f"{PATCH}[gates.patch]\nsparseness = {{ above = 0.0, not_worse_by = 0.05 }}\n"
PASSED, FAILED, USAGE = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.USAGE_ERROR,
)


@pytest.fixture
def releases(project: Project) -> Releases:
    return Releases(project)


def test_an_unchanged_model_passes(releases: Releases) -> None:
    releases.save()
    result = releases.compare()
    assert result.ret == PASSED
    result.stdout.fnmatch_lines(
        [
            "    against v1  0.000  >= -0.050  *",
            "*= the last release: v1 =*",
            "compared with v1 (saved 20??-??-??): 1 gate, Holm; at most 2.5 % of the runs of an "
            "unchanged model raise any false alarm",
            "weights and normalisation: the same",
        ]
    )
    result.stdout.no_fnmatch_line("images: *")


def test_a_model_that_lost_more_than_the_margin_fails_with_its_own_words(
    releases: Releases,
) -> None:
    releases.save()
    result = releases.compare(moved={"1": 3, "2": 3, **{str(one): 1 for one in range(3, 10)}})
    assert result.ret == FAILED
    text = result.stdout.str()
    assert re.search(
        r"^iou\[patch\] tiny: -0\.\d{3} against v1, margin 0\.050 "
        r"\(95% CI -0\.\d{3}\.\.-0\.\d{3}, n=10\)$",
        text,
        re.MULTILINE,
    )
    result.stdout.fnmatch_lines(
        [
            "largest losses since v1: image-1 1.000 -> 0.333, image-2 1.000 -> 0.333, image-3 *",
            "worst images:",
            "  pytest --xai-model=tiny --xai-compare=v1 thresholds/tiny.toml::patch::iou",
            "    against v1  -0.*  >= -0.050  -0.*",
        ]
    )


def test_a_gate_without_a_margin_is_held_against_its_threshold_only(releases: Releases) -> None:
    releases.gates(f"{PATCH}[gates.patch]\niou = {{ above = 0.0 }}\n")
    releases.save()
    result = releases.compare(moved=5)
    assert result.ret == PASSED
    result.stdout.fnmatch_lines(
        ["no gate is compared with v1 (*); a gate asks for it with a margin, such as not_*"]
    )
    strict = releases.compare("--xai-strict")
    assert strict.ret == FAILED
    strict.stdout.fnmatch_lines(["no gate is compared with v1 (*: --xai-strict does not pass that"])
    assert releases.compare("--xai-strict", "--xai-advisory").ret == PASSED


def test_a_margin_without_an_earlier_run_changes_nothing(releases: Releases) -> None:
    result = releases.run(moved=5)
    assert result.ret == PASSED
    result.stdout.no_fnmatch_line("*against*")


def test_a_gate_on_each_image_compares_how_many_keep_its_bound(releases: Releases) -> None:
    asks = "above = 0.5, mostly = 0.1, not_worse_by = 0.2, reproducible = false"
    releases.gates(f"{PATCH}[gates.patch]\niou = {{ {asks} }}\n")
    releases.save()
    (row,) = releases.rows(moved=1)  # worse everywhere, but above the bound
    assert (row["difference"], row["loss_is_proven"]) == (0.0, False)
    (row,) = releases.rows(moved={str(one): 3 for one in range(8)})
    assert (row["difference"], row["loss_is_proven"]) == (pytest.approx(-0.8), True)
    result = releases.compare(moved={str(one): 3 for one in range(8)})
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["iou[[]patch[]] tiny: -0.800 against v1, margin 0.200 (*"])


def test_what_is_compared_stands_in_the_json_file(releases: Releases) -> None:
    releases.save()
    (row,) = releases.rows(moved=3)
    assert row["difference"] == pytest.approx(1 / 3 - 1)
    assert row["status"] == "compared"
    assert row["loss_is_proven"] is True
    assert (row["margin"], row["images"], row["family"]) == (0.05, 10, 1)
    (gate,) = json.loads((releases.path / "found.json").read_text())["gates"]
    assert gate["passed"] is False
    assert [demand["of"] for demand in gate["demands"]] == ["", "against v1"]


def test_renamed_images_are_the_same_images(releases: Releases) -> None:
    releases.save()
    result = releases.compare(renamed=True)
    assert result.ret == PASSED
    result.stdout.no_fnmatch_line("images: *")


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ({"images": [*range(10), 11]}, "images: 10 are in both runs; 1 image added (image-11)"),
        ({"images": list(range(8))}, "images: 8 are in both runs; 2 images removed (image-8, *)"),
        ({"edited": [2]}, "images: 9 are in both runs; 1 image changed, paired by name (image-2)"),
        (
            {"labels": {"2": 0}},
            "images: 9 are in both runs; 1 image explained for another class (image-2)",
        ),
        ({"blank": [4]}, "iou[[]patch[]]: left out: 1 image undefined only now (image-4)"),
    ],
)
def test_images_without_a_pair_are_said_and_are_an_error_where_strict(
    now: dict, says: str, releases: Releases
) -> None:
    releases.save()
    loose = releases.compare(**now)
    assert loose.ret == PASSED
    loose.stdout.fnmatch_lines([says])
    strict = releases.compare("--xai-strict", **now)
    assert strict.ret == FAILED
    strict.stdout.fnmatch_lines(["iou[[]patch[]] tiny: cannot be compared with v1: ? image* (*"])


def test_no_image_in_common_fails_and_says_so(releases: Releases) -> None:
    releases.save()
    result = releases.compare(edited=list(range(10)), renamed=True)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        [
            "iou[[]patch[]] tiny: cannot be compared with v1: no image is in both runs with a "
            "value: 10 images added (renamed-0, *); 10 images removed (image-0, *)",
            "  iou * error",
        ]
    )


def test_images_that_were_all_compressed_anew_are_compared_by_name(releases: Releases) -> None:
    releases.save()
    everything = list(range(10))
    kept = releases.compare(edited=everything)
    assert kept.ret == PASSED
    kept.stdout.fnmatch_lines(
        [
            "    against v1  0.000 *",
            "images: 0 are in both runs; 10 images changed, paired by name (image-0, *)",
        ]
    )
    lost = releases.compare(edited=everything, moved=4, same_weights=True)
    assert lost.ret == FAILED
    lost.stdout.fnmatch_lines(["iou[[]patch[]] tiny: -0.* against v1, margin 0.050 *"])


def test_the_same_weights_must_give_the_same_values_though_the_margin_holds(
    releases: Releases,
) -> None:
    releases.gates(GATES.replace("0.05", "0.9"))
    releases.save()
    passed = releases.compare()
    assert passed.ret == PASSED
    passed.stdout.fnmatch_lines(["values: those of then, in 1 of 1 gates"])
    moved = releases.compare(moved=1, same_weights=True)
    assert moved.ret == FAILED
    moved.stdout.fnmatch_lines(
        [
            "iou[[]patch[]] tiny: moved on 10 of 10 images, by 0.286 at the median, though "
            "weights, images and settings are those of v1",
            "what changed: the code of the model or the explainer, or what is done to images on "
            "their way in; if that is meant, save the run anew",
            "largest moves since v1: image-0 1.000 -> 0.714, image-*",
            "  iou *fail",
            "    against v1 * >= -0.900 *",
            "    images that moved * <= 5*",
            "values: moved with weights, images and settings of then: iou[[]patch[]]",
        ]
    )
    (row,) = releases.rows(moved=1, same_weights=True)
    assert (row["moved"], row["moved_of"], row["loss_is_proven"]) == (10, 10, False)
    few = {str(one): 1 for one in range(5)}
    assert releases.compare(moved=few, same_weights=True).ret == PASSED


@pytest.mark.parametrize("changed", ["weights", "seed", "version", "asked not to", "warn"])
def test_values_may_move_where_something_else_did_or_they_are_allowed_to(
    changed: str, releases: Releases
) -> None:
    own = {"asked not to": "0.9, reproducible = false", "warn": "0.9, level = 'warn'"}
    releases.gates(GATES.replace("0.05", own.get(changed, "0.9")))
    releases.save()
    if changed == "version":
        text = re.sub(r'"torch": "[^"]*"', '"torch": "1.0"', releases.file().read_text())
        releases.file().write_text(text)
    seed = ["--xai-seed=3"] if changed == "seed" else []
    result = releases.compare(*seed, moved=1, same_weights=changed != "weights")
    assert result.ret == PASSED
    if changed != "warn":
        result.stdout.no_fnmatch_line("values: *")


def test_another_normalisation_of_the_same_weights_is_named_and_fails(releases: Releases) -> None:
    demand = "{ below = 1.0, steps = 4, not_worse_by = 0.9 }"
    gates = f"{PATCH}[gates.patch]\ndeletion = {demand}\n"
    releases.gates(gates)
    releases.save()
    releases.gates(gates, head=HEAD.replace('"none"', "{ mean = [0, 0, 0], std = [0.8, 1, 0.8] }"))
    says = "another normalisation, mean 0 0 0, std 1 1 1 -> mean 0 0 0, std 0.8 1 0.8"
    strict = releases.compare("--xai-strict")
    assert strict.ret == FAILED
    strict.stdout.fnmatch_lines([f"deletion[[]patch[]] tiny: cannot be compared with v1: {says}"])
    loose = releases.compare()
    assert loose.ret == FAILED
    loose.stdout.fnmatch_lines(
        [
            "deletion[[]patch[]] tiny: moved on 7 of 10 images, by *",
            f"what changed: {says}; if that is meant, save the run anew",
            "weights: the same",
            says.replace("isation,", "isation:"),
        ]
    )


def test_values_that_are_all_lost_fail(releases: Releases) -> None:
    releases.save()
    result = releases.compare(blank=list(range(10)))
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["iou[[]patch[]] tiny: 10 of 10 images undefined, 10 allowed *"])


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ("kind = 'changing:Patch'\npower = 2\n", "power 1 -> 2"),
        ("kind = 'saliency'\n", "explainer patch -> saliency"),
        ("kind = 'changing:Patch'\npostprocess = ['otsu']\n", "post-processing none -> otsu()"),
    ],
)
def test_another_explainer_is_not_compared_and_is_an_error_where_strict(
    after: str, says: str, releases: Releases
) -> None:
    releases.save()
    releases.gates(GATES.replace('kind = "changing:Patch"\n', after))
    loose = releases.compare(moved=5)
    assert loose.ret == PASSED
    loose.stdout.fnmatch_lines(
        [
            "no gate is compared with v1 (*)",
            f"NOT compared, v1 measured something else: iou[[]patch[]]: {says}",
        ]
    )
    strict = releases.compare("--xai-strict")
    assert strict.ret == FAILED
    strict.stdout.fnmatch_lines(
        [f"iou[[]patch[]] tiny: cannot be compared with v1: it measured something else: {says}"]
    )


def test_another_protocol_is_not_compared(releases: Releases) -> None:
    releases.save()
    releases.gates(GATES.replace("undefined", "binarize = 'top=mask', undefined"))
    result = releases.compare(moved=5)
    assert result.ret == PASSED
    result.stdout.fnmatch_lines(["NOT compared, *: protocol iou@v1 -> iou@v1(binarize=top=mask)"])


def test_another_seed_is_compared_and_said(releases: Releases) -> None:
    releases.save()
    result = releases.compare("--xai-seed=3")
    assert result.ret == PASSED
    result.stdout.fnmatch_lines(
        ["    against v1  0.000 *", "otherwise than then: seed 0 -> 3"], consecutive=False
    )


def test_other_versions_and_another_device_are_said(releases: Releases) -> None:
    releases.save()
    text = releases.file().read_text()
    text = re.sub(r'"torch": "[^"]*"', '"torch": "1.0"', text)
    releases.file().write_text(text.replace('"device": "cpu"', '"device": "cuda"'))
    result = releases.compare()
    assert result.ret == PASSED
    result.stdout.fnmatch_lines(
        ["otherwise than then: device cuda -> cpu", "otherwise than then: torch 1.0 -> *"]
    )


def test_other_weights_are_said_as_what_a_release_has(releases: Releases) -> None:
    releases.save()
    result = releases.compare(blank=[3])
    result.stdout.fnmatch_lines(
        ["weights or normalisation: not the same, as is to be expected of a release"]
    )


def test_a_new_gate_is_said_and_passes_even_where_strict(releases: Releases) -> None:
    releases.gates(SPARSENESS)
    releases.save()
    releases.gates(f"{SPARSENESS}complexity = {{ below = 9.0, not_worse_by = 0.05 }}\n")
    result = releases.compare("--xai-strict")
    assert result.ret == PASSED
    result.stdout.fnmatch_lines(
        ["compared with v1 (*): 1 gate, Holm; *", "new since v1: complexity[[]patch[]]"]
    )


def test_a_gate_that_is_demanded_no_longer_is_said_and_strict_does_not_pass_it(
    releases: Releases,
) -> None:
    releases.gates(f"{SPARSENESS}complexity = {{ below = 9.0 }}\nrecall = {{ above = 0.0 }}\n")
    releases.save()
    # One is gone, one has another name, and one is there but not selected.
    releases.gates(f"{SPARSENESS}my_own = {{ metric = 'complexity', below = 9.0 }}\n")
    line = "held in v1, and by no gate now: recall[[]patch[]]"
    loose = releases.compare("-k", "sparseness")
    assert loose.ret == PASSED
    loose.stdout.fnmatch_lines([line])
    strict = releases.compare("--xai-strict")
    assert strict.ret == FAILED
    strict.stdout.fnmatch_lines([f"{line}: --xai-strict does not pass that"])
    strict.assert_outcomes(passed=2)


def test_a_model_that_the_earlier_run_does_not_have_is_said(releases: Releases) -> None:
    releases.save()
    result = releases.compare("--xai-data", "other=changing:images")
    assert result.ret == PASSED
    result.stdout.fnmatch_lines(
        [
            "not compared: it has nothing of tiny on other, but tiny on changing:images",
            "held in v1, and not in this run: tiny on changing:images",
        ]
    )


def test_several_image_sets_are_families_of_their_own(releases: Releases) -> None:
    sets = ("--xai-data=a=changing:images", "--xai-data=b=changing:images")
    releases.save("v1", *sets)
    result = releases.compare(*sets)
    result.stdout.fnmatch_lines(
        [
            "compared with v1 (*): 1 + 1 gates, Holm; at most 5 % of the runs of an *",
            "tiny on a: weights and normalisation: the same",
            "tiny on b: weights and normalisation: the same",
        ]
    )


def test_last_is_the_run_saved_last(releases: Releases) -> None:
    releases.save("newer")
    releases.save("older", moved=5)
    text = releases.file("older").read_text()
    releases.file("older").write_text(re.sub(r'"saved": "\d{4}', '"saved": "2020', text))
    result = releases.compare(name="last")
    result.stdout.fnmatch_lines(["compared with newer (*"])


def test_a_path_is_read_from_anywhere(releases: Releases) -> None:
    releases.save()
    moved = releases.path / "elsewhere"
    releases.file().parent.rename(moved)
    result = releases.compare(name="elsewhere/v1.json")
    assert result.ret == PASSED
    result.stdout.fnmatch_lines(["compared with v1 (*"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("v2", "xai_runs/v2.json: no such file; in xai_runs/: known: v1"),
        ("v11", "xai_runs/v11.json: no such file; in xai_runs/: did you mean 'v1'[?] *"),
        ("folder/v1.json", "folder/v1.json: no such file; *"),
        ("broken", "xai_runs/broken.json: * - at `$.subjects`; expected a file that --xai-save *"),
        ("last", "xai_runs/broken.json: * - at `$.subjects`; expected a file that --xai-save *"),
        ("..", "the name of a run has *"),
    ],
)
def test_a_run_that_cannot_be_read_ends_before_anything_is_measured(
    name: str, says: str, releases: Releases
) -> None:
    releases.save()
    content = releases.saved() | {"subjects": None}
    releases.file("broken").write_text(json.dumps(content))
    if name in ("v2", "v11"):
        releases.file("broken").unlink()
    result = releases.compare(name=name)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"ERROR: --xai-compare {name}: {says}"])


def test_nothing_saved_yet_is_said(releases: Releases) -> None:
    result = releases.compare(name="last")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(
        ["ERROR: --xai-compare last: no run is saved in xai_runs/; --xai-save NAME saves one"]
    )


def test_two_workers_say_what_one_process_does(releases: Releases) -> None:
    releases.gates(
        f"{GATES}precision = {{ above = 0.0, not_worse_by = 0.05 }}\n"
        "recall = { above = 0.0, not_worse_by = 0.05 }\n"
    )
    releases.save()
    said, rows = [], []
    for workers in ("-pno:xdist", "-n2"):
        result = releases.compare(
            workers, "--xai-json", "found.json", moved={str(one): 1 for one in range(7)}
        )
        assert result.ret == FAILED
        text = result.stdout.str()
        said.append(text[text.index("explanations of") : text.index("short test summary")])
        rows.append(json.loads((releases.path / "found.json").read_text())["compared"])
    assert said[0] == said[1]
    assert rows[0] == rows[1]
    assert [row["family"] for row in rows[0]] == [3, 3, 3]


def test_a_run_may_be_compared_with_the_one_that_it_replaces(releases: Releases) -> None:
    releases.save()
    result = releases.run("--xai-compare", "v1", "--xai-save", "v1", moved=3)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["saved as xai_runs/v1.json: *in place of*"])
    assert releases.compare(moved=3).ret == PASSED


@pytest.mark.parametrize("margin", ["0.0", "-0.1", "inf", "nan"])
def test_a_margin_that_is_none_is_refused(margin: str, releases: Releases) -> None:
    releases.gates(f"{PATCH}[gates.patch]\niou = {{ above = 0.5, not_worse_by = {margin} }}\n")
    result = releases.run()
    result.stdout.fnmatch_lines(
        ["*thresholds/tiny.toml:*: gates.patch.iou: *`not_worse_by` is a loss that does not *"]
    )


def test_a_margin_needs_a_threshold_beside_it(releases: Releases) -> None:
    releases.gates(f"{PATCH}[gates.patch]\niou = {{ not_worse_by = 0.05 }}\n")
    result = releases.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["iou[[]patch[]] tiny: has no threshold yet; *"])


def test_a_gate_of_level_warn_warns_of_a_loss(releases: Releases) -> None:
    releases.gates(GATES.replace("not_worse_by", "level = 'warn', not_worse_by"))
    releases.save()
    result = releases.compare(moved=3)
    assert result.ret == PASSED
    result.stdout.fnmatch_lines(["*GateWarning: iou[[]patch[]] tiny: -0.667 against v1, *"])


def test_calibrating_holds_no_gate_against_anything(releases: Releases) -> None:
    releases.save()
    result = releases.compare("--xai-calibrate=2")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["ERROR: --xai-calibrate and --xai-compare exclude each other: *"])
