"""What all metrics share: checked arrays, checked settings, one policy for degenerate maps."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest

from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.imageset import Background
from xai_core.metrics import METRICS

RNG = np.random.default_rng(5)
HEATMAPS = RNG.normal(size=(3, 8, 6)).astype(np.float32)
MASKS = np.zeros((3, 8, 6), dtype=bool)
MASKS[:, 2:5, 1:4] = True

ON_ARRAYS = sorted(name for name, m in METRICS.items() if set(m.needs) <= {"heatmaps", "masks"})
ON_HEATMAPS = sorted(name for name, m in METRICS.items() if "heatmaps" in m.needs)


REQUIRED = {
    "agreement": {"other": "gradcam"},
    "background_class": {"on": "grass"},
    "concept_correlation": {"concept": "striped"},
    "concept_energy": {"concept": "striped"},
    "concept_iou": {"concept": "striped"},
}
"""Settings without a default that a metric could be measured with."""


class NeverAsked:
    """A classifier, and functions that explain, that must not be reached."""

    num_classes = 3
    mean = (0.5, 0.5, 0.5)
    device = "cpu"

    def __call__(self, *_: object) -> object:
        pytest.fail("explained before the arrays were checked")

    def scores(self, _: object) -> object:
        pytest.fail("asked before the arrays were checked")

    def batch_size(self, height: int, width: int) -> int:
        return height * width


def measure(name: str, heatmaps: object, masks: object = MASKS) -> np.ndarray:
    given = {
        "heatmaps": heatmaps,
        "masks": masks,
        "background": Background(~MASKS * np.uint8(1), {1: "grass"}),
        "images": np.full((3, 3, 8, 6), 0.5, dtype=np.float32),
        "targets": np.array([0, 1, 2]),
        "classifier": NeverAsked(),
        **dict.fromkeys(
            ("explain", "explained_by", "heatmaps_of", "concept_maps_of", "whole_set"), NeverAsked()
        ),
    }
    needed = {need: given[need] for need in METRICS[name].needs}
    return METRICS[name].function(**needed, **REQUIRED.get(name, {}))


def test_every_metric_of_the_first_release_is_declared() -> None:
    assert set(METRICS) >= {
        "iou", "precision", "recall", "pointing_game", "energy_pointing_game",
        "deletion", "insertion", "faithfulness_gap", "average_drop", "increase_in_confidence",
        "complexity", "sparseness", "active_fraction", "stability", "completeness",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_metric_explains_itself_in_one_sentence_and_has_an_example(name: str) -> None:
    documented = inspect.getdoc(METRICS[name].function) or ""
    assert METRICS[name].summary.endswith(".")
    assert "\n" not in METRICS[name].summary
    assert ">>> " in documented
    assert METRICS[name].source


def test_doctest_finds_the_examples_of_all_metrics() -> None:
    import doctest

    import xai_core.metrics

    found = {test.name for test in doctest.DocTestFinder().find(xai_core.metrics) if test.examples}
    assert found >= {f"xai_core.metrics.__test__.{name}" for name in METRICS}


def test_importing_the_metrics_imports_no_heavy_package() -> None:
    code = (
        "import sys, xai_core.metrics, xai_core.postprocess; "
        "print([m for m in ('torch', 'scipy', 'skimage', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_a_value_does_not_depend_on_batch_mates_or_order(name: str) -> None:
    heatmaps = RNG.normal(size=(5, 33, 47)).astype(np.float32)
    heatmaps[3] *= 1e4
    masks = RNG.random((5, 33, 47)) < 0.3
    needs = METRICS[name].needs
    batch = {"heatmaps": heatmaps, "masks": masks}
    together = METRICS[name].function(*(batch[need] for need in needs))
    backwards = METRICS[name].function(*(batch[need][::-1] for need in needs))
    alone = [METRICS[name].function(*(batch[need][i] for need in needs))[0] for i in range(5)]
    assert together.dtype == np.float64
    assert together.shape == (5,)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, backwards[::-1])


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_measuring_leaves_the_arrays_as_they_were(name: str) -> None:
    heatmaps, masks = HEATMAPS.copy(), MASKS.copy()
    measure(name, heatmaps, masks)
    np.testing.assert_array_equal(heatmaps, HEATMAPS)
    np.testing.assert_array_equal(masks, MASKS)


@pytest.mark.parametrize("name", ON_HEATMAPS)
@pytest.mark.parametrize(
    ("fill", "why"),
    [(0.0, "zero everywhere"), (-2.5, "constant"), (np.nan, "not finite"), (np.inf, "not finite")],
)
def test_a_degenerate_map_is_undefined_and_named(name: str, fill: float, why: str) -> None:
    heatmaps = HEATMAPS.copy()
    heatmaps[1] = fill
    with pytest.raises(UndefinedMeasurementError, match=why) as caught:
        measure(name, heatmaps)
    assert set(caught.value.reasons) == {1}


@pytest.mark.parametrize("name", ON_HEATMAPS)
def test_a_single_nan_is_undefined(name: str) -> None:
    heatmaps = HEATMAPS.copy()
    heatmaps[2, 3, 3] = np.nan
    with pytest.raises(UndefinedMeasurementError, match="1 values not finite") as caught:
        measure(name, heatmaps)
    assert set(caught.value.reasons) == {2}


@pytest.mark.parametrize("name", sorted(n for n, m in METRICS.items() if "masks" in m.needs))
def test_an_empty_mask_is_undefined_and_named(name: str) -> None:
    masks = MASKS.copy()
    masks[[0, 2]] = False
    with pytest.raises(UndefinedMeasurementError, match="mask is empty") as caught:
        measure(name, HEATMAPS, masks)
    assert set(caught.value.reasons) == {0, 2}


@pytest.mark.parametrize("name", sorted(n for n, m in METRICS.items() if "masks" in m.needs))
def test_masks_of_another_size_are_refused(name: str) -> None:
    with pytest.raises(ShapeError, match="differ in number or size"):
        measure(name, HEATMAPS, MASKS[:, :-1])


@pytest.mark.parametrize(
    ("name", "setting", "value", "expected"),
    [
        ("iou", "binarize", "otzu", "'otsu', 'top=mask' or 'fraction=f'"),
        ("iou", "binarize", "fraction=0", "0 < f <= 1"),
        ("iou", "binarize", "fraction=1.5", "0 < f <= 1"),
        ("recall", "binarize", 0.5, "'otsu'"),
        ("pointing_game", "tolerance", -1, ">= 0"),
        ("pointing_game", "tolerance", 2.5, "int"),
        ("deletion", "steps", 0, ">= 1"),
        ("deletion", "substrate", "grey", "enum"),
        ("insertion", "steps", True, "int"),
        ("active_fraction", "fraction", 1.0, "< 1"),
        ("stability", "sigma", 0.0, "> 0"),
        ("stability", "sigma", float("nan"), "> 0"),
        ("stability", "samples", 0, ">= 1"),
        ("stability", "similarity", "cosine", "enum"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_gate_and_by_call(
    name: str, setting: str, value: object, expected: str
) -> None:
    with pytest.raises(ParameterError, match=setting) as caught:
        METRICS[name].configure({setting: value})
    assert expected in str(caught.value)
    assert repr(value) in str(caught.value)
    needs = dict.fromkeys(METRICS[name].needs)
    with pytest.raises(ParameterError, match=setting):
        METRICS[name].function(**needs, **{setting: value})


def test_a_setting_may_be_a_numpy_number() -> None:
    configured = METRICS["stability"].configure({"sigma": np.float64(0.1), "samples": np.int64(2)})
    assert configured.protocol == "stability@v1(sigma=0.1, samples=2)"


def test_a_protocol_names_what_differs_from_the_default() -> None:
    assert METRICS["deletion"].configure({}).protocol == "deletion@rise-2018"
    pointing = METRICS["pointing_game"].configure({"tolerance": 4})
    assert pointing.protocol == "pointing_game@zhang-2016(tolerance=4)"
