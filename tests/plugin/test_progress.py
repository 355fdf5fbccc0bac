"""The progress bar: on a terminal only, and pytest's own output stays as it was."""

from __future__ import annotations

import os
import pty
import re
import struct
import sys
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import TYPE_CHECKING

import pytest

from pytest_xai.progress import TerminalProgress, bar

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project

COLUMNS, LINES = 80, 6


class Screen:
    """A terminal of a few lines: just the control sequences that pytest and the bar use."""

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.top = self.row = self.column = 0
        self.saved = (0, 0)

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[\d;]*[A-Za-z]|\x1b.|[\r\n]|[^\x1b\r\n]+", text):
            self._take(token)

    def _take(self, token: str) -> None:
        if token == "\r":
            self.column = 0
        elif token in ("\n", "\x1bD"):
            self._down()
        elif token == "\x1b[A":
            self.row -= 1
        elif token == "\x1b7":  # kept relative to the screen, as a terminal does
            self.saved = (self.row - self.top, self.column)
        elif token == "\x1b8":
            self.row, self.column = self.top + self.saved[0], self.saved[1]
        elif token == "\x1b[2K":
            self.lines[self.row] = ""
        elif not token.startswith("\x1b"):
            before = self.lines[self.row].ljust(self.column)
            end = self.column + len(token)
            self.lines[self.row] = before[: self.column] + token + before[end:]
            self.column = end

    def _down(self) -> None:
        self.row += 1
        while len(self.lines) <= self.row:
            self.lines.append("")
        self.top = max(self.top, self.row - LINES + 1)


def on_terminal(command: list[str], folder: Path) -> str:
    """Return what ``command`` writes to a terminal of 80 columns."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.environ["TERM"] = "xterm"
        os.environ.pop("COLUMNS", None)
        os.execv(command[0], command)
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    parts = []
    try:
        while part := os.read(terminal, 65536):
            parts.append(part)
    except OSError:  # the other end was closed
        pass
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
    return b"".join(parts).decode()


@pytest.fixture
def written(project: Project) -> str:
    project.thresholds(
        "[explainers.gradcam]\n[explainers.centre]\n"
        "[gates.gradcam]\niou = { above = 0.5 }\nfaithfulness_gap = { above = -1 }\n"
        "[gates.centre]\niou = { above = 0.0 }\n"
    )
    command = [sys.executable, "-m", "pytest", "--xai-model", "tiny", "--xai-batch", "2"]
    return on_terminal([*command, "-v", "--color=no"], project.path)


def test_the_bar_shows_what_is_done_and_leaves_no_trace(written: str) -> None:
    assert "explaining with gradcam [........................] 0/6 images" in written
    assert re.search(r"explaining with gradcam \[#{8}\.{16}\] 2/6 images, \d+:\d\d left", written)
    screen = Screen()
    screen.feed(written)
    left = [line.rstrip() for line in screen.lines]
    assert not [line for line in left if "images, " in line and "accuracy" not in line]
    ids = ["gradcam::iou", "gradcam::faithfulness_gap", "centre::iou"]
    shown = [line for line in left if "PASSED" in line]
    for id_, line, percent in zip(ids, shown, (33, 66, 100), strict=True):
        assert re.fullmatch(rf"thresholds/tiny.toml::{id_} PASSED +\[ *{percent}%\]", line)


def test_no_bar_in_a_log(project: Project) -> None:
    project.gates(iou="above = 0.5")
    assert "images, " not in project.run("--xai-model", "tiny").stdout.str().partition("=====")[0]
    assert "\x1b" not in project.run("--xai-model", "tiny").stdout.str()


def test_quiet_runs_have_no_bar(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_xai.progress import terminal_progress

    controller, terminal = pty.openpty()
    with open(terminal, "w") as stream:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "__stdout__", stream)
        monkeypatch.setenv("TERM", "xterm")
        assert terminal_progress(project.pytester.parseconfigure()) is not None
        assert terminal_progress(project.pytester.parseconfigure("-q")) is None
        monkeypatch.setenv("TERM", "dumb")
        assert terminal_progress(project.pytester.parseconfigure()) is None
    os.close(controller)


def until(ending: str, controller: int) -> str:
    """Return what arrives at the terminal up to ``ending``, in however many pieces it comes."""
    text = ""
    while not text.endswith(ending):
        text += os.read(controller, 65536).decode()
    return text


def test_a_task_within_a_task_takes_the_place_of_the_bar() -> None:
    controller, terminal = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", LINES, 30, 0, 0))
    screen = Screen()
    with open(terminal, "w") as stream:  # noqa: PTH123 - a descriptor
        stream.write("\n" * LINES + "dots ..")
        progress = TerminalProgress(stream)
        with progress.task("outer", 4) as outer, progress.task("inner", 2) as inner:
            inner(1)
            stream.write(".")
            stream.flush()
            screen.feed(until("\x1b8.", controller))
            assert screen.lines[screen.row + 1].startswith("inner [############....")
            assert len(screen.lines[screen.row + 1]) == 29  # never as wide as the terminal
        outer(2)
        stream.write("!")
        stream.flush()
        screen.feed(until("\x1b8!", controller))
    os.close(controller)
    assert next(line for line in screen.lines if line) == "dots ...!"


@pytest.mark.parametrize(
    ("done", "seconds", "expected"),
    [
        (0, 0.0, "x [........................] 0/24 images"),
        (6, 20.0, "x [######..................] 6/24 images, 1:00 left"),
        (24, 80.0, "x [########################] 24/24 images"),
    ],
)
def test_the_text_of_a_bar(done: int, seconds: float, expected: str) -> None:
    assert bar("x", done, 24, seconds) == expected


def test_a_long_batch_shows_how_many_passes_it_has_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("pytest_xai.progress.time.monotonic", lambda: next(clock) / 8)
    controller, terminal = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    with open(terminal, "w") as stream, TerminalProgress(stream).task("slow", 8) as advance:  # noqa: PTH123
        advance(0, note="64 passes")  # an eighth of a second after the bar: too soon to draw
        advance(0, note="128 passes")
        stream.write("!")
        stream.flush()
        drawn = until("\x1b8!", controller)
    os.close(controller)
    assert "64 passes" not in drawn
    assert "slow [........................] 0/8 images, 128 passes" in drawn
