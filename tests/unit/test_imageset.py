"""An image set is a lazy sequence in a fixed order that loses nothing in silence."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xai_core.arrays import Bool, Float32
from xai_core.errors import ImageSetError
from xai_core.imageset import CenterCrop, Entry, ImageSet, Resize, load_imageset

SIZE = (12, 10)


def image_of(number: int) -> Float32:
    return np.random.default_rng(number).random((3, *SIZE), dtype=np.float32)


def mask_of(number: int) -> Bool:
    return np.random.default_rng(number).random(SIZE) < 0.5


def entry(
    name: str,
    *,
    label: int | None = None,
    image: Callable[[], Float32] | None = None,
    mask: Bool | None = None,
) -> Entry:
    number = sum(name.encode())
    return Entry(
        name=name,
        label=label,
        read_image=image or (lambda: image_of(number)),
        read_mask=None if mask is None else lambda: mask,
        origin=f"origin of {name}",
    )


def made(*entries: Entry) -> ImageSet:
    return ImageSet(entries, name="made", transform=Resize(SIZE), classes={0: "cat"})


def test_samples_come_in_the_order_of_their_names() -> None:
    names = ["b.png", "B.png", "a10.png", "a2.png"]
    expected = ("B.png", "a10.png", "a2.png", "b.png")
    assert made(*map(entry, names)).names == expected
    assert made(*map(entry, reversed(names))).names == expected


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    decoded = []

    def reading(name: str) -> Entry:
        def read() -> Float32:
            decoded.append(name)
            return image_of(0)

        return entry(name, image=read)

    images = made(reading("a"), reading("b"), reading("c"))
    assert (len(images), images.names, images.labels, images.has_masks) == (
        3,
        ("a", "b", "c"),
        (None, None, None),
        False,
    )
    images.head(2)
    assert decoded == []
    _ = images[-1]
    assert decoded == ["c"]


def test_a_sample_has_its_image_mask_label_and_name() -> None:
    mask = mask_of(1)
    sample = made(entry("a", label=0, mask=mask))[0]
    assert (sample.name, sample.label) == ("a", 0)
    assert sample.image.dtype == np.float32
    assert sample.mask is not None
    assert sample.mask.dtype == np.bool_
    np.testing.assert_array_equal(sample.image, image_of(ord("a")))
    np.testing.assert_array_equal(sample.mask, mask)


def test_iterating_gives_every_sample_in_order() -> None:
    assert [sample.name for sample in made(entry("b"), entry("a"))] == ["a", "b"]


def test_an_index_past_the_end_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        made(entry("a"))[1]


def test_a_sample_loaded_twice_is_identical() -> None:
    images = made(entry("a", mask=mask_of(0)))
    first, second = images[0], images[0]
    np.testing.assert_array_equal(first.image, second.image)
    assert first.digest() == second.digest() == images.digest(0)


def test_changing_a_sample_does_not_change_the_set() -> None:
    image = image_of(3)
    images = made(entry("a", image=lambda: image))
    images[0].image[:] = 0
    np.testing.assert_array_equal(images[0].image, image_of(3))


def test_a_digest_tells_contents_apart() -> None:
    dot = np.zeros(SIZE, dtype=bool)
    dot[0, 0] = True
    brighter = image_of(0)
    brighter[0, 0, 0] = np.nextafter(brighter[0, 0, 0], np.float32(2))
    images = made(
        entry("a", image=lambda: image_of(0), mask=np.zeros(SIZE, dtype=bool)),
        entry("b", image=lambda: image_of(0), mask=dot),
        entry("c", image=lambda: brighter, mask=np.zeros(SIZE, dtype=bool)),
        entry("d", image=lambda: image_of(0), mask=np.zeros(SIZE, dtype=bool), label=3),
    )
    digests = [images.digest(index) for index in range(4)]
    assert len(set(digests[:3])) == 3
    assert digests[3] == digests[0]
    assert made(entry("a", image=lambda: image_of(0))).digest(0) not in digests


def test_a_batch_stacks_its_samples() -> None:
    images = made(*(entry(name, label=0, mask=mask_of(ord(name))) for name in "abc"))
    batch = images.batch(1, 3)
    assert (batch.names, batch.labels) == (("b", "c"), (0, 0))
    assert batch.images.shape == (2, 3, *SIZE)
    assert batch.masks is not None
    np.testing.assert_array_equal(batch.masks, [mask_of(ord("b")), mask_of(ord("c"))])


def test_the_last_batch_may_be_short_and_none_may_be_empty() -> None:
    images = made(entry("a"), entry("b"))
    assert images.batch(1, 9).names == ("b",)
    assert images.batch(1, 9).masks is None
    with pytest.raises(IndexError, match="no samples from 2 to 4"):
        images.batch(2, 4)


def test_head_takes_the_first_names() -> None:
    images = made(entry("c"), entry("a"), entry("b"))
    assert images.head(2).names == ("a", "b")
    assert images.head(9).names == ("a", "b", "c")
    assert images.head(1).classes == {0: "cat"}


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_1_is_refused(limit: int) -> None:
    with pytest.raises(ImageSetError, match=f"made: limit is {limit}"):
        made(entry("a")).head(limit)


def test_a_mask_that_the_transform_empties_is_reported_and_its_sample_stays() -> None:
    corner, middle = np.zeros((40, 40), dtype=bool), np.zeros((40, 40), dtype=bool)
    corner[:2, :2] = True
    middle[15:25, 15:25] = True
    blank = np.zeros((3, 40, 40), dtype=np.float32)
    images = ImageSet(
        [
            entry("corner", image=lambda: blank, mask=corner),
            entry("empty on disk", image=lambda: blank, mask=~(corner | ~corner)),
            entry("middle", image=lambda: blank, mask=middle),
        ],
        name="made",
        transform=CenterCrop(size=(20, 20), resize=40),
    )
    assert images.emptied_masks() == ("corner",)
    assert images.names == ("corner", "empty on disk", "middle")
    masks = images.batch(0, 3).masks
    assert masks is not None
    assert masks.any(axis=(1, 2)).tolist() == [False, False, True]


def test_a_set_without_masks_has_none_emptied() -> None:
    assert made(entry("a")).emptied_masks() == ()


def test_a_mask_of_another_size_than_its_image_is_refused() -> None:
    images = made(entry("a", mask=np.ones((5, 6), dtype=bool)))
    with pytest.raises(ImageSetError, match=r"origin of a: the mask of 'a' is 5 x 6 .* 12 x 10"):
        _ = images[0]


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ImageSetError, match="made: no images"):
        made()


def test_a_name_that_occurs_twice_is_refused() -> None:
    with pytest.raises(ImageSetError, match="origin of a: the name 'a' occurs twice"):
        made(entry("a"), entry("b"), entry("a"))


def test_a_negative_label_is_refused() -> None:
    with pytest.raises(ImageSetError, match="origin of a: label -1 is negative"):
        made(entry("a", label=-1))


@pytest.mark.parametrize("masked", ["a", "b"])
def test_masks_for_some_images_only_are_refused(masked: str) -> None:
    bare = "b" if masked == "a" else "a"
    entries = [entry(name, mask=mask_of(0) if name == masked else None) for name in "ab"]
    with pytest.raises(ImageSetError, match=f"origin of {bare}: '{bare}' has no mask .*'{masked}'"):
        made(*entries)


def test_a_label_beyond_the_classifiers_classes_is_refused() -> None:
    images = made(entry("a", label=9), entry("b", label=10))
    images.check_labels(11)
    with pytest.raises(ImageSetError, match=r"origin of b: label 10 of 'b' .* 10 classes, 0 to 9"):
        images.check_labels(10)


def test_a_set_in_hand_is_limited_and_checked() -> None:
    images = made(entry("a", label=1), entry("b", label=7))
    assert load_imageset(images) is images
    assert load_imageset(images, limit=1, num_classes=2).names == ("a",)
    with pytest.raises(ImageSetError, match="label 7"):
        load_imageset(images, num_classes=2)


def test_a_set_of_files_travels_to_another_process(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4), (9, 8, 7)).save(tmp_path / "images" / "a.png")
    images = load_imageset(tmp_path, size=(4, 4))
    assert pickle.loads(pickle.dumps(images)).digest(0) == images.digest(0)
