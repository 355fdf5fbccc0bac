"""Which images, masks, labels and backgrounds lie in a folder of the project's format."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xai_core.errors import ImageSetError, did_you_mean
from xai_core.imageset.containment import require_inside, require_relative
from xai_core.imageset.imageset import Entry, ImageSet
from xai_core.imageset.pixels import SUFFIXES, read_background, read_image, read_mask
from xai_core.imageset.transform import Transform

_SYSTEM_FILES = frozenset({"desktop.ini", "thumbs.db"})


@dataclass(frozen=True)
class _Row:
    label: int
    where: str
    group: str | None


def load_folder(folder: Path, *, transform: Transform) -> ImageSet:
    """Return the set of a folder with ``images/``, and what of the rest there is in it.

    ``masks/`` holds one mask per image, of the same stem; without that folder the set has no
    masks. ``labels.csv`` has the columns ``image``, ``label`` and, where wanted, ``class`` and
    ``group``, the name of the photograph that several images are of; without that file every label
    is None. ``background/`` holds one PNG per image, of the same
    stem, with an index for each pixel: 0 where nothing is annotated, else one that
    ``background.csv`` (``index,name``) gives a name. Names are the file names in ``images/``.

    Raises:
        ImageSetError: a file is missing, left over, ambiguous, or leads out of the folder, or
            ``labels.csv`` or ``background.csv`` cannot be read.
    """
    images_folder, masks_folder = folder / "images", folder / "masks"
    if not images_folder.is_dir():
        msg = f"{images_folder}: no such folder; an image set's folder has images/ in it"
        raise ImageSetError(msg)
    images = _by_stem(images_folder, folder)
    if not images:
        msg = f"{images_folder}: no images found; expected files ending in {', '.join(SUFFIXES)}"
        raise ImageSetError(msg)
    masks: dict[str, Path] | None = None
    if masks_folder.is_dir():
        masks = _by_stem(masks_folder, folder)
        _require_pairs("mask", images, masks, masks_folder)
    backgrounds, background_classes = _backgrounds(folder, images)

    names = {path.name for path in images.values()}
    table = folder / "labels.csv"
    rows: dict[str, _Row] | None = None
    classes: dict[int, str] = {}
    # A dangling link is not "no labels.csv".
    if table.exists() or table.is_symlink():
        rows, classes = _read_labels(require_inside(table, folder), names)

    entries = []
    for stem, path in images.items():
        row = None if rows is None else rows[path.name]
        entries.append(
            Entry(
                name=path.name,
                label=None if row is None else row.label,
                read_image=partial(read_image, path),
                read_mask=None if masks is None else partial(read_mask, masks[stem]),
                origin=str(path) if row is None else row.where,
                group=None if row is None else row.group,
                read_background=None
                if backgrounds is None
                else partial(read_background, backgrounds[stem], background_classes),
            )
        )
    return ImageSet(
        entries,
        name=folder.resolve().name,
        transform=transform,
        classes=classes,
        background_classes=background_classes,
    )


def _backgrounds(
    root: Path, images: dict[str, Path]
) -> tuple[dict[str, Path] | None, dict[int, str]]:
    """Return stem -> index map, None without any, and the names of the classes."""
    folder, table = root / "background", root / "background.csv"
    # A dangling link is not "no background.csv".
    named = table.exists() or table.is_symlink()
    if not folder.is_dir():
        if named:
            msg = f"{table}: there is no folder background/ beside it; add it or remove the file"
            raise ImageSetError(msg)
        return None, {}
    if not named:
        msg = f"{table}: no such file; background/ needs it, with the columns index and name"
        raise ImageSetError(msg)
    classes = _read_classes(require_inside(table, root))
    backgrounds = _by_stem(folder, root)
    for path in backgrounds.values():
        if path.suffix.lower() != ".png":
            msg = f"{path}: expected a .png, which keeps every index as it is; convert it"
            raise ImageSetError(msg)
    _require_pairs("background", images, backgrounds, folder)
    return backgrounds, classes


def _by_stem(folder: Path, root: Path) -> dict[str, Path]:
    """Return stem -> image file; nothing that lies in the folder is passed over in silence."""
    require_inside(folder, root)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES:
            continue
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            msg = f"{path}: not an image ({', '.join(SUFFIXES)}); move it out of {folder}"
            raise ImageSetError(msg)
        if path.stem in found:
            msg = (
                f"{path}: has the same stem as {found[path.stem].name}, so it is unclear what "
                "belongs to which; rename or remove one"
            )
            raise ImageSetError(msg)
        found[path.stem] = require_inside(path, root)
    return found


def _require_pairs(
    what: str, images: dict[str, Path], drawn: dict[str, Path], folder: Path
) -> None:
    for stem, path in images.items():
        if stem not in drawn:
            expected = folder / f"{stem}.png"
            msg = f"{path}: no {what}; expected {expected}, or no {folder.name}/ at all"
            raise ImageSetError(msg)
    for stem, path in drawn.items():
        if stem not in images:
            msg = f"{path}: a {what} without an image; remove it or add the image of that stem"
            raise ImageSetError(msg)


def _read_classes(table: Path) -> dict[int, str]:
    """Return index -> name of the classes of background."""
    classes: dict[int, str] = {}
    for where, cells in _cells(table, ("index", "name"), header="index,name"):
        index, name = _integer(cells["index"], where, "index"), cells["name"]
        if not 1 <= index <= 255:
            msg = f"{where}: index {index}; expected 1 to 255, as 0 is what is not annotated"
            raise ImageSetError(msg)
        if not name or index in classes or name in classes.values():
            msg = f"{where}: {index},{name}; give each index a name, and each of both once"
            raise ImageSetError(msg)
        classes[index] = name
    if not classes:
        msg = f"{table}: no classes; add a row for each index in background/"
        raise ImageSetError(msg)
    return classes


def _read_labels(table: Path, names: set[str]) -> tuple[dict[str, _Row], dict[int, str]]:
    rows: dict[str, _Row] = {}
    classes: dict[int, str] = {}
    for where, cells in _cells(table, ("image", "label"), header="image,label,class"):
        for column in cells:
            # Passed over, it would make every interval too narrow.
            if column != "group" and column.casefold() in ("group", "groups"):
                msg = f"{table}: no column is called {column!r}; did you mean 'group'?"
                raise ImageSetError(msg)
        name = require_relative(cells["image"], where=where)
        if name not in names:
            msg = f"{where}: image {name!r} does not exist in images/; {did_you_mean(name, names)}"
            raise ImageSetError(msg)
        if name in rows:
            msg = f"{where}: second row for {name!r} (first: {rows[name].where}); remove one"
            raise ImageSetError(msg)
        label = _integer(cells["label"], where, "label")
        rows[name] = _Row(label, where, cells.get("group"))
        class_name = cells.get("class")
        if class_name and classes.setdefault(label, class_name) != class_name:
            msg = (
                f"{where}: label {label} is named {class_name!r} here and {classes[label]!r} "
                "above; a label has one class name"
            )
            raise ImageSetError(msg)
    unlabelled = sorted(names - set(rows))
    if unlabelled:
        msg = (
            f"{table}: no row for {', '.join(unlabelled[:5])}"
            f"{f' and {len(unlabelled) - 5} more' if len(unlabelled) > 5 else ''}; "
            "add one per image, or remove labels.csv"
        )
        raise ImageSetError(msg)
    return rows, classes


def _integer(text: str, where: str, what: str) -> int:
    # int() alone would also take "1_0", "+1" and digits of other scripts.
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        msg = f"{where}: {what} {text!r} is not an integer; give the index of the class"
        raise ImageSetError(msg)
    return int(text)


def _cells(
    table: Path, columns: tuple[str, ...], *, header: str
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row as column -> stripped text, with the place it stands at."""
    try:
        # Spreadsheets write a byte order mark.
        with table.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            given = [cell.strip() for cell in next(reader, [])]
            missing = [column for column in columns if column not in given]
            if missing:
                msg = (
                    f"{table}: no column {' and '.join(missing)}; expected the header "
                    f"{header}, got {','.join(given)!r}"
                )
                raise ImageSetError(msg)
            for row in reader:
                if not row:
                    continue
                where = f"{table}, line {reader.line_num}"
                if len(row) != len(given):
                    msg = f"{where}: expected {len(given)} cells as in the header, got {len(row)}"
                    raise ImageSetError(msg)
                yield where, dict(zip(given, (cell.strip() for cell in row), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{table}: cannot be read ({error}); save it as UTF-8 text with commas"
        raise ImageSetError(msg) from error
