"""Progress on the terminal: what is worked on, how far, how long to go."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import pytest

from pytest_xai.settings import is_worker

if TYPE_CHECKING:
    from xai_core.progress import Advance, Progress

_WIDTH = 24
_SECONDS_BETWEEN_NOTES = 0.2  # a small model makes thousands of passes a second
# Make sure that there is a line below (the screen scrolls if need be), without leaving the
# column; remember the place; go to that line and clear it.
_DOWN = "\x1bD\x1b[A\x1b7\r\n\x1b[2K"
_BACK = "\x1b8"


class TerminalProgress:
    """A bar in the line below pytest's own, which pytest goes on writing as if it were not there.

    It is drawn when images are done or something is noted, never by a thread, and cleared when the
    task is done. A task inside another takes its place until it is done.

    Args:
        stream: the terminal itself; pytest captures standard output and error while a test runs.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]:
        """Show a bar for ``total`` images while the context is open."""
        started = drawn = time.monotonic()
        done = 0

        def advance(images: int, /, note: str = "") -> None:
            nonlocal done, drawn
            now = time.monotonic()
            if images == 0 and now - drawn < _SECONDS_BETWEEN_NOTES:
                return
            done, drawn = done + images, now
            self._draw(bar(what, done, total, now - started, note))

        self._draw(bar(what, 0, total, 0.0))
        try:
            yield advance
        finally:
            self._draw("")

    def _draw(self, text: str) -> None:
        columns = os.get_terminal_size(self._stream.fileno()).columns or 80
        self._stream.write(f"{_DOWN}{text[: max(columns - 1, 0)]}{_BACK}")
        self._stream.flush()


def bar(what: str, done: int, total: int, seconds: float, note: str = "") -> str:
    """Return the text of a bar.

    >>> bar("explaining with gradcam", 6, 24, seconds=20.0)
    'explaining with gradcam [######..................] 6/24 images, 1:00 left'
    >>> bar("explaining with rise", 0, 8, seconds=20.0, note="512 passes")
    'explaining with rise [........................] 0/8 images, 512 passes'
    """
    filled = _WIDTH * done // max(total, 1)
    text = f"{what} [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total} images"
    if note:
        text = f"{text}, {note}"
    if not 0 < done < total:
        return text
    minutes, left = divmod(round(seconds / done * (total - done)), 60)
    return f"{text}, {minutes}:{left:02} left"


def terminal_progress(config: pytest.Config) -> Progress | None:
    """Return a progress bar on the terminal; None in logs, under ``-q`` and on xdist workers."""
    stream: TextIO | None = config.stash.get(TERMINAL, None)
    return None if stream is None else TerminalProgress(stream)


TERMINAL = pytest.StashKey[TextIO]()


def remember_terminal(config: pytest.Config) -> None:
    """Keep a handle on the terminal; call it before a test runs, while nothing is captured."""
    quiet = config.get_verbosity() < 0 or is_worker(config)
    if quiet or os.environ.get("TERM", "dumb") == "dumb":
        return
    try:
        if not sys.__stdout__ or not sys.__stdout__.isatty():
            return
        descriptor = os.dup(sys.__stdout__.fileno())
    except (OSError, ValueError):
        return
    config.stash[TERMINAL] = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace")
    config.add_cleanup(config.stash[TERMINAL].close)
