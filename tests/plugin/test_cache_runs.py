"""With a cache a second run says the same as the first, and computes nothing."""

from __future__ import annotations

import json
import re

import pytest
from conftest import Project

GATES = """\
[explainers.gradcam]
[explainers.counting]
kind = "tiny:Counting"
[gates.gradcam]
iou = { above = 0.5 }
deletion = { below = 0.000001 }
insertion = { skill_above = 0.1 }
[gates.counting]
energy_pointing_game = { above = 0.99 }
"""


def calls(project: Project) -> int:
    """How often the explainer that counts was asked."""
    file = project.path / "calls.txt"
    return len(file.read_text().splitlines()) if file.exists() else 0


def said(result: pytest.RunResult) -> list[str]:
    """What a run printed, without what tells runs apart: durations, passes, the cache's line."""
    lines = [
        line for line in result.outlines if not re.match(r"(explaining|measuring|cache):", line)
    ]
    return [re.sub(r"in \d+\.\d+s", "in", line) for line in lines if not line.startswith("  ")]


def cache_line(result: pytest.RunResult) -> tuple[int, int]:
    (line,) = [line for line in result.outlines if line.startswith("cache:")]
    found, looked_up = re.fullmatch(r"cache: ([\d ]+) of ([\d ]+) values found, .*", line).groups()
    return int(found.replace(" ", "")), int(looked_up.replace(" ", ""))


def test_the_second_run_says_the_same_and_computes_nothing(project: Project) -> None:
    project.thresholds(GATES)
    without = project.run("--xai-model", "tiny")
    before = calls(project)
    cold = project.run("--xai-model", "tiny", "--xai-cache", "kept")
    between = calls(project)
    warm = project.run("--xai-model", "tiny", "--xai-cache", "kept")
    assert before == between - before > 0
    assert calls(project) == between
    assert said(without) == said(cold) == said(warm)
    cold.assert_outcomes(passed=2, failed=2)
    failure = next(line for line in warm.outlines if line.startswith("deletion[gradcam] tiny: "))
    assert failure in cold.outlines
    found, looked_up = cache_line(warm)
    assert found == looked_up > 0
    assert cache_line(cold)[0] == 0
    cold.stdout.fnmatch_lines(["explaining: gradcam 6 gradients", "measuring: *forwards*"])
    assert "explaining:" not in warm.stdout.str()
    assert "measuring:" not in warm.stdout.str()
    assert f"values found, {project.path / 'kept'}" in warm.stdout.str()


def test_the_json_file_says_what_was_found_and_measures_the_same(project: Project) -> None:
    project.thresholds(GATES)
    arguments = ("--xai-model", "tiny", "--xai-cache", "kept")
    without, cold, warm = (
        project.json(*arguments[:2]),
        project.json(*arguments),
        project.json(*arguments),
    )
    assert without["measurements"] == cold["measurements"] == warm["measurements"]
    assert without["gates"] == cold["gates"] == warm["gates"]
    assert without["cache"] is None
    assert (cold["cache"]["found"], warm["cache"]["found"]) == (0, warm["cache"]["looked_up"])
    assert warm["cache"]["folder"] == str(project.path / "kept")
    rows = {(row["stage"], row["name"]): row for row in warm["costs"]}
    assert rows["classify", "tiny:images"]["found"] == 6
    assert rows["measure", "iou"]["found"] == rows["measure", "iou"]["looked_up"] == 6
    assert all(row["forwards"] == row["gradients"] == 0 for row in rows.values())


def test_a_run_that_asks_for_no_cache_makes_none(project: Project) -> None:
    project.gates(iou="above = 0.5")
    before = set(project.path.iterdir())
    result = project.run("--xai-model", "tiny")
    assert "cache:" not in result.stdout.str()
    new = {path.name for path in set(project.path.iterdir()) - before}
    assert not new - {"__pycache__", ".pytest_cache"}


def test_listing_the_gates_makes_no_folder(project: Project) -> None:
    project.gates(iou="above = 0.5")
    project.run("--xai-model", "tiny", "--xai-cache", "kept", "--collect-only")
    assert not (project.path / "kept").exists()


def test_the_ini_names_a_folder_and_the_command_line_wins(project: Project) -> None:
    project.gates(iou="above = 0.5")
    project.ini("xai_cache = .kept")
    for hits in (0, 1):
        found, looked_up = cache_line(project.run("--xai-model", "tiny"))
        assert found == hits * looked_up
    assert list((project.path / ".kept").glob("*.sqlite3"))
    assert cache_line(project.run("--xai-model", "tiny", "--xai-cache", "other"))[0] == 0
    off = project.run("--xai-model", "tiny", "--xai-cache", "off")
    assert "cache:" not in off.stdout.str()


@pytest.mark.parametrize("place", ["file", "file/below"])
@pytest.mark.parametrize("by", ["option", "ini"])
def test_a_folder_that_cannot_be_is_one_error_at_the_start(
    place: str, by: str, project: Project
) -> None:
    project.gates(iou="above = 0.5")
    (project.path / "file").write_text("")
    if by == "ini":
        project.ini(f"xai_cache = {place}")
        result = project.run("--xai-model", "tiny")
    else:
        result = project.run("--xai-model", "tiny", "--xai-cache", place)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines == [
        f"ERROR: --xai-cache (ini xai_cache) {project.path / place}: cannot be written; expected a "
        "folder that can, or one that can be made, or off",
        "",
    ]


def test_a_database_that_cannot_be_opened_is_every_gates_error(project: Project) -> None:
    project.gates(iou="above = 0.5", dice="above = 0.5")
    (project.path / "kept/explanations-v1.sqlite3").mkdir(parents=True)
    result = project.run("--xai-model", "tiny", "--xai-cache", "kept")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines([f"*the cache {project.path / 'kept'} cannot be used: *"])


def test_the_limit_is_a_number_of_mebibytes(project: Project) -> None:
    project.gates(iou="above = 0.5")
    wrong = project.run("--xai-cache-limit", "0")
    assert "expected a whole number, 1 or more, got '0'" in wrong.stderr.str()
    project.ini("xai_cache_limit = much")
    wrong = project.run("--xai-model", "tiny")
    assert "ini xai_cache_limit: expected a whole number, 1 or more" in wrong.stderr.str()


@pytest.mark.parametrize(
    ("ini", "option", "limit"), [("", (), 2048), ("3", (), 3), ("3", ("--xai-cache-limit=5",), 5)]
)
def test_the_limit_reaches_the_cache(
    ini: str, option: tuple[str, ...], limit: int, project: Project
) -> None:
    project.gates(iou="above = 0.5")
    project.ini(f"xai_cache_limit = {ini}", "xai_cache = kept")
    project.pytester.makepyfile(
        f"""
        from pytest_xai.session import session_of

        def test_limit(request, xai_explain):
            assert session_of(request.config)._cache().limit_bytes == {limit} * 2**20
        """
    )
    project.run(
        "test_the_limit_reaches_the_cache.py", "--xai-model", "tiny", *option
    ).assert_outcomes(passed=1)


def test_tests_in_python_share_the_cache_with_gates(project: Project) -> None:
    project.thresholds(GATES)
    project.pytester.makepyfile(
        """
        from pytest_xai import assert_iou_above

        def test_maps(xai_explain):
            assert assert_iou_above(xai_explain("gradcam"), 0.5).images == 6
            assert xai_explain("tiny:Counting").heatmaps.shape == (6, 16, 16)
        """
    )
    test = "test_tests_in_python_share_the_cache_with_gates.py"
    arguments = ("--xai-model", "tiny", "--xai-cache", "kept")
    project.run(*arguments)
    before = calls(project)
    warm = project.run(test, *arguments)
    warm.assert_outcomes(passed=1)
    assert calls(project) == before > 0
    # Classes, the values of IoU, and the maps of the other explainer, of six images.
    assert cache_line(warm) == (18, 18)


def test_an_explainer_whose_code_changed_is_asked_again(project: Project) -> None:
    project.thresholds(GATES)
    arguments = ("--xai-model", "tiny", "--xai-cache", "kept")
    project.run(*arguments)
    before = calls(project)
    with (project.path / "tiny.py").open("a") as file:
        file.write("# changed\n")
    project.run(*arguments)
    assert calls(project) == 2 * before > 0


def test_workers_share_one_cache_with_each_other_and_with_a_run_of_one_process(
    project: Project,
) -> None:
    pytest.importorskip("xdist")
    project.thresholds(GATES)
    arguments = ("--xai-model", "tiny", "--xai-cache", "kept", "--xai-json", "found.json")

    def measurements() -> list[str]:
        found = json.loads((project.path / "found.json").read_text())
        return sorted(json.dumps(record) for record in found["measurements"])

    cold = project.pytester.runpytest_subprocess(*arguments, "-n", "2")
    cold.assert_outcomes(passed=2, failed=2)
    of_workers, before = measurements(), calls(project)
    warm = project.run(*arguments)
    found, looked_up = cache_line(warm)
    assert found == looked_up > 0
    assert calls(project) == before > 0
    assert measurements() == of_workers
