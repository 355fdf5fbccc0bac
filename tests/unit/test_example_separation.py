"""What examples/metrics/separation.py prints of metrics that need more than one network."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples" / "metrics"


@pytest.fixture
def separation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("separation", "shuffled_labels"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("separation")


def rows(separation: ModuleType, folder: Path, *args: str) -> list[dict]:
    file = folder / "rows.json"
    given = ["--data", "demo", "--limit", "3", "--explainers", "gradcam", "--json", str(file)]
    assert separation.main([*given, *args]) == 0
    return json.loads(file.read_text())


def test_metrics_of_concepts_are_measured_and_a_model_without_the_concept_is_refused(
    separation: ModuleType, tmp_path: Path
) -> None:
    metric = 'concept_energy(concept="striped",layer="body")'
    (row,) = rows(separation, tmp_path, "--concepts", "demo", "--metrics", metric)
    assert 0 < row["values"]["gradcam"] <= 1
    assert set(row["nulls"]) == {"random", "centre", "sobel", "inverted"}
    assert list(row["refused"]) == ["gradcam of demo-shortcut"]
    assert "does not tell the concept 'striped'" in row["refused"]["gradcam of demo-shortcut"]


def test_without_concepts_their_metrics_are_refused_and_the_others_go_on(
    separation: ModuleType, tmp_path: Path
) -> None:
    metrics = ('concept_energy(concept="striped")', "sparseness")
    refused, measured = rows(separation, tmp_path, "--metrics", *metrics)
    assert list(refused["refused"]) == ["gradcam"]
    assert not refused["values"]
    assert 0 < measured["values"]["gradcam"] <= 1


def test_the_network_of_shuffled_labels_learns_them_by_heart_and_nothing_of_objects(
    separation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = importlib.import_module("shuffled_labels")
    small = shuffled.training_set(60)
    monkeypatch.setattr(shuffled, "training_set", lambda: small)
    state = torch.random.get_rng_state()
    network = shuffled.network()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert shuffled.accuracy(network, *small) >= 0.99
    labels = small[1]
    drawn = torch.tensor([shuffled.scene(shuffled.FIRST_SCENE + row).label for row in range(60)])
    assert sorted(labels.tolist()) == sorted(drawn.tolist())
    assert not torch.equal(labels, drawn)
    metric = 'data_randomization(model="shuffled_labels:network")'
    (row,) = rows(separation, tmp_path, "--models", "demo", "--metrics", metric)
    assert abs(row["values"]["gradcam"]) < 0.8
    assert row["nulls"]["centre"] == pytest.approx(1)
    assert row["nulls"]["inverted"] == pytest.approx(row["values"]["gradcam"], abs=1e-3)
