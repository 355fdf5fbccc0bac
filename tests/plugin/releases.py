"""A project in which releases are saved and compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest
    from conftest import Project

HEAD = """\
[model]
spec = "changing:build"
size = [16, 16]
normalization = "none"

[data]
path = "changing:images"
"""
PATCH = """
[explainers.patch]
kind = "changing:Patch"
"""
GATES = f"""{PATCH}
[gates.patch]
iou = {{ above = 0.0, undefined = 10, not_worse_by = 0.05 }}
"""


class Releases:
    """Inner runs of one project, before which its images and its explainer may change."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.path = project.path
        shutil.copy(Path(__file__).with_name("changing.py"), self.path)
        self.gates(GATES)

    def gates(self, text: str, *, head: str = HEAD) -> None:
        self.project.thresholds(text, head=head)

    def run(self, *args: str, **now: Any) -> pytest.RunResult:
        """Run with what the file of `changing` says ``now``."""
        (self.path / "state.json").write_text(json.dumps(now))
        return self.project.run("--xai-model", "tiny", *args)

    def save(self, name: str = "v1", *args: str, **now: Any) -> pytest.RunResult:
        result = self.run("--xai-save", name, *args, **now)
        assert self.file(name).is_file(), result.stdout.str()
        return result

    def compare(self, *args: str, name: str = "v1", **now: Any) -> pytest.RunResult:
        return self.run("--xai-compare", name, *args, **now)

    def file(self, name: str = "v1") -> Path:
        return self.path / "xai_runs" / f"{name}.json"

    def saved(self, name: str = "v1") -> dict[str, Any]:
        return json.loads(self.file(name).read_text())

    def rows(self, *args: str, **now: Any) -> list[dict[str, Any]]:
        """Return what the JSON file says of gates that were compared."""
        self.compare("--xai-json", "found.json", *args, **now)
        return json.loads((self.path / "found.json").read_text())["compared"]
