"""The assertions, on arrays and on what the fixture ``xai_explain`` gives."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import pytest_xai
from pytest_xai.assertions import ExplanationError, assertion, assertion_names
from xai_core.classifier import load_classifier
from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError, XaiError
from xai_core.metrics import METRICS

if TYPE_CHECKING:
    from conftest import Project

ASKED_FOR = [
    "assert_iou_above",
    "assert_precision_above",
    "assert_recall_above",
    "assert_pointing_game_above",
    "assert_deletion_below",
    "assert_insertion_above",
    "assert_average_drop_below",
    "assert_increase_above",
    "assert_complexity_below",
    "assert_sparseness_above",
    "assert_stability_above",
    "assert_complete",
    "assert_energy_pointing_game_above",
    "assert_active_fraction_below",
    "assert_faithfulness_gap_above",
]


@pytest.fixture
def masks() -> np.ndarray:
    masks = np.zeros((2, 16, 16), dtype=bool)
    masks[0, 2:6, 2:6] = masks[1, 8:14, 3:9] = True
    return masks


@pytest.fixture
def heatmaps(masks: np.ndarray) -> np.ndarray:
    """The first is its mask; the second is its mask and as many pixels again."""
    heatmaps = masks.astype(np.float32)
    heatmaps[1, 8:14, 9:15] = 1.0
    return heatmaps


@pytest.mark.parametrize("name", ASKED_FOR)
def test_the_names_exist(name: str) -> None:
    assert callable(getattr(pytest_xai, name))
    assert name in dir(pytest_xai)


@pytest.mark.parametrize("direction", ["above", "below"])
@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_metric_has_both_directions(metric: Any, direction: str) -> None:
    name = f"assert_{metric.assertion}_{direction}"
    found = getattr(pytest_xai, name)
    assert found.__name__ == name
    assert metric.summary in (inspect.getdoc(found) or "")
    parameters = inspect.signature(found).parameters
    assert [*parameters][:2] == ["explained", "threshold"]
    assert set(metric.settings) <= set(parameters)
    assert name in assertion_names()


def test_arrays_are_measured(heatmaps: np.ndarray, masks: np.ndarray) -> None:
    judgement = pytest_xai.assert_iou_above(heatmaps, 0.75, masks=masks)
    assert judgement.measurement.values.tolist() == [1.0, 0.5]
    assert judgement.passes()
    with pytest.raises(ExplanationError) as caught:
        pytest_xai.assert_iou_above(heatmaps, 0.8, masks=masks)
    headline, _, _, *images = str(caught.value).splitlines()
    assert headline.startswith("iou[heatmaps]: 0.750 < 0.800 (95% CI ")
    assert [line.split() for line in images] == [["0.500", "image", "1"], ["1.000", "image", "0"]]
    pytest_xai.assert_iou_below(heatmaps, 0.75, masks=masks)
    with pytest.raises(ExplanationError, match=r"0\.750 > 0\.740"):
        pytest_xai.assert_iou_below(heatmaps, 0.74, masks=masks)


def test_tensors_lists_and_single_images_are_taken(heatmaps: np.ndarray, masks: np.ndarray) -> None:
    assert_iou_above = pytest_xai.assert_iou_above
    assert_iou_above(
        torch.from_numpy(heatmaps).requires_grad_(), 0.7, masks=torch.from_numpy(masks)
    )
    assert_iou_above(heatmaps.tolist(), 0.7, masks=masks.tolist())
    assert assert_iou_above(heatmaps[1], 0.5, masks=masks[1]).images == 1
    assert assert_iou_above(heatmaps, np.float32(0.7), masks=masks).images == 2
    assert assert_iou_above(heatmaps, torch.tensor(0.7), masks=masks).images == 2


def test_conditions_of_a_gate_are_taken(heatmaps: np.ndarray, masks: np.ndarray) -> None:
    assert_iou_above = pytest_xai.assert_iou_above
    assert_iou_above(heatmaps, 0.9, masks=masks, mostly=0.5)
    with pytest.raises(ExplanationError, match="of the images"):
        assert_iou_above(heatmaps, 0.9, masks=masks, mostly=0.6)
    assert_iou_above(heatmaps, 0.9, masks=masks, max_failures=1)
    with pytest.raises(ExplanationError, match=r"1 image < 0\.900, 0 allowed"):
        assert_iou_above(heatmaps, 0.9, masks=masks, max_failures=0)
    with pytest.raises(ExplanationError, match="not proven"):
        assert_iou_above(heatmaps, 0.74, masks=masks, strict=True)
    blank = np.concatenate([heatmaps, np.zeros((1, 16, 16), np.float32)])
    three = np.concatenate([masks, masks[:1]])
    with pytest.raises(ExplanationError, match="1 of 3 images undefined, 0 allowed"):
        assert_iou_above(blank, 0.7, masks=three)
    assert len(assert_iou_above(blank, 0.7, masks=three, undefined=1).measurement.undefined) == 1


def test_settings_of_the_metric_are_taken(heatmaps: np.ndarray, masks: np.ndarray) -> None:
    beside = np.roll(masks, 7, axis=2)
    with pytest.raises(ExplanationError):
        pytest_xai.assert_pointing_game_above(heatmaps, 0.9, masks=beside, tolerance=0)
    judgement = pytest_xai.assert_pointing_game_above(heatmaps, 0.9, masks=beside, tolerance=9)
    assert judgement.measurement.metric.protocol == "pointing_game@zhang-2016(tolerance=9)"


def test_completeness_of_plain_attributions() -> None:
    attributions = np.ones((2, 3, 4, 4), dtype=np.float32)
    pytest_xai.assert_complete(attributions, differences=[48.0, 48.0])
    with pytest.raises(ExplanationError, match="completeness"):
        pytest_xai.assert_complete(attributions, differences=[48.0, 96.0])


def test_faithfulness_of_plain_heatmaps() -> None:
    # One bright channel on a dark image decides; see tiny.py.
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    classifier = load_classifier(model, size=(16, 16), normalization="none")
    images = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    needs = {"classifier": classifier, "images": images, "targets": np.array([0, 1])}
    heatmaps = images.mean(axis=1)
    gap = pytest_xai.assert_faithfulness_gap_above(heatmaps, -1.0, **needs)
    deletion = pytest_xai.assert_deletion_below(heatmaps, 1.0, **needs)
    insertion = pytest_xai.assert_insertion_above(heatmaps, 0.0, **needs)
    expected = insertion.measurement.values - deletion.measurement.values
    assert gap.measurement.values.tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("keywords", "error", "complaint"),
    [
        ({}, ParameterError, "iou of plain heatmaps also needs masks="),
        ({"mask": 1}, ParameterError, "an assertion on iou takes no 'mask': did you mean 'masks'"),
        ({"masks": 1, "binarise": "otsu"}, ParameterError, "did you mean 'binarize'"),
        (
            {"masks": 1, "beats": "centre"},
            ParameterError,
            "need what the fixture xai_explain gives",
        ),
        ({"masks": np.ones((2, 16, 16), bool), "per_class": True}, ParameterError, "no classes"),
        ({"masks": 1, "mostly": 7}, ParameterError, "`mostly` is a share of the images"),
        ({"masks": np.ones((3, 16, 16), bool)}, ShapeError, "masks: expected 2, one for each of"),
        ({"masks": np.ones((2, 8, 8), bool)}, ShapeError, "differ in number or size"),
    ],
)
def test_a_wrong_keyword_is_a_clear_error(
    keywords: dict[str, Any], error: type[XaiError], complaint: str, heatmaps: np.ndarray
) -> None:
    with pytest.raises(error, match=complaint):
        pytest_xai.assert_iou_above(heatmaps, 0.5, **keywords)


@pytest.mark.parametrize("threshold", [float("nan"), "0.5", None])
def test_a_threshold_that_is_no_number_is_an_error(
    threshold: Any, heatmaps: np.ndarray, masks: np.ndarray
) -> None:
    with pytest.raises(ParameterError):
        pytest_xai.assert_iou_above(heatmaps, threshold, masks=masks)


def test_heatmaps_that_are_all_undefined_fail(masks: np.ndarray) -> None:
    with pytest.raises(ExplanationError, match="2 of 2 images undefined"):
        pytest_xai.assert_iou_above(np.full((2, 16, 16), np.nan), 0.0, masks=masks, undefined=2)
    assert not issubclass(ExplanationError, UndefinedMeasurementError)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("assert_iuo_above", "did you mean 'assert_iou_above'"),
        ("assert_iou", "did you mean"),
        ("assert_iou_over", "it ends in `_above` or `_below`"),
    ],
)
def test_a_mistyped_import_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ImportError) as caught:
        exec(f"from pytest_xai import {name}")
    assert str(caught.value).startswith(f"pytest_xai has no {name!r}: ")
    assert near in str(caught.value)


def test_other_names_are_missing_in_the_ordinary_way() -> None:
    assert not hasattr(pytest_xai, "iou")
    assert assertion("assert_iou_above").__doc__


GATES = "[explainers.gradcam]\n[explainers.centre]\n[gates.gradcam]\niou = { above = 0.5 }\n"


def test_explanations_of_the_fixture_need_nothing_else(project: Project) -> None:
    project.thresholds(GATES)
    project.pytester.makepyfile(
        test_it="""
        import pytest_xai
        from pytest_xai import assert_complete, assert_iou_above, assert_stability_above

        def test_all(xai_explain):
            judgement = assert_iou_above(xai_explain("gradcam"), 0.9, beats="centre", skill_above=0.9)
            assert judgement.images == 6
            assert judgement.measurement.names[0] == "image-0"
            pytest_xai.assert_faithfulness_gap_above(xai_explain("gradcam"), -1)
            assert_stability_above(xai_explain("centre"), 0.99, samples=1)
            assert_complete(xai_explain("integrated_gradients", steps=64), tolerance=0.1)
        """
    )
    project.run("--xai-model", "tiny", "test_it.py").assert_outcomes(passed=1)


def test_a_failing_test_shows_its_own_line_and_none_of_ours(project: Project) -> None:
    project.thresholds(GATES)
    project.pytester.makepyfile(
        test_it="""
        from pytest_xai import assert_iou_above

        def test_fails(xai_explain):
            assert_iou_above(xai_explain("gradcam"), 1.5)

        def test_wrong_keyword(xai_explain):
            assert_iou_above(xai_explain("gradcam"), 0.5, masks=[])

        def test_needs_attributions(xai_explain):
            from pytest_xai import assert_complete
            assert_complete(xai_explain("gradcam"))
        """
    )
    result = project.run("--xai-model", "tiny", "test_it.py")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            '>   *assert_iou_above(xai_explain("gradcam"), 1.5)',
            "E   *ExplanationError: iou[[]gradcam[]] tiny: 1.000 < 1.500 *",
            "E   *worst images:",
            "test_it.py:4: ExplanationError",
            "E   *ParameterError: what xai_explain gives brings its own masks; leave them out",
            "test_it.py:7: ParameterError",
            "E   *XaiError: completeness needs signed attributions, and gradcam gives none",
            "test_it.py:11: XaiError",
        ]
    )
    for ours in ("assertions.py", "session.py", "evaluation.py", "gate.py"):
        result.stdout.no_fnmatch_line(f"*{ours}*")
