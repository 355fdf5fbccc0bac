"""What a gate reports of an earlier run, in builtin types only."""

from __future__ import annotations

from typing import TypedDict


class ComparedRow(TypedDict):
    """One gate with a margin, held against an earlier run; travels on a test's report.

    ``status`` is ``compared``, ``new`` (the earlier run has no such gate), ``incomparable`` (it
    measured something else) or ``error``, and ``why`` says why it is not compared. Of the images
    that both runs have, ``images`` have a value in both, and ``left_out`` says which have one in
    one run only. Where nothing is known to be otherwise that could move a value, ``moved`` counts
    the images, of the ``moved_of`` whose pixels are the same, that nevertheless moved; else both
    are None. ``p_loss`` is not corrected; ``family``
    gates of the model and image set are compared, and each is held at ``level``, one-sided.
    """

    model: str
    data: str
    file: str
    line: int
    method: str
    gate: str
    metric: str
    against: str
    status: str
    why: str
    margin: float
    difference: float | None
    low: float | None
    high: float | None
    images: int
    left_out: str
    moved: int | None
    moved_of: int | None
    p_loss: float | None
    loss_is_proven: bool
    family: int
    level: float


class DeclaredRow(TypedDict):
    """The gates that a threshold file demands of a model on an image set.

    ``sets`` are all image sets that the model is held on; a gate is its method, name and protocol.
    """

    model: str
    data: str
    sets: list[str]
    gates: list[list[str]]
