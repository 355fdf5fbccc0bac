"""Sets that a function makes, and the demo's."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from xai_core.errors import ImageSetError
from xai_core.imageset import ImageSet, Sample, load_imageset

GREY = np.full((3, 6, 8), 0.5, dtype=np.float32)
LEFT = np.zeros((6, 8), dtype=np.uint8)
LEFT[:, :4] = 255


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], str]:
    """Make ``my_project.data:images`` return what it is given."""
    package, module = ModuleType("my_project"), ModuleType("my_project.data")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "my_project", package)
    monkeypatch.setitem(sys.modules, "my_project.data", module)

    def give(made: object) -> str:
        module.images = lambda: made  # type: ignore[attr-defined]
        return "my_project.data:images"

    return give


def test_a_function_gives_tuples_or_samples(factory: Callable[[object], str]) -> None:
    made = (
        item
        for item in (
            ("b", GREY, LEFT, 3),
            Sample("a", GREY, LEFT > 0, np.int64(4)),  # type: ignore[arg-type]
        )
    )
    images = load_imageset(factory(made), size=(6, 8))
    assert images.name == "my_project.data:images"
    assert (images.names, images.labels) == (("a", "b"), (4, 3))
    np.testing.assert_array_equal(images[1].image, GREY)
    masks = images.batch(0, 2).masks
    assert masks is not None
    np.testing.assert_array_equal(masks, [LEFT > 0, LEFT > 0])


def test_arrays_of_a_function_are_transformed(factory: Callable[[object], str]) -> None:
    sample = load_imageset(factory([("a", GREY, LEFT, None)]), size=(3, 4))[0]
    assert sample.image.shape == (3, 3, 4)
    assert sample.mask is not None
    assert sample.mask.tolist() == [[True, True, False, False]] * 3


def test_a_function_may_give_a_set(factory: Callable[[object], str]) -> None:
    made = load_imageset(factory([("a", GREY, None, 1), ("b", GREY, None, 1)]), size=(6, 8))
    assert isinstance(made, ImageSet)
    found = load_imageset(factory(made), size=(99, 99), limit=1)
    assert (found.names, found.transform.size) == (("a",), (6, 8))


def test_what_a_function_raises_is_not_touched(factory: Callable[[object], str]) -> None:
    reference = factory(None)

    def broken() -> object:
        raise KeyError("my own mistake")

    sys.modules["my_project.data"].images = broken  # type: ignore[attr-defined]
    with pytest.raises(KeyError, match="my own mistake"):
        load_imageset(reference)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (("a", GREY, None), r"item 0: expected a Sample or .*got \(str, ndarray, NoneType\)"),
        ((5, GREY, None, 1), "item 0: expected a Sample"),
        ("a.png", "item 0: expected a Sample or .*got str"),
        (("a", (GREY * 255).astype(np.uint8), None, 1), r"item 0 \('a'\): image: .* uint8"),
        (("a", GREY * 255, None, 1), r"item 0 \('a'\): image: expected RGB in \[0, 1\]"),
        (("a", GREY.transpose(1, 2, 0), None, 1), r"item 0 \('a'\): image: .*6, 8, 3\)"),
        (("a", np.stack([GREY, GREY]), None, 1), r"item 0 \('a'\): expected one image"),
        (("a", GREY, LEFT // 2, 1), r"item 0 \('a'\): mask: .*127"),
        (("a", GREY, None, "cat"), r"item 0 \('a'\): label 'cat' is not an integer"),
        (("a", GREY, None, 2.0), r"item 0 \('a'\): label 2.0 is not an integer"),
        (("a", GREY, None, -2), r"item 0 \('a'\): label -2 is negative"),
    ],
)
def test_an_item_that_is_no_sample_is_named(
    factory: Callable[[object], str], item: Any, message: str
) -> None:
    with pytest.raises(ImageSetError, match=rf"my_project\.data:images, {message}"):
        load_imageset(factory([item]))


@pytest.mark.parametrize("made", [None, 3, "images"])
def test_a_function_that_gives_no_set_is_named(
    factory: Callable[[object], str], made: object
) -> None:
    with pytest.raises(ImageSetError, match=r"my_project\.data:images: returned "):
        load_imageset(factory(made))


def test_a_function_that_gives_nothing_is_named(factory: Callable[[object], str]) -> None:
    with pytest.raises(ImageSetError, match=r"my_project\.data:images: no images"):
        load_imageset(factory([]))


def test_a_function_that_is_not_there_is_named(factory: Callable[[object], str]) -> None:
    factory([])
    with pytest.raises(ImageSetError, match="no function 'imagse'; did you mean 'images'"):
        load_imageset("my_project.data:imagse")


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageSetError, match="cannot import 'my_projekt'"):
        load_imageset("my_projekt:images")


@pytest.mark.skipif(
    importlib.util.find_spec("xai_core.demo.scenes") is None, reason="the demo is not there"
)
def test_the_demo_is_a_set() -> None:
    from xai_core.demo.scenes import CLASSES, demo_images

    scenes = sorted(demo_images(size=32), key=lambda scene: scene.name)
    images = load_imageset("demo", size=(32, 32), num_classes=len(CLASSES))
    assert images.name == "demo"
    assert images.has_masks
    assert images.classes == dict(enumerate(CLASSES))
    assert images.names == tuple(scene.name for scene in scenes)
    assert images.labels == tuple(scene.label for scene in scenes)
    np.testing.assert_array_equal(images[2].image, scenes[2].image)
    mask = images[2].mask
    assert mask is not None
    np.testing.assert_array_equal(mask, scenes[2].mask)
