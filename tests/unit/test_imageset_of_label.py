"""The samples of one class as a set of their own."""

from __future__ import annotations

import numpy as np
import pytest

from xai_core.demo.scenes import CLASSES
from xai_core.errors import ImageSetError
from xai_core.imageset import load_imageset


@pytest.fixture(scope="module")
def demo():
    return load_imageset("demo", size=(16, 16), limit=8)


@pytest.mark.parametrize(("label", "expected"), [(0, [0, 6]), (1, [1, 7]), (5, [5])])
def test_a_class_has_its_own_samples_in_their_order(demo, label, expected) -> None:
    found = demo.of_label(label)
    assert found.names == tuple(demo.names[index] for index in expected)
    assert set(found.labels) == {label}
    for own, index in zip(found, expected, strict=True):
        assert np.array_equal(own.image, demo[index].image)
        assert np.array_equal(own.mask, demo[index].mask)


def test_what_is_known_of_the_set_stays_known(demo) -> None:
    found = demo.of_label(2)
    known = ("name", "transform", "classes", "background_classes", "has_masks")
    assert [getattr(found, name) for name in known] == [getattr(demo, name) for name in known]


def test_a_class_without_samples_is_named(demo) -> None:
    few = demo.head(3)
    with pytest.raises(ImageSetError) as caught:
        few.of_label(4)
    assert str(caught.value) == (
        f"demo: none of its 3 images has the label 4 ({CLASSES[4]}); "
        "labels there: 0 (1), 1 (1), 2 (1)"
    )
