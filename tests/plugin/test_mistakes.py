"""Every mistake in what was asked for is one clear line, and never a pass or a skip."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

import pytest

from pytest_xai.thresholds import read_thresholds
from pytest_xai.toml_source import ThresholdFileError

if TYPE_CHECKING:
    from conftest import Project

GRADCAM = "[explainers.gradcam]\n[gates.gradcam]\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("[model\n", "t.toml:1: not valid TOML: ", id="not TOML"),
        pytest.param("a = 1\na = 2\n", "t.toml:2: not valid TOML: ", id="a key twice"),
        pytest.param(
            "[explainer.gradcam]\n",
            "t.toml:1: explainer: unknown table: did you mean 'explainers'",
            id="unknown table",
        ),
        pytest.param(
            "[data]\n\npaht = 'x'\n",
            "t.toml:3: data.paht: [data] has no parameter 'paht': did you mean 'path'",
            id="unknown key of data",
        ),
        pytest.param(
            "[model]\nspec = 3\n",
            "t.toml:2: model.spec: [model]: Expected `str | null`, got `int`",
            id="type of spec",
        ),
        pytest.param(
            "[data]\nlimit = 0\n",
            "t.toml:2: data.limit: ",
            id="limit",
        ),
        pytest.param("data = 3\n", "t.toml:1: data: expected a table, got 3", id="not a table"),
        pytest.param(
            "[explainers]\ngradcam = 3\n",
            "t.toml:2: explainers.gradcam: expected a table, got 3",
            id="explainer not a table",
        ),
        pytest.param(
            "[explainers.gradcan]\n",
            "t.toml:1: explainers.gradcan: no explainer 'gradcan': did you mean 'gradcam'",
            id="unknown explainer",
        ),
        pytest.param(
            "[explainers.mine]\n# mine\nkind = 'integrated_gradient'\n",
            "t.toml:3: explainers.mine.kind: no explainer 'integrated_gradient': did you mean "
            "'integrated_gradients'",
            id="unknown kind",
        ),
        pytest.param(
            "[explainers.x]\nkind = 3\n",
            "t.toml:2: explainers.x.kind: expected the name of an",
            id="kind",
        ),
        pytest.param(
            "[explainers.mine]\nkind = 'no_such:Thing'\n",
            "t.toml:2: explainers.mine.kind: explainer 'no_such:Thing' cannot be imported: No module",
            id="kind not importable",
        ),
        pytest.param(
            "[explainers.integrated_gradients]\nstep = 5\n",
            "t.toml:2: explainers.integrated_gradients.step: explainer 'integrated_gradients' has no "
            "parameter 'step': did you mean 'steps'",
            id="unknown parameter",
        ),
        pytest.param(
            "[explainers.integrated_gradients]\n\nsteps = 'five'\n",
            "t.toml:3: explainers.integrated_gradients.steps: explainer 'integrated_gradients': Expected `int`",
            id="type of a parameter",
        ),
        pytest.param(
            "[explainers.gradcam]\npostprocess = ['gausian(sigma=3)']\n",
            "t.toml:2: explainers.gradcam.postprocess: ",
            id="unknown postprocess",
        ),
        pytest.param(
            "[explainers.gradcam]\npostprocess = ['gaussian(sigm=3)']\n",
            "did you mean 'sigma'",
            id="unknown parameter of a postprocess",
        ),
        pytest.param(
            "[explainers.gradcam]\npostprocess = 'gaussian'\n",
            "expected a list of texts such as",
            id="postprocess not a list",
        ),
        pytest.param(
            f"{GRADCAM}iuo = {{ above = 0.5 }}\n",
            "t.toml:3: gates.gradcam.iuo: no metric 'iuo': did you mean 'iou'",
            id="unknown metric",
        ),
        pytest.param(
            f"{GRADCAM}x = {{ metric = 'iuo', above = 0.5 }}\n",
            "t.toml:3: gates.gradcam.x: no metric 'iuo'",
            id="unknown metric by key",
        ),
        pytest.param(
            f"{GRADCAM}iou = 0.5\n",
            "t.toml:3: gates.gradcam.iou: a threshold needs its direction: expected { above = 0.5 }",
            id="no direction",
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ mostly = 0.9 }}\n",
            "a gate needs a threshold with its direction",
            id="no threshold",
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ above = 0.1, below = 0.5 }}\n",
            "`above` and `below` exclude each other",
            id="both",
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ abvoe = 0.1 }}\n",
            "t.toml:3: gates.gradcam.iou: unknown key 'abvoe' of a gate on iou: did you mean 'above'",
            id="unknown key of a gate",
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ above = '0.5' }}\n",
            "gates.gradcam.iou: the gate: Expected `float",
            id="type",
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ above = nan }}\n", "`above` must be a finite number", id="NaN"
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ above = true }}\n", "Expected `float", id="a bool is no number"
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ above = 0.5, mostly = 2 }}\n", "`mostly` is a share", id="mostly"
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ beats = 'center' }}\n",
            "gates.gradcam.iou: ",
            id="unknown null map",
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ above = 0.5, level = 'error' }}\n",
            "`level` must be 'fail' or 'warn', got 'error'",
            id="unknown level",
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ above = 0.5, undefined = -1 }}\n",
            "`undefined` is a number of images",
            id="undefined",
        ),
        pytest.param(
            f"{GRADCAM}pointing_game = {{ above = 0.5, tolerance = 'far' }}\n",
            "t.toml:3: gates.gradcam.pointing_game: metric 'pointing_game', setting 'tolerance'",
            id="setting of a metric",
        ),
        pytest.param(
            f"{GRADCAM}iou = {{ above = 0.5, protocol = 'iou@v0' }}\n",
            "t.toml:3: gates.gradcam.iou: this version measures 'iou@v1', the file pins 'iou@v0'",
            id="pinned protocol",
        ),
        pytest.param(
            "[explainers.gradcam]\n[gates.gradcm]\niou = { above = 0.5 }\n",
            "t.toml:2: gates.gradcm: no [explainers.gradcm] in this file: did you mean 'gradcam'",
            id="gates of an unknown explainer",
        ),
        pytest.param(
            "[gates.gradcam]\niou = { above = 0.5 }\n",
            "(or add an empty table [explainers.gradcam])",
            id="explainer not declared",
        ),
        pytest.param("[explainers.gradcam]\n", "no gates; add e.g. [gates.gradcam]", id="no gates"),
        pytest.param(f"{GRADCAM}", "no gates", id="an empty table of gates"),
        pytest.param("", "no gates", id="an empty file"),
    ],
)
def test_a_wrong_threshold_file_names_file_line_and_key(text, complaint, tmp_path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(text)
    with pytest.raises(ThresholdFileError) as caught:
        read_thresholds(file, shown="t.toml", seed=0)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("t.toml:")
    assert "\n" not in str(caught.value)


def test_a_wrong_threshold_file_is_a_collection_error_without_a_traceback(project: Project) -> None:
    project.gates(iuo="above = 0.5")
    result = project.run("--xai-model", "tiny")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "*ERROR collecting thresholds/tiny.toml*",
            "thresholds/tiny.toml:11: gates.gradcam.iuo: no metric 'iuo': did you mean 'iou'?*",
            "*1 error*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*.py:*")


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        pytest.param(
            ["--xai-model", "densenet112"],
            "unknown model 'densenet112': did you mean 'densenet1*",
            id="model",
        ),
        pytest.param(
            ["--xai-model", "densenet121"],
            "no threshold file for --xai-model densenet121: expected thresholds/densenet121.toml; *",
            id="threshold file",
        ),
        pytest.param(
            ["--xai-model", "tiny:build", "--xai-thresholds", "no/such.toml"],
            "--xai-thresholds no/such.toml: no such file or folder",
            id="--xai-thresholds",
        ),
        pytest.param(
            ["--xai-thresholds", "thresholds"],
            "--xai-thresholds needs --xai-model NAME*",
            id="no model",
        ),
        pytest.param(
            ["--xai-model", "a", "--xai-model", "b", "--xai-weights", "w.pth"],
            "--xai-weights 'w.pth': with several models say whose they are, e.g. --xai-weights a=w.pth",
            id="weights of several models",
        ),
        pytest.param(
            ["--xai-limit", "0"],
            "argument --xai-limit: expected a whole number, 1 or more, got '0'",
            id="--xai-limit",
        ),
        pytest.param(
            ["--xai-batch", "x"],
            "argument --xai-batch: expected a whole number, 1 or more, got 'x'",
            id="--xai-batch",
        ),
        pytest.param(
            ["--xai-seed", "-1"],
            "argument --xai-seed: expected a whole number, 0 or more*",
            id="--xai-seed",
        ),
        pytest.param(
            ["-o", "xai_limit=0"],
            "ini xai_limit: expected a whole number, 1 or more, got '0'",
            id="ini limit",
        ),
        pytest.param(
            ["-o", "xai_seed=one"],
            "ini xai_seed: expected a whole number, 0 or more, got 'one'",
            id="ini seed",
        ),
        pytest.param(
            ["-o", "xai_batch=-3"],
            "ini xai_batch: expected a whole number, 1 or more, got '-3'",
            id="ini batch",
        ),
        pytest.param(
            ["--xai-json", "tiny.py/found.json"],
            "--xai-json *tiny.py/found.json: cannot be written*",
            id="json",
        ),
        pytest.param(
            ["--xai-json", "."],
            "--xai-json *: cannot be written; expected a file*",
            id="json is a folder",
        ),
    ],
)
def test_a_wrong_option_is_a_usage_error(asked, complaint, project: Project) -> None:
    project.pytester.makepyfile("def test_nothing(): pass")
    result = project.run(*asked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.re_match_lines([r"(ERROR|.*: error): " + fnmatch.translate(complaint)])
    result.stderr.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("head", "asked", "complaint"),
    [
        pytest.param("[data]\npath = 'no/such'\n", [], "*no/such: no such image set*", id="data"),
        pytest.param(
            "", [], "no images for tiny: give --xai-data PATH, or `path` under*", id="no data"
        ),
        pytest.param(
            "[data]\npath = 'tiny:without_masks'\n",
            [],
            "iou needs masks, and tiny:without_masks has none",
            id="masks",
        ),
        pytest.param(
            "[data]\npath = 'tiny:images'\n",
            ["--xai-weights", "no/such.pth"],
            "*no/such.pth*",
            id="weights",
        ),
        pytest.param(
            "[data]\npath = 'tiny:images'\n",
            ["--xai-device", "gpu"],
            "unknown device 'gpu'*",
            id="device",
        ),
    ],
)
def test_what_cannot_be_loaded_fails_every_gate_with_one_line(
    head, asked, complaint, project: Project
) -> None:
    model = "[model]\nspec = 'tiny:build'\nsize = [16, 16]\nnormalization = 'none'\n"
    project.thresholds(f"{GRADCAM}iou = {{ above = 0.5 }}\n", head=f"{model}{head}")
    result = project.run("--xai-model", "tiny", *asked)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"iou[[]gradcam[]] tiny: cannot be measured: {complaint}"])
    result.stdout.fnmatch_lines(["  iou *error"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*.py:*")


def test_a_model_of_timm_without_timm_says_what_to_install(project: Project, monkeypatch) -> None:
    import importlib

    real = importlib.import_module

    def without_timm(name: str, *args: str):
        if name == "timm":
            raise ModuleNotFoundError(name, name="timm")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without_timm)
    result = project.run("--xai-model", "timm:resnet18")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: a model of timm needs the package 'timm'*pytest-xai?timm?*"]
    )
