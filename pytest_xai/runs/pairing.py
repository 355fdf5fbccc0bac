"""Which images of a run are those of an earlier one: by content, and by name if that changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pytest_xai.runs.saved_run import SavedImage
from xai_core.arrays import Bool, Float64

Content: TypeAlias = tuple[str, int]
"""The digest of an image's pixels and mask, and the class that is explained."""

_NAMED = 3


@dataclass(frozen=True)
class ImageChanges:
    """How the images of a run differ from those of an earlier one, by their names.

    Attributes:
        same: how many images of this run the earlier one has too.
        added: those that the earlier run does not have.
        removed: those that only it has.
        changed: those that have a name in both, for the same class, and other pixels or another
            mask.
        retargeted: those of which another class is explained.
    """

    same: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    retargeted: tuple[str, ...] = ()

    def complaints(self) -> list[str]:
        """Return a few words on each kind of image that has no pair."""
        paired = [f"{counted(self.changed)} changed, paired by name ({some(self.changed)})"]
        return [*self.without_pair(), *(paired if self.changed else [])]

    def without_pair(self) -> list[str]:
        """Return a few words on each kind of image that the other run has nothing beside."""
        kinds = {
            "added": self.added,
            "removed": self.removed,
            "explained for another class": self.retargeted,
        }
        return [
            f"{counted(names)} {kind} ({some(names)})" for kind, names in kinds.items() if names
        ]


@dataclass(frozen=True)
class Pairs:
    """The values of the images that two runs have in common.

    Attributes:
        names: of the images in this run; of an image that is there twice, the first.
        values: of this run, float64 ``[n]``; of an image that is there twice, the mean.
        earlier: of the earlier run, float64 ``[n]``.
        unchanged: whether pixels, mask and target are the same, bool ``[n]``; of the others only
            the name and the target are.
        changes: which images are not common.
        undefined_now: common images that have a value in the earlier run only.
        undefined_then: common images that have a value in this run only.
    """

    names: tuple[str, ...]
    values: Float64
    earlier: Float64
    unchanged: Bool
    changes: ImageChanges
    undefined_now: tuple[str, ...]
    undefined_then: tuple[str, ...]

    def complaints(self) -> list[str]:
        """Return a few words on each kind of image that differs, or has no value in one run."""
        return [*self.changes.complaints(), *self.left_out()]

    def not_compared(self) -> list[str]:
        """Return a few words on each kind of image that has no pair, or no value in one run."""
        return [*self.changes.without_pair(), *self.left_out()]

    def left_out(self) -> list[str]:
        """Return a few words on each kind of common image that has a value in one run only."""
        found = []
        for names, when in ((self.undefined_now, "now"), (self.undefined_then, "then")):
            if names:
                found.append(f"{counted(names)} undefined only {when} ({some(names)})")
        return found

    def largest_losses(self, *, higher_is_better: bool) -> list[tuple[str, float, float]]:
        """Return name, earlier value and value of the images that lost most, the worst first."""
        gains = (self.values - self.earlier) * (1 if higher_is_better else -1)
        return self._first(gains)

    def largest_moves(self) -> list[tuple[str, float, float]]:
        """Return name, earlier value and value of the images that moved most, either way."""
        return self._first(-np.abs(self.values - self.earlier))

    def _first(self, order_of: Float64) -> list[tuple[str, float, float]]:
        """Return name and both values of the images with the lowest numbers below 0."""
        return [
            (self.names[row], float(self.earlier[row]), float(self.values[row]))
            for row in np.argsort(order_of, kind="stable")[:_NAMED].tolist()
            if order_of[row] < 0
        ]


def image_changes(now: Sequence[SavedImage], earlier: Sequence[SavedImage]) -> ImageChanges:
    """Return how the images of a run differ from those of an earlier one."""
    before, after = _contents(earlier), _contents(now)
    left = [one for one in now if (one.digest, one.target) not in before]
    gone = [one for one in earlier if (one.digest, one.target) not in after]
    accounted = {one.digest for one in left} & {one.digest for one in gone}
    gone = [one for one in gone if one.digest not in accounted]
    others = [one for one in left if one.digest not in accounted]
    targets = {one.image: one.target for one in gone}
    names = {one.image for one in others if one.image in targets}
    changed = [one.image for one in others if targets.get(one.image) == one.target]
    return ImageChanges(
        same=len(now) - len(left),
        added=tuple(one.image for one in others if one.image not in names),
        removed=tuple(one.image for one in gone if one.image not in names),
        changed=tuple(changed),
        retargeted=tuple(
            one.image
            for one in left
            if one.digest in accounted or one.image in names.difference(changed)
        ),
    )


def pair(
    now: Sequence[SavedImage],
    values: Mapping[str, float | None],
    earlier: Sequence[SavedImage],
    earlier_values: Mapping[str, float | None],
) -> Pairs:
    """Return the values of the images that a run and an earlier one have in common.

    Images are common by pixels, mask and target, whatever they are called; what is left, as after
    all images were compressed anew, by name and target.

    Args:
        now: the images of this run.
        values: name of an image -> its value; None where it has none.
        earlier: the images of the earlier run.
        earlier_values: likewise.
    """
    before, after = _contents(earlier), _contents(now)
    changes = image_changes(now, earlier)
    by_name = frozenset(changes.changed)
    names, new, old, unchanged = [], [], [], []
    undefined_now, undefined_then = [], []
    for content, called in after.items():
        there = before.get(content) or [name for name in called if name in by_name]
        if not there:
            continue
        mine = _mean(values.get(name) for name in called)
        theirs = _mean(earlier_values.get(name) for name in there)
        if mine is not None and theirs is not None:
            names.append(called[0])
            new.append(mine)
            old.append(theirs)
            unchanged.append(content in before)
        elif theirs is not None:
            undefined_now.append(called[0])
        elif mine is not None:
            undefined_then.append(called[0])
    return Pairs(
        names=tuple(names),
        values=np.array(new, dtype=np.float64),
        earlier=np.array(old, dtype=np.float64),
        unchanged=np.array(unchanged, dtype=np.bool_),
        changes=changes,
        undefined_now=tuple(undefined_now),
        undefined_then=tuple(undefined_then),
    )


def counted(names: Sequence[str]) -> str:
    """Return their number.

    >>> counted(["a.png"]), counted(["a.png", "b.png"])
    ('1 image', '2 images')
    """
    return "1 image" if len(names) == 1 else f"{len(names)} images"


def some(names: Sequence[str]) -> str:
    """Return the first names.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c, ...'
    """
    return ", ".join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])])


def _contents(images: Iterable[SavedImage]) -> dict[Content, list[str]]:
    found: dict[Content, list[str]] = defaultdict(list)
    for one in images:
        found[one.digest, one.target].append(one.image)
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of one image's values; None where one is missing."""
    found = list(values)
    there = [value for value in found if value is not None]
    return sum(there) / len(there) if len(there) == len(found) else None
