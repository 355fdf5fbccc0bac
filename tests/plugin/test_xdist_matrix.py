"""One process, ``-n0`` and ``-n2`` find the same: verdicts, tables, files and exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tiny_concepts import HEAD as CONCEPTS
from tiny_concepts import table, write_concepts

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project

ALONE, ZERO, TWO = ("-p", "no:xdist"), ("-n0",), ("-n2",)
MODEL = '[model]\nspec = "tiny:build"\nsize = [16, 16]\nnormalization = "none"\n'
HEAD = f'{MODEL}[data]\npath = "tiny:one_blank"\n'
ANSWERS = """\
[explainers.gradcam]
[explainers.smooth]
kind = "gradcam"
postprocess = ["gaussian(sigma=1)"]
[explainers.ig]
kind = "integrated_gradients"
steps = 4
[explainers.nan]
kind = "tiny:NotANumber"
[explainers.broken]
kind = "tiny:Broken"
[gates.gradcam]
passes = { metric = "iou", above = 0.4, undefined = 1 }
fails = { metric = "iou", above = 1.5, undefined = 1 }
inconclusive = { metric = "iou", above = 0.9, undefined = 1, beats = "centre" }
only_warns = { metric = "precision", above = 1.5, level = "warn", undefined = 1 }
undefined = { metric = "recall", above = 0.1 }
[gates.smooth]
insertion = { above = 0.1, undefined = 1 }
[gates.ig]
completeness = { below = 0.5, undefined = 1 }
stability = { above = 0.1, samples = 2, undefined = 1 }
[gates.nan]
sparseness = { above = 0.1 }
[gates.broken]
iou = { above = 0.1 }
"""
WITHOUT_MASKS = """\
[explainers.gradcam]
[gates.gradcam]
iou = { above = 0.5 }
sparseness = { above = 0.1 }
"""


def a_run_of_everything(project: Project) -> None:
    """Write gates of every outcome, of three models."""
    project.thresholds(ANSWERS, head=HEAD, path="thresholds/answers.toml")
    head = HEAD.replace("one_blank", "without_masks")
    project.thresholds(WITHOUT_MASKS, head=head, path="thresholds/maskless.toml")
    demands = "verdict = 'absent'", "tcav = { above = 0.2 }"
    concepts = [table("red", *demands, of_class="classes = [0, 1]"), table("dull", demands[0])]
    write_concepts(project.path / "concepts")
    project.thresholds("\n".join(concepts), head=CONCEPTS, path="thresholds/concepts.toml")


def files_that_cannot_be_read(project: Project) -> None:
    """Write a file that is no TOML, one that asks for an unknown metric, and a good one."""
    (project.path / "thresholds").mkdir()
    (project.path / "thresholds" / "corrupt.toml").write_text("[gates\n")
    gates = "[explainers.gradcam]\n[gates.gradcam]\n{} = {{ above = 0.5 }}\n"
    project.thresholds(gates.format("iuo"), head=HEAD, path="thresholds/unknown.toml")
    project.thresholds(gates.format("iou"), head=HEAD, path="thresholds/good.toml")


def gates_without_thresholds(project: Project) -> None:
    """Write a threshold file that ``--xai-update`` completes."""
    gates = "[explainers.centre]\n[explainers.gradcam]\n[gates.gradcam]\niou = {}\nrecall = {}\n"
    project.thresholds(f"{gates}[gates.centre]\niou = {{}}\n")


def asked_for(*models: str) -> list[str]:
    return [f"--xai-model={model}" for model in models]


def shown(result: pytest.RunResult) -> list[str]:
    """Return what was printed from the first table on, without seconds.

    Which failure comes first is the workers' affair, and how many tests were not selected is
    nothing that they tell pytest.
    """
    text = re.sub(r"(, \d+ deselected)? in [\d.]+s", "", result.stdout.str())
    start = re.search(r"^=+ (explanations of|short test summary)", text, re.MULTILINE)
    assert start
    before, summary, after = text[start.start() :].partition("short test summary info")
    # A worker sends no crash's place, so pytest shows the message of a file that is wrong.
    after = re.sub(r"^(ERROR .*?) - .*$", r"\1", after, flags=re.MULTILINE)
    after = "".join(sorted(after.splitlines(keepends=True)))
    return re.sub(r"=+", "=", before + summary + after).splitlines()


def failures(result: pytest.RunResult) -> dict[str, str]:
    """Return the messages of failures by their headings."""
    text = result.stdout.str().partition("= FAILURES =")[2]
    parts = re.split(r"^(?:_{3,} (.*) _{3,}|=+ .* =+)$", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    worker = re.compile(r"^\[gw\d\] .*\n", re.MULTILINE)
    return {name: worker.sub("", text) for name, text in found.items() if name}


def without_seconds(found: object) -> object:
    """Return what a JSON file says but for what took how long."""
    if isinstance(found, dict):
        return {key: without_seconds(one) for key, one in found.items() if key != "seconds"}
    return [without_seconds(one) for one in found] if isinstance(found, list) else found


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("thresholds/*")}


def found_by(project: Project, *arguments: str) -> dict[str, object]:
    """Return all that a run shows, writes and says."""
    result = project.run(*arguments, "--xai-json=found.json")
    found = json.loads((project.path / "found.json").read_text())
    # The images are classified in each process.
    found["costs"] = [cost for cost in found["costs"] if cost["stage"] != "classify"]
    untold = ("seconds", "deselected")
    outcomes = {key: n for key, n in result.parseoutcomes().items() if key not in untold}
    return {
        "exit code": result.ret,
        "outcomes": outcomes,
        "shown": shown(result),
        "failures": failures(result),
        "json": without_seconds(found),
        "threshold files": written(project.path),
    }


CASES = [
    pytest.param(
        a_run_of_everything,
        asked_for("concepts", "answers", "maskless"),
        {"passed": 10, "failed": 7, "warnings": 1},
        id="every outcome",
    ),
    pytest.param(
        files_that_cannot_be_read,
        asked_for("corrupt", "unknown", "good"),
        {"errors": 2},
        id="unreadable files",
    ),
    pytest.param(
        gates_without_thresholds,
        [*asked_for("tiny"), "--xai-update"],
        {"failed": 3},
        id="update",
    ),
]


@pytest.mark.parametrize(("write", "asked", "outcomes"), CASES)
def test_workers_change_nothing(
    write: Callable[[Project], None], asked: list[str], outcomes: dict[str, int], project: Project
) -> None:
    write(project)
    before = written(project.path)
    seen = []
    for mode in (ALONE, ZERO, TWO):
        for name, text in before.items():
            (project.path / "thresholds" / name).write_text(text)
        seen.append(found_by(project, *asked, *mode))
    alone, zero, two = seen
    assert alone["outcomes"] == outcomes
    assert zero == alone
    assert two == alone


# Workers that die

DEADLY = """\
import os
import signal
from dataclasses import dataclass
from typing import ClassVar

from xai_core.explainers import GradCAM

calls = []
kills = False


@dataclass(frozen=True)
class Deadly:
    kind: ClassVar[str] = "deadly"

    def explain(self, classifier, images, targets):
        if calls and kills:  # `stability` explains changed images too
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(1)
        return GradCAM().explain(classifier, images, targets)
"""
DIES_AS_IT_IS_TESTED = """\
import os

import deadly

def pytest_configure(config):
    deadly.kills = hasattr(config, "workerinput")

def pytest_runtest_call(item):
    if item.name == "effect" and deadly.kills:
        os._exit(3)
"""
DEADLY_GATES = """\
[explainers.deadly]
kind = "deadly:Deadly"
[gates.deadly]
iou = { above = 0.4, undefined = 1 }
stability = { above = 0.1, samples = 1, level = "warn" }
recall = { above = 0.4, undefined = 1 }
"""
LOST = ("answers.toml::deadly::stability", "concepts.toml::concepts::red::effect")


def test_a_worker_that_dies_loses_its_running_gate_alone(project: Project) -> None:
    a_run_of_everything(project)
    project.thresholds(f"{ANSWERS}{DEADLY_GATES}", head=HEAD, path="thresholds/answers.toml")
    demands = "verdict = 'absent'", "effect = { below = 0.5 }", "tcav = { above = 0.2 }"
    concepts = table("red", *demands, of_class="classes = [1]")
    project.thresholds(concepts, head=CONCEPTS, path="thresholds/concepts.toml")
    (project.path / "deadly.py").write_text(DEADLY)
    project.pytester.makeconftest(DIES_AS_IT_IS_TESTED)
    some = [*asked_for("concepts", "answers"), "-k", "concepts or gradcam or deadly"]
    asked = [*some, "--xai-strict", "--xai-json=found.json"]

    result = project.run(*asked, *ALONE, *(f"--deselect=thresholds/{gate}" for gate in LOST))
    alone = without_seconds(json.loads((project.path / "found.json").read_text()))
    outcomes = result.parseoutcomes()
    result = project.run(*asked, *TWO)
    two = without_seconds(json.loads((project.path / "found.json").read_text()))

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(
        passed=outcomes["passed"], failed=outcomes["failed"] + 2, warnings=outcomes["warnings"]
    )
    messages = failures(result)
    for gate, title in zip(
        LOST, ("stability[deadly] answers", "concept red [1, 1] concepts"), strict=True
    ):
        lines = messages[f"gate thresholds/{gate}"].splitlines()
        message = re.fullmatch(
            r"(.*): cannot be measured: worker gw\d died while it ran; out of memory, "
            "or a fault in native code",
            lines[1],
        )
        assert message
        assert message[1] == title
        again = (
            f"  pytest --xai-model=concepts --xai-model=answers --xai-strict thresholds/{gate} -n0"
        )
        assert lines[-1] == again
    for rows, key in (("gates", "gate"), ("concept_gates", "condition")):
        [lost] = [row for row in two[rows] if row["outcome"] == "error"]
        others = [row for row in two[rows] if row is not lost]
        assert lost[key] in ("stability", "effect")
        assert re.match(r"worker gw\d died", lost["error"])
        assert not lost["passed"]
        assert others == alone[rows]
    assert two["measurements"] == alone["measurements"]
    assert two["models"] == alone["models"]
    tables = "\n".join(shown(result))
    order = [tables.index(name) for name in ("deadly\n", "  iou ", "  stability ", "  recall ")]
    assert order == sorted(order)
    assert re.search(r"^  stability .* error$", tables, re.MULTILINE)


# Parts of a run


def test_the_last_failures_run_again_on_workers(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:benchmark")
    a_run_of_everything(project)
    asked = asked_for("answers", "maskless")
    first = project.run(*asked, *ALONE).parseoutcomes()
    seen = [found_by(project, *asked, *mode, "--lf") for mode in (ALONE, TWO)]
    assert seen[1] == seen[0]
    assert seen[0]["outcomes"] == {"failed": first["failed"]}


def test_a_run_that_stops_at_the_first_failure_reports_what_it_held(project: Project) -> None:
    project.gates(fails="metric = 'iou', above = 1.5", passes="metric = 'iou', above = 0.5")
    result = project.run("--xai-model=tiny", "-n1", "-x", "--xai-json=found.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED  # as pytest-xdist has it: 2, not 1
    result.assert_outcomes(failed=1)
    [row] = json.loads((project.path / "found.json").read_text())["gates"]
    assert row["gate"] == "fails"
    assert re.search(r"^  fails +1\.000  >= 1\.500", "\n".join(shown(result)), re.MULTILINE)
