"""Gates and assertions on an annotated class of the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import pytest_xai
from pytest_xai.assertions import ExplanationError
from xai_core.errors import ParameterError, ShapeError
from xai_core.imageset import Background

if TYPE_CHECKING:
    from conftest import Project

ANNOTATED = """
import numpy as np
import tiny
from xai_core.imageset import Background


def images():
    # What of a patch lies right of column 8 is sand and no object; the last rows are sea.
    for name, image, mask, label in tiny.images():
        left = mask.copy()
        left[:, 9:] = False
        indices = np.zeros(mask.shape, dtype=np.uint8)
        indices[mask & ~left] = 1
        indices[12:] = 2
        yield name, image, left, label, Background(indices, {1: "sand", 2: "sea"})
"""


def gate(project: Project, demand: str) -> pytest.RunResult:
    project.pytester.makepyfile(annotated=ANNOTATED)
    project.gates(on_sand=f"metric = 'background_class', {demand}")
    return project.run("--xai-model", "tiny", "--xai-data", "annotated:images")


def test_a_gate_measures_the_share_on_the_class(project: Project) -> None:
    gate(project, "on = 'sand', above = 0.0, undefined = 3").assert_outcomes(passed=1)
    found = project.json("--xai-model", "tiny", "--xai-data", "annotated:images")
    # Grad-CAM of the tiny model is the patch, six columns wide from column 1 + index on.
    rows = found["measurements"]
    assert {row["protocol"] for row in rows} == {"background_class@v1(on=sand)"}
    values = {row["image"]: row["value"] for row in rows}
    expected = [None, None, None, 1 / 6, 2 / 6, 3 / 6]
    assert list(values) == [f"image-{index}" for index in range(6)]
    for value, share in zip(values.values(), expected, strict=True):
        assert value == (share if share is None else pytest.approx(share, rel=1e-5))


def test_an_image_without_the_class_is_undefined_and_said_so(project: Project) -> None:
    result = gate(project, "on = 'sand', below = 0.9")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*3 of 6 images undefined, 0 allowed (image-0: no pixel outside the mask is annotated as*"]
    )


@pytest.mark.parametrize(
    ("demand", "complaint"),
    [
        ("on = 'sandd', below = 0.1", "*no class of background 'sandd': did you mean 'sand'*sea*"),
        ("below = 0.1", "*setting 'on': expected the name of a class of background*"),
        ("on = 3, below = 0.1", "*setting 'on': expected the name of a class of background*"),
    ],
)
def test_a_class_that_is_not_there_is_an_error_that_says_which_are(
    demand: str, complaint: str, project: Project
) -> None:
    result = gate(project, demand)
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines([complaint])


def test_images_without_annotation_are_an_error_that_names_the_set(project: Project) -> None:
    project.gates(background_class="on = 'sand', below = 0.1")
    result = project.run("--xai-model", "tiny")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*background_class needs the classes of the background, and tiny*"]
    )


HEATMAPS = np.arange(1.0, 13.0).reshape(3, 2, 2)
MASKS = np.zeros((3, 2, 2), dtype=bool)
MASKS[:, 0, 0] = True
SAND = Background(np.array([[[0, 1], [0, 0]]] * 3), {1: "sand"})


def test_an_assertion_on_arrays_takes_a_background() -> None:
    found = pytest_xai.assert_background_class_below(
        HEATMAPS, 0.5, masks=MASKS, background=SAND, on="sand"
    )
    expected = [2 / 10, 6 / 26, 10 / 42]
    np.testing.assert_allclose(found.measurement.values, expected, rtol=1e-6)
    singles = [SAND[index] for index in range(3)]
    again = pytest_xai.assert_background_class_below(
        HEATMAPS, 0.5, masks=MASKS, background=singles, on="sand"
    )
    np.testing.assert_array_equal(again.measurement.values, found.measurement.values)
    one = pytest_xai.assert_background_class_below(
        HEATMAPS[0], 0.5, masks=MASKS[0], background=SAND[0], on="sand"
    )
    assert one.measurement.values == pytest.approx([0.2])
    with pytest.raises(ExplanationError, match=r"> 0\.100"):
        pytest_xai.assert_background_class_below(
            HEATMAPS, 0.1, masks=MASKS, background=SAND, on="sand"
        )


def test_arrays_without_a_value_are_left_out_with_their_background() -> None:
    heatmaps = HEATMAPS.copy()
    heatmaps[1] = 0
    found = pytest_xai.assert_background_class_below(
        heatmaps, 0.5, masks=MASKS, background=SAND, on="sand", undefined=1
    )
    assert found.measurement.undefined == {1: "the heatmap is zero everywhere"}
    np.testing.assert_allclose(found.measurement.values[[0, 2]], [2 / 10, 10 / 42], rtol=1e-6)


def test_a_background_that_does_not_fit_is_refused() -> None:
    check = pytest_xai.assert_background_class_below
    with pytest.raises(ShapeError, match="background: expected 3, one for each"):
        check(HEATMAPS, 0.5, masks=MASKS, background=SAND[:2], on="sand")
    with pytest.raises(ShapeError, match=r"background: expected a Background\(indices, classes\)"):
        check(HEATMAPS, 0.5, masks=MASKS, background=MASKS, on="sand")
    with pytest.raises(ParameterError, match="also needs background="):
        check(HEATMAPS, 0.5, masks=MASKS, on="sand")
