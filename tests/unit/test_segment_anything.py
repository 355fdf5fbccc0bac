"""Segment Anything: a tiny model of random weights, held against transformers' own steps."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xai_core.classifier import load_classifier
from xai_core.concepts.discovery import Clustering, discover_concepts
from xai_core.concepts.mask_generation import (
    MaskGeneration,
    point_grid,
    stability,
    stable_masks,
    suppressed,
)
from xai_core.concepts.predicted_masks import with_predicted_masks
from xai_core.concepts.segment_anything import SegmentAnything, load_segment_anything
from xai_core.concepts.segmenter import Segmenter
from xai_core.concepts.segments import Cutting
from xai_core.errors import ImageSetError, MissingExtraError, ParameterError, WeightsError
from xai_core.imageset import CenterCrop, Entry, ImageSet, OffCenterCrop, Resize
from xai_core.torchvision_import import import_torchvision

RNG = np.random.default_rng(4)
SIDE = 64

import_torchvision()
try:
    import transformers
except ImportError:
    transformers = None

needs_transformers = pytest.mark.skipif(
    transformers is None, reason="transformers is not installed: pip install 'pytest-xai[sam]'"
)


@pytest.fixture(scope="module")
def model() -> Any:
    """Its weights are drawn so that masks depend on the prompt; as initialised, all are alike."""
    configuration = transformers.SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 8,
            "window_size": 4,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
            "mlp_dim": 32,
        },
        prompt_encoder_config={
            "hidden_size": 32,
            "image_size": SIDE,
            "patch_size": 8,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 16,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "iou_head_hidden_dim": 32,
        },
    )
    made = transformers.SamModel(configuration).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                weight.copy_(0.1 * noise + (not name.endswith("bias")))
            elif "embed" in name:
                weight.copy_(noise)
            else:
                weight.copy_(2 * noise / weight[0].numel() ** 0.5)
    return made


@pytest.fixture(scope="module")
def checkpoint(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam")
    model.save_pretrained(folder)
    return folder


def photograph(height: int = 40, width: int = 56) -> np.ndarray:
    return RNG.random((3, height, width)).astype(np.float32)


def prepared(image: np.ndarray) -> Any:
    """The image as transformers' own processor of images gives it to the model."""
    processor = transformers.SamImageProcessor(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}, do_rescale=False
    )
    return processor, processor(torch.from_numpy(image), return_tensors="pt")


def by_transformers(model: Any, image: np.ndarray, **prompts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits at the image's size and estimated qualities, by transformers' own steps."""
    processor, inputs = prepared(image)
    rows, columns = inputs["reshaped_input_sizes"][0].tolist()
    scale = np.array([columns / image.shape[2], rows / image.shape[1]])
    moved = {
        key: torch.tensor(np.array(value).reshape(-1, 2) * scale, dtype=torch.float32)
        for key, value in prompts.items()
    }
    with torch.no_grad():
        found = model(
            inputs["pixel_values"],
            input_points=moved["points"][None, :, None] if "points" in moved else None,
            input_boxes=moved["boxes"].reshape(1, -1, 4) if "boxes" in moved else None,
            multimask_output="points" in moved,
        )
    large = processor.post_process_masks(
        found.pred_masks,
        inputs["original_sizes"],
        inputs["reshaped_input_sizes"],
        binarize=False,
        pad_size={"height": SIDE, "width": SIDE},
    )[0]
    return large.flatten(0, 1).numpy(), found.iou_scores[0].flatten().double().numpy()


@needs_transformers
@pytest.mark.parametrize("size", [(40, 56), (64, 64), (90, 33)])
def test_an_image_is_prepared_as_transformers_prepares_it(
    model: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, seen = photograph(*size), []
    monkeypatch.setattr(
        model,
        "get_image_embeddings",
        lambda pixels: seen.append(pixels) or torch.zeros(1, 32, 8, 8),
    )
    SegmentAnything(model, source="here").object_mask(image, (1, 1))
    _, inputs = prepared(image)
    torch.testing.assert_close(seen[0], inputs["pixel_values"], rtol=0, atol=2e-6)


@needs_transformers
@pytest.mark.parametrize("size", [(40, 56), (90, 33)])
def test_the_mask_at_a_point_is_the_one_of_three_with_the_best_estimate(
    model: Any, size: tuple[int, int]
) -> None:
    image = photograph(*size)
    segment_anything = SegmentAnything(model, source="here")
    chosen = set()
    for point in [(3.0, 30.0), (20.5, 8.0), (33.0, 40.0), (0.0, 0.0), (30.0, 20.0), (10.0, 38.5)]:
        logits, qualities = by_transformers(model, image, points=[point])
        best = int(qualities.argmax())
        chosen.add(best)
        mask = segment_anything.object_mask(image, point)
        assert (mask.dtype, mask.shape) == (np.bool_, size)
        # Only pixels whose logit is a rounding away from 0 may differ.
        assert not (mask != (logits[best] > 0))[np.abs(logits[best]) > 1e-4].any()
        assert 0 < mask.mean() < 1
    assert len(chosen) > 1


@needs_transformers
def test_the_mask_in_a_box_is_transformers_single_one(model: Any) -> None:
    image, box = photograph(), (4.0, 6.0, 30.0, 39.0)
    logits, qualities = by_transformers(model, image, boxes=[box])
    assert len(qualities) == 1
    mask = SegmentAnything(model, source="here").object_mask(image, box)
    assert not (mask != (logits[0] > 0))[np.abs(logits[0]) > 1e-4].any()


@needs_transformers
def test_all_segments_are_those_of_a_plain_loop_over_transformers_masks(model: Any) -> None:
    image = photograph()
    points = [((x + 0.5) * 56 / 6, (y + 0.5) * 40 / 6) for y in range(6) for x in range(6)]
    logits, qualities = by_transformers(model, image, points=points)
    how = MaskGeneration(
        points=6,
        points_per_pass=5,
        iou_above=float(np.quantile(qualities, 0.4)) + 1e-6,
        stability_above=0.5,
        stability_offset=0.05,
        overlap=0.6,
    )
    candidates = []
    for index, (one, quality) in enumerate(zip(logits, qualities, strict=True)):
        inner, outer = (one > 0.05).sum(), (one > -0.05).sum()
        if quality > how.iou_above and outer and inner / outer > 0.5 and (one > 0).any():
            candidates.append((-quality, index, one > 0))
    kept: list[np.ndarray] = []
    for _, _, mask in sorted(candidates, key=lambda entry: entry[:2]):
        if all((mask & other).sum() / (mask | other).sum() <= 0.6 for other in kept):
            kept.append(mask)
    found = SegmentAnything(model, source="here", generation=how)(image)
    assert 2 < len(kept) < len(candidates) < len(logits)
    assert len(found) == len(kept)
    assert max(np.mean(a != b) for a, b in zip(found, kept, strict=True)) < 1e-3


@needs_transformers
def test_the_points_of_a_pass_change_nothing(model: Any) -> None:
    image = photograph()
    low = {"points": 5, "iou_above": -9.0, "stability_above": 0.0}
    one, other = (
        SegmentAnything(model, source="", generation=MaskGeneration(points_per_pass=n, **low))(
            image
        )
        for n in (1, 64)
    )
    assert len(one) == len(other) > 2
    assert max(np.mean(a != b) for a, b in zip(one, other, strict=True)) < 1e-3


def test_stability_is_the_iou_of_two_thresholds() -> None:
    logits = RNG.normal(size=(7, 9, 11)).astype(np.float32)
    logits[3] = -5
    expected = []
    for one in logits:
        inner, outer = one > 0.4, one > -0.4
        union = (inner | outer).sum()
        expected.append((inner & outer).sum() / union if union else 0.0)
    np.testing.assert_allclose(stability(logits, 0.4), expected, rtol=0, atol=1e-15)
    assert expected[3] == 0


def test_a_mask_stays_only_above_both_thresholds_and_if_it_is_not_empty() -> None:
    sure, unsure, empty = (np.full((2, 2), level, np.float32) for level in (9.0, 0.5, -9.0))
    logits = np.stack([sure, sure, unsure, empty, sure])
    qualities = np.array([0.9, 0.88, 0.9, 0.9, 0.95])
    masks, kept = stable_masks(logits, qualities, MaskGeneration())
    assert kept == [0.9, 0.95]
    assert all(mask.all() for mask in masks)


def test_the_best_of_overlapping_masks_stays() -> None:
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :2], right[:, 2:] = True, True
    most = left.copy()
    most[0, 2] = True  # iou with left 4/5
    found = suppressed([most, left, right, left], [0.5, 0.9, 0.6, 0.9], overlap=0.7)
    assert [mask.tolist() for mask in found] == [left.tolist(), right.tolist()]
    assert len(suppressed([most, left], [0.5, 0.9], overlap=0.8)) == 2
    assert suppressed([], [], overlap=0.5) == []


def test_the_points_are_the_middles_of_the_grids_cells() -> None:
    found = point_grid(3, height=30, width=60)
    expected = [(x, y) for y in (5, 15, 25) for x in (10, 30, 50)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@needs_transformers
def test_a_checkpoint_is_read_without_the_network_and_without_a_sound(
    model: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object, **keywords: object) -> None:
        raise AssertionError("a connection was asked for")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    # Otherwise transformers looks nowhere, and the test could not fail.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    found = load_segment_anything(checkpoint)
    assert capfd.readouterr() == ("", "")
    image = photograph()
    same = SegmentAnything(model, source="here").object_mask(image, (20, 20))
    assert np.array_equal(found.object_mask(image, (20, 20)), same)
    assert found.name == f"Segment Anything, {checkpoint}"
    assert isinstance(found, Segmenter)
    assert transformers.utils.logging.is_progress_bar_enabled()


@needs_transformers
def test_a_checkpoint_of_half_precision_is_computed_in_float32(model: Any, tmp_path: Path) -> None:
    import copy

    copy.deepcopy(model).half().save_pretrained(tmp_path)
    mask = load_segment_anything(tmp_path).object_mask(photograph(), (9, 9))
    assert mask.shape == (40, 56)


@needs_transformers
def test_a_checkpoint_that_lacks_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "sam"
    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    name = "vision_encoder.patch_embed.projection.weight"
    rest = {key: value for key, value in weights.items() if key != name}
    save_file(rest, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=rf"missing keys, 1 of .*{name}; they would be random"):
        load_segment_anything(folder)
    changed = {**weights, name: weights[name][:5].contiguous()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=rf"mismatched keys, 1 of .*{name}"):
        load_segment_anything(folder)
    (folder / "model.safetensors").write_bytes(b"not a file of weights")
    with pytest.raises(WeightsError, match="cannot be read as a Segment Anything checkpoint"):
        load_segment_anything(folder)


def test_what_is_no_local_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"sam-vit-base: no such folder .* none is downloaded"):
        load_segment_anything("facebook/sam-vit-base")
    with pytest.raises(WeightsError, match=r"config\.json: cannot be read"):
        load_segment_anything(tmp_path)
    configuration = tmp_path / "config.json"
    configuration.write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json: cannot be read"):
        load_segment_anything(tmp_path)
    configuration.write_text(json.dumps({"model_type": "sam2"}))
    with pytest.raises(WeightsError, match="model_type is 'sam2', expected 'sam'"):
        load_segment_anything(tmp_path)
    configuration.write_text(json.dumps({"model_type": "sam"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"no \.safetensors file; other formats can run code"):
        load_segment_anything(tmp_path)


def test_without_transformers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pytest-xai\[sam\]'"):
        load_segment_anything(tmp_path)


@needs_transformers
def test_segment_anything_cuts_images_for_discovery(model: Any) -> None:
    images = set_of({f"{i}.png": photograph(64, 64) for i in range(6)}, Resize((64, 64)))
    generation = MaskGeneration(points=4, iou_above=-9.0, stability_above=0.0)
    segmenter = SegmentAnything(model, source="here", generation=generation)
    cutting = Cutting(segmenter)
    found = discover_concepts(
        load_classifier("demo"),
        images,
        cutting=cutting,
        clustering=Clustering(clusters=2, fewest=1),
    )
    assert found.segments == sum(len(cutting.segments(one.image, name="")) for one in images)
    by_name = {sample.name: segmenter(sample.image) for sample in images}
    for candidate in found.candidates:
        for name, mask in zip(candidate.images, candidate.masks, strict=True):
            assert any(np.array_equal(mask, one) for one in by_name[name])
    assert found.candidates


def set_of(images: dict[str, np.ndarray], transform: Any) -> ImageSet:
    entries = [
        Entry(name, 3, partial(np.copy, image), None, f"made[{name}]")
        for name, image in images.items()
    ]
    return ImageSet(entries, name="made", transform=transform, classes={3: "cat"})


class Square:
    """Calls the square of 8 pixels around the prompt's middle the object; keeps what it saw."""

    name = "Square"

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], tuple[float, ...]]] = []

    def object_mask(self, image: np.ndarray, prompt: tuple[float, ...]) -> np.ndarray:
        assert image.dtype == np.float32
        assert image.max() <= 1
        self.seen.append((image.shape, prompt))
        x, y = (
            prompt
            if len(prompt) == 2
            else ((prompt[0] + prompt[2]) / 2, (prompt[1] + prompt[3]) / 2)
        )
        rows, columns = np.indices(image.shape[1:]) + 0.5
        return (abs(rows - y) < 4) & (abs(columns - x) < 4)


def test_predicted_masks_are_of_the_middle_and_say_where_they_come_from() -> None:
    segmenter = Square()
    bare = set_of({"a": photograph(40, 60), "b": photograph(20, 20)}, Resize((20, 20)))
    images = with_predicted_masks(bare, segmenter)
    assert segmenter.seen == []
    assert (bare.masks_from, bare.has_masks) == (None, False)
    assert images.masks_from == "Square, at the middle of the image"
    assert images.head(1).masks_from == images.of_label(3).masks_from == images.masks_from
    assert (images.names, images.labels, images.classes) == (bare.names, bare.labels, bare.classes)
    # 8 of 40 rows become 4 of 20, 8 of 60 columns 2 or 3.
    mask = images[0].mask
    assert mask is not None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert rows.tolist() == [8, 9, 10, 11]
    assert columns.tolist() in ([9, 10], [8, 9, 10], [9, 10, 11])
    assert np.array_equal(images[0].image, bare[0].image)
    assert segmenter.seen == [((3, 40, 60), (30.0, 20.0))]


def test_an_images_mask_is_predicted_once() -> None:
    segmenter = Square()
    images = with_predicted_masks(set_of({"a": photograph(33, 21)}, Resize((33, 21))), segmenter)
    masks = [images[0].mask, images.head(1)[0].mask, images.batch(0, 1).masks[0]]
    assert len(segmenter.seen) == 1
    expected = Square().object_mask(photograph(33, 21), (10.5, 16.5))
    assert all(np.array_equal(mask, expected) for mask in masks)
    masks[0][:] = False
    assert images[0].mask.any()


def test_a_prompt_for_each_image_is_given_to_the_segmenter() -> None:
    segmenter = Square()
    bare = set_of({"a": photograph(), "b": photograph()}, Resize((40, 56)))
    prompts = {"b": (30.0, 10.0), "a": (4.0, 4.0, 16.0, 20.0)}
    images = with_predicted_masks(bare, segmenter, prompts=prompts)
    assert images.masks_from == "Square, prompted by points and boxes"
    assert [sample.mask.sum() for sample in images] == [64, 64]
    assert [prompt for _, prompt in segmenter.seen] == [prompts["a"], prompts["b"]]
    boxes = dict.fromkeys("ab", (0.0, 0.0, 9.0, 9.0))
    assert (
        with_predicted_masks(bare, segmenter, prompts=boxes).masks_from
        == "Square, prompted by boxes"
    )


def test_bytes_are_given_to_the_segmenter_as_rgb_in_0_1() -> None:
    pixels = RNG.integers(0, 256, (10, 12, 3)).astype(np.uint8)
    seen = []

    class Watch(Square):
        def object_mask(self, image: np.ndarray, prompt: tuple[float, ...]) -> np.ndarray:
            seen.append(image)
            return super().object_mask(image, prompt)

    entry = Entry("a", None, lambda: pixels, None, "made")
    images = ImageSet([entry], name="made", transform=CenterCrop((8, 8), resize=8))
    assert with_predicted_masks(images, Watch())[0].mask.shape == (8, 8)
    np.testing.assert_allclose(seen[0], pixels.transpose(2, 0, 1) / 255, rtol=0, atol=1e-7)


def test_a_crop_off_the_centre_works_on_predicted_masks() -> None:
    bare = set_of({"a": photograph(40, 40)}, OffCenterCrop((20, 20), share=0.5))
    mask = with_predicted_masks(bare, Square())[0].mask
    rows, _ = np.nonzero(mask)
    assert mask.any()
    assert abs(rows.mean() - 9.5) > 3


def test_masks_of_its_own_are_not_replaced() -> None:
    entry = Entry("a", None, photograph, lambda: np.ones((40, 56), bool), "made")
    images = ImageSet([entry], name="drawn", transform=Resize((8, 8)))
    with pytest.raises(
        ImageSetError, match=r"drawn: has masks already; Square, .* take their place"
    ):
        with_predicted_masks(images, Square())


def test_prompts_that_do_not_fit_are_refused() -> None:
    bare = set_of({"one.png": photograph(), "two.png": photograph()}, Resize((40, 56)))
    point = (3.0, 3.0)
    with pytest.raises(
        ParameterError, match=r"made has no image 'tow\.png': did you mean 'two\.png'"
    ):
        with_predicted_masks(bare, Square(), prompts={"one.png": point, "tow.png": point})
    with pytest.raises(ParameterError, match=r"none for 'two\.png'; give every image of made one"):
        with_predicted_masks(bare, Square(), prompts={"one.png": point})
    with pytest.raises(
        ParameterError, match=r"'one\.png' has \(1\.0, 2\.0, 3\.0\); expected a point"
    ):
        with_predicted_masks(bare, Square(), prompts={"one.png": (1.0, 2.0, 3.0)})


@needs_transformers
@pytest.mark.parametrize(
    "prompt", [(57.0, 3.0), (3.0, 41.0), (-1.0, 3.0), (5.0, 5.0, 5.0, 9.0), (5.0, 9.0, 8.0, 2.0)]
)
def test_a_prompt_outside_its_image_names_the_image(model: Any, prompt: tuple[float, ...]) -> None:
    images = with_predicted_masks(
        set_of({"a.png": photograph()}, Resize((40, 56))),
        SegmentAnything(model, source="here"),
        prompts={"a.png": prompt},
    )
    with pytest.raises(ImageSetError, match=r"'a\.png': prompt .* 56 pixels wide and 40 high"):
        images[0]


def test_a_segmenter_that_gives_no_mask_of_the_image_is_refused() -> None:
    class Wrong(Square):
        def object_mask(self, image: np.ndarray, prompt: tuple[float, ...]) -> np.ndarray:
            return np.ones((2, 2), np.uint8)

    images = with_predicted_masks(set_of({"a": photograph()}, Resize((8, 8))), Wrong())
    with pytest.raises(ImageSetError, match=r"Square gave a uint8 mask of shape \(2, 2\) for 'a'"):
        images[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points": 0}, "`points` must be at least 1, got 0"),
        ({"points_per_pass": 0}, "`points_per_pass` must be at least 1"),
        ({"stability_above": 1.0}, "`stability_above` must be from 0 to below 1"),
        ({"stability_offset": 0.0}, "`stability_offset` must be above 0"),
        ({"overlap": 1.1}, "`overlap` must be from 0 to 1"),
    ],
)
def test_parameters_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        MaskGeneration(**values)
