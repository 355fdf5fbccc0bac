"""Which gates and tests a command line runs, and under which names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

TWO_EXPLAINERS = """
[explainers.gradcam]
[explainers.centre]
[gates.gradcam]
iou = { above = 0.9 }
sharp = { metric = "sparseness", above = 0.1 }
[gates.centre]
iou = { above = 0.01 }
"""
IDS = [
    "thresholds/tiny.toml::gradcam::iou",
    "thresholds/tiny.toml::gradcam::sharp",
    "thresholds/tiny.toml::centre::iou",
]


@pytest.fixture
def gates(project: Project) -> Project:
    project.thresholds(TWO_EXPLAINERS)
    project.pytester.makepyfile(test_other="def test_other(): pass")
    return project


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["--xai-model", "tiny"], IDS),
        (["thresholds/tiny.toml"], IDS),
        ([f"{IDS[1]}"], IDS[1:2]),
        (["--xai-model", "tiny", IDS[2]], IDS[2:]),
        (["thresholds/tiny.toml::gradcam"], IDS[:2]),
        (["--xai-model", "tiny", "-k", "centre and iou"], IDS[2:]),
        (["--xai-model", "tiny", "."], ["test_other.py::test_other", *IDS]),
        (["--xai-model", "tiny", "test_other.py"], ["test_other.py::test_other"]),
        (["thresholds", "test_other.py"], ["test_other.py::test_other"]),
        ([], ["test_other.py::test_other"]),
    ],
    ids=" ".join,
)
def test_what_is_collected(asked: list[str], expected: list[str], gates: Project) -> None:
    assert gates.node_ids(*asked) == expected


def test_testpaths_of_the_project_do_not_hide_the_gates(gates: Project) -> None:
    gates.ini("testpaths = test_other.py")
    assert gates.node_ids("--xai-model", "tiny") == IDS


def test_several_models_on_one_file_get_a_level_of_their_own(gates: Project) -> None:
    gates.thresholds(TWO_EXPLAINERS, path="common.toml")
    models = ["--xai-model", "a", "--xai-model", "b"]
    expected = [f"common.toml::{model}::{id_.partition('::')[2]}" for model in "ab" for id_ in IDS]
    assert gates.node_ids(*models, "--xai-thresholds", "common.toml") == expected
    assert gates.node_ids(*models, "common.toml") == expected
    assert gates.node_ids(*models, "common.toml::b::centre::iou") == ["common.toml::b::centre::iou"]


def test_several_models_with_a_file_each(gates: Project) -> None:
    gates.thresholds(TWO_EXPLAINERS, path="thresholds/other.toml")
    found = gates.node_ids("--xai-model", "other", "--xai-model", "tiny", "--xai-model", "tiny")
    assert found == [id_.replace("tiny", "other") for id_ in IDS] + IDS


def test_a_folder_of_thresholds(gates: Project) -> None:
    gates.thresholds(TWO_EXPLAINERS, path="gates/strict/tiny.toml")
    strict = [id_.replace("thresholds", "gates/strict") for id_ in IDS]
    assert gates.node_ids("--xai-model", "tiny", "--xai-thresholds", "gates/strict") == strict
    gates.ini("xai_thresholds = gates/strict")
    assert gates.node_ids("--xai-model", "tiny") == strict


def test_the_name_of_a_factory_or_of_timm_names_its_file(gates: Project) -> None:
    gates.thresholds(TWO_EXPLAINERS, path="thresholds/build.toml")
    assert gates.node_ids("--xai-model", "tiny:build")[0] == "thresholds/build.toml::gradcam::iou"
    gates.thresholds(TWO_EXPLAINERS, path="thresholds/resnet18.a1_in1k.toml")
    found = gates.node_ids("--xai-model", "timm:resnet18.a1_in1k")
    assert found[0] == "thresholds/resnet18.a1_in1k.toml::gradcam::iou"


def test_thresholds_outside_the_project_are_collected_by_name(
    gates: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "tiny.toml"
    (gates.path / "thresholds" / "tiny.toml").rename(elsewhere)
    expected = [id_.removeprefix("thresholds/") for id_ in IDS]
    assert gates.node_ids("--xai-model", "tiny", f"--xai-thresholds={elsewhere}") == expected
    found = gates.node_ids(f"{elsewhere}::centre::iou")
    assert [id_.rpartition("/")[2] for id_ in found] == ["tiny.toml::centre::iou"]


def test_a_path_given_to_an_option_does_not_hide_the_project(
    gates: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("data")
    assert gates.node_ids("--xai-model", "tiny", f"--xai-data={elsewhere}") == IDS
    result = gates.run("--xai-model", "tiny", "--xai-data", elsewhere, "--collect-only", "-q")
    assert len([line for line in result.outlines if line.endswith("::iou")]) == 2
    result.stdout.fnmatch_lines(["*did not read *tox.ini*write --xai-data=PATH*"])
    workers = gates.run("--xai-model", "tiny", "--xai-data", elsewhere, "-n2")
    # pytest tells the place of each warning, then, once, the place and the words of equal ones.
    assert len([line for line in workers.outlines if "plugin.py:" in line]) == 2
