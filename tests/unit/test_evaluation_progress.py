"""What is told of an evaluation's progress, and shown of it on a terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from xai_core.checks import SmallCNN
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import IntegratedGradients
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.progress import RichProgress

IMAGES = np.random.default_rng(3).random((5, 3, 16, 16), dtype=np.float32)


def evaluation(progress: RichProgress) -> Evaluation:
    entries = [Entry(f"{i}", 0, lambda i=i: IMAGES[i], None, "test") for i in range(len(IMAGES))]
    images = ImageSet(entries, name="five", transform=Resize((16, 16)))
    return Evaluation(SmallCNN().classifier(batch_size=2), images, progress=progress)


def written(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    evaluation(RichProgress(console)).explain(Method("ig", IntegratedGradients(steps=8)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_what_is_worked_on_and_how_far_it_is() -> None:
    assert "explaining with ig" in written(terminal=True)


def test_a_log_stays_clean() -> None:
    assert written(terminal=False) == ""


def test_every_pass_is_noted_within_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, str]] = []

    class Listening(RichProgress):
        def task(self, what, total):  # type: ignore[no-untyped-def]
            from contextlib import nullcontext

            return nullcontext(lambda images, note="": told.append((images, note)))

    evaluation(Listening(Console())).explain(Method("ig", IntegratedGradients(steps=4)))
    # Batches of two images, 8 points each in passes of 2; the last batch has one image.
    assert told[:5] == [*((0, f"{count} passes") for count in (2, 4, 6, 8)), (2, "")]
    assert [images for images, note in told if not note] == [2, 2, 1]
    assert told[-2] == (0, "20 passes")
