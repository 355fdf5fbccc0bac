"""The survey of explainers, on the demo and on explainers that misbehave."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xai_core import EXPLAINERS, METRICS, GradCAM, load_classifier, load_imageset
from xai_core.explainers import CentreMap, Explanation

SURVEY = Path(__file__).parents[2] / "examples" / "explainers"
MODULES = ("survey", "survey_cells", "survey_explainers", "survey_table")
IMAGES, STEPS = 3, 5
COMMAND = ["--data", "demo", "--limit", str(IMAGES)]
IG = f"integrated_gradients(steps={STEPS})"


@pytest.fixture(scope="module")
def example() -> Any:
    """The example's modules by name, imported from its folder as the command does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SURVEY))
        for name in MODULES:
            patch.delitem(sys.modules, name, raising=False)
        import survey
        import survey_cells
        import survey_explainers

        found: dict[str, ModuleType] = {
            "survey": survey,
            "cells": survey_cells,
            "explainers": survey_explainers,
        }
        yield type("Example", (), found)
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def out(example: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("survey")
    work = ["gradcam", IG, "smoothgrad", "rise(masks=8)", "guided_backprop", "centre", "random"]
    options = ["--explainers", *work, "attention_rollout", "--quick", "--metrics", "iou"]
    files = ["--json", str(folder / "survey.json"), "--markdown", str(folder / "survey.md")]
    assert example.survey.main([*COMMAND, *options, *files]) == 0
    return folder


@pytest.fixture(scope="module")
def cells(out: Path) -> dict[str, Any]:
    read = json.loads((out / "survey.json").read_text(encoding="utf-8"))
    assert read["finished"] is True
    return {cell["explainer"]: cell for cell in read["cells"]}


@pytest.mark.parametrize(
    ("explainer", "forwards", "gradients"),
    [
        ("gradcam", 0, IMAGES),
        (IG, 0, IMAGES * STEPS),
        ("smoothgrad(samples=10)", 0, IMAGES * 10),
        ("rise(masks=8)", IMAGES * 8, 0),
        ("guided_backprop", 0, IMAGES),
        ("centre", 0, 0),
        ("random", 0, 0),
    ],
)
def test_passes_are_those_of_the_definition(
    cells: dict[str, Any], explainer: str, forwards: int, gradients: int
) -> None:
    cell = cells[explainer]
    assert cell["result"] == "works"
    assert (cell["forwards"], cell["gradients"]) == (forwards, gradients)


def test_a_refusal_is_shown_with_its_reason_and_is_no_failure(
    out: Path, cells: dict[str, Any]
) -> None:
    cell = cells["attention_rollout"]
    assert cell["result"] == "refused"
    assert cell["scores"] == {}
    assert "gradcam and its family work on other models" in cell["reason"]
    (line,) = [line for line in markdown(out) if line.startswith("| `attention_rollout`")]
    assert re.search(r"refused: .*VisionTransformer.*, which demo is not \| – \|$", line)


def test_the_metric_is_that_of_a_direct_call(out: Path, cells: dict[str, Any]) -> None:
    classifier = load_classifier("demo")
    batch = load_imageset("demo", size=classifier.size).batch(0, IMAGES)
    targets = np.asarray(batch.labels)
    for name, explainer in (("gradcam", GradCAM()), ("centre", CentreMap())):
        heatmaps = explainer.explain(classifier, batch.images, targets).heatmaps
        direct = METRICS["iou"].function(heatmaps, batch.masks)
        np.testing.assert_allclose(cells[name]["scores"]["iou@v1"]["values"], direct, atol=1e-6)
        (line,) = [line for line in markdown(out) if line.startswith(f"| `{name}` ")]
        assert line.endswith(f"| {direct.mean():.3f} |")


def markdown(out: Path) -> list[str]:
    return (out / "survey.md").read_text(encoding="utf-8").splitlines()


@dataclass(frozen=True)
class Misbehaved:
    """An explainer that raises what it should not, or gives one value everywhere."""

    kind = "misbehaved"
    needs = "scores"
    source = "this test"
    promises = frozenset()

    raises: str = ""
    value: float = 0.0

    def explain(self, classifier: Any, images: Any, targets: Any) -> Explanation:
        if self.raises:
            raise {"index": IndexError("no such\nplace"), "stop": KeyboardInterrupt()}[self.raises]
        return Explanation(np.full(images[:, 0].shape, self.value, dtype=np.float32))


@pytest.mark.parametrize(
    ("misbehaved", "verdict"),
    [
        ("misbehaved(raises='index')", "ERROR IndexError: no such place"),
        ("misbehaved(value=1e999)", "ERROR 3 of 3 heatmaps are not finite"),
    ],
)
def test_a_defect_is_shown_and_fails_the_run_after_the_other_rows(
    example: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    misbehaved: str,
    verdict: str,
) -> None:
    monkeypatch.setitem(EXPLAINERS, "misbehaved", Misbehaved)
    assert example.survey.main([*COMMAND, "--explainers", misbehaved, "centre"]) == 1
    printed = capsys.readouterr()
    assert verdict in printed.out
    assert "works: no pass" in printed.out
    assert ("Traceback" in printed.err) == ("IndexError" in verdict)


def test_maps_that_are_the_same_everywhere_work_and_have_no_value(
    example: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(EXPLAINERS, "misbehaved", Misbehaved)
    options = ["--explainers", "misbehaved", "--metrics", "iou", "--markdown"]
    assert example.survey.main([*COMMAND, *options, str(tmp_path / "survey.md")]) == 0
    (line,) = [line for line in markdown(tmp_path) if line.startswith("| `misbehaved`")]
    assert re.fullmatch(r"\| `misbehaved` \| works: no pass, 0.\d\d s, 3 flat \| – \|", line)


def test_a_run_cut_off_leaves_the_cells_that_were_finished(
    example: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(EXPLAINERS, "misbehaved", Misbehaved)
    file = tmp_path / "new" / "survey.json"
    names = ["gradcam", "misbehaved(raises='stop')", "centre"]
    with pytest.raises(KeyboardInterrupt):
        example.survey.main([*COMMAND, "--explainers", *names, "--json", str(file)])
    left = json.loads(file.read_text(encoding="utf-8"))
    assert left["finished"] is False
    assert [cell["explainer"] for cell in left["cells"]] == ["gradcam"]
    assert [path.name for path in file.parent.iterdir()] == ["survey.json"]


def test_all_are_surveyed_where_none_is_named(example: Any) -> None:
    kinds = [explainer.kind for explainer in example.explainers.chosen([], quick=False)]
    assert kinds == [*EXPLAINERS, "captum:Deconvolution", "captum:InputXGradient"]


def test_quick_parameters_are_for_names_alone_and_are_shown(example: Any) -> None:
    texts = ["rise", "rise(cells=8)", "rise(masks=300)", "lrp"]
    titles = [
        [example.explainers.title(one) for one in example.explainers.chosen(texts, quick=quick)]
        for quick in (True, False)
    ]
    assert titles[0] == ["rise(masks=300)", "rise(masks=4000, cells=8)", "lrp"]
    assert titles[1] == ["rise(masks=4000)", "rise(masks=4000, cells=8)", "rise(masks=300)", "lrp"]


def test_quick_changes_every_explainer_that_it_lists(example: Any) -> None:
    plain = example.explainers.chosen([], quick=False)
    quick = example.explainers.chosen([], quick=True)
    changed = {one.kind for one, other in zip(plain, quick, strict=True) if one != other}
    assert changed == set(example.explainers.QUICK)


def test_without_masks_only_the_metrics_that_need_them_are_missing(
    example: Any, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "noise.png")
    command = ["--data", str(tmp_path), "--explainers", "gradcam", "--metrics", "iou", "sparseness"]
    assert example.survey.main([*command, "--markdown", str(tmp_path / "survey.md")]) == 0
    (line,) = [line for line in markdown(tmp_path) if line.startswith("| `gradcam`")]
    assert re.search(r"works: 1 g, .* \| no masks \| 0\.\d{3} \|$", line)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("it has GELU; use `ig`", "it has GELU"),
        ("It has GELU. Use `ig`.", "It has GELU"),
        ("needs ViT (vit_b_16, ...), which x is not", "needs ViT (vit_b_16, ...), which x is not"),
        ("sums to 0.5 instead\nof 1", "sums to 0.5 instead of 1"),
    ],
)
def test_the_first_sentence_is_one_line(example: Any, text: str, first: str) -> None:
    assert example.cells.first_sentence(text) == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--explainers", "gradcan"], "did you mean 'gradcam'"),
        (["--metrics", "iuo"], "did you mean 'iou'"),
        (["--weights", "demo"], "expected NAME=FILE or NAME=random"),
        (["--weights", "dmo=random"], "did you mean 'demo'?"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_not_a_traceback(
    example: Any, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert example.survey.main([*COMMAND, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
