"""What a gate demands of a metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from xai_core.explainers import NULL_MAPS
from xai_core.parameters import require

Level = Literal["fail", "warn"]

_INSTEAD_OF_THE_MEAN = {
    "mostly": "each image",
    "max_failures": "each image",
    "per_class": "the mean of each class",
}


@dataclass(frozen=True)
class Conditions:
    """What a gate demands of a metric; all that are set must hold.

    Where several images are of one photograph, their mean counts as one image: each photograph's
    mean must be on the right side, and a class has as many images as photographs. ``undefined``
    alone counts the images themselves.

    Args:
        above: the mean over images must be at least this.
        below: the mean over images must be at most this.
        mostly: with ``above`` or ``below``: not the mean, but at least this share of the images
            must each be on the right side.
        max_failures: with ``above`` or ``below``: not the mean, but at most so many images may
            each be on the wrong side.
        per_class: with ``above`` or ``below``: the mean over the images of every class.
        beats: null maps that the mean must be better than, on the same images.
        skill_above: the skill score over the best null map must be at least this.
        not_worse_by: where the run is held against an earlier one: how much worse the mean may
            get on the same images, in the metric's unit; with ``mostly`` or ``max_failures``: by
            how much the share of images on the right side may fall.
        reproducible: with ``not_worse_by``: whether the same weights must give the same values as
            then; not so for what is random, or is meant to move.
        undefined: how many images may have no value.
        confidence: of the intervals.
    """

    above: float | None = None
    below: float | None = None
    mostly: float | None = None
    max_failures: int | None = None
    per_class: bool = False
    beats: tuple[str, ...] = ()
    skill_above: float | None = None
    not_worse_by: float | None = None
    reproducible: bool = True
    undefined: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in ("above", "below", "skill_above"):
            value = getattr(self, name)
            require(value is None or math.isfinite(value), f"`{name}` must be a finite number")
        require(
            self.above is None or self.below is None,
            "`above` and `below` exclude each other; make two gates",
        )
        require(
            self.above is not None
            or self.below is not None
            or bool(self.beats)
            or self.skill_above is not None,
            "a gate needs a threshold with its direction: `above`, `below`, `beats` or "
            "`skill_above`",
        )
        require(
            self.mostly is None or 0 < self.mostly <= 1,
            f"`mostly` is a share of the images, above 0 and at most 1, got {self.mostly}",
        )
        require(
            self.max_failures is None or self.max_failures >= 0,
            f"`max_failures` is a number of images, 0 or more, got {self.max_failures}",
        )
        asked = self._instead_of_the_mean()
        require(
            len(asked) < 2,
            f"{' and '.join(f'`{name}`' for name in asked)} exclude each other; make two gates",
        )
        for name in asked:
            require(
                self.above is not None or self.below is not None,
                f"`{name}` needs `above` or `below` to say what {_INSTEAD_OF_THE_MEAN[name]} must "
                "meet",
            )
        for null in self.beats:
            require(null in NULL_MAPS, f"`beats` names null maps {NULL_MAPS}, got {null!r}")
        require(
            self.not_worse_by is None or (0 < self.not_worse_by < math.inf),
            f"`not_worse_by` is a loss that does not matter, above 0, got {self.not_worse_by}",
        )
        require(self.undefined >= 0, "`undefined` is a number of images, 0 or more")
        require(0 < self.confidence < 1, "`confidence` must lie between 0 and 1")

    @property
    def of_the_mean(self) -> bool:
        """Whether ``above`` or ``below`` is about the mean of all images."""
        bounded = self.above is not None or self.below is not None
        return bounded and not self._instead_of_the_mean()

    @property
    def of_each_image(self) -> bool:
        """Whether ``above`` or ``below`` is about how many images are on the right side."""
        return self.mostly is not None or self.max_failures is not None

    def _instead_of_the_mean(self) -> list[str]:
        """Return which keys make ``above`` or ``below`` about something else than the mean."""
        given = {name: getattr(self, name) for name in _INSTEAD_OF_THE_MEAN}
        return [name for name, value in given.items() if value is not None and value is not False]
