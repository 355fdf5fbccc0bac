"""The study's table, end to end on the demo, against direct calls of the metrics."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from xai_core import GradCAM, IntegratedGradients, Measurement, load_classifier, load_imageset
from xai_core import metrics as ours
from xai_core.explainers import Explainer
from xai_core.metrics import METRICS
from xai_core.postprocess import Clahe, Gaussian

pytest.importorskip("matplotlib")

PAPER = Path(__file__).parents[2] / "examples" / "paper"
STEPS = 5
COMMAND = ["--data", "demo", "--models", "demo", "demo-shortcut", "--steps", str(STEPS)]
MODULES = ("study", "study_concepts", "study_rows", "study_table", "study_figures")


@pytest.fixture(scope="module")
def paper() -> Any:
    """The example's modules by name, imported from its folder as the command does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PAPER))
        for name in MODULES:
            patch.delitem(sys.modules, name, raising=False)
        import study
        import study_figures
        import study_rows
        import study_table

        found: dict[str, ModuleType] = {
            "study": study,
            "rows": study_rows,
            "table": study_table,
            "figures": study_figures,
        }
        yield type("Paper", (), found)
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def out(paper: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("paper")
    options = ["--limit", "4", "--raw", "--samples", "1", "--figures", "1", "--out", str(folder)]
    assert paper.study.main([*COMMAND, *options]) == 0
    return folder


@pytest.fixture(scope="module")
def table(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "table.json").read_text(encoding="utf-8"))
    return read


def cell(table: dict[str, Any], metric: str, explainer: str, model: str, variant: str) -> Any:
    (row,) = [row for row in table["rows"] if row["metric"] == metric]
    wanted = (explainer, model, variant)
    (found,) = [
        cell
        for cell in row["cells"]
        if (cell["explainer"], cell["model"], cell["variant"]) == wanted
    ]
    return found


@pytest.mark.parametrize(
    ("explainer", "model", "variant"),
    [
        ("Grad-CAM", "demo", "chain"),
        ("IG", "demo-shortcut", "chain"),
        ("IG", "demo", "plain"),
    ],
)
def test_the_table_holds_what_direct_calls_of_the_metrics_give(
    table: dict[str, Any], explainer: str, model: str, variant: str
) -> None:
    classifier = load_classifier(model)
    batch = load_imageset("demo", size=classifier.size).batch(0, 4)
    images, masks, targets = batch.images, batch.masks, np.asarray(batch.labels)
    assert masks is not None
    made: Explainer = GradCAM() if explainer == "Grad-CAM" else IntegratedGradients(steps=STEPS)

    def explain(inputs: Any, classes: Any) -> Any:
        heatmaps = made.explain(classifier, inputs, classes).heatmaps
        return Clahe()(Gaussian(sigma=3)(heatmaps)) if variant == "chain" else heatmaps

    heatmaps = explain(images, targets)
    seen = (classifier, images, heatmaps, targets)
    direct = {
        "iou": ours.iou(heatmaps, masks),
        "precision": ours.precision(heatmaps, masks),
        "recall": ours.recall(heatmaps, masks),
        "pointing_game": ours.pointing_game(heatmaps, masks),
        "average_drop": ours.average_drop(*seen),
        "increase_in_confidence": ours.increase_in_confidence(*seen),
        "deletion": ours.deletion(*seen),
        "insertion": ours.insertion(*seen),
        "active_fraction": ours.active_fraction(heatmaps),
        "stability": ours.stability(explain, images, targets, heatmaps, samples=1),
    }
    assert [row["metric"] for row in table["rows"]] == list(direct)
    for metric, values in direct.items():
        found = cell(table, metric, explainer, model, variant)
        np.testing.assert_allclose(found["values"], values, atol=1e-4, err_msg=metric)
        assert found["mean"] == pytest.approx(values.mean(), abs=1e-4)
        assert found["low"] <= found["mean"] <= found["high"]


def test_every_row_has_all_columns_and_its_reason_in_markdown(
    out: Path, table: dict[str, Any]
) -> None:
    text = (out / "table.md").read_text(encoding="utf-8")
    body = [line for line in text.splitlines() if "→" in line and line.startswith("|")]
    assert len(body) == len(table["rows"])
    for line, row in zip(body, table["rows"], strict=True):
        assert row["why"] in line
        assert line.count(" | ") == 5
        for found in row["cells"]:
            assert f"{found['mean']:.{1 if '%' in row['study'] else 3}f}" in line


def test_the_figures_of_the_first_image_open_and_are_not_blank(out: Path) -> None:
    found = sorted(path.name for path in out.glob("*.png"))
    (stem,) = load_imageset("demo", size=(64, 64), limit=1).names
    stem = stem.removesuffix(".png")
    assert found == [f"{stem}-chain.png", f"{stem}-plain.png"]
    for name in found:
        with Image.open(out / name) as image:
            assert image.format == "PNG"
            assert min(image.size) > 400
            colours = image.convert("RGB").getcolors(maxcolors=2**24)
        assert colours is not None
        assert len(colours) > 1000


def test_published_figures_stand_only_beside_the_models_of_the_study(paper: Any) -> None:
    iou = paper.rows.rows(samples=2, seed=0)[0]
    assert iou.published_for("Grad-CAM", "densenet121") == ".5515"
    assert iou.published_for("IG", "resnet50") == ".2096"
    assert iou.published_for("IG", "demo") is None


def test_published_iou_follows_from_published_precision_and_recall(paper: Any) -> None:
    iou, precision, recall = paper.rows.rows(samples=2, seed=0)[:3]
    for stated, p, r in zip(iou.published, precision.published, recall.published, strict=True):
        assert 1 / (1 / float(p) + 1 / float(r) - 1) == pytest.approx(float(stated), abs=1e-4)


def made_table(paper: Any, values: list[float], *, untrained: bool = False) -> Any:
    """A table of one row and one column of the study, with values made up."""
    row = paper.rows.rows(samples=2, seed=0)[0]
    names = tuple(f"{index}.png" for index in range(len(values)))
    metric = METRICS["iou"].configure({})
    undefined = {i: "the mask is empty" for i, value in enumerate(values) if np.isnan(value)}
    measurement = Measurement(metric, "Grad-CAM", names, np.array(values), undefined)
    made = paper.table.Cell("chain", "gradcam()", measurement)
    return paper.table.StudyTable(
        data="made",
        names=names,
        mask_share=0.25,
        columns=(paper.table.Column("Grad-CAM", "resnet50", "ResNet-50", untrained, 0.5),),
        blocks=(paper.table.Block(row, "iou@v1", "higher", ((made,),), None),),
        notes=(),
    )


def printed(table: Any) -> str:
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(table.for_terminal())
    return capture.get()


def test_a_cell_shows_published_and_ours_with_its_interval(paper: Any) -> None:
    table = made_table(paper, [0.25, 0.5, 0.75])
    text = printed(table)
    assert ".3947 → 0.500" in text
    assert "[0.250, 0.750]" in text
    assert table.as_json()["rows"][0]["cells"][0]["published"] == 0.3947
    assert "random" not in text


def test_an_untrained_model_says_so_in_its_header(paper: Any) -> None:
    table = made_table(paper, [0.25, 0.5], untrained=True)
    for text in (printed(table), table.as_markdown()):
        assert "random weights!" in text
        assert "ResNet-50: random weights, not trained" in text


def test_one_image_has_no_interval(paper: Any) -> None:
    table = made_table(paper, [0.5])
    assert "[one image]" in printed(table)
    assert "anecdote" in printed(table)
    assert table.as_json()["rows"][0]["cells"][0]["low"] is None


def test_images_without_a_value_are_counted_and_never_a_number(paper: Any) -> None:
    assert "1 undefined" in printed(made_table(paper, [0.25, 0.5, float("nan")]))
    table = made_table(paper, [float("nan")])
    assert ".3947 → n/a" in printed(table)
    found = table.as_json()["rows"][0]["cells"][0]
    assert (found["mean"], found["values"]) == (None, [None])
    assert found["undefined"] == {"0.png": "the mask is empty"}


def test_only_the_images_named_are_measured_and_masks_may_be_missing(
    paper: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, size=(2, 64, 64, 3), dtype=np.uint8)
    for name, image in zip(("dog", "cat"), pixels, strict=True):
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
    command = ["--data", str(tmp_path), "--models", "demo", "--steps", "2", "--samples", "1"]
    out = tmp_path / "out"
    assert paper.study.main([*command, "--images", "dog.png", "--out", str(out)]) == 0
    assert "– → no mask" in capsys.readouterr().out
    table = json.loads((out / "table.json").read_text(encoding="utf-8"))
    assert table["data"] == {"name": tmp_path.name, "images": ["dog.png"], "mask_share": None}
    assert cell(table, "iou", "IG", "demo", "chain")["mean"] is None
    every = load_imageset(tmp_path, size=(64, 64))
    np.testing.assert_array_equal(paper.study.only(every, ["dog.png"])[0].image, every[1].image)
    assert [path.name for path in out.glob("*.png")] == ["dog-chain.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "nothing.png"], "has no 'nothing.png'"),
        (["--weights", "demo"], "expected NAME=FILE or NAME=random"),
        (["--weights", "dmo=random"], "did you mean 'demo'?"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_not_a_traceback(
    paper: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert paper.study.main([*COMMAND, *options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_missing_matplotlib_is_said_before_anything_is_measured(
    paper: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert paper.study.main(["--data", "no-such-folder"]) == 2
    error = capsys.readouterr().err
    assert "the study's figures needs the package 'matplotlib'" in error
    assert "pytest-xai[examples]" in error
