"""``--xai-save``: what stands in the file of a run, and when there is none."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import torch
from releases import GATES, PATCH, Releases

from xai_core.imageset import load_imageset

if TYPE_CHECKING:
    from conftest import Project


@pytest.fixture
def releases(project: Project) -> Releases:
    return Releases(project)


def test_every_value_of_every_image_is_saved_with_its_fingerprints(releases: Releases) -> None:
    result = releases.save("v1", "--xai-json", "found.json", blank=[3])
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["saved as xai_runs/v1.json: 1 gate"])
    found = json.loads((releases.path / "found.json").read_text())
    saved = releases.saved()
    (subject,) = saved["subjects"]
    (measurement,) = subject["measurements"]
    assert measurement["values"] == {row["image"]: row["value"] for row in found["measurements"]}
    assert measurement["values"]["image-3"] is None
    assert measurement["undefined"] == {"image-3": "the heatmap is zero everywhere"}
    assert measurement["protocol"] == "iou@v1"
    assert measurement["explainer"] == "patch"
    assert measurement["parameters"] == {"power": 1, "seed": 0}
    (facts,) = found["models"]
    for key in ("fingerprint", "device", "transform", "accuracy", "data"):
        assert subject[key] == facts[key]
    assert saved["versions"]["torch"] == torch.__version__
    assert saved["seed"] == 0


def test_an_image_is_saved_by_its_content_and_target(releases: Releases) -> None:
    releases.save()
    (subject,) = releases.saved()["subjects"]
    images = load_imageset("changing:images", size=(16, 16), num_classes=3)
    samples = [images[row] for row in range(len(images))]
    assert subject["images"] == [
        {"image": one.name, "target": one.label, "digest": one.digest()} for one in samples
    ]


def test_saving_twice_changes_one_line_the_time(releases: Releases) -> None:
    releases.save("one")
    releases.save("two")
    one, two = (releases.file(name).read_text().splitlines() for name in ("one", "two"))
    changed = [pair for pair in zip(one, two, strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    assert re.fullmatch(r' "saved": "\d{4}-\d\d-\d\dT[\d:.]+\+00:00",', changed[0][1])


def test_the_order_of_the_tests_does_not_show(releases: Releases) -> None:
    gates = ["iou = { above = 0.0 }", "precision = { above = 0.0 }"]
    files = []
    for name, order in (("one", gates), ("two", gates[::-1])):
        releases.gates("\n".join([PATCH, "[gates.patch]", *order]))
        releases.save(name)
        lines = releases.file(name).read_text().splitlines()
        files.append([line for line in lines if '"saved"' not in line])
    assert files[0] == files[1]


def test_one_value_that_changes_is_one_line_that_changes(releases: Releases) -> None:
    releases.save("one")
    releases.save("two", moved={"4": 1}, same_weights=True)
    one, two = (releases.file(name).read_text().splitlines() for name in ("one", "two"))
    changed = [after for before, after in zip(one, two, strict=True) if before != after]
    assert [line.split('"')[1] for line in changed] == ["saved", "image-4"]


def test_null_maps_have_no_part_in_it(releases: Releases) -> None:
    releases.gates(f"{PATCH}[gates.patch]\niou = {{ beats = ['inverted', 'centre'] }}\n")
    releases.save()
    (subject,) = releases.saved()["subjects"]
    assert [one["method"] for one in subject["measurements"]] == ["patch"]


def test_gates_that_were_not_selected_are_noted(releases: Releases) -> None:
    releases.gates(f"{GATES}precision = {{ above = 0.0 }}\n")
    result = releases.save("v1", "-k", "iou")
    result.stdout.fnmatch_lines(["saved as xai_runs/v1.json: 1 of 2 gates"])
    (subject,) = releases.saved()["subjects"]
    assert [gate["gate"] for gate in subject["gates"]] == ["iou"]
    assert subject["not_measured"] == [
        {"method": "patch", "gate": "precision", "protocol": "precision@v1"}
    ]


def test_a_run_whose_gate_fails_is_saved_and_says_so(releases: Releases) -> None:
    releases.gates(f"{PATCH}[gates.patch]\niou = {{ above = 2.0 }}\n")
    assert releases.save().ret == pytest.ExitCode.TESTS_FAILED
    (subject,) = releases.saved()["subjects"]
    assert [gate["passed"] for gate in subject["gates"]] == [False]


def test_a_run_that_is_saved_again_is_replaced(releases: Releases) -> None:
    releases.save()
    result = releases.save(moved=1)
    result.stdout.fnmatch_lines(["saved as xai_runs/v1.json: *, in place of the one that was *"])


@pytest.mark.parametrize(
    ("gates", "now", "args", "why"),
    [
        (GATES, {"broken": "its own mistake"}, (), "1 gate ended in an error: iou[[]patch[]] tiny"),
        (
            f"{PATCH}[gates.patch]\nbackground_class = {{ on = 'grass', below = 0.1 }}\n",
            {},
            (),
            "1 gate ended in an error: background_class[[]patch[]] tiny",
        ),
        (f"{GATES}precision = {{ above = 2.0 }}\n", {"moved": 20}, ("-x",), "the run did not *"),
        (GATES, {}, ("no_such_file.py",), "the run did not come to its end"),
        (GATES, {}, ("-k", "nothing"), "nothing was measured"),
    ],
)
def test_a_run_that_proves_less_than_it_says_is_not_saved(
    gates: str, now: dict, args: tuple[str, ...], why: str, releases: Releases
) -> None:
    if args == ("-x",):
        gates = gates.replace("iou = { above = 0.0", "iou = { above = 2.0")
    releases.gates(gates)
    result = releases.run("--xai-save", "v1", *args, **now)
    assert result.ret != pytest.ExitCode.OK
    assert not (releases.path / "xai_runs").exists()
    if args != ("no_such_file.py",):  # a usage error has no summary
        result.stdout.fnmatch_lines([f"--xai-save v1: not saved: {why}*"])


def test_a_run_whose_worker_died_is_not_saved(releases: Releases) -> None:
    result = releases.run("--xai-save", "v1", "-n2", killed=True)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["--xai-save v1: not saved: a worker died in thresholds/tiny.toml::patch::iou"]
    )
    assert not (releases.path / "xai_runs").exists()


def test_collecting_saves_nothing(releases: Releases) -> None:
    releases.run("--xai-save", "v1", "--collect-only")
    assert not (releases.path / "xai_runs").exists()


def test_a_run_without_any_measurement_is_not_saved(releases: Releases) -> None:
    (releases.path / "test_plain.py").write_text("def test_plain(): pass\n")
    result = releases.project.run("--xai-save", "v1", "test_plain.py")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--xai-save v1: not saved: nothing was measured"])


@pytest.mark.parametrize(
    "name", ["../v1", "a/b", "/tmp/v1", ".hidden", "", "v1.json", "last", "a\\b", "..", "-x"]
)
def test_a_name_that_is_no_plain_name_is_refused(name: str, releases: Releases) -> None:
    result = releases.run(f"--xai-save={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --xai-save {name.replace('[', '[[]')}: the name of *"])
    assert not list(releases.path.rglob("*.json")) or [
        path.name for path in releases.path.rglob("*.json")
    ] == ["state.json"]


def test_a_folder_that_cannot_be_is_said_before_anything_is_measured(releases: Releases) -> None:
    (releases.path / "xai_runs").write_text("a file")
    result = releases.run("--xai-save", "v1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --xai-save *v1.json: cannot be written; *"])


def test_the_ini_says_where_runs_are_saved(releases: Releases) -> None:
    releases.project.ini("xai_runs = kept/releases")
    releases.run("--xai-save", "v1.2+rc_1")
    assert (releases.path / "kept" / "releases" / "v1.2+rc_1.json").is_file()
    assert releases.compare(name="v1.2+rc_1").ret == pytest.ExitCode.OK


def test_two_workers_save_what_one_process_does(releases: Releases) -> None:
    gates = f"{GATES}precision = {{ above = 0.0 }}\nrecall = {{ above = 0.0 }}\n"
    releases.gates(gates)
    releases.save("one")
    releases.save("two", "-n2")
    one, two = (
        [line for line in releases.file(name).read_text().splitlines() if '"saved"' not in line]
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize("other", ["--xai-calibrate=2"])
def test_what_measures_several_times_cannot_be_saved(other: str, releases: Releases) -> None:
    result = releases.run("--xai-save", "v1", other)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --xai-calibrate and --xai-save exclude each other: *"])
