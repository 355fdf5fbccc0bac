"""Masks that Segment Anything predicts: what they stand in for, and how every report marks them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from conftest import HEAD

from xai_core.concepts.segment_anything import load_segment_anything
from xai_core.imageset import load_imageset
from xai_core.torchvision_import import import_torchvision

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project

import_torchvision()
try:
    import transformers
except ImportError:
    transformers = None

needs_transformers = pytest.mark.skipif(
    transformers is None, reason="transformers is not installed: pip install 'pytest-xai[sam]'"
)

BARE = HEAD.replace("tiny:images", "tiny:without_masks") + 'predicted_masks = "models/sam"\n'
BRIGHT = "Bright, models/sam, at the middle of the image"
MARK = f"masks predicted by {BRIGHT}, not drawn"
TWO = "iou = { above = 0.9 }\nsparseness = { above = 0.9 }"
ASKED = ("--xai-model", "tiny")


class Bright:
    """Calls what is bright the object: the patch of the tiny images, as their own masks have it."""

    source = ""

    @property
    def name(self) -> str:
        return f"Bright, {self.source}"

    def object_mask(self, image: np.ndarray, prompt: tuple[float, ...]) -> np.ndarray:
        return image.max(axis=0) > 0.5


class LeftHalf(Bright):
    def object_mask(self, image: np.ndarray, prompt: tuple[float, ...]) -> np.ndarray:
        mask = np.zeros(image.shape[1:], dtype=bool)
        mask[:, : int(prompt[0])] = True
        return mask


@pytest.fixture
def checkpoint(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stand in for the loading of a checkpoint; return folder and device of every call."""
    (project.path / "models" / "sam").mkdir(parents=True)
    loaded = []

    def load(folder: str, *, device: str) -> Bright:
        loaded.append((str(folder), device))
        return Bright()

    monkeypatch.setattr("pytest_xai.predicted_masks.load_segment_anything", load)
    return loaded


def gates(text: str) -> str:
    return f"[explainers.gradcam]\n[gates.gradcam]\n{text}\n"


def test_predicted_masks_stand_in_for_missing_ones(
    project: Project, checkpoint: list[tuple[str, str]]
) -> None:
    project.thresholds(gates("iou = { above = 0.9 }"), head=BARE)
    (row,) = project.json(*ASKED)["gates"]
    assert (row["error"], row["mean"]) == (None, 1.0)
    assert checkpoint == [(str(project.path / "models" / "sam"), "cpu")]
    project.thresholds(gates("iou = { above = 0.9 }"), head=BARE.replace("predicted_masks", "#"))
    (row,) = project.json(*ASKED)["gates"]
    assert "has none" in row["error"]


@pytest.mark.usefixtures("checkpoint")
def test_the_numbers_are_those_on_the_predicted_masks(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pytest_xai.predicted_masks.load_segment_anything", lambda *_, **__: LeftHalf()
    )
    project.thresholds(gates("recall = { above = 0.1 }"), head=BARE)
    found = project.json(*ASKED)["measurements"]
    # The patch of image i covers the columns from 1 + i to 6 + i; the left half those up to 7.
    inside = [max(0, 8 - (1 + index)) for index in range(6)]
    expected = [6 * min(6, columns) / (16 * 8) for columns in inside]
    assert [one["value"] for one in found] == pytest.approx(expected, abs=1e-12)


@pytest.mark.usefixtures("checkpoint")
def test_every_report_marks_them(project: Project) -> None:
    failing = "iou = { below = 0.5 }\nfaithfulness_gap = { below = -1 }"
    project.thresholds(gates(failing), head=BARE)
    files = ["--xai-json", "found.json", "--junitxml", "junit.xml"]
    result = project.run(*ASKED, *files)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines([f"6 images of tiny:without_masks, top-1 accuracy 1.000; {MARK}"])
    lines = result.outlines
    first = next(index for index, line in enumerate(lines) if line.startswith("iou[gradcam]"))
    assert lines[first + 1].startswith("worst class: ")
    assert lines[first + 2 : first + 5] == [MARK, "", "worst images:"]
    other = next(
        index for index, line in enumerate(lines) if line.startswith("faithfulness_gap[gradcam]")
    )
    assert lines[other + 1].startswith("worst class: ")
    assert lines[other + 2 : other + 4] == ["", "worst images:"]
    (facts,) = json.loads((project.path / "found.json").read_text())["models"]
    assert facts["masks_from"] == BRIGHT
    properties = {
        case.get("name"): {one.get("name"): one.get("value") for one in case.iter("property")}
        for case in ElementTree.parse(project.path / "junit.xml").iter("testcase")
    }
    assert properties["iou"]["xai_masks_from"] == BRIGHT
    assert "xai_masks_from" not in properties["faithfulness_gap"]


@pytest.mark.usefixtures("checkpoint")
def test_a_warning_marks_them_too(project: Project) -> None:
    project.thresholds(gates("iou = { below = 0.5, level = 'warn' }"), head=BARE)
    result = project.run(*ASKED)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*GateWarning: iou*", f"*{MARK}"])


def test_masks_that_were_drawn_are_not_marked(project: Project) -> None:
    project.thresholds(gates("iou = { below = 0.5 }"))
    result = project.run(*ASKED, "--xai-json", "found.json", "--junitxml", "junit.xml")
    assert "predicted by" not in result.stdout.str()
    (facts,) = json.loads((project.path / "found.json").read_text())["models"]
    assert facts["masks_from"] is None
    assert "xai_masks_from" not in (project.path / "junit.xml").read_text()


@pytest.mark.usefixtures("checkpoint")
def test_a_crop_around_a_predicted_mask_marks_every_gate(project: Project) -> None:
    head = BARE + 'transform = "off-center-crop(share=0.5)"\n'
    project.thresholds(gates("sparseness = { below = 0.0 }"), head=head)
    result = project.run(*ASKED)
    result.stdout.fnmatch_lines(["sparseness[[]gradcam[]] tiny: *", MARK])


@pytest.mark.usefixtures("checkpoint")
def test_assertions_mark_them(project: Project) -> None:
    project.thresholds(gates("iou = { above = 0.9 }"), head=BARE)
    project.pytester.makepyfile(
        "from pytest_xai import assert_iou_below, assert_sparseness_below\n"
        "def test_masks(xai_explain, xai_images):\n"
        f"    assert xai_images.masks_from == {BRIGHT!r}\n"
        "    assert_iou_below(xai_explain('gradcam'), 0.5)\n"
        "def test_none(xai_explain):\n"
        "    assert_sparseness_below(xai_explain('gradcam'), 0.0)\n"
    )
    result = project.run(*ASKED, project.path / "test_assertions_mark_them.py")
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count(MARK) == 1
    result.stdout.fnmatch_lines(["E *iou[[]gradcam[]] tiny: 1.000 > 0.500*", f"E *{MARK}"])


@pytest.mark.usefixtures("checkpoint")
def test_a_set_that_has_masks_is_refused(project: Project) -> None:
    head = BARE.replace("tiny:without_masks", "tiny:images")
    file = project.thresholds(gates(TWO), head=head)
    result = project.run(*ASKED)
    result.assert_outcomes(failed=2)
    line = 1 + file.read_text().splitlines().index('predicted_masks = "models/sam"')
    message = f"thresholds/tiny.toml:{line}: data.predicted_masks: tiny:images has masks; leave out"
    assert f"cannot be measured: {message}" in result.stdout.str()


def test_a_checkpoint_that_is_not_there_is_named_with_file_line_and_key(project: Project) -> None:
    project.thresholds(gates(TWO), head=BARE)
    shown = project.run(*ASKED).stdout.str()
    found = re.search(r"thresholds/tiny\.toml:(\d+): data\.predicted_masks: models/sam: .*", shown)
    assert found, shown
    lines = (project.path / "thresholds" / "tiny.toml").read_text().splitlines()
    assert lines[int(found[1]) - 1] == 'predicted_masks = "models/sam"'
    assert "no such folder" in found[0]


@pytest.mark.parametrize("value", ['""', "true"])
def test_a_value_that_names_no_folder_is_refused(value: str, project: Project) -> None:
    project.thresholds(gates(TWO), head=BARE.replace('"models/sam"', value))
    result = project.run(*ASKED)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*tiny.toml:*: data.predicted_masks: *"])


def test_without_transformers_the_extra_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.path / "models" / "sam"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "sam"}))
    (folder / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "transformers", None)
    project.thresholds(gates(TWO), head=BARE)
    shown = project.run(*ASKED).stdout.str()
    assert "Segment Anything needs the package 'transformers'" in shown
    assert "pip install 'pytest-xai[sam]'" in shown


def save_segment_anything(folder: Path) -> None:
    """Write a tiny checkpoint whose random weights give masks that differ from image to image."""
    side = {"image_size": 64, "patch_size": 8}
    small: dict[str, Any] = {"hidden_size": 32, "mlp_dim": 16}
    torch.manual_seed(0)
    configuration = transformers.SamConfig(
        vision_config={
            **side,
            "hidden_size": 16,
            "output_channels": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "window_size": 4,
            "global_attn_indexes": [0],
            "num_pos_feats": 16,
            "mlp_dim": 32,
        },
        prompt_encoder_config={**side, "hidden_size": 32, "mask_input_channels": 4},
        mask_decoder_config={
            **small,
            "num_attention_heads": 4,
            "num_hidden_layers": 1,
            "iou_head_hidden_dim": 32,
        },
    )
    model = transformers.SamModel(configuration)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                weight.copy_(0.1 * noise + (not name.endswith("bias")))
            else:
                weight.copy_(2 * noise / weight[0].numel() ** 0.5)
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def segment_anything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random checkpoint, loaded once before any inner run.

    transformers imports its parts when they are asked for; of those that an inner run is the first
    to ask for, pytester forgets the modules, and the next load would mix them with new ones.
    """
    folder: Path = tmp_path_factory.mktemp("sam")
    save_segment_anything(folder)
    load_segment_anything(folder)
    return folder


@needs_transformers
def test_a_checkpoint_of_segment_anything_gives_its_masks_to_the_metrics(
    segment_anything: Path, project: Project
) -> None:
    folder = project.path / "models" / "sam"
    shutil.copytree(segment_anything, folder)
    project.thresholds(gates("iou = { below = 0.0 }"), head=BARE)
    result = project.run(*ASKED, "--xai-json", "found.json")
    note = "masks predicted by Segment Anything, models/sam, at the middle of the image, not drawn"
    result.stdout.fnmatch_lines(
        [
            f"6 images of *; {note}",
        ]
    )
    found = json.loads((project.path / "found.json").read_text())["measurements"]
    segmenter = load_segment_anything(folder)
    masks = []
    for sample, one in zip(load_imageset("tiny:without_masks", size=(16, 16)), found, strict=True):
        mask = segmenter.object_mask(sample.image, (8.0, 8.0))
        patch = sample.image.max(axis=0) > 0.5  # which Grad-CAM of the tiny model is
        assert one["value"] == pytest.approx((mask & patch).sum() / (mask | patch).sum())
        masks.append(mask.tobytes())
    assert len(set(masks)) > 1
