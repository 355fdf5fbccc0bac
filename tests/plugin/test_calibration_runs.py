"""``--xai-calibrate``: gates measured with several seeds instead of held."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Project

ASK = ("--xai-model", "tiny", "--xai-calibrate", "3")
# Noise of one sample: what SmoothGrad shows of an image depends on its seed.
NOISY = "[explainers.smoothgrad]\nsamples = 1\nsigma = 0.5\n"
GATES = f"""\
{NOISY}
[explainers.fixed]
kind = "smoothgrad"
samples = 1
seed = 4
[explainers.centre]
[gates.smoothgrad]
iou = {{ above = 0.99 }}
[gates.fixed]
iou = {{ above = 0.0 }}
[gates.centre]
iou = {{ above = 0.99, level = "warn" }}
precision = {{ above = 0.1, max_failures = 2 }}
insertion = {{ above = 0.0, beats = "random" }}
"""
DRIFTING = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from xai_core.explainers import Explanation

GENERATOR = np.random.default_rng()

@dataclass(frozen=True)
class Drifting:
    kind: ClassVar[str] = "drifting"

    def explain(self, classifier, images, targets):
        return Explanation(GENERATOR.random(images[:, 0].shape, dtype=np.float32))
"""


def rows_of(project: Project, *args: str) -> dict[tuple[str, str, str], dict]:
    found = project.json(*ASK, *args)["calibration"]
    return {(row["method"], row["gate"], row["of"]): row for row in found}


def test_nothing_fails_on_its_threshold_and_every_gate_has_a_row(project: Project) -> None:
    project.thresholds(GATES)
    result = project.run(*ASK)
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=5, warnings=0)
    number = r"\d\.\d+"
    rows = "\n".join(line.rstrip() for line in result.outlines)
    expected = [
        r"=+ calibration of tiny =+",
        r"6 images of tiny:images, 3 seeds",
        r"gate +demand +mean +sd over seeds, range +images +alarms +proposed",
        r"smoothgrad",
        rf"  iou +>= 0\.990 +{number} +{number}  {number}\.\.{number} +{number} +1\.000 +{number}",
        r"fixed",
        rf"  iou +>= 0\.000 +{number} +deterministic +{number} +<\.001 +{number}",
        r"centre",
        rf"  iou +>= 0\.990 +{number} +deterministic +{number} +1\.000 +{number}",
        r"  precision",
        r"    images < 0\.100 +<= 2 +0\.000 +deterministic +0\.000 +\S+ +\d",
        rf"  insertion +>= 0\.000 +{number} +\S+  {number}\.\.{number} +{number} +<\.001 +{number}",
        rf"    over random +> 0 +-?{number} +\S+  \S+\.\.\S+ +{number} +\S+",
    ]
    assert re.search("\n".join(expected), rows)
    result.stdout.no_fnmatch_line("*explanations of tiny*")


def test_the_rows_hold_what_the_seeds_gave_one_by_one(project: Project) -> None:
    project.thresholds(GATES)
    row = rows_of(project)["smoothgrad", "iou", ""]
    values = []
    for seed in range(3):
        found = project.json("--xai-model", "tiny", "--xai-seed", str(seed))["measurements"]
        values.append([one["value"] for one in found if one["method"] == "smoothgrad"])
    means = np.mean(values, axis=1)
    assert row["mean"] == pytest.approx(means.mean(), rel=1e-12)
    assert row["seed_deviation"] == pytest.approx(means.std(ddof=1), rel=1e-9)
    assert row["seed_deviation"] > 0
    assert (row["lowest"], row["highest"]) == pytest.approx((means.min(), means.max()))
    errors = np.std(values, axis=1, ddof=1) / np.sqrt(6)
    assert row["image_deviation"] == pytest.approx(errors.mean(), rel=1e-9)
    assert (row["seeds"], row["deterministic"], row["rate"]) == (3, False, 0.01)


def test_the_seeds_follow_that_of_the_run(project: Project) -> None:
    project.thresholds(GATES)
    first, same, shifted = (
        rows_of(project, "--xai-seed", seed)["smoothgrad", "iou", ""] for seed in ("0", "0", "1")
    )
    assert first == same
    assert first["mean"] != shifted["mean"]


def test_a_seed_that_the_file_gives_stays(project: Project) -> None:
    project.thresholds(GATES)
    row = rows_of(project)["fixed", "iou", ""]
    assert row["deterministic"] is True
    assert (row["seeds"], row["seed_deviation"]) == (1, None)
    assert row["lowest"] == row["mean"] == row["highest"]


def test_random_null_maps_and_seeded_metrics_vary_with_the_seed(project: Project) -> None:
    gates = 'iou = { beats = "random" }\ninsertion = { above = 0.0, beats = ["centre"] }\n'
    project.thresholds(f"[explainers.gradcam]\n[gates.gradcam]\n{gates}")
    rows = rows_of(project)
    over = rows["gradcam", "iou", "over random"]
    assert over["seeds"] == 3
    assert over["seed_deviation"] > 0
    assert over["proposed"] is None
    assert rows["gradcam", "insertion", ""]["seeds"] == 3


def test_a_rate_of_one_s_own_moves_the_proposal(project: Project) -> None:
    project.thresholds(GATES)
    strict = rows_of(project, "--xai-calibrate-rate", "0.2")["centre", "iou", ""]
    loose = rows_of(project, "--xai-calibrate-rate", "0.001")["centre", "iou", ""]
    assert (strict["rate"], loose["rate"]) == (0.2, 0.001)
    assert loose["proposed"] < strict["proposed"] < strict["mean"]
    assert loose["false_alarm_rate"] == strict["false_alarm_rate"]


@pytest.mark.parametrize("level", ["fail", "warn"])
@pytest.mark.parametrize("options", [(), ("--xai-cache", "kept")], ids=["plain", "cached"])
def test_what_is_random_without_a_seed_fails_and_names_its_spread(
    options: tuple[str, ...], level: str, project: Project
) -> None:
    project.pytester.makepyfile(drifting=DRIFTING)
    gate = f"iou = {{ above = 0.0, level = '{level}' }}"
    explainers = "[explainers.mine]\nkind = 'drifting:Drifting'\n[explainers.centre]\n"
    project.thresholds(f"{explainers}[gates.mine]\n{gate}\n[gates.centre]\niou = {{ above = 0.0 }}")
    if options:
        project.run("--xai-model", "tiny", *options)  # the cache now knows a value
    result = project.run(*ASK, *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    (line,) = [line for line in result.outlines if line.startswith("iou[mine] tiny: ")]
    found = re.fullmatch(
        r"iou\[mine\] tiny: not deterministic: it has no seed, yet two measurements of the same "
        r"images differ, by (\S+) in the mean and up to (\S+) on an image \(image-\d\); give what "
        r"is random in it a `seed`",
        line,
    )
    assert found
    assert 0 < float(found[1]) <= float(found[2])


def test_an_explainer_without_a_seed_is_asked_twice_whatever_the_number_of_seeds(
    project: Project,
) -> None:
    gates = "iou = { above = 0.0 }\nprecision = { above = 0.0 }\ninsertion = { above = 0.0 }\n"
    project.thresholds(f'[explainers.mine]\nkind = "tiny:Counting"\n[gates.mine]\n{gates}')
    project.run("--xai-model", "tiny")
    calls = project.path / "calls.txt"
    once = len(calls.read_text().splitlines())
    calls.unlink()
    project.run("--xai-model", "tiny", "--xai-calibrate", "5")
    assert len(calls.read_text().splitlines()) == 2 * once


def test_its_cost_is_reported_and_its_other_seeds_are_no_measurements(project: Project) -> None:
    project.thresholds(GATES)
    held, found = project.json("--xai-model", "tiny"), project.json(*ASK)

    def cost(of: dict, name: str) -> int:
        return sum(row["gradients"] for row in of["costs"] if (row["stage"], row["name"]) == name)

    assert cost(found, ("explain", "smoothgrad")) == 3 * cost(held, ("explain", "smoothgrad"))
    assert cost(found, ("explain", "fixed")) == 2 * cost(held, ("explain", "fixed"))
    assert found["measurements"] == held["measurements"]


def test_the_run_s_false_alarm_rate_is_that_of_gates_that_fail(project: Project) -> None:
    project.thresholds(GATES)
    rates = [row["false_alarm_rate"] for row in rows_of(project).values() if row["level"] == "fail"]
    expected = 1 - np.prod(1 - np.array(rates))
    result = project.run(*ASK)
    result.stdout.fnmatch_lines(
        [f"false-alarm rate of the run: {expected:.3f} if its {len(rates)} demands *"]
    )


def test_workers_give_the_same_table_and_file(project: Project) -> None:
    project.thresholds(GATES)
    tables, files = [], []
    for mode in (("-p", "no:xdist"), ("-n0",), ("-n2",)):
        result = project.run(*ASK, "--xai-json", "found.json", *mode)
        assert result.ret == pytest.ExitCode.OK
        start = next(i for i, line in enumerate(result.outlines) if "calibration of" in line)
        tables.append([line for line in result.outlines[start:] if " passed" not in line])
        files.append(json.loads((project.path / "found.json").read_text())["calibration"])
    assert tables[0] == tables[1] == tables[2]
    assert files[0] == files[1] == files[2]


def test_a_gate_without_any_value_cannot_be_calibrated(project: Project) -> None:
    gate = "[explainers.odd]\nkind = 'tiny:NotANumber'\n[gates.odd]\niou = { above = 0.0 }\n"
    project.thresholds(gate)
    result = project.run(*ASK, "--xai-limit", "1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["iou[[]odd[]] tiny: cannot be measured: 1 of 1 images undefined*"])


def test_what_is_no_gate_on_an_explainer_is_skipped(project: Project) -> None:
    reference = "[neighbours]\nreference = 'tiny:images'\nk = 1\nabove = 0.0\n"
    project.thresholds(f"{GATES}{reference}")
    result = project.run(*ASK, "-rs")
    result.assert_outcomes(passed=5, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * --xai-calibrate measures gates on explainers *"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--xai-calibrate", "1"), "*--xai-calibrate: expected a whole number, 2 or more*"),
        (("--xai-calibrate", "3", "--xai-update"), "*--xai-calibrate and --xai-update exclude*"),
        (("--xai-calibrate", "3", "--xai-strict"), "*--xai-calibrate and --xai-strict exclude*"),
        (
            ("--xai-calibrate", "3", "--xai-calibrate-rate", "1"),
            "*expected a rate between 0 and 1, such as 0.01, got '1'*",
        ),
    ],
)
def test_impossible_runs_are_refused(
    options: tuple[str, ...], message: str, project: Project
) -> None:
    project.thresholds(GATES)
    result = project.run("--xai-model", "tiny", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
