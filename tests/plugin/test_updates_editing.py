"""A number goes into the text of a threshold file, and everything around it stays."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_xai.toml_source import ThresholdFileError
from pytest_xai.updates.choosing import Change
from pytest_xai.updates.editing import difference, with_changes

TEXT = """\
# Read this first.
[data]
limit = 40                       # forty

[explainers.gradcam]

[gates.gradcam]
iou = { above = 0.42 }  # why it is so
# measured 0.466
precision={above=0.66,beats="centre"}
recall = {}
top = { metric = "iou", binarize = "top=mask" }   # kept
pointing_game = { above = 1, tolerance = 4 }          # 4 of 64

[gates.ig.completeness]
below = 0.1  # of the difference

[gates.ig.sparse]
metric = "sparseness"

# about concepts
[concepts.x]
class = "a"

[gates.late]  # a table of gates that comes late
iou.metric = "iou"
iou.above = 0.3
"""


@pytest.mark.parametrize(
    ("keys", "key", "value", "old", "new"),
    [
        (("gates", "gradcam", "iou"), "above", 0.5, "{ above = 0.42 }", "{ above = 0.5 }"),
        (("gates", "gradcam", "precision"), "above", 0.7, "{above=0.66", "{above=0.7"),
        (("gates", "gradcam", "recall"), "above", 0.3, "recall = {}", "recall = { above = 0.3 }"),
        (("gates", "gradcam", "top"), "above", 0.3, '"top=mask" }', '"top=mask", above = 0.3 }'),
        (("gates", "gradcam", "pointing_game"), "above", 0.9, "above = 1,", "above = 0.9,"),
        (("gates", "gradcam", "pointing_game"), "above", 2.0, "above = 1,", "above = 2,"),
        (("gates", "ig", "completeness"), "below", 0.05, "below = 0.1", "below = 0.05"),
        (("gates", "ig", "sparse"), "above", 0.4, '"sparseness"\n', '"sparseness"\nabove = 0.4\n'),
        (("gates", "late", "iou"), "above", 0.2, "above = 0.3\n", "above = 0.2\n"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_only_the_number_changes(keys, key, value, old, new, newline) -> None:
    assert TEXT.count(old) == 1
    text = TEXT.replace("\n", newline)
    found = with_changes(text, [Change(keys, key, value)], shown="t.toml")
    assert found == TEXT.replace(old, new).replace("\n", newline)


def test_many_changes_are_made_at_once() -> None:
    changes = [
        Change(("gates", "gradcam", "recall"), "above", 0.3),
        Change(("gates", "gradcam", "recall"), "mostly", 0.9),
        Change(("gates", "ig", "sparse"), "above", 0.4),
        Change(("gates", "ig", "completeness"), "below", 0.02),
    ]
    found = tomllib.loads(with_changes(TEXT, changes, shown="t.toml"))["gates"]
    assert found["gradcam"]["recall"] == {"above": 0.3, "mostly": 0.9}
    assert found["ig"] == {
        "completeness": {"below": 0.02},
        "sparse": {"metric": "sparseness", "above": 0.4},
    }


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_is_read_back_as_it_is(value: float) -> None:
    changes = [
        Change(("gates", "gradcam", name), "above", value)
        for name in ("iou", "recall", "pointing_game")
    ]
    found = tomllib.loads(with_changes(TEXT, changes, shown="t.toml"))["gates"]["gradcam"]
    assert {found[name]["above"] for name in ("iou", "recall", "pointing_game")} == {value}
    before = [line for line in TEXT.splitlines() if "#" in line]
    after = with_changes(TEXT, changes, shown="t.toml")
    assert all(line.partition("#")[2] in after for line in before)


def test_a_text_that_would_say_something_else_is_refused(monkeypatch) -> None:
    import tomlkit

    real = tomlkit.dumps
    monkeypatch.setattr(tomlkit, "dumps", lambda document: real(document).replace("40", "41"))
    with pytest.raises(
        ThresholdFileError, match=r"t.toml: gates.gradcam.iou: above = 0.5 cannot be put there"
    ):
        with_changes(TEXT, [Change(("gates", "gradcam", "iou"), "above", 0.5)], shown="t.toml")


def test_the_difference_is_a_unified_diff() -> None:
    assert difference("a\nb\n", "a\nc\n", shown="t.toml") == [
        "--- t.toml",
        "+++ t.toml",
        "@@ -1,2 +1,2 @@",
        " a",
        "-b",
        "+c",
    ]
    assert difference("", "a\n", shown="t.toml")[:2] == ["--- /dev/null", "+++ t.toml"]
