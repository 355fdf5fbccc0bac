"""A file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_xai.atomic_write import write_at_once


def test_it_makes_its_folder(tmp_path: Path) -> None:
    write_at_once(tmp_path / "new" / "deep" / "a.json", "ä\n")
    assert (tmp_path / "new" / "deep" / "a.json").read_bytes() == "ä\n".encode()


@pytest.mark.parametrize("failing", ["replace", "chmod"])
def test_what_fails_at_its_end_leaves_the_old_file_and_nothing_else(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_at_once(tmp_path / "a.json", "old")
    monkeypatch.setattr(Path, failing, full)
    with pytest.raises(OSError, match="No space left"):
        write_at_once(tmp_path / "a.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_text_that_utf_8_cannot_say_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_at_once(tmp_path / "a.json", "\udc80")
    assert list(tmp_path.iterdir()) == []
