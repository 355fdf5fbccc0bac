"""A scheduler of pytest-xdist that keeps gates together which need the same explanation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScheduling

from pytest_xai.distribution.groups import groups_of


class GateScheduling(LoadScheduling):  # type: ignore[misc]  # xdist has no types
    """Loads workers as ``--dist load`` does, but a group of gates goes to one worker as a whole.

    The largest groups go first, then the other tests. A worker that dies loses the test that it
    was running; those that waited behind it go to others, and to the worker that replaces it.

    Not an `xdist.scheduler.LoadScopeScheduling`: that one runs the test that killed a worker again
    on the next one, until no worker may be replaced any more.
    """

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self._groups: list[str | None] = []

    def schedule(self) -> None:
        """Give work to every worker; with none left, let them end after what they have.

        Raises:
            pytest.Session.Interrupted: a file could not be collected; like pytest, and unlike
                pytest-xdist, this then runs nothing.
        """
        if self.collection is None:
            self._require_all_collected()
        super().schedule()
        if self.collection and not self.pending:
            # A worker starts its last test only when it knows that none will follow.
            for node in self.nodes:
                if not node.shutting_down:
                    node.shutdown()

    def _send_tests(self, node: Any, num: int) -> None:
        if self.pending and not self._groups:
            self._arrange()
        super()._send_tests(node, self._whole_groups(node, num))

    def _require_all_collected(self) -> None:
        session: pytest.Session | None = self.config.pluginmanager.get_plugin("session")
        errors = session.testsfailed if session else 0
        if session and errors and not self.config.getoption("continue_on_collection_errors"):
            msg = f"{errors} error{'' if errors == 1 else 's'} during collection"
            raise session.Interrupted(msg)

    def _arrange(self) -> None:
        """Find the groups, and put the largest first."""
        groups = self._groups = groups_of(self.collection, self._path_of)
        sizes = Counter(groups)
        first = {group: index for index, group in reversed(list(enumerate(groups)))}

        def place(index: int) -> tuple[int, int]:
            group = groups[index]
            return (0, 0) if group is None else (-sizes[group], first[group])

        self.pending.sort(key=place)

    def _whole_groups(self, node: Any, least: int) -> int:
        """Return how many of the pending tests to send: about ``least``, but no part of a group."""
        count = 0
        while count < min(least, len(self.pending)):
            group = self._groups[self.pending[count]]
            count += 1
            if group is None:
                continue
            while count < len(self.pending) and self._groups[self.pending[count]] == group:
                count += 1
            # One group at a time, that others get theirs. A single test is not enough where more
            # are to follow: a worker starts a test when it knows the next.
            if count > 1 or self._left_after(count) <= self._idle_beside(node):
                break
        return count

    def _left_after(self, count: int) -> int:
        """Return how many groups and single tests are pending behind the first ``count`` tests."""
        left = [self._groups[index] for index in self.pending[count:]]
        return len({group for group in left if group}) + left.count(None)

    def _idle_beside(self, node: Any) -> int:
        return sum(not tests for one, tests in self.node2pending.items() if one is not node)

    def _path_of(self, file: str) -> Path:
        """Return where a threshold file is; one that is not below the root has but its name."""
        given = (Path(argument.partition("::")[0]) for argument in self.config.args)
        named = [path for path in given if path.name == file]
        return next((path for path in named if path.is_file()), self.config.rootpath / file)
