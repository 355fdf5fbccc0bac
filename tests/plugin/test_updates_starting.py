"""The threshold file of a model that has none: measured, written once, to be reviewed."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from pytest_xai.settings import read_settings

# Here and not in a test: pytester forgets modules that an inner run was the first to import, but
# not that they are attributes of their package.
from pytest_xai.updates import starting

if TYPE_CHECKING:
    from conftest import Project

# The demo's own file is not looked for where the command line names a folder.
START = ("--xai-model=demo", "--xai-thresholds=thresholds", "--xai-limit=6", "--xai-update")


@pytest.fixture
def project(project: Project) -> Project:
    (project.path / "thresholds").mkdir()
    return project


def test_a_file_is_written_once_and_the_next_run_passes(project: Project) -> None:
    file = project.path / "thresholds" / "demo.toml"
    first = project.run(*START)
    assert first.ret == pytest.ExitCode.TESTS_FAILED
    first.stdout.fnmatch_lines(
        [
            "--- /dev/null",
            "+++ thresholds/demo.toml",
            "thresholds/demo.toml is new: review and commit it",
        ]
    )
    written = tomllib.loads(file.read_text())
    assert written["data"] == {"limit": 6}
    assert written["explainers"] == {
        "gradcam": {},
        "ig": {"kind": "integrated_gradients", "steps": 50},
    }
    demands = {
        f"{name}[{method}]": list(gate)
        for method, gates in written["gates"].items()
        for name, gate in gates.items()
    }
    assert demands == {
        "energy_pointing_game[gradcam]": ["beats"],
        "iou[gradcam]": ["above"],
        "faithfulness_gap[gradcam]": ["above"],
        "stability[gradcam]": ["above"],
        "sparseness[gradcam]": ["above"],
        "completeness[ig]": ["below", "mostly"],
    }
    shown = [line[1:] for line in first.outlines if line.startswith("+") and line[:3] != "+++"]
    assert shown == file.read_text().splitlines()
    text = file.read_text()
    second = project.run(*START)
    assert second.ret == pytest.ExitCode.OK
    second.assert_outcomes(passed=6)
    second.stdout.no_fnmatch_line("*review and commit*")
    assert file.read_text() == text
    plain = [option for option in START if "update" not in option]
    assert project.run(*plain).ret == pytest.ExitCode.OK


def test_workers_find_the_same_file(project: Project) -> None:
    file = project.path / "thresholds" / "demo.toml"
    alone = project.run(*START, "-k", "iou or sparseness")
    text = file.read_text()
    assert tomllib.loads(text)["gates"]["gradcam"].keys() == {"iou", "sparseness"}
    file.unlink()
    two = project.run(*START, "-k", "iou or sparseness", "-n2")
    assert (two.ret, alone.ret) == (pytest.ExitCode.TESTS_FAILED,) * 2
    assert file.read_text() == text


def test_gates_that_cannot_be_measured_are_left_out(project: Project) -> None:
    (project.path / "own.py").write_text(
        "from xai_core.demo.scenes import demo_images\n"
        "def images():\n"
        "    for index, scene in enumerate(demo_images(count=6)):\n"
        "        yield f'{index}', scene.image, None, scene.label\n"
    )
    result = project.run(
        *START, "--xai-data=own:images", "-k", "gradcam and not stab and not faith"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["iou[[]gradcam[]] demo: cannot be measured: not written"])
    written = tomllib.loads((project.path / "thresholds" / "demo.toml").read_text())
    assert written["data"] == {"path": "own:images", "limit": 6}
    assert written["gates"].keys() == written["explainers"].keys() == {"gradcam"}
    assert written["gates"]["gradcam"].keys() == {"sparseness"}


def test_a_null_map_that_is_not_beaten_is_left_out(project: Project) -> None:
    start = ["--xai-model=demo-shortcut", *START[1:], "-k", "gradcam and (energy or sparse)"]
    result = project.run(*start)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["energy_pointing_game[[]gradcam[]]: * does not beat centre *: left out"]
    )
    written = tomllib.loads((project.path / "thresholds" / "demo-shortcut.toml").read_text())
    assert written["gates"]["gradcam"].keys() == {"sparseness"}
    assert project.run(*start).ret == pytest.ExitCode.OK


def test_nothing_is_left_where_nothing_can_be_measured(project: Project) -> None:
    start = ["--xai-model=tiny:build", "--xai-data=tiny:images", "--xai-update"]
    result = project.run(*start)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "what the command line cannot say belongs into thresholds/build.toml, *",
            "thresholds/build.toml: not written: *how its input is normalised*",
        ]
    )
    assert list((project.path / "thresholds").iterdir()) == []
    (project.path / "thresholds" / "build.toml").write_text(
        "[model]\nnormalization = 'none'\nsize = [16, 16]\n[explainers.gradcam]\n"
        "[gates.gradcam]\niou = {}\n"
    )
    project.run(*start).assert_outcomes(failed=1)
    project.run(*start).assert_outcomes(passed=1)


@pytest.mark.parametrize("end", ["--collect-only", "-q"])
def test_nothing_is_left_of_a_run_that_measures_nothing(end: str, project: Project) -> None:
    if end != "--collect-only":
        project.pytester.makeconftest(
            "def pytest_collection_finish():\n    raise KeyboardInterrupt\n"
        )
    project.pytester.runpytest_inprocess(*START, end, no_reraise_ctrlc=True)
    assert list((project.path / "thresholds").iterdir()) == []


@pytest.mark.parametrize(
    ("data", "table"),
    [
        ([], {}),
        (["--xai-data=demo"], {"path": "demo"}),
        (["--xai-data=photos"], {"path": "photos"}),
        (["--xai-data=./photos"], {"path": "photos"}),
        (
            ["--xai-data=a=photos", "--xai-data=b.2=demo"],
            {"paths": {"a": "photos", "b.2": "demo"}},
        ),
        (["--xai-limit=3"], {"limit": 3}),
    ],
)
def test_the_file_names_the_images_as_seen_from_the_root(data, table, project: Project) -> None:
    (project.path / "photos").mkdir()
    config = project.pytester.parseconfig("--xai-model=demo", *data)
    path = project.path / "thresholds" / "demo.toml"
    begun = starting.StartingFile.of(path, "x", "demo", read_settings(config), project.path)
    assert begun is not None
    assert tomllib.loads(begun.text()).get("data", {}) == table


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (
            ["--xai-model=mobilenet_v2", "--xai-update"],
            "ERROR: --xai-update: no threshold file for mobilenet_v2, and no images to start *",
        ),
        (
            ["--xai-model=demo", "--xai-thresholds=tiny.py/x.toml", "--xai-update"],
            "ERROR: --xai-update: *x.toml cannot be written: *",
        ),
        (
            ["--xai-model=demo", "--xai-thresholds=no/such", "--xai-update"],
            "ERROR: --xai-thresholds no/such: no such file or folder",
        ),
        (["--xai-model=mobilnet_v2", "--xai-update"], "ERROR: unknown model 'mobilnet_v2'*"),
    ],
)
def test_a_file_that_cannot_be_started_is_a_usage_error(asked, complaint, project: Project) -> None:
    result = project.run(*asked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([complaint])


MODEL_ONLY = """\
# Mine.
[model]
normalization = "none"    # RGB in [0, 1]
size = [16, 16]
"""


def test_a_file_that_only_describes_the_model_gets_its_first_gates(project: Project) -> None:
    file = project.path / "thresholds" / "build.toml"
    file.write_text(MODEL_ONLY)
    start = ["--xai-model=tiny:build", "--xai-data=tiny:images", "--xai-update"]
    first = project.run(*start, "-k", "iou or sparse")
    assert first.ret == pytest.ExitCode.TESTS_FAILED
    first.stdout.fnmatch_lines(
        [
            "--- thresholds/build.toml",
            " size = [[]16, 16[]]",
            "+iou = *",
            "thresholds/build.toml has its first gates: review and commit it",
        ]
    )
    text = file.read_text()
    assert text.startswith(MODEL_ONLY)
    written = tomllib.loads(text)
    assert written["data"] == {"path": "tiny:images"}
    assert written["gates"].keys() == {"gradcam"}
    assert written["gates"]["gradcam"].keys() == {"iou", "sparseness"}
    project.run(*start).assert_outcomes(passed=2)
    project.run("--xai-model=tiny:build").assert_outcomes(passed=2)
    assert file.read_text() == text


def test_workers_find_the_first_gates_too(project: Project) -> None:
    file = project.path / "thresholds" / "build.toml"
    start = ["--xai-model=tiny:build", "--xai-data=tiny:images", "--xai-update", "-k", "iou or sp"]
    texts = []
    for workers in ("-n0", "-n2"):
        file.write_text(MODEL_ONLY)
        project.run(*start, workers).assert_outcomes(failed=2)
        texts.append(file.read_text())
    assert texts[0] == texts[1] != MODEL_ONLY


@pytest.mark.parametrize(
    ("before", "data"),
    [
        ('[model]\nnormalization = "none"\n[data]\npath = "tiny:images"\n', ()),
        ('[data]\r\npath = "tiny:images"\r\n[model]\r\nnormalization = "none"\r\n\r\n', ()),
        ("", ("--xai-data=tiny:images",)),
        ("# nothing yet", ("--xai-data=tiny:images",)),
    ],
    ids=["with images", "Windows line ends", "empty", "comment"],
)
def test_what_stands_there_stays(before: str, data: tuple[str, ...], project: Project) -> None:
    path = project.path / "thresholds" / "build.toml"
    path.write_bytes(before.encode())
    config = project.pytester.parseconfig("--xai-model=tiny:build", *data)
    begun = starting.StartingFile.of(path, "x", "tiny:build", read_settings(config), project.path)
    assert begun is not None
    assert begun.names_images
    begun.create()
    written = path.read_bytes()
    assert written.startswith(before.rstrip().encode())
    assert written.count(b"\n") == written.count(b"\r\n") or b"\r\n" not in written
    assert tomllib.loads(written.decode())["gates"]["gradcam"]["iou"] == {}
    begun.discard()
    assert path.read_bytes() == before.encode()


@pytest.mark.parametrize("end", ["cannot be measured", "--collect-only", "interrupted", "mistake"])
def test_a_file_without_gates_stays_as_it_was_where_none_is_measured(
    end: str, project: Project
) -> None:
    file = project.path / "thresholds" / "build.toml"
    before = '[data]\npath = "tiny:images"\n'  # how the input is normalised is not said
    before += {"mistake": "[model]\nspec = 3\n"}.get(end, "")
    file.write_text(before)
    if end == "interrupted":
        project.pytester.makeconftest(
            "def pytest_collection_finish():\n    raise KeyboardInterrupt\n"
        )
    asked = ["--xai-model=tiny:build", "--xai-update", *([end] if end[0] == "-" else [])]
    result = project.pytester.runpytest_inprocess(*asked, no_reraise_ctrlc=True)
    assert file.read_text() == before
    if end == "cannot be measured":
        result.stdout.fnmatch_lines(
            [
                "what the command line cannot say belongs into thresholds/build.toml, *",
                '  normalization = "imagenet" *',
                "thresholds/build.toml: not written: *how its input is normalised*",
            ]
        )
    if end == "mistake":
        result.stdout.fnmatch_lines(["thresholds/build.toml:4: model.spec: *"])


@pytest.mark.parametrize(
    "more", ["[explainers.gradcam]\n", "[neighbours]\nreference = 'r'\nabove = 0.5\n", "a = [\n"]
)
def test_a_file_that_says_more_is_left_to_its_user(more: str, project: Project) -> None:
    file = project.path / "thresholds" / "build.toml"
    file.write_text(MODEL_ONLY + more)
    project.run("--xai-model=tiny:build", "--xai-data=tiny:images", "--xai-update")
    assert file.read_text() == MODEL_ONLY + more


def test_a_file_without_gates_and_images_is_a_usage_error(project: Project) -> None:
    file = project.path / "thresholds" / "build.toml"
    file.write_text(MODEL_ONLY)
    result = project.run("--xai-model=tiny:build", "--xai-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --xai-update: no gates in thresholds/build.toml for tiny:build, and no images *"]
    )
    assert file.read_text() == MODEL_ONLY


def test_models_may_share_a_file_without_gates(project: Project) -> None:
    file = project.path / "shared.toml"
    file.write_text("[data]\nlimit = 6\n")
    models = ["--xai-model=demo", "--xai-model=demo-shortcut", "--xai-thresholds=shared.toml"]
    project.run(*models, "--xai-update", "-k", "sparse").assert_outcomes(failed=2)
    assert tomllib.loads(file.read_text())["gates"].keys() == {"gradcam"}
    project.run(*models).assert_outcomes(passed=2)


def test_what_is_wrong_elsewhere_is_not_laid_at_the_model(project: Project) -> None:
    (project.path / "thresholds" / "build.toml").write_text(MODEL_ONLY)
    asked = ["--xai-model=tiny:build", "--xai-data=tiny:without_masks", "-k", "iou", "--xai-update"]
    result = project.run(*asked)
    result.stdout.fnmatch_lines(["thresholds/build.toml: not written: *mask*"])
    result.stdout.no_fnmatch_line("*what the command line cannot say*")


@pytest.mark.parametrize("wrong", [True, False])
def test_first_thresholds_of_a_model_that_errs_are_doubted(wrong: bool, project: Project) -> None:
    (project.path / "thresholds" / "build.toml").write_text(MODEL_ONLY)
    (project.path / "own.py").write_text(
        "import tiny\n"
        "def images():\n"
        f"    return ((name, image, mask, (label + {int(wrong)}) % 3)\n"
        "            for name, image, mask, label in tiny.images())\n"
    )
    result = project.run(
        "--xai-model=tiny:build", "--xai-data=own:images", "-k", "sparse", "--xai-update"
    )
    doubt = "tiny:build is right about 0.000 of the labels of own:images: are [[]model] *"
    if wrong:
        result.stdout.fnmatch_lines([doubt])
    else:
        result.stdout.no_fnmatch_line("*is right about*")


def test_what_is_asked_from_the_start_and_not_met_is_left_out(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = {("gradcam", "iou"): "below = 0.25, mostly = 0.75", ("gradcam", "sparseness"): ""}
    monkeypatch.setattr(starting, "_GATES", gates)
    file = project.path / "thresholds" / "build.toml"
    file.write_text(MODEL_ONLY)
    result = project.run("--xai-model=tiny:build", "--xai-data=tiny:images", "--xai-update")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["iou[[]gradcam[]]: what it is to ask * is not met: left out"])
    assert tomllib.loads(file.read_text())["gates"]["gradcam"].keys() == {"sparseness"}
