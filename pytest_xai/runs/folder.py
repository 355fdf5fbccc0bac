"""The folder of saved runs: how a run is called there, and how one is found."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pytest_xai.runs.saved_run import RunFileError, SavedRun, from_bytes
from xai_core.errors import did_you_mean

LAST = "last"
"""Stands for the run that was saved last."""

_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]*")


@dataclass(frozen=True)
class EarlierRun:
    """A saved run that this one is held against.

    Attributes:
        name: how messages call it.
        path: of its file.
        run: what the file says.
    """

    name: str
    path: Path
    run: SavedRun


def run_file(folder: Path, name: str) -> Path:
    """Return the file of the run called ``name``.

    Raises:
        RunFileError: a name that cannot be.
    """
    if not _NAME.fullmatch(name) or name.endswith(".json") or name == LAST:
        why = f"{LAST!r} stands for the run saved last" if name == LAST else f"got {name!r}"
        msg = (
            "the name of a run has letters, digits, '.', '_', '+' and '-', such as v1.2 (no folder "
            f"and no .json); {why}"
        )
        raise RunFileError(msg)
    return folder / f"{name}.json"


def find_run(wanted: str, folder: Path, *, shown: str) -> EarlierRun:
    """Return a saved run.

    Args:
        wanted: its name, the path of a file, or ``last``.
        folder: where runs are saved.
        shown: the folder as messages call it.

    Raises:
        RunFileError: there is none, or its file cannot be read.
    """
    if wanted == LAST:
        return _last(folder, shown=shown)
    if os.sep in wanted or wanted.endswith(".json"):
        path, read_as = Path(os.path.abspath(wanted)), wanted  # noqa: PTH100 - no symlinks
    else:
        path = run_file(folder, wanted)
        read_as = f"{shown}/{path.name}"
    if not path.is_file():
        names = [path.stem for path in _files(folder)]
        known = f"in {shown}/: {did_you_mean(path.stem, names)}" if names else _none(shown)
        msg = f"{read_as}: no such file; {known}"
        raise RunFileError(msg)
    return EarlierRun(path.stem, path, _read(path, shown=read_as))


def _last(folder: Path, *, shown: str) -> EarlierRun:
    found = [
        EarlierRun(path.stem, path, _read(path, shown=f"{shown}/{path.name}"))
        for path in _files(folder)
    ]
    if not found:
        raise RunFileError(_none(shown))
    return max(found, key=lambda earlier: (earlier.run.saved, earlier.name))


def _none(shown: str) -> str:
    return f"no run is saved in {shown}/; --xai-save NAME saves one"


def _files(folder: Path) -> list[Path]:
    found = folder.glob("*.json") if folder.is_dir() else ()
    return sorted(path for path in found if _NAME.fullmatch(path.stem))


def _read(path: Path, *, shown: str) -> SavedRun:
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{shown}: cannot be read: {error.strerror}"
        raise RunFileError(msg) from None
    return from_bytes(content, shown=shown)
