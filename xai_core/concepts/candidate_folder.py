"""How a candidate becomes a folder of images, and so a concept as any other."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from xai_core.concepts.discovery import Candidate
from xai_core.errors import ConceptError


def save_candidate(
    candidate: Candidate, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write a candidate's crops as PNG files, nearest to the centre first, and return the folder.

    The folder appears at once and whole. The files hold the crops exactly; they are called
    ``<rank>_<image>.png``.

    Args:
        candidate: of `discover_concepts`.
        folder: whose name is the concept's, e.g. ``concepts/zebra_01``.
        overwrite: replace a folder that holds nothing but PNG files.

    Raises:
        ConceptError: the folder exists and is not to be overwritten, or holds something else than
            PNG files.
    """
    target = Path(folder)
    if os.path.lexists(target):
        _require_replaceable(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        for rank, (name, crop) in enumerate(zip(candidate.images, candidate.crops, strict=True)):
            pixels = np.round(crop * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
            stem = re.sub(r"[^\w.-]+", "_", Path(name).stem)[:100]
            Image.fromarray(pixels).save(made / f"{rank:03d}_{stem}.png")
        made.chmod(0o755)
        if target.is_dir():
            _swap(made, target)
        else:
            made.rename(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return target


def _require_replaceable(target: Path, *, overwrite: bool) -> None:
    if not overwrite:
        msg = f"{target}: exists; name another folder, or give overwrite=True to replace it"
        raise ConceptError(msg)
    if target.is_symlink() or not target.is_dir():
        msg = f"{target}: is no folder, and is not overwritten; name another one"
        raise ConceptError(msg)
    for path in sorted(target.iterdir()):
        if path.suffix.lower() != ".png" or path.is_symlink() or not path.is_file():
            msg = (
                f"{path}: not a PNG file, so {target} may be more than a saved candidate and is "
                "not overwritten; move it away or name another folder"
            )
            raise ConceptError(msg)


def _swap(made: Path, target: Path) -> None:
    """Put the new folder in the place of the old one, which stays until the new one is there."""
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    target.rename(old)
    try:
        made.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)
