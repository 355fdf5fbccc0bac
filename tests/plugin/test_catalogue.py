"""Lists of explainers and metrics, and tests that run on the explainers asked for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from pytest_xai.catalogue import explainer_list, metric_list
from xai_core.explainers import EXPLAINERS, build_explainer
from xai_core.metrics import METRICS

if TYPE_CHECKING:
    from conftest import Project

USES_BOTH = """
import numpy as np

def test_map(xai_explain, xai_explainer):
    assert np.isfinite(xai_explain(xai_explainer).heatmaps).all()
    print("explained by", xai_explainer)
"""


@pytest.fixture
def tests(project: Project) -> Project:
    project.gates(iou="above = 0.5")
    project.pytester.makepyfile(test_mine=USES_BOTH)
    return project


def test_the_list_names_every_explainer_with_need_and_paper(project: Project) -> None:
    project.pytester.makepyfile("raise RuntimeError('nothing is collected')")
    result = project.run("--xai-explainers")
    assert result.ret == pytest.ExitCode.OK
    lines = result.outlines
    for kind, cls in EXPLAINERS.items():
        assert lines.count(kind) == 1
        assert lines[lines.index(kind) + 2].startswith(f"    {cls.source}; needs ")
    assert "captum:NAME" in lines
    assert "test session starts" not in result.stdout.str()


def test_the_listed_parameters_build_the_explainer_as_they_stand() -> None:
    blocks = re.split(r"\n(?=\w)", explainer_list())
    for block in blocks[: len(EXPLAINERS)]:
        kind, *lines = block.splitlines()
        given = dict(re.findall(r"^    (\w+) = (.+?)   ", "\n".join(lines), flags=re.MULTILINE))
        parameters = {name: json.loads(value) for name, value in given.items()}
        assert build_explainer(kind, parameters) == EXPLAINERS[kind]()


def test_every_parameter_is_listed_with_what_it_takes() -> None:
    text = explainer_list()
    assert re.search(r'^    rule = "gauss-legendre" +"gauss-legendre" \| "trapezoid"$', text, re.M)
    assert re.search(r"^    steps = 50 +a whole number$", text, re.M)
    assert re.search(r"^    layer +a text, optional$", text, re.M)


def test_the_list_of_metrics_is_their_declarations(project: Project) -> None:
    result = project.run("--xai-metrics")
    assert result.ret == pytest.ExitCode.OK
    blocks = {b.partition("\n")[0]: b for b in re.split(r"\n(?=\w)", metric_list())}
    assert sorted(blocks) == sorted(METRICS)
    assert set(result.outlines) >= set(blocks)
    for name, metric in METRICS.items():
        assert f"    {metric.configure({}).protocol}; {metric.better} is better" in blocks[name]
        assert f"needs {', '.join(metric.needs)}" in blocks[name]
        assert f"assert_{metric.assertion}_above" in blocks[name]
        listed = re.findall(r"^    (\w+)(?: = (\S.*?))?   ", blocks[name], flags=re.MULTILINE)
        given = {key: json.loads(value) if value else None for key, value in listed}
        assert given == {key: default for key, (_, default) in metric.settings.items()}


def test_a_metric_s_settings_are_listed_with_their_bounds() -> None:
    assert re.search(r"^    fraction = 0.5 +a number >= 0, < 1$", metric_list(), re.M)
    assert re.search(r"^    binarize = \"otsu\" +'otsu', 'top=mask' or .*$", metric_list(), re.M)


def test_a_test_runs_once_for_every_explainer_asked_for(tests: Project) -> None:
    asked = ["--xai-model", "tiny", "--xai-explainer", "gradcam"]
    asked += ["--xai-explainer", "integrated_gradients(steps=3)", "--xai-explainer", "gradcam"]
    ids = tests.node_ids(*asked, "test_mine.py")
    assert ids == [
        "test_mine.py::test_map[tiny-gradcam]",
        "test_mine.py::test_map[tiny-integrated_gradients(steps=3)]",
    ]
    result = tests.run(*asked, "-rP", "test_mine.py")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["explained by IntegratedGradients(steps=3, *"])


def test_the_run_s_seed_reaches_an_explainer_that_sets_none(tests: Project) -> None:
    asked = ["--xai-model", "tiny", "--xai-seed", "7", "--xai-explainer"]
    for text, seed in (("smoothgrad(samples=2)", 7), ("smoothgrad(samples=2, seed=1)", 1)):
        result = tests.run(*asked, text, "-rP", "test_mine.py")
        result.stdout.fnmatch_lines([f"explained by SmoothGrad(*seed={seed}*"])


def test_the_ini_names_explainers_for_the_fixture_alone(tests: Project) -> None:
    tests.ini("xai_explainers = gradcam saliency", "xai_models = tiny")
    assert [line.partition("[")[2] for line in tests.node_ids("test_mine.py")] == [
        "tiny-gradcam]",
        "tiny-saliency]",
    ]
    tests.run("test_mine.py", "--xai-explainer", "centre").assert_outcomes(passed=1)


def test_gates_are_those_of_the_threshold_file_whatever_explainer_is_asked_for(
    tests: Project,
) -> None:
    result = tests.run("--xai-model", "tiny", "--xai-explainer", "saliency")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gradcan", "*--xai-explainer gradcan: no explainer 'gradcan': did you mean 'gradcam'*"),
        ("integrated_gradients(step=3)", "*has no parameter 'step': did you mean 'steps'*"),
        ("gradcam(", "*expected 'name' or 'name(key=value)'*"),
        ("no.such:Class", "*explainer 'no.such:Class' cannot be imported*"),
    ],
)
def test_a_wrong_explainer_is_one_line_before_anything_runs(
    text: str, complaint: str, tests: Project
) -> None:
    result = tests.run("--xai-explainer", text, "test_mine.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([complaint])
    result.stderr.no_fnmatch_line("*Traceback*")


def test_without_an_explainer_the_fixture_says_what_to_do(tests: Project) -> None:
    result = tests.run("--xai-model", "tiny", "test_mine.py")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*xai_explainer needs an explainer: run pytest with --xai-exp*"])
    result.stdout.no_fnmatch_line("*fixtures.py*")
