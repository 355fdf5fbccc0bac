"""A threshold file replaced at once, if it still is what was read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest_xai
from pytest_xai.atomic_write import write_at_once
from pytest_xai.toml_source import ThresholdFileError, digest_of


def why_not_writable(path: Path) -> str | None:
    """Return why a file may not be replaced; None if it may."""
    import xai_core

    real = path.resolve()
    for package in (xai_core, pytest_xai):
        if real.is_relative_to(Path(package.__file__ or "").resolve().parent):
            return (
                "belongs to the installed package, which stays as it is; copy the file to your "
                "own folder of threshold files, and update it there"
            )
    if not real.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        return "is read-only; make it writable (chmod u+w) to have it updated"
    if not os.access(real, os.W_OK) or not os.access(real.parent, os.W_OK):
        return "cannot be written by this user"
    return None


def replace_text(path: Path, text: str, *, digest: str, shown: str) -> None:
    """Replace a file's text: a reader sees the old one or the new one, never a part.

    Args:
        path: of the file; a link stays one.
        text: the new one.
        digest: of what the file was when it was read.
        shown: the file as messages call it.

    Raises:
        ThresholdFileError: the file is gone, was changed since, or may not be replaced.
        OSError: the disk is full, or the like.
    """
    real = path.resolve()
    if not real.is_file():
        msg = f"{shown}: not written: it is no longer there"
        raise ThresholdFileError(msg)
    if (obstacle := why_not_writable(real)) is not None:
        msg = f"{shown}: not written: it {obstacle}"
        raise ThresholdFileError(msg)
    if digest_of(real.read_bytes()) != digest:
        msg = f"{shown}: not written: it was changed on disk since it was read; run again"
        raise ThresholdFileError(msg)
    write_at_once(real, text, mode=stat.S_IMODE(real.stat().st_mode))
