"""A file that is written at once.

Loaded in every pytest run, so it imports pytest and the standard library only.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest


def require_writable(path: Path, *, option: str) -> None:
    """Raise a usage error now, rather than lose the measurements at the end of a long run."""
    there = next(folder for folder in path.parents if folder.exists())
    if path.is_dir() or not there.is_dir() or not os.access(there, os.W_OK):
        msg = f"{option} {path}: cannot be written; expected a file in a folder that can"
        raise pytest.UsageError(msg)


def write_at_once(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write the file, and its folder: a reader sees the old one or the new one, never a part.

    Args:
        path: of the file.
        text: what it is to hold; its line ends stay.
        mode: of the file.

    Raises:
        OSError: the folder cannot be made or written to.
        UnicodeEncodeError: the text has what UTF-8 cannot say, such as names of files in no coding.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
