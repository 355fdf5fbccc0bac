"""What a gate demands of a metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from xai_core.explainers import NULL_MAPS
from xai_core.parameters import require

Level = Literal["fail", "warn"]


@dataclass(frozen=True)
class Conditions:
    """What a gate demands of a metric; all that are set must hold.

    Args:
        above: the mean over images must be at least this.
        below: the mean over images must be at most this.
        mostly: with ``above`` or ``below``: not the mean, but at least this share of the images
            must each be on the right side.
        beats: null maps that the mean must be better than, on the same images.
        skill_above: the skill score over the best null map must be at least this.
        undefined: how many images may have no value.
        confidence: of the intervals.
    """

    above: float | None = None
    below: float | None = None
    mostly: float | None = None
    beats: tuple[str, ...] = ()
    skill_above: float | None = None
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
            self.mostly is None or self.above is not None or self.below is not None,
            "`mostly` needs `above` or `below` to say what each image must meet",
        )
        for null in self.beats:
            require(null in NULL_MAPS, f"`beats` names null maps {NULL_MAPS}, got {null!r}")
        require(self.undefined >= 0, "`undefined` is a number of images, 0 or more")
        require(0 < self.confidence < 1, "`confidence` must lie between 0 and 1")
