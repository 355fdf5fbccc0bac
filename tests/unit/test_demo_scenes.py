from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from xai_core.demo.scenes import (
    BACKGROUND_CLASSES,
    CLASSES,
    CONCEPTS,
    concept_images,
    demo_images,
    scene,
)
from xai_core.errors import ParameterError


def test_a_scene_has_the_same_bytes_on_every_machine() -> None:
    drawn = scene(7)
    image = np.rint(drawn.image * 255).astype(np.uint8)
    assert hashlib.sha256(image.tobytes()).hexdigest()[:16] == "ee33c6402974064e"
    assert hashlib.sha256(drawn.mask.tobytes()).hexdigest()[:16] == "8cdfdbcd5fac07d3"


def test_an_image_survives_an_8_bit_file_unchanged() -> None:
    image = scene(3).image
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1
    through_bytes = np.rint(image * 255).astype(np.uint8).astype(np.float64) / 255
    np.testing.assert_array_equal(through_bytes.astype(np.float32), image)


def test_object_and_watermark_stay_apart_and_have_their_size() -> None:
    for seed in range(150):
        drawn = scene(seed, watermark="random")
        assert not (drawn.mask & drawn.watermark).any(), seed
        assert 0.07 < drawn.mask.mean() < 0.16, seed
        assert 0.015 < drawn.watermark.mean() < 0.025, seed


def test_the_whole_object_is_in_the_image() -> None:
    for seed in range(100):
        mask = scene(seed).mask
        rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert not rim.any(), seed


def test_a_map_of_the_centre_does_badly() -> None:
    axis = np.arange(64) - 31.5
    centre = axis[None] ** 2 + axis[:, None] ** 2 < (64 / np.pi) ** 2
    overlaps = [
        (centre & one.mask).sum() / (centre | one.mask).sum() for one in demo_images(count=60)
    ]
    assert np.mean(overlaps) < 0.25


def test_clutter_is_what_is_painted_behind_the_object_and_still_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = [scene(seed) for seed in range(20)]
    monkeypatch.setattr("xai_core.demo.scenes._paint", lambda *_: None)
    for seed, one in enumerate(drawn):
        painted = (one.image != scene(seed).image).any(axis=0)
        assert not (one.clutter & (one.mask | one.watermark)).any()
        assert painted[one.clutter].all()
        # Nothing else is painted but pixels that an edge runs through.
        shown = np.pad(one.clutter | one.mask | one.watermark, 1)
        near = [
            np.roll(shown, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)
        ]
        assert np.any(near, axis=0)[1:-1, 1:-1][painted].all()
        assert one.clutter.mean() > 0.05


def test_the_background_has_an_index_for_watermark_and_clutter() -> None:
    drawn = scene(3)
    assert BACKGROUND_CLASSES == {1: "watermark", 2: "clutter"}
    np.testing.assert_array_equal(drawn.background == 1, drawn.watermark)
    np.testing.assert_array_equal(drawn.background == 2, drawn.clutter)
    assert not drawn.background[drawn.mask].any()


def test_the_watermark_option_changes_nothing_but_the_watermark() -> None:
    bare = scene(5, watermark="none")
    assert not bare.watermark.any()
    assert bare.watermark_label is None
    for watermark in ("class", "random", "other"):
        stamped = scene(5, watermark=watermark)
        elsewhere = ~stamped.watermark
        np.testing.assert_array_equal(stamped.image[:, elsewhere], bare.image[:, elsewhere])
        assert (stamped.image != bare.image)[:, stamped.watermark].mean() > 0.9


def test_the_watermark_names_the_class_or_another_as_asked() -> None:
    for seed in range(40):
        own = scene(seed, size=16, watermark="class")
        other = scene(seed, size=16, watermark="other")
        assert own.watermark_label == own.label == other.label
        assert other.watermark_label != other.label
    drawn = [scene(seed, size=16, watermark="random") for seed in range(240)]
    chance = np.mean([one.watermark_label == one.label for one in drawn])
    assert 0.08 < chance < 0.26


def test_a_larger_size_draws_the_same_scene() -> None:
    small, large = scene(11, size=64), scene(11, size=256)
    shrunk = large.mask.reshape(64, 4, 64, 4).mean((1, 3)) >= 0.5
    assert (shrunk != small.mask).mean() < 0.005
    pooled = large.image.reshape(3, 64, 4, 64, 4).mean((2, 4))
    assert np.abs(pooled - small.image).mean() < 0.02


def test_demo_images_are_balanced_named_and_right_for_both_classifiers() -> None:
    scenes = demo_images(count=12)
    assert [one.label for one in scenes] == [*range(6), *range(6)]
    assert scenes[3].name == "003_striped_triangle.png"
    assert len({one.name for one in scenes}) == 12
    assert all(one.watermark_label == one.label for one in scenes)


@pytest.mark.parametrize("concept", CONCEPTS)
def test_concept_images_are_images_and_differ(concept: str) -> None:
    images = concept_images(concept, 3, size=48, seed=1)
    assert images.shape == (3, 3, 48, 48)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    assert not np.array_equal(images[0], images[1])
    np.testing.assert_array_equal(images, concept_images(concept, 3, size=48, seed=1))


def test_a_class_is_a_shape_and_a_texture_that_are_concepts() -> None:
    for name in CLASSES:
        texture, shape = name.split("_")
        assert {texture, shape} <= set(CONCEPTS)


def test_bad_requests_are_refused_with_what_to_do() -> None:
    with pytest.raises(ParameterError, match="16 or more"):
        scene(0, size=8)
    with pytest.raises(ParameterError, match="0 to 5"):
        scene(0, label=6)
    with pytest.raises(ParameterError, match="did you mean 'striped'"):
        concept_images("stripes", 1)
    with pytest.raises(ParameterError, match="known: class"):
        scene(0, watermark="loud")  # type: ignore[arg-type]


def test_scenes_do_not_import_torch() -> None:
    code = "import sys, xai_core.demo.scenes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
