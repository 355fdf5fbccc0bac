"""Images of two runs are paired by what they are, whatever they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_xai.runs.pairing import ImageChanges, image_changes, pair
from pytest_xai.runs.saved_run import SavedImage


def image(name: str, content: str, target: int = 0) -> SavedImage:
    return SavedImage(name, target, hashlib.sha256(content.encode()).hexdigest())


EARLIER = [image("a", "sky"), image("b", "sea"), image("c", "sand")]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (EARLIER, ImageChanges(3)),
        (EARLIER[::-1], ImageChanges(3)),
        ([image("x", "sky"), image("y", "sea"), image("z", "sand")], ImageChanges(3)),
        ([*EARLIER, image("d", "sun")], ImageChanges(3, added=("d",))),
        (EARLIER[:2], ImageChanges(2, removed=("c",))),
        ([*EARLIER[:2], image("c", "salt")], ImageChanges(2, changed=("c",))),
        ([*EARLIER[:2], image("c", "sand", 1)], ImageChanges(2, retargeted=("c",))),
        ([*EARLIER[:2], image("z", "sand", 1)], ImageChanges(2, retargeted=("z",))),
        # Other pixels and another target: nothing tells that it is the same photograph.
        ([*EARLIER[:2], image("c", "salt", 1)], ImageChanges(2, retargeted=("c",))),
        # "c" is another photograph now, and the old one has another target under a new name.
        (
            [*EARLIER[:2], image("c", "salt"), image("z", "sand", 1)],
            ImageChanges(2, added=("c",), retargeted=("z",)),
        ),
        # Names that were exchanged are no change: content decides.
        ([image("b", "sky"), image("a", "sea"), EARLIER[2]], ImageChanges(3)),
        (
            [image("b", "sky"), image("c", "salt"), image("e", "sun")],
            ImageChanges(1, added=("e",), removed=("b",), changed=("c",)),
        ),
        ([], ImageChanges(0, removed=("a", "b", "c"))),
    ],
)
def test_what_is_otherwise_is_told_by_content(
    now: list[SavedImage], expected: ImageChanges
) -> None:
    assert image_changes(now, EARLIER) == expected


VALUES = st.dictionaries(
    st.integers(0, 20), st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=12
)


@given(VALUES, VALUES, st.randoms())
def test_pairs_are_of_the_same_content_with_a_value_in_both(
    now: Mapping[int, float | None], then: Mapping[int, float | None], random
) -> None:
    order = list(now)
    random.shuffle(order)
    names = {key: f"now-{place}" for place, key in enumerate(order)}
    found = pair(
        [image(names[key], str(key)) for key in order],
        {names[key]: now[key] for key in order},
        [image(f"then-{key}", str(key)) for key in then],
        {f"then-{key}": value for key, value in then.items()},
    )
    both = [key for key in order if key in then]
    expected = {
        names[key]: (now[key], then[key])
        for key in both
        if now[key] is not None and then[key] is not None
    }
    pairs = zip(found.values.tolist(), found.earlier.tolist(), strict=True)
    assert dict(zip(found.names, pairs, strict=True)) == expected
    assert set(found.undefined_now) == {
        names[key] for key in both if now[key] is None and then[key] is not None
    }
    assert set(found.undefined_then) == {
        names[key] for key in both if now[key] is not None and then[key] is None
    }


def test_an_image_that_is_there_twice_is_one_pair() -> None:
    found = pair(
        [image("a", "sky"), image("b", "sky"), image("c", "sea")],
        {"a": 1.0, "b": 0.0, "c": 0.25},
        [image("x", "sky"), image("y", "sea")],
        {"x": 0.75, "y": 0.5},
    )
    assert found.names == ("a", "c")
    assert found.values.tolist() == [0.5, 0.25]
    assert found.earlier.tolist() == [0.75, 0.5]
    assert found.changes == ImageChanges(3)


def test_changed_images_are_paired_by_name_and_marked() -> None:
    found = pair(
        [image("a", "salt"), image("b", "sea"), image("new", "sky"), image("c", "sun", 1)],
        {"a": 0.1, "b": 0.2, "new": 0.3, "c": 0.4},
        [image("a", "sand"), image("b", "sea"), image("c", "moon")],
        {"a": 0.5, "b": 0.6, "c": 0.7},
    )
    assert found.names == ("a", "b")
    assert found.values.tolist() == [0.1, 0.2]
    assert found.earlier.tolist() == [0.5, 0.6]
    assert found.unchanged.tolist() == [False, True]
    assert found.complaints() == [
        "1 image added (new)",
        "1 image explained for another class (c)",
        "1 image changed, paired by name (a)",
    ]
    assert found.not_compared() == found.complaints()[:2]


@pytest.mark.parametrize(
    ("higher", "expected"),
    [(True, [("b", 0.9, 0.1), ("a", 0.5, 0.4)]), (False, [("c", 0.2, 0.6)])],
)
def test_the_largest_losses_come_first(higher: bool, expected: list) -> None:
    found = pair(EARLIER, {"a": 0.4, "b": 0.1, "c": 0.6}, EARLIER, {"a": 0.5, "b": 0.9, "c": 0.2})
    assert found.largest_losses(higher_is_better=higher) == expected


def test_images_without_a_pair_are_counted_and_named() -> None:
    now = [image(name, name) for name in "abcdef"]
    found = pair(now, dict.fromkeys("bcdef", 1.0) | {"a": None}, [now[0]], {"a": 0.5})
    assert found.complaints() == [
        "5 images added (b, c, d, ...)",
        "1 image undefined only now (a)",
    ]
