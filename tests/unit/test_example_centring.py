"""The example on centre bias, end to end on the demo, against direct calls."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from xai_core import METRICS, Evaluation, GradCAM, Method, load_classifier, load_imageset

FOLDER = Path(__file__).parents[2] / "examples" / "metrics"
COMMAND = ["--data", "demo", "--limit", "4", "--explainers", "gradcam", "saliency"]


@pytest.fixture
def centring(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "centring", raising=False)
    return importlib.import_module("centring")


def test_values_skills_and_ranks_are_those_of_direct_calls(centring, tmp_path, capsys):
    lines = {
        line.name: line
        for line in centring.run(centring._arguments(COMMAND))["energy_pointing_game"]
    }
    classifier = load_classifier("demo")
    metric = METRICS["energy_pointing_game"].configure({})
    for place, transform in enumerate(("resize", "off-center-crop")):
        images = load_imageset("demo", transform=transform, size=classifier.size, limit=4)
        evaluation = Evaluation(classifier, images)
        method = Method("gradcam", GradCAM())
        mean = evaluation.measure(method, metric).mean
        nulls = [
            evaluation.measure_null(name, method, metric).mean
            for name in ("random", "centre", "sobel")
        ]
        assert lines["gradcam"].values[place] == mean
        assert lines["gradcam"].skills[place] == pytest.approx(
            (mean - max(nulls)) / (1 - max(nulls))
        )
        assert [
            lines[f"null {name}"].values[place] for name in ("random", "centre", "sobel")
        ] == nulls
        better = mean >= lines["saliency"].values[place]
        assert lines["gradcam"].ranks[place] == (1 if better else 2)
    written = tmp_path / "found.md"
    assert centring.main([*COMMAND, "--metrics", "iou", "--markdown", str(written)]) == 0
    assert written.read_text().startswith("| iou | value resize | skill resize | rank resize |")
    assert "off-center-crop" in capsys.readouterr().out


def test_a_null_map_that_is_perfect_leaves_no_skill(centring, capsys):
    """The tolerance of 15 px makes the centre hit every object of the demo."""
    assert centring.main([*COMMAND, "--metrics", "pointing_game"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "gradcam" in line)
    assert line.split()[2] == "-"


def test_an_unknown_explainer_is_one_line(centring, capsys):
    assert centring.main(["--data", "demo", "--explainers", "gradcan"]) == 2
    assert "did you mean 'gradcam'" in capsys.readouterr().err
