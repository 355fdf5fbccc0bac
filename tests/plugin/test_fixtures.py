"""The fixtures for tests in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

GATES = """
[explainers.gradcam]
[explainers.counted]
kind = "tiny:Counting"
power = 2
[explainers.smooth]
kind = "gradcam"
postprocess = ["gaussian(sigma=1)"]
[gates.counted]
sparseness = { above = 0.0 }
active_fraction = { below = 1.0 }
"""


@pytest.fixture
def calls(project: Project) -> list[str]:
    """Return what the counting explainer wrote after the run of `both`."""
    project.thresholds(GATES)
    project.pytester.makepyfile(
        """
        from pytest_xai import assert_complexity_above, assert_iou_above
        from tiny import Counting

        def test_by_name(xai_explain):
            assert_iou_above(xai_explain("counted"), 0.0)
            assert_complexity_above(xai_explain("counted"), 0.0)

        def test_by_kind_and_parameters(xai_explain):
            assert_iou_above(xai_explain("tiny:Counting", power=2), 0.0)

        def test_by_object(xai_explain):
            assert_iou_above(xai_explain(Counting(power=2)), 0.0)

        def test_other_parameters(xai_explain):
            assert_iou_above(xai_explain("tiny:Counting", power=3), 0.0)
            assert_iou_above(xai_explain(Counting(power=3), postprocess=["gaussian(sigma=1)"]), 0.0)
        """
    )
    project.run("--xai-model", "tiny", ".").assert_outcomes(passed=6)
    return (project.path / "calls.txt").read_text().split()


def test_an_explanation_is_computed_once_for_all_gates_and_tests(calls: list[str]) -> None:
    # Six images of 16 x 16 are one batch, so one call explains them all.
    assert sorted(calls) == ["2", "3"]


def test_explanations_by_name_kind_and_object(project: Project) -> None:
    project.thresholds(GATES)
    project.pytester.makepyfile(
        """
        import numpy as np
        from xai_core import GradCAM

        def test_explanations(xai_explain, xai_images):
            raw = xai_explain("gradcam").heatmaps
            assert raw.shape == (6, 16, 16)
            assert np.array_equal(raw > 0, xai_images.batch(0, 6).masks)
            assert np.array_equal(raw, xai_explain(GradCAM()).heatmaps)
            smooth = xai_explain("smooth").heatmaps
            assert not np.array_equal(raw, smooth)
            assert np.array_equal(smooth, xai_explain("gradcam", postprocess=["gaussian(sigma=1)"]).heatmaps)
            assert np.array_equal(xai_explain("counted", postprocess=["gaussian(sigma=1)"]).method
                .parameters["power"], 2)

        def test_attributions(xai_explain):
            assert xai_explain("integrated_gradients", steps=2).attributions.shape == (6, 3, 16, 16)
            assert xai_explain("gradcam").attributions is None
        """
    )
    name = "test_explanations_by_name_kind_and_object.py"
    project.run("--xai-model", "tiny", name).assert_outcomes(passed=2)


def test_a_test_runs_once_for_every_model(project: Project) -> None:
    for name in ("a", "b"):
        project.thresholds(GATES, path=f"thresholds/{name}.toml")
    project.pytester.makepyfile(
        test_models="""
        def test_model(xai_model, xai_images):
            assert xai_model.num_classes == 3
            assert len(xai_images) == 6
        """
    )
    expected = ["test_models.py::test_model[a]", "test_models.py::test_model[b]"]
    asked = ["--xai-model", "a", "--xai-model", "b", "test_models.py"]
    assert project.node_ids(*asked) == expected
    project.run(*asked).assert_outcomes(passed=2)
    project.ini("xai_models = a b")
    assert project.node_ids("test_models.py") == expected
    assert project.node_ids("test_models.py", "--xai-model", "b") == expected[1:]
    project.run("test_models.py").assert_outcomes(passed=2)


def test_without_a_model_the_fixture_says_what_to_do(project: Project) -> None:
    project.pytester.makepyfile("def test_it(xai_model): pass")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*xai_model needs a model: run pytest with --xai-model NAME, or*"])
    result.stdout.no_fnmatch_line("*fixtures.py*")


@pytest.mark.parametrize(
    ("data", "fixture", "complaint"),
    [
        ("path = 'no/such'", "xai_images", "*no/such: no such image set*"),
        ("paht = 'x'", "xai_model", "thresholds/tiny.toml:7: data.paht: *did you mean 'path'*"),
        ("limit = 'x'", "xai_explain", "thresholds/tiny.toml:7: data.limit: *"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_without_a_traceback(
    data: str, fixture: str, complaint: str, project: Project
) -> None:
    model = "[model]\nspec = 'tiny:build'\nsize = [16, 16]\nnormalization = 'none'\n\n[data]\n"
    project.thresholds(GATES, head=f"{model}{data}\n")
    project.pytester.makepyfile(test_it=f"def test_it({fixture}): pass")
    result = project.run("--xai-model", "tiny", "test_it.py")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([complaint])
    result.stdout.no_fnmatch_line("*.py:[0-9]*")


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("'gradcan'", "no explainer 'gradcan': did you mean 'gradcam'*"),
        ("'count'", "no explainer 'count': did you mean 'counted'*"),
        (
            "'gradcam', layr='x'",
            "explainer 'gradcam' has no parameter 'layr': did you mean 'layer'*",
        ),
        ("'smooth', layer='1'", "'smooth' has its parameters in thresholds/tiny.toml, got *"),
        ("'gradcam', postprocess=['gauss']", "*'gauss'*"),
    ],
)
def test_a_wrong_explainer_is_shown_at_the_line_of_the_test(
    call: str, complaint: str, project: Project
) -> None:
    project.thresholds(GATES)
    project.pytester.makepyfile(test_it=f"def test_it(xai_explain):\n    xai_explain({call})")
    result = project.run("--xai-model", "tiny", "test_it.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [">   *xai_explain(*", f"E   *ParameterError: {complaint}", "test_it.py:2: ParameterError"]
    )
    result.stdout.no_fnmatch_line("*fixtures.py*")
    result.stdout.no_fnmatch_line("*session.py*")
