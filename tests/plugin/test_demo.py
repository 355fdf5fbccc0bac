"""The demo that travels in the package, from a folder with nothing in it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demo_runs_from_an_empty_folder_and_leaves_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:benchmark")
    command = [sys.executable, "-m", "pytest", "--xai-model", "demo", "-p", "no:cacheprovider"]
    result = pytester.run(*command, "--xai-limit=4", "-v", "-k", "gradcam and iou")
    result.stdout.fnmatch_lines(
        ["*demo.toml::gradcam::iou *", "*explanations of demo*", "4 images of demo*", "  iou *"]
    )
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    assert list(folder.iterdir()) == []
