"""The gate on neighbours of a threshold file as a test item."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from pytest_xai.gate_items import Found, GateItem
from pytest_xai.items import Subject

if TYPE_CHECKING:
    from pytest_xai.neighbour_thresholds import NeighbourSpec
    from pytest_xai.session import XaiSession
    from pytest_xai.thresholds import ThresholdFile


class NeighboursNode(pytest.Collector):
    """What a threshold file demands of neighbours."""

    subject: Subject
    plan: ThresholdFile

    @classmethod
    def build(
        cls, parent: pytest.Collector, subject: Subject, plan: ThresholdFile
    ) -> NeighboursNode:
        """Return the collector of the gate on neighbours of ``plan``."""
        node: NeighboursNode = cls.from_parent(parent, name="neighbours")
        node.subject, node.plan = subject, plan
        return node

    def collect(self) -> Iterable[NeighbourItem]:
        """Yield the gate."""
        gate = self.plan.neighbours
        if gate is not None:
            item: NeighbourItem = NeighbourItem.from_parent(self, name=gate.name)
            item.gate, item.line = gate, gate.line
            item.subject, item.plan = self.subject, self.plan
            yield item


class NeighbourItem(GateItem):
    """The gate on the share of neighbours that have the image's class."""

    gate: NeighbourSpec

    @property
    def keys(self) -> list[str]:
        """Where the gate stands in its threshold file."""
        return ["neighbours"]

    def found(self, session: XaiSession) -> Found:
        """Look the neighbours up and judge.

        Raises:
            XaiError: it cannot be measured.
        """
        judged = session.judge_neighbours(
            self.subject.model, self.plan, self.gate, self.subject.data
        )
        return Found(judged.judgement, notes=judged.notes(), beneath=judged.beneath())
