"""How far an evaluation is: what is told, and who shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Advance(Protocol):
    """Called as a task goes on."""

    def __call__(self, images: int, /, note: str = "") -> None:
        """So many more images are done; with 0 only the note, on what is under way, is new."""
        ...


class Progress(Protocol):
    """Told what is being worked on, and how far it is."""

    def task(self, what: str, total: int) -> AbstractContextManager[Advance]:
        """Open a task of ``total`` images; the function it gives is called with each advance."""
        ...


class Silent:
    """A `Progress` that shows nothing."""

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]:  # noqa: ARG002
        """Open a task that nobody sees."""

        def ignore(images: int, /, note: str = "") -> None:
            pass

        yield ignore


class RichProgress:
    """A `Progress` that shows a bar on a terminal while a task goes on; elsewhere nothing.

    Args:
        console: where, usually ``rich.console.Console(stderr=True)``.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]:
        """Open a bar that is gone when the task is done."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bars

        columns = (
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
            TextColumn("{task.fields[note]}"),
        )
        hidden = not self._console.is_terminal
        with Bars(*columns, console=self._console, transient=True, disable=hidden) as bars:
            bar = bars.add_task(what, total=total, note="")

            def advance(images: int, /, note: str = "") -> None:
                bars.update(bar, advance=images, note=note)

            yield advance
