"""Every explainer of the registry keeps its promises, and how a test of one's own shows that."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Project

from pytest_xai import parametrize_with_checks
from pytest_xai.checks import ExplainerCheck
from xai_core.explainers import EXPLAINERS, Explainer, GradCAM, IntegratedGradients

CHEAP: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 16},
    "guided_ig": {"steps": 12},
    "rise": {"masks": 64},
    "occlusion": {"window": 8, "stride": 4},
    "lime": {"samples": 64, "segments": 8},
    "kernel_shap": {"samples": 64, "segments": 8},
}
"""Parameters for those whose defaults are meant for photographs; the others have their defaults."""


@parametrize_with_checks([cls(**CHEAP.get(kind, {})) for kind, cls in EXPLAINERS.items()])
def test_every_explainer_keeps_its_promises(explainer: Explainer, check: ExplainerCheck) -> None:
    check(explainer)


OWN = """
from dataclasses import dataclass
import numpy as np
import pytest
from pytest_xai import parametrize_with_checks
from xai_core.explainers import Explanation, SobelMap

@dataclass(frozen=True)
class Middle:
    kind = "middle"
    needs = "nothing"
    source = "none"
    promises = frozenset(PROMISES)
    power: float = 1.0

    def explain(self, classifier, images, targets):
        height, width = images.shape[-2:]
        maps = np.zeros((len(images), height, width), np.float32)
        maps[:, height // 4 : -(height // 4), width // 4 : -(width // 4)] = self.power
        return Explanation(maps)

@parametrize_with_checks([EXPLAINERS])
def test_it(explainer, check):
    check(explainer)
"""


def own(project: Project, *, promises: set[str] | str = "()", explainers: str = "Middle()") -> None:
    text = OWN.replace("PROMISES", repr(promises) if promises != "()" else "()")
    project.pytester.makepyfile(test_own=text.replace("EXPLAINERS", explainers))


@pytest.mark.parametrize("strict", ["xfail_strict = true", "xfail_strict = false"])
def test_what_is_not_promised_is_shown_and_never_fails(project: Project, strict: str) -> None:
    project.ini(strict)
    own(project)
    result = project.run("-rxX", "test_own.py")
    result.assert_outcomes(passed=7, xfailed=6, xpassed=5)
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(
        [
            "XFAIL *middle-target_sensitivity* not promised, does not hold: *distance of 0 *",
            "XPASS *middle-flip_equivariance* not promised, yet it holds*",
        ]
    )


def test_what_is_promised_and_holds_passes(project: Project) -> None:
    own(project, promises={"flip_equivariance"})
    project.run("test_own.py").assert_outcomes(passed=8, xfailed=6, xpassed=4)


def test_a_broken_promise_fails_with_what_was_measured_and_a_script(project: Project) -> None:
    own(project, promises={"randomised_weights"})
    result = project.run("test_own.py")
    result.assert_outcomes(passed=7, failed=1, xfailed=5, xpassed=5)
    result.stdout.fnmatch_lines(
        [
            "*randomised_weights of middle: maps of two networks*distance of 0 *at least 0.01*",
            "*To see it again:*",
            "*from test_own import Middle*",
            "*check_randomised_weights(Middle(power=1.0))*",
        ]
    )


def test_a_broken_contract_fails_whatever_is_promised(project: Project) -> None:
    own(project, explainers="Middle(power=float('nan'))")
    result = project.run("test_own.py", "-k", "contract")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*values of the heatmaps are not finite*"])


def test_an_error_in_the_test_itself_is_not_taken_for_a_finding(project: Project) -> None:
    own(project)
    path = project.path / "test_own.py"
    path.write_text(path.read_text().replace("    check(explainer)", "    check(explainr)"))
    project.run("test_own.py").assert_outcomes(failed=18)


def test_ids_are_short_and_tell_explainers_of_one_kind_apart(project: Project) -> None:
    own(project, explainers="Middle(), Middle(power=2.0), SobelMap()")
    ids = project.node_ids("test_own.py", "-k", "dummy")
    assert ids == [
        "test_own.py::test_it[middle-dummy]",
        "test_own.py::test_it[middle(power=2.0)-dummy]",
        "test_own.py::test_it[sobel-dummy]",
    ]


def test_only_what_is_not_promised_carries_a_mark() -> None:
    mark = parametrize_with_checks([GradCAM(), IntegratedGradients(steps=3)])
    marked = {parameter.id for parameter in mark.args[1] if parameter.marks}
    assert "gradcam-dummy" in marked
    assert "integrated_gradients-dummy" not in marked
    assert not any(name.endswith("-determinism") for name in marked if name)
