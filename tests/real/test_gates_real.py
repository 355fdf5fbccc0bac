"""The committed thresholds on real weights and real photographs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared/data"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside this repository"),
]


def gate(model: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", f"--xai-model={model}", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("model", ["resnet50", "mobilenet_v2"])
def test_the_model_passes_its_committed_thresholds(model: str, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    weights = DATA / f"weights/{model}.safetensors"
    done = gate(
        model, f"--xai-weights={weights}", f"--xai-data={DATA / 'coco'}", f"--xai-json={found}"
    )
    assert done.returncode == 0, done.stdout
    facts = json.loads(found.read_text())
    assert facts["models"][0]["images"] == 40
    assert all(row["passed"] for row in facts["gates"])
    assert f"explanations of {model}" in done.stdout


def test_the_same_gates_fail_on_random_weights() -> None:
    selected = "energy_pointing_game or precision"
    options = (f"--xai-data={DATA / 'coco'}", "--xai-limit=16", "-k", f"gradcam and ({selected})")
    done = gate("resnet50", "--xai-weights=random", *options)
    assert done.returncode == 1, done.stdout


def test_densenet_trained_on_the_demo_passes_and_with_random_weights_fails() -> None:
    weights = ROOT / ".cache/densenet121-demo.safetensors"
    if not weights.is_file():
        train = [sys.executable, "examples/densenet121/train.py", "--out", str(weights)]
        subprocess.run(train, cwd=ROOT, check=True)
    options = ("--xai-data=demo", "--xai-limit=18")
    done = gate("densenet121", f"--xai-weights={weights}", *options)
    assert done.returncode == 0, done.stdout
    done = gate("densenet121", "--xai-weights=random", *options)
    assert done.returncode == 1, done.stdout
