"""Automatic concepts: segments of a class's images, clustered into candidates."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xai_core.classifier import TorchClassifier, load_classifier
from xai_core.concepts.candidate_folder import save_candidate
from xai_core.concepts.discovery import (
    Candidate,
    Clustering,
    Discovered,
    _kept,
    discover_concepts,
    rule_of,
)
from xai_core.concepts.embedding import embeddings
from xai_core.concepts.loading import load_concepts
from xai_core.concepts.segmenter import Segmenter, SlicSegmenter, distinct
from xai_core.concepts.segments import Cutting
from xai_core.demo.scenes import CLASSES, TEXTURES, concept_images, scene
from xai_core.errors import (
    ClassifierError,
    ConceptError,
    ImageSetError,
    MissingExtraError,
    ParameterError,
)
from xai_core.imageset import Entry, ImageSet, Resize

RNG = np.random.default_rng(8)
SCENES = 24
SEGMENTER = SlicSegmenter((15, 30), compactness=100.0)
# The demo knows its textures at one scale only: a segment stays at its own.
CUTTING = Cutting(SEGMENTER, substrate="mean", placement="in-place")
CLUSTERING = Clustering(clusters=8, fewest=10)


@pytest.fixture(scope="module")
def demo() -> TorchClassifier:
    return load_classifier("demo")


def scenes_of(label: int) -> tuple[ImageSet, dict[str, np.ndarray]]:
    scenes = [scene(5000 + i, label=label, watermark="none") for i in range(SCENES)]
    images = set_of({one.name: one.image for one in scenes}, label)
    return images, {one.name: one.mask for one in scenes}


def set_of(images: dict[str, np.ndarray], label: int = 0) -> ImageSet:
    entries = [
        Entry(name, label, partial(np.copy, image), None, name) for name, image in images.items()
    ]
    size = next(iter(images.values())).shape[1:]
    return ImageSet(
        entries, name="scenes", transform=Resize(size), classes=dict(enumerate(CLASSES))
    )


@pytest.fixture(scope="module")
def striped(demo: TorchClassifier) -> Discovered:
    images, _ = scenes_of(0)
    return discover_concepts(demo, images, label=0, cutting=CUTTING, clustering=CLUSTERING)


class Tiles:
    """The four quarters of an image, and whatever else is asked for."""

    name = "tiles"

    def __init__(self, *more: np.ndarray) -> None:
        self.more = more

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        quarters = np.arange(4).reshape(2, 2).repeat(32, axis=0).repeat(32, axis=1)
        return [quarters == index for index in range(4)] + list(self.more)


def share_on(candidate: Candidate, truth: dict[str, np.ndarray]) -> float:
    shares = [
        (mask & truth[name]).sum() / mask.sum()
        for name, mask in zip(candidate.images, candidate.masks, strict=True)
    ]
    return float(np.mean(shares))


def likeness(demo: TorchClassifier, crops: np.ndarray) -> dict[str, float]:
    """Cosine of what the crops add to the bare background with what each texture adds."""

    def added(images: np.ndarray) -> np.ndarray:
        both = [embeddings(demo, [some]).mean(axis=0) for some in (images, bare)]
        return both[0] - both[1]

    bare = concept_images("random", 40)
    mine = added(crops)
    textures = {name: added(concept_images(name, 40)) for name in TEXTURES}
    return {
        name: float(mine @ one / np.linalg.norm(mine) / np.linalg.norm(one))
        for name, one in textures.items()
    }


@pytest.mark.parametrize("label", range(3))
def test_a_classs_candidates_find_the_texture_that_it_is_made_of(
    demo: TorchClassifier, label: int
) -> None:
    images, truth = scenes_of(label)
    found = discover_concepts(demo, images, label=label, cutting=CUTTING, clustering=CLUSTERING)
    best = max(found.candidates, key=lambda candidate: share_on(candidate, truth))
    # An object covers 8 to 15 % of its image.
    assert share_on(best, truth) > 0.8
    alike = likeness(demo, best.crops)
    texture = CLASSES[label].split("_")[0]
    assert alike.pop(texture) > max(alike.values()) + 0.4
    assert best.name.startswith(f"{CLASSES[label]}_0")


def test_a_candidate_says_of_itself_what_its_arrays_say(
    demo: TorchClassifier, striped: Discovered
) -> None:
    images, _ = scenes_of(0)
    by_name = {sample.name: sample.image for sample in images}
    assert striped.images == SCENES
    assert len(striped.candidates) + sum(striped.dropped.values()) == CLUSTERING.clusters
    order = [(-one.spread, -one.size, -one.cohesion) for one in striped.candidates]
    assert order == sorted(order)
    for rank, one in enumerate(striped.candidates, start=1):
        assert one.name == f"striped_disc_{rank:02d}"
        n = min(one.size, CLUSTERING.most)
        assert one.masks.shape == (n, 64, 64)
        assert (one.masks.dtype, one.crops.dtype) == (np.bool_, np.float32)
        assert one.crops.shape == (n, 3, 64, 64)
        assert len(one.images) == n
        assert (np.diff(one.distances) >= 0).all()
        assert one.rule == rule_of(one.size, one.spread, SCENES)
        assert 0 < one.cohesion < 1
        grey = np.array(demo.mean, np.float32)[:, None, None]
        for name, mask, crop in zip(one.images, one.masks, one.crops, strict=True):
            assert np.abs(np.where(mask, by_name[name], grey) - crop).max() <= 0.5 / 255 + 1e-6


def test_cohesion_and_distances_are_those_of_a_plain_computation(demo: TorchClassifier) -> None:
    images, _ = scenes_of(1)
    clustering = Clustering(clusters=4, fewest=1, most=10**6)
    found = discover_concepts(demo, images, cutting=Cutting(Tiles()), clustering=clustering)
    assert found.dropped == {}
    assert sum(one.size for one in found.candidates) == found.segments
    points = [embeddings(demo, [one.crops]) for one in found.candidates]
    everything = np.concatenate(points)
    scatter = np.mean([np.sum((p - everything.mean(axis=0)) ** 2) for p in everything])
    for one, mine in zip(found.candidates, points, strict=True):
        away = [np.sqrt(np.sum((p - mine.mean(axis=0)) ** 2)) for p in mine]
        # A batch's composition moves a float32 activation by some 1e-7.
        np.testing.assert_allclose(one.distances, away, rtol=0, atol=1e-5)
        assert one.cohesion == pytest.approx(1 - np.mean(np.square(away)) / scatter, abs=1e-6)
        assert one.spread == len(set(one.images))
        others = [o.mean(axis=0) for o in points]
        closest = [min(others, key=lambda c: np.linalg.norm(p - c)) for p in mine]
        assert all(np.array_equal(c, mine.mean(axis=0)) for c in closest)


def test_the_same_seed_gives_the_same_candidates(
    demo: TorchClassifier, striped: Discovered
) -> None:
    images, _ = scenes_of(0)
    again = discover_concepts(demo, images, label=0, cutting=CUTTING, clustering=CLUSTERING)
    assert len(again.candidates) == len(striped.candidates)
    for one, other in zip(again.candidates, striped.candidates, strict=True):
        assert one.images == other.images
        assert np.array_equal(one.masks, other.masks)
        assert np.array_equal(one.crops, other.crops)
        assert np.array_equal(one.distances, other.distances)
        assert (one.cohesion, one.rule) == (other.cohesion, other.rule)


def test_copies_of_images_change_nothing(demo: TorchClassifier, striped: Discovered) -> None:
    images, _ = scenes_of(0)
    doubled = {sample.name: sample.image for sample in images}
    doubled |= {f"z_{name}": image for name, image in doubled.items()}
    found = discover_concepts(
        demo, set_of(doubled), label=0, cutting=CUTTING, clustering=CLUSTERING
    )
    assert (found.images, found.segments) == (SCENES, striped.segments)
    assert [one.images for one in found.candidates] == [one.images for one in striped.candidates]


def test_only_the_images_of_the_class_are_cut(demo: TorchClassifier) -> None:
    entries = []
    for index in range(8):
        one = scene(index, label=index % 2)
        entries.append(Entry(f"{index}", one.label, partial(np.copy, one.image), None, "made"))
    images = ImageSet(entries, name="both", transform=Resize((64, 64)))
    clustering = Clustering(clusters=2, fewest=1)
    cutting = Cutting(Tiles())
    found = discover_concepts(demo, images, label=1, cutting=cutting, clustering=clustering)
    assert (found.images, found.segments) == (4, 16)
    assert {name for one in found.candidates for name in one.images} <= {"1", "3", "5", "7"}
    assert found.candidates[0].name == "class1_01"
    both = discover_concepts(demo, images, cutting=cutting, clustering=clustering)
    assert (both.images, both.candidates[0].name) == (8, "both_01")


def test_each_segment_passes_once(demo: TorchClassifier) -> None:
    before = demo.passes.forwards
    found = discover_concepts(
        demo, scenes_of(0)[0], cutting=Cutting(Tiles()), clustering=Clustering(clusters=3, fewest=1)
    )
    assert demo.passes.forwards - before == found.segments == 4 * SCENES


def test_duplicates_and_specks_are_removed() -> None:
    quarter = Tiles()(np.zeros((3, 64, 64)))[2]
    smaller = quarter & (np.arange(64) > 8)  # 0.72 of the quarter
    half = quarter | Tiles()(np.zeros((3, 64, 64)))[3]  # twice the quarter: exactly 0.5
    speck = np.zeros((64, 64), bool)
    speck[0, :4] = True  # 4 of 4096 pixels: below one in a thousand
    specks = speck.copy()
    specks[0, 4] = True
    cutting = Cutting(Tiles(smaller, half, speck, specks, np.zeros((64, 64), bool)))
    kept = cutting.segments(np.zeros((3, 64, 64), np.float32), name="image")
    assert [mask.sum() for mask in kept] == [1024] * 4 + [2048, 5]


def test_distinct_masks_are_those_of_a_plain_loop() -> None:
    masks = []
    for _ in range(60):
        top, left, height, width = RNG.integers(0, 12, 4)
        mask = np.zeros((21, 19), bool)
        mask[top : top + height + 1, left : left + width + 1] = True
        masks.append(mask)
    for overlap in (0.0, 0.3, 0.5, 0.9):
        kept: list[int] = []
        for index, mask in enumerate(masks):
            ious = [(mask & masks[k]).sum() / (mask | masks[k]).sum() for k in kept]
            if all(iou <= overlap for iou in ious):
                kept.append(index)
        assert distinct(masks, overlap=overlap) == kept
        assert 1 < len(kept) <= 60 - (overlap < 0.9)
    assert distinct([], overlap=0.5) == []


def test_slic_cuts_an_image_once_for_each_resolution() -> None:
    image = RNG.random((3, 48, 48)).astype(np.float32)
    segmenter = SlicSegmenter((4, 16))
    assert isinstance(segmenter, Segmenter)
    masks = segmenter(image)
    covered = np.cumsum([mask.sum() for mask in masks])
    assert covered[-1] == 2 * 48 * 48
    first = int(np.searchsorted(covered, 48 * 48)) + 1
    assert np.array_equal(np.sum(masks[:first], axis=0), np.ones((48, 48)))
    assert np.array_equal(np.sum(masks[first:], axis=0), np.ones((48, 48)))
    assert len(masks) - first > first
    assert segmenter.name == "slic(resolutions=(4, 16), compactness=20.0)"


@pytest.mark.parametrize(
    ("substrate", "colour"), [("grey", (117 / 255,) * 3), ("black", (0,) * 3), ("mean", (0.5,) * 3)]
)
def test_an_enlarged_segment_is_its_bounding_box_over_the_substrate(
    demo: TorchClassifier, substrate: str, colour: tuple[float, ...]
) -> None:
    image = RNG.random((3, 96, 80)).astype(np.float32)
    mask = np.zeros((96, 80), bool)
    mask[20:52, 31:63] = True
    mask[20:36, 31:47] = False
    mask[20, 31] = True  # the box's first corner
    found = Cutting(substrate=substrate).alone(image, mask, demo)
    assert found.shape == (3, 64, 64)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.round(found * 255) / np.float32(255))
    # Enlarged bilinearly to twice its side, the weights are 3/4 and 1/4, at the border 1.
    box = np.where(mask[20:52, 31:63], image[:, 20:52, 31:63], np.array(colour)[:, None, None])
    for axis in (1, 2):
        padded = np.concatenate([box.take([0], axis), box, box.take([-1], axis)], axis=axis)
        middle = padded.take(range(1, padded.shape[axis] - 1), axis)
        before = padded.take(range(padded.shape[axis] - 2), axis)
        after = padded.take(range(2, padded.shape[axis]), axis)
        pairs = np.stack([0.75 * middle + 0.25 * before, 0.75 * middle + 0.25 * after], axis + 1)
        box = pairs.reshape(*(2 * n if i == axis else n for i, n in enumerate(box.shape)))
    assert np.abs(found - box).max() <= 0.5 / 255 + 1e-6


def test_a_segment_in_place_stays_at_its_size(demo: TorchClassifier) -> None:
    image = (RNG.integers(0, 256, (3, 64, 64)) / 255).astype(np.float32)
    mask = RNG.random((64, 64)) > 0.7
    found = Cutting(substrate="black", placement="in-place").alone(image, mask, demo)
    np.testing.assert_allclose(found, image * mask, rtol=0, atol=1e-7)


def test_the_rules_are_those_of_the_authors_program() -> None:
    for images in (1, 7, 20, 40):
        for size in range(1, 130):
            for spread in range(1, min(size, images) + 1):
                widespread = spread / size > 1 / 2
                common = spread / size > 1 / 4 and spread / images > 1 / 4
                frequent = spread / size > 1 / 10 and spread / images > 1 / 2
                rules = {"widespread": widespread, "common": common, "frequent": frequent}
                expected = next((rule for rule, holds in rules.items() if holds), None)
                assert rule_of(size, spread, images) == expected


def test_clusters_that_are_small_or_of_few_images_are_dropped_and_counted() -> None:
    # Cluster: (segments, images): 0 (30, 20), 1 (9, 9), 2 (50, 5), 3 (50, 13), 4 (90, 22).
    clusters, owners = [], []
    for cluster, (size, spread) in enumerate([(30, 20), (9, 9), (50, 5), (50, 13), (90, 22)]):
        clusters += [cluster] * size
        owners += [index % spread for index in range(size)]
    kept, dropped = _kept(
        np.array(clusters), np.array(owners), 40, Clustering(clusters=5, fewest=10)
    )
    assert [(one.spread, len(one.members), one.rule) for one in kept] == [
        (20, 30, "widespread"),
        (13, 50, "common"),
        (22, 90, "frequent"),
    ]
    assert dropped == {"fewer than 10 segments": 1, "much of few images": 1}


def test_no_cluster_that_is_kept_gives_no_candidate(demo: TorchClassifier) -> None:
    found = discover_concepts(
        demo,
        scenes_of(0)[0],
        cutting=Cutting(Tiles()),
        clustering=Clustering(clusters=3, fewest=1000, most=1000),
    )
    assert found.candidates == ()
    assert found.dropped == {"fewer than 1000 segments": 3}


def test_a_saved_candidate_is_a_concept_of_exactly_its_crops(
    striped: Discovered, tmp_path: Path
) -> None:
    candidate = striped.candidates[0]
    folder = save_candidate(candidate, tmp_path / "concepts" / "found")
    random = tmp_path / "concepts" / "random"
    random.mkdir()
    Image.new("RGB", (64, 64)).save(random / "one.png")
    concept = load_concepts(folder.parent, size=(64, 64)).concept("found")
    assert len(concept) == len(candidate.crops)
    for rank, (sample, crop, name) in enumerate(
        zip(concept, candidate.crops, candidate.images, strict=True)
    ):
        assert sample.name == f"{rank:03d}_{Path(name).stem}.png"
        assert np.array_equal(sample.image, crop)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["found", "random"]
    assert folder.stat().st_mode & 0o777 == 0o755


def candidate_of(count: int, name: str = "a.jpg") -> Candidate:
    crops = RNG.integers(0, 256, (count, 3, 4, 4)).astype(np.float32) / np.float32(255)
    masks = np.ones((count, 4, 4), bool)
    return Candidate(
        "x_01", (name,) * count, masks, crops, np.zeros(count), count, 1, 1.0, "common"
    )


def test_a_folder_is_replaced_only_when_told_and_only_if_it_holds_a_candidate(
    tmp_path: Path,
) -> None:
    folder = save_candidate(candidate_of(3), tmp_path / "found")
    with pytest.raises(ConceptError, match=r"found: exists; .* overwrite=True"):
        save_candidate(candidate_of(2), folder)
    assert len(list(folder.iterdir())) == 3
    save_candidate(candidate_of(2), folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["000_a.png", "001_a.png"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConceptError, match=r"notes\.txt: not a PNG file"):
        save_candidate(candidate_of(1), folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    with pytest.raises(ConceptError, match=r"notes\.txt: is no folder"):
        save_candidate(candidate_of(1), folder / "notes.txt", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["found"]


def test_a_folder_that_cannot_be_written_whole_is_not_written_at_all(tmp_path: Path) -> None:
    broken = candidate_of(3)
    broken = Candidate(**{**vars(broken), "images": ("a", "b")})
    with pytest.raises(ValueError, match="argument 2"):
        save_candidate(broken, tmp_path / "found")
    assert list(tmp_path.iterdir()) == []


def test_an_images_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder = save_candidate(candidate_of(1, "../../a b.jpg:zebra"), tmp_path / "found")
    assert [path.name for path in folder.iterdir()] == ["000_a_b.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clustering(clusters=1), "`clusters` must be at least 2, got 1"),
        (lambda: Clustering(fewest=0), "`fewest` must be at least 1, got 0"),
        (lambda: Clustering(most=19), "`most` must be at least `fewest`, 20: got 19"),
        (lambda: Clustering(seed=-1), "`seed`"),
        (lambda: Cutting(smallest=1.0), "`smallest` must be from 0 to below 1"),
        (lambda: Cutting(overlap=-0.1), "`overlap` must be from 0 to below 1"),
        (lambda: SlicSegmenter(()), "`resolutions` must name at least one"),
        (lambda: SlicSegmenter((15, 1)), "`resolutions` must each be at least 2, got 1"),
        (lambda: SlicSegmenter(compactness=0), "`compactness` must be above 0"),
    ],
)
def test_parameters_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()  # type: ignore[operator]


def test_what_cannot_be_clustered_is_refused(demo: TorchClassifier) -> None:
    images, _ = scenes_of(0)
    with pytest.raises(ImageSetError, match="scenes: none of its 24 images has the label 4"):
        discover_concepts(demo, images, label=4)
    alike = set_of({f"{i}": np.full((3, 64, 64), i % 2, np.float32) for i in range(6)})
    with pytest.raises(ConceptError, match="8 segments with 2 different embeddings cannot make 25"):
        discover_concepts(demo, alike, cutting=Cutting(Tiles()))
    wrong = Cutting(Tiles(np.zeros((3, 3), bool)))
    with pytest.raises(ConceptError, match=r"tiles gave a bool mask of shape \(3, 3\) for "):
        discover_concepts(demo, images, cutting=wrong)
    nothing = Cutting(Tiles(), smallest=0.9)
    with pytest.raises(ConceptError, match="tiles found no segment in 24 images"):
        discover_concepts(demo, images, cutting=nothing)
    from forward_only import ForwardOnly

    forward_only = ForwardOnly(lambda images: images.mean(dim=(2, 3)))
    forward_only.size = (64, 64)
    with pytest.raises(ClassifierError, match="an embedding reads the layers"):
        discover_concepts(forward_only, images, at="x")


def test_without_scikit_learn_the_extra_is_named(
    demo: TorchClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pytest-xai\[concepts\]'"):
        discover_concepts(demo, scenes_of(0)[0])
