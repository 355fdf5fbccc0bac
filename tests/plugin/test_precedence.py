"""Command line, then threshold file, then ini, then default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from pytest_xai.session import session_of
from pytest_xai.settings import read_settings

if TYPE_CHECKING:
    from conftest import Project

MODEL = "[model]\nspec = 'tiny:build'\nsize = [16, 16]\nnormalization = 'none'\n"
GATE = "[explainers.random]\n[gates.random]\niou = { above = 0 }\nstability = { above = 0 }\n"


def evaluated(project: Project, *args: str) -> Any:
    session = session_of(project.pytester.parseconfigure("--xai-model", "tiny", *args))
    return session.evaluation("tiny", session.thresholds_of("tiny"))


@pytest.mark.parametrize(
    ("command", "file", "ini", "expected"),
    [
        (["--xai-limit=2"], "limit = 3", "xai_limit = 4", 2),
        ([], "limit = 3", "xai_limit = 4", 3),
        ([], "", "xai_limit = 4", 4),
        ([], "", "", 6),
    ],
)
def test_limit(command: list[str], file: str, ini: str, expected: int, project: Project) -> None:
    project.ini(ini)
    project.thresholds(GATE, head=f"{MODEL}[data]\npath = 'tiny:images'\n{file}\n")
    assert len(evaluated(project, *command).images) == expected


@pytest.mark.parametrize(
    ("command", "file", "ini", "expected"),
    [
        (["--xai-data=tiny:images"], "path = 'tiny:one_blank'", "xai_data = x:y", "tiny:images"),
        ([], "path = 'tiny:one_blank'", "xai_data = x:y", "tiny:one_blank"),
        ([], "", "xai_data = tiny:without_masks", "tiny:without_masks"),
    ],
)
def test_data(command: list[str], file: str, ini: str, expected: str, project: Project) -> None:
    project.ini(ini)
    project.thresholds(GATE, head=f"{MODEL}[data]\n{file}\n")
    assert evaluated(project, *command).images.name == expected


@pytest.mark.parametrize(
    ("command", "ini", "seed"),
    [(["--xai-seed=2"], "xai_seed = 3", 2), ([], "xai_seed = 3", 3), ([], "", 0)],
)
def test_seed(command: list[str], ini: str, seed: int, project: Project) -> None:
    own = "[explainers.own]\nkind = 'random'\nseed = 7\n"
    project.ini(ini)
    project.thresholds(own + GATE)
    config = project.pytester.parseconfigure("--xai-model", "tiny", *command)
    session = session_of(config)
    file = session.thresholds_of("tiny")
    assert file is not None
    assert session.evaluation("tiny", file).seed == seed
    assert file.methods["random"].parameters == {"seed": seed}
    assert file.methods["own"].parameters == {"seed": 7}
    assert dict(file.gates[1].metric.settings)["seed"] == seed


@pytest.mark.parametrize(
    ("command", "ini", "expected"),
    [(["--xai-batch=2"], "xai_batch = 3", 2), ([], "xai_batch = 3", 3)],
)
def test_batch(command: list[str], ini: str, expected: int, project: Project) -> None:
    project.ini(ini)
    project.thresholds(GATE)
    assert evaluated(project, *command).classifier.batch_size(16, 16) == expected


@pytest.mark.parametrize(
    ("command", "ini", "expected"),
    [
        (["--xai-device=mps"], "xai_device = cuda", ("mps", "cuda")),
        ([], "xai_device = cuda", (None, "cuda")),
        ([], "", (None, "cpu")),
    ],
)
def test_device(
    command: list[str], ini: str, expected: tuple[str | None, str], project: Project
) -> None:
    project.ini(ini)
    settings = read_settings(project.pytester.parseconfig(*command))
    assert (settings.device, settings.ini_device) == expected


@pytest.mark.parametrize(
    ("command", "file", "expected"),
    [
        (["--xai-weights=ones.safetensors"], "weights = 'twos.safetensors'", 1.0),
        (["--xai-weights=tiny=ones.safetensors"], "weights = 'twos.safetensors'", 1.0),
        ([], "weights = 'twos.safetensors'", 2.0),
    ],
)
def test_weights(command: list[str], file: str, expected: float, project: Project) -> None:
    shapes = {"0.weight": (3, 3, 1, 1), "0.bias": (3,), "4.weight": (3, 3), "4.bias": (3,)}
    for name, value in (("ones", 1.0), ("twos", 2.0)):
        state = {key: torch.full(shape, value) for key, shape in shapes.items()}
        save_file(state, project.path / f"{name}.safetensors")
    project.thresholds(GATE, head=f"{MODEL}{file}\n[data]\npath = 'tiny:images'\n")
    classifier = evaluated(project, *command).classifier
    images = torch.ones(1, 3, 16, 16)
    layer = classifier.default_layer()
    activations = classifier.gradients(images, torch.tensor([0]), layer).activations
    assert float(activations.max()) == pytest.approx(4 * expected)


def test_one_model_in_two_files_is_loaded_as_each_file_says(project: Project) -> None:
    project.thresholds(GATE, head=f"{MODEL}[data]\npath = 'tiny:images'\n", path="a.toml")
    other = MODEL.replace("16, 16", "12, 12")
    project.thresholds(GATE, head=f"{other}[data]\npath = 'tiny:images'\n", path="b.toml")
    session = session_of(project.pytester.parseconfigure("--xai-model", "tiny", "a.toml"))
    sizes = [
        session.evaluation("tiny", session.thresholds(project.path / name)).classifier.size
        for name in ("a.toml", "b.toml", "a.toml")
    ]
    assert sizes == [(16, 16), (12, 12), (16, 16)]
