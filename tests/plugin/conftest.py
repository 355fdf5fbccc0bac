"""Inner pytest runs on a tiny model, in this process wherever that is possible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

# What inner runs import lazily, imported here: pytester forgets modules that an inner run brought
# in, and torch cannot be imported twice.
import rich.console
import rich.table
import scipy.stats
import skimage.color
import skimage.filters
import skimage.metrics
import torch._dynamo

import pytest_xai.assertions
import pytest_xai.report.json_file
import pytest_xai.report.terminal
import pytest_xai.session
import xai_core.demo.scenes
from xai_core.torchvision_import import import_torchvision

import_torchvision()

HEAD = """\
[model]
spec = "tiny:build"
size = [16, 16]
normalization = "none"

[data]
path = "tiny:images"
"""


class Project:
    """A folder with a tiny model, in which inner pytest runs are started."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        # Others' plugins cost seconds in every inner run.
        options = [f"-p no:{name}" for name in ("hypothesispytest", "benchmark", "cacheprovider")]
        monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(options))
        for name in ("CI", "BUILD_NUMBER"):  # where they are set, pytest repeats whole messages
            monkeypatch.delenv(name, raising=False)
        self.pytester = pytester
        self.path = pytester.path
        shutil.copy(Path(__file__).with_name("tiny.py"), self.path)
        pytester.makeini("[pytest]\npythonpath = .\n")
        pytester.syspathinsert()

    def ini(self, *lines: str) -> None:
        self.pytester.makeini("\n".join(["[pytest]", "pythonpath = .", *lines]))

    def thresholds(
        self, gates: str, *, head: str = HEAD, path: str = "thresholds/tiny.toml"
    ) -> Path:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{head}\n{gates}", encoding="utf-8")
        return file

    def gates(self, **gates: str) -> Path:
        """Write a threshold file with these gates of Grad-CAM."""
        listed = "\n".join(f"{name} = {{ {demand} }}" for name, demand in gates.items())
        return self.thresholds(f"[explainers.gradcam]\n[gates.gradcam]\n{listed}\n")

    def run(self, *args: str | Path) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(*args)

    def node_ids(self, *args: str | Path) -> list[str]:
        """Return the ids of the tests that ``pytest ARGS`` would run."""
        result = self.run("--collect-only", "-q", *args)
        return [line for line in result.outlines if "::" in line]

    def json(self, *args: str | Path) -> dict[str, list[dict]]:
        self.run("--xai-json", "found.json", *args)
        return json.loads((self.path / "found.json").read_text())


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(pytester, monkeypatch)
