"""What the README shows is what there is: threshold files, Python, options and names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xai_core.explainers import EXPLAINERS
from xai_core.metrics import METRICS

if TYPE_CHECKING:
    from conftest import Project

PAGE = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
GATES = "\n[explainers.gradcam]\n[gates.gradcam]\niou = { above = 0.5 }\n"
TOML = {
    block: list(tomllib.loads(block))
    for block in re.findall(r"^```toml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
}
MAPS = """
import numpy as np
import pytest

@pytest.fixture
def masks():
    found = np.zeros((3, 8, 8), dtype=bool)
    found[:, 2:6, 2:6] = True
    return found

@pytest.fixture
def heatmaps(masks):
    return masks.astype(np.float32)
"""


def section(title: str) -> str:
    """Return what stands under a heading, up to the next one."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def python(title: str) -> str:
    return section(title).partition("```python\n")[2].partition("```")[0]


def named_in_table(title: str) -> set[str]:
    rows = [line.split("|") for line in section(title).splitlines() if line.startswith("| ")]
    return set(re.findall(r"`([a-z_0-9]+)`", " ".join(row[2] for row in rows)))


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (["data", "concepts"], ["concepts::ruler::verdict"]),
        (
            ["data", "explainers", "gates"],
            [
                "gradcam::iou",
                "gradcam::pointing_game",
                "gradcam::insertion",
                "gradcam::deletion",
                "ig::completeness",
                "ig::energy_pointing_game",
            ],
        ),
        (["neighbours"], ["neighbours::agreement"]),
    ],
    ids=["concept", "gates", "neighbours"],
)
def test_threshold_files_are_valid(
    project: Project, tables: list[str], expected: list[str]
) -> None:
    (block,) = (block for block, found in TOML.items() if found == tables)
    project.thresholds(block if "gates" in tables else block + GATES, head="")
    found = project.node_ids("--xai-model", "tiny")
    also = [] if "gates" in tables else ["gradcam::iou"]
    assert sorted(found) == sorted(f"thresholds/tiny.toml::{name}" for name in expected + also)


def test_a_description_of_the_model_gets_its_first_gates(project: Project) -> None:
    (block,) = (block for block, found in TOML.items() if found == ["model"])
    file = project.thresholds(block, head="", path="thresholds/build.toml")
    asked = ["--xai-model=tiny:build", "--xai-data=tiny:images", "--xai-update", "-k", "iou"]
    project.run(*asked).assert_outcomes(failed=1)
    assert block in file.read_text()
    assert tomllib.loads(file.read_text())["gates"]["gradcam"].keys() == {"iou"}


def test_every_threshold_file_is_tried() -> None:
    assert len(TOML) == 4


def test_python_tests_pass_on_the_demo(project: Project) -> None:
    project.pytester.makeconftest(MAPS)
    project.pytester.makepyfile(test_mine=python("In Python tests"))
    result = project.run("--xai-model", "demo", "--xai-limit", "4", "test_mine.py")
    result.assert_outcomes(passed=3)


def test_a_decorated_explainer_is_checked(project: Project) -> None:
    source = python("Explainers")
    project.pytester.makepyfile(
        mine="from xai_core.explainers import SmoothGrad as MyExplainer", test_mine=source
    )
    found = project.node_ids("test_mine.py")
    assert any("GradCAM" in name or "gradcam" in name for name in found)
    assert any("SmoothGrad" in name or "smoothgrad" in name for name in found)


def test_options_are_those_that_there_are(pytestconfig: pytest.Config) -> None:
    group = pytestconfig._parser.getgroup("xai")
    options = {name for one in group.options for name in one.names()}
    assert options
    assert set(re.findall(r"--xai-[a-z]+(?:-[a-z]+)*", PAGE)) == options
    assert set(re.findall(r"--xai-[a-z]+(?:-[a-z]+)*", section("Options"))) == options


def test_ini_names_are_those_that_there_are(pytestconfig: pytest.Config) -> None:
    line = section("Options").partition("Ini names: ")[2].partition("\nPrecedence")[0]
    known = {name for name in pytestconfig._parser._inidict if name.startswith("xai_")}
    assert set(re.findall(r"`(xai_[a-z_]+)`", line)) == known


def test_metrics_are_those_that_there_are() -> None:
    settings = {"concept", "region"}
    assert named_in_table("Metrics") - settings == set(METRICS)


def test_explainers_are_those_that_there_are() -> None:
    assert named_in_table("Explainers") == set(EXPLAINERS)
