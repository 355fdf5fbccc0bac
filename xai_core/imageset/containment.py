"""Which file names a set may give: only files below its own folder are ever opened."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from xai_core.errors import ImageSetError


def require_relative(name: str, *, where: str) -> str:
    """Return ``name`` if it is a relative path without ``..``, on any operating system.

    Args:
        name: a path as a text file gives it.
        where: how an error message names the place, e.g. ``"labels.csv, line 3"``.

    Raises:
        ImageSetError: an empty or absolute path, a drive letter, or a ``..`` in it.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    escapes = posix.is_absolute() or windows.anchor or ".." in (*posix.parts, *windows.parts)
    if not name or escapes:
        msg = f"{where}: refused {name!r}; give a path inside the images' folder, without '..'"
        raise ImageSetError(msg)
    return name


def require_inside(path: Path, root: Path) -> Path:
    """Return ``path`` if, symbolic links followed, it lies below the folder ``root``.

    Raises:
        ImageSetError: a link leads out of the folder, or in a circle.
    """
    try:
        real = path.resolve()
        inside = real.is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:
        msg = f"{path}: cannot be followed ({error}); replace the link by the file"
        raise ImageSetError(msg) from None
    if not inside:
        msg = f"{path}: refused, it links to {real} outside {root}; copy the file into the folder"
        raise ImageSetError(msg)
    return path
