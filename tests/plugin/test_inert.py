"""A run that asks for nothing is as if the plugin were not there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FORBIDDEN = (
    "torch",
    "numpy",
    "scipy",
    "skimage",
    "rich",
    "msgspec",
    "xai_core",
    "pytest_xai.session",
    "pytest_xai.collect",
    "pytest_xai.assertions",
)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[pytest.RunResult, list[str]]:
    """Run one plain test beside a threshold file, in a process of its own."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "test_plain.py").write_text("def test_plain(): pass\n")
    (folder / "thresholds").mkdir()
    (folder / "thresholds" / "tiny.toml").write_text("[gates.gradcam]\niou = { above = 0.5 }\n")
    (folder / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure():\n"
        "    sys.__stdout__.write('MODULES ' + ' '.join(sorted(sys.modules)))\n"
    )
    # Other plugins of the environment import NumPy; what counts here is ours.
    others = ["cacheprovider", "xdist", "benchmark", "hypothesispytest", "anyio"]
    disabled = [text for name in others for text in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-v", *disabled, str(folder)]
    ran = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    left = sorted(path.name for path in folder.rglob("*"))
    return ran.stdout, left


def test_nothing_heavy_is_imported(plain_run) -> None:
    modules = set(plain_run[0].partition("MODULES ")[2].split())
    assert "pytest_xai.plugin" in modules
    assert not modules & set(FORBIDDEN)


def test_no_file_and_no_folder_is_made(plain_run) -> None:
    assert plain_run[1] == ["conftest.py", "test_plain.py", "thresholds", "tiny.toml"]


def test_no_line_is_printed(plain_run) -> None:
    output = plain_run[0].partition("MODULES")[0]
    mentions = [line for line in output.splitlines() if "xai" in line.lower()]
    assert all(line.startswith("plugins: ") for line in mentions)


def test_a_threshold_file_in_a_collected_folder_is_not_a_test(plain_run) -> None:
    assert "collected 1 item" in plain_run[0]
