"""Gates on the agreement of two explainers: which the other one is, and what it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_xai.thresholds import read_thresholds
from pytest_xai.toml_source import ThresholdFileError

if TYPE_CHECKING:
    from conftest import Project

EXPLAINERS = """\
[explainers.gradcam]
[explainers.ig]
kind = "integrated_gradients"
steps = 3
[explainers.smooth]
kind = "gradcam"
postprocess = ["gaussian(sigma=1)"]
[explainers.mine]
kind = "random"
[gates.gradcam]
"""


def protocol(other: str, folder: Path) -> str:
    file = folder / "t.toml"
    demand = f"agreement = {{ other = '{other}', above = 0.5, similarity = 'ssim' }}\n"
    file.write_text(f"{EXPLAINERS}{demand}")
    (gate,) = read_thresholds(file, shown="t.toml", seed=0).gates
    return gate.metric.protocol


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ("ig", "integrated_gradients(steps=3)"),
        ("mine", "random"),
        ("gradcam", "gradcam"),
        ("integrated_gradients", "integrated_gradients"),
        ("rise(masks=9, seed=2)", "rise(masks=9, seed=2)"),
    ],
)
def test_the_other_explainer_is_one_of_the_file_or_a_text(
    other: str, text: str, tmp_path: Path
) -> None:
    assert protocol(other, tmp_path) == f"agreement@v1(other={text}, similarity=ssim)"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            "",
            "metric 'agreement', setting 'other': expected the text of the other explainer, e.g. ",
        ),
        ("other = '', ", "setting 'other': expected the text of the other explainer, e.g. "),
        ("other = 3, ", "setting 'other': expected the text of the other explainer, e.g. "),
        (
            "other = 'gradcan', ",
            "`other`: no explainer 'gradcan': did you mean 'gradcam'",
        ),
        ("other = 'gg', ", "; this file has gradcam, ig, smooth, mine"),
        ("other = 'rise(mask=9)', ", "`other`: explainer 'rise' has no parameter 'mask': did you"),
        ("other = 'smooth', ", "`other` = 'smooth' is post-processed, and agreement compares "),
        ("other = 'ig', similarity = 'cosine', ", "expected 'spearman', "),
    ],
)
def test_a_wrong_other_explainer_names_file_line_and_key(
    settings: str, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "t.toml"
    file.write_text(f"{EXPLAINERS}agreement = {{ {settings}above = 0.5 }}\n")
    with pytest.raises(ThresholdFileError) as caught:
        read_thresholds(file, shown="t.toml", seed=0)
    assert str(caught.value).startswith("t.toml:11: gates.gradcam.agreement: ")
    assert complaint in str(caught.value)


def test_gate_and_assertion_measure_the_same(project: Project) -> None:
    gate = "agreement = { other = 'mine', similarity = 'iou(top=0.2)', above = 0.0 }\n"
    project.thresholds(EXPLAINERS.replace('"random"', '"tiny:Counting"') + gate)
    project.pytester.makepyfile(
        test_it="""
        from pytest_xai import assert_agreement_above

        def test_agreement(xai_explain):
            explained = xai_explain("gradcam")
            found = assert_agreement_above(
                explained, 0.0, other="tiny:Counting", similarity="iou(top=0.2)"
            )
            assert found.measurement.metric.protocol == (
                "agreement@v1(other=tiny:Counting, similarity=iou(top=0.2))"
            )
            own = assert_agreement_above(explained, 1.0, other="gradcam", similarity="iou")
            assert own.measurement.mean == 1.0
            assert_agreement_above(
                explained.heatmaps, 0.9, heatmaps_of=lambda text: explained.heatmaps, other="x"
            )
        """
    )
    found = project.json("--xai-model", "tiny", ".")
    assert [row["passed"] for row in found["gates"]] == [True]
    # The maps of the other explainer are made once for both.
    assert (project.path / "calls.txt").read_text().split() == ["1"]
    values = [r["value"] for r in found["measurements"] if "tiny" in r["protocol"]]
    assert len(values) == 6
    assert len(set(values)) > 1
