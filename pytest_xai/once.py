"""What is made once in a run: kept, and so is a failure to make it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from xai_core.errors import XaiError

T = TypeVar("T")


class Once:
    """Calls ``make`` the first time that a key is asked for."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` makes, or raise what it raised: a failure is not tried again.

        Raises:
            XaiError: ``make`` did, now or before.
        """
        if key not in self._made:
            try:
                self._made[key] = make()
            except XaiError as error:
                self._made[key] = error
        found = self._made[key]
        if isinstance(found, XaiError):
            raise found.with_traceback(None)
        made: T = found
        return made
