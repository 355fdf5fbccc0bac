"""Concept sets: what is read from folders, memory and the demo, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from xai_core.concepts import concept_set, load_concept, load_concepts
from xai_core.demo.scenes import CLASSES, CONCEPTS, concept_images, scene
from xai_core.errors import ConceptError, ImageSetError, ParameterError, ShapeError


def write(folder, count, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "striped", 3)
    write(tmp_path / "fur", 2, seed=1)
    write(tmp_path / "random", 2, seed=2)
    write(tmp_path / "random_1", 2, seed=3)
    write(tmp_path / "random-02", 1, seed=4)
    return tmp_path


def test_each_folder_is_a_concept_and_the_random_ones_are_pooled(folder):
    library = load_concepts(folder, size=(8, 10))
    assert list(library.concepts) == ["fur", "striped"]
    assert library.random.names == (
        "random-02/00.png",
        "random/00.png",
        "random/01.png",
        "random_1/00.png",
        "random_1/01.png",
    )
    assert library.concept("striped").batch(0, 3).images.shape == (3, 3, 8, 10)
    assert library.concept("random") is library.random
    assert str(library) == f"{folder}: fur (2), striped (3), random (5)"


def test_notes_and_hidden_files_are_passed_over(folder):
    for name in ("README.md", "manifest.json", ".DS_Store", "Thumbs.db"):
        (folder / "fur" / name).write_text("note")
    (folder / ".cache").mkdir()
    assert load_concept(folder / "fur", size=(8, 8)).names == ("00.png", "01.png")
    assert list(load_concepts(folder).concepts) == ["fur", "striped"]


def test_anything_else_in_a_concept_is_refused(folder):
    (folder / "fur" / "model.pkl").write_bytes(b"")
    with pytest.raises(ConceptError, match=r"model\.pkl: not an image"):
        load_concepts(folder)


def test_a_concept_that_is_not_there_is_refused_with_near_names(folder):
    with pytest.raises(ConceptError, match="no concept 'stripes': did you mean 'striped'"):
        load_concepts(folder).concept("stripes")


def test_folders_that_cannot_serve_are_refused(tmp_path):
    with pytest.raises(ConceptError, match="no such folder"):
        load_concepts(tmp_path / "gone")
    with pytest.raises(ConceptError, match="no such folder"):
        load_concept(tmp_path / "gone")
    with pytest.raises(ConceptError, match="no concept in it"):
        load_concepts(tmp_path)
    write(tmp_path / "striped", 1)
    with pytest.raises(ConceptError, match="no counterexamples; expected a folder 'random'"):
        load_concepts(tmp_path)
    (tmp_path / "random").mkdir()
    with pytest.raises(ConceptError, match="no images; expected files ending in"):
        load_concepts(tmp_path)


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path_factory):
    outside = write(tmp_path_factory.mktemp("outside") / "x", 1) / "00.png"
    (folder / "fur" / "secret.png").symlink_to(outside)
    with pytest.raises(ImageSetError, match=r"secret\.png"):
        load_concepts(folder)


def test_a_corrupt_image_is_named_when_it_is_read(folder):
    (folder / "fur" / "00.png").write_bytes(b"no image")
    images = load_concept(folder / "fur")
    with pytest.raises(ImageSetError, match=r"00\.png: corrupt image"):
        images.batch(0, 2)


def test_images_in_memory_are_a_set_in_their_order():
    images = np.random.default_rng(0).random((12, 3, 8, 8)).astype(np.float32)
    found = concept_set("noise", images)
    assert (found.name, len(found)) == ("noise", 12)
    np.testing.assert_array_equal(found.batch(0, 12).images, images)
    assert concept_set("other", found) is found
    with pytest.raises(ShapeError, match="noise: expected RGB in"):
        concept_set("noise", images * 255)


def test_the_demo_has_its_concepts_and_a_watermark_for_each_class():
    library = load_concepts("demo", size=(32, 32))
    assert {*library.concepts} == {*CONCEPTS} - {"random"}
    assert {f"watermark_{name}" for name in CLASSES} < {*library.concepts}
    np.testing.assert_array_equal(
        library.concept("dotted").batch(0, 4).images, concept_images("dotted", 4, size=32)
    )
    with pytest.raises(ParameterError, match="did you mean 'watermark_striped_disc'"):
        concept_images("watermark_striped_disk", 1)


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_a_classs_watermark_is_the_one_in_its_scenes(label):
    """The 3 x 3 cells of the glyph, read off a scene and off the concept's image."""
    drawn = scene(5, size=192, label=label, watermark="class")
    rows, columns = np.nonzero(drawn.watermark)
    in_scene = drawn.image[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    image = concept_images(f"watermark_{CLASSES[label]}", 1, size=192)[0]
    side = 26
    stamped = (image.max(axis=0) < 0.11) | (image.min(axis=0) > 0.89)
    windows = np.lib.stride_tricks.sliding_window_view(stamped, (side, side)).sum(axis=(2, 3))
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    in_concept = image[0, top : top + side, left : left + side]
    assert windows.max() > 0.9 * side * side
    assert cells(in_concept) == cells(in_scene)


def cells(glyph):
    middles = [np.linspace(0, length, 7)[1::2].astype(int) for length in glyph.shape]
    return (glyph[np.ix_(*middles)] > 0.5).tolist()
