"""A threshold file as test items: file, explainer, gate; then its concepts and its neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_xai.concept_items import ConceptsNode
from pytest_xai.gate_items import ExplainerGateItem
from pytest_xai.items import Subject
from pytest_xai.neighbour_items import NeighboursNode
from pytest_xai.new_gate_items import NewGateItem
from pytest_xai.thresholds import NewGate

if TYPE_CHECKING:
    from pytest_xai.thresholds import ThresholdFile


class ThresholdModule(pytest.File):
    """The collector of one threshold file for one or several models."""

    models: tuple[str, ...]

    @classmethod
    def build(
        cls, parent: pytest.Collector, path: Path, models: tuple[str, ...]
    ) -> ThresholdModule:
        """Return the collector of ``path`` for ``models``."""
        options: dict[str, Any] = {"path": path}
        if not path.is_relative_to(parent.config.rootpath):
            options["nodeid"] = path.name  # a file that travels in a package
        node: ThresholdModule = cls.from_parent(parent, **options)
        node.models = models
        return node

    def collect(self) -> Iterable[pytest.Collector]:
        """Read the file and yield one collector for each explainer (or model or set, if several).

        Raises:
            CollectError: the file is wrong; the message names file, line and key.
        """
        from pytest_xai.session import session_of
        from xai_core.errors import XaiError

        session = session_of(self.config)
        try:
            plan = session.thresholds(self.path)
        except XaiError as error:
            raise self.CollectError(str(error)) from None
        if len(self.models) == 1:
            yield from nodes_of_model(self, self.models[0], plan)
        else:
            for model in self.models:
                yield ModelNode.build(self, model, plan)


class ModelNode(pytest.Collector):
    """The gates of one model, where several models share a threshold file."""

    plan: ThresholdFile

    @classmethod
    def build(cls, parent: pytest.Collector, model: str, plan: ThresholdFile) -> ModelNode:
        """Return the collector of the gates of ``model``."""
        node: ModelNode = cls.from_parent(parent, name=model)
        node.plan = plan
        return node

    def collect(self) -> Iterable[pytest.Collector]:
        """Yield one collector for each explainer (or image set, if several)."""
        yield from nodes_of_model(self, self.name, self.plan)


def nodes_of_model(
    parent: pytest.Collector, model: str, plan: ThresholdFile
) -> Iterator[pytest.Collector]:
    """Yield one collector for each explainer (or image set, if several)."""
    from pytest_xai.session import session_of

    sources = session_of(parent.config).sources.image_sources(model, plan)
    sets = tuple(source.name for source in sources) or ("",)
    if len(sets) == 1:
        yield from nodes_of_subject(parent, Subject(model, sets[0], sets), plan)
        return
    for name in sets:
        node: SetNode = SetNode.from_parent(parent, name=name)
        node.subject, node.plan = Subject(model, name, sets), plan
        yield node


class SetNode(pytest.Collector):
    """The gates of one model on one image set, where there are several."""

    subject: Subject
    plan: ThresholdFile

    def collect(self) -> Iterable[pytest.Collector]:
        """Yield one collector for each explainer."""
        yield from nodes_of_subject(self, self.subject, self.plan)


def nodes_of_subject(
    parent: pytest.Collector, subject: Subject, plan: ThresholdFile
) -> Iterator[pytest.Collector]:
    """Yield one collector for each explainer that has gates, for the concepts, the neighbours."""
    for name in dict.fromkeys(gate.method.name for gate in plan.gates_in_order):
        node: ExplainerNode = ExplainerNode.from_parent(parent, name=name)
        node.subject, node.plan = subject, plan
        yield node
    if plan.concepts:
        yield ConceptsNode.build(parent, subject, plan)
    if plan.neighbours:
        yield NeighboursNode.build(parent, subject, plan)


class ExplainerNode(pytest.Collector):
    """The gates of one explainer."""

    subject: Subject
    plan: ThresholdFile

    def collect(self) -> Iterable[ExplainerGateItem | NewGateItem]:
        """Yield the gates in the order of the file."""
        for gate in self.plan.gates_in_order:
            if gate.method.name != self.name:
                continue
            item: ExplainerGateItem | NewGateItem
            if isinstance(gate, NewGate):
                item = NewGateItem.from_parent(self, name=gate.name)
                item.gate = gate
            else:
                item = ExplainerGateItem.from_parent(self, name=gate.name)
                item.gate = gate
            item.line = gate.line
            item.subject, item.plan = self.subject, self.plan
            yield item
