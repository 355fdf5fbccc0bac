"""Which gates pytest-xdist gives to one worker, in which order, and with how many threads."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from xdist.scheduler import LoadScheduling
from xdist.workermanage import NodeManager

from pytest_xai.distribution.groups import groups_of, sharing_explainers
from pytest_xai.distribution.scheduling import GateScheduling
from pytest_xai.distribution.threads import processors, share_threads

if TYPE_CHECKING:
    from conftest import Project

FILE = "thresholds/tiny.toml"


def nowhere(file: str) -> Path:
    return Path("/nowhere") / file


# Which gates belong together


@pytest.mark.parametrize(
    ("node_id", "group"),
    [
        (f"{FILE}::ig::iou", f"{FILE}::ig"),
        ("demo.toml::ig::iou", "demo.toml::ig"),
        (f"{FILE}::timm:vit::photos::ig::iou", f"{FILE}::timm:vit::photos::ig"),
        (f"{FILE}::concepts::red::tcav", f"{FILE}::concepts"),
        (f"{FILE}::vit::concepts::red::tcav[zebra, layer4]", f"{FILE}::vit::concepts"),
        (f"{FILE}::gradcam::concepts", f"{FILE}::gradcam"),
        (f"{FILE}::neighbours::agreement", f"{FILE}::neighbours"),
        ("tests/test_it.py::test_it", None),
        ("tests/test_it.py::TestIt::test_it[a.toml::ig::iou]", None),
    ],
)
def test_gates_of_one_model_set_and_explainer_are_a_group(node_id: str, group: str | None) -> None:
    assert groups_of([node_id], nowhere) == [group]


def test_explainers_that_share_an_explanation_are_a_group(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(
        "[explainers.gradcam]\n[explainers.ig]\nsteps = 5\nkind = 'integrated_gradients'\n"
        "[explainers.smooth]\nkind = 'integrated_gradients'\nsteps = 5\n"
        "postprocess = ['gaussian(sigma=1)']\n"
        "[explainers.fine]\nkind = 'integrated_gradients'\nsteps = 50\n"
        "[gates.fine]\niou = { above = 0 }\n"
    )
    names = ("gradcam", "ig", "smooth", "fine")
    ids = [f"{model}::{name}::iou" for model in ("one.toml::a", "one.toml::b") for name in names]
    assert groups_of(ids, tmp_path.joinpath) == [
        f"one.toml::{model}::{name}" for model in "ab" for name in ("gradcam", "ig", "ig", "fine")
    ]


@pytest.mark.parametrize(
    "gates",
    [
        {"a": {"agreement": {"other": "b"}}},
        {"a": {"agreement": {"other": "kind_of_b"}}},
        {"b": {"agreement": {"other": "kind_of_a(n=2)"}}, "a": {"x": {"other": "kind_of_a(n=2)"}}},
        {name: {"concept_iou": {"concept": "red", "layer": "1"}} for name in "ab"},
    ],
)
def test_explainers_that_a_gate_compares_or_whose_gates_need_one_map_are_a_group(gates) -> None:
    explainers = {name: {"kind": f"kind_of_{name}"} for name in "abc"}
    tables = {"explainers": explainers, "gates": gates}
    assert sharing_explainers(tables) == {"a": "a", "b": "a", "c": "c"}


def test_maps_of_two_concepts_do_not_join_explainers() -> None:
    gates = {name: {"concept_iou": {"concept": name}} for name in "ab"}
    tables = {"explainers": {"a": {}, "b": {}}, "gates": gates}
    assert sharing_explainers(tables) == {"a": "a", "b": "b"}


@pytest.mark.parametrize("text", ["[gates", "explainers = 3\n[gates]\nig = 1\n", "\x00", None])
def test_a_wrong_file_is_grouped_by_the_names_of_its_explainers(text, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "a.toml").write_text(text)
    assert groups_of(["a.toml::ig::iou"], tmp_path.joinpath) == ["a.toml::ig"]


# Who gets them


class Worker:
    """A worker as pytest-xdist's: it starts a test only when it knows what comes next."""

    def __init__(self) -> None:
        self.queue: deque[int | None] = deque()
        self.ran: list[int] = []
        self.shutting_down = False
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, indices: Iterable[int]) -> None:
        assert not self.shutting_down
        self.queue.extend(indices)

    def shutdown(self) -> None:
        self.shutting_down = True
        self.queue.append(None)

    @property
    def waits(self) -> bool:
        return len(self.queue) < 2 or self.queue[0] is None


def scheduler(tests: list[str], workers: int) -> tuple[GateScheduling, list[Worker]]:
    options = {"tx": [f"{workers}*popen"], "maxschedchunk": None}
    config = SimpleNamespace(
        getvalue=options.get,
        getoption=options.get,
        args=[],
        rootpath=Path("/nowhere"),
        pluginmanager=SimpleNamespace(get_plugin=lambda name: None),
    )
    made = GateScheduling(config)
    nodes = [Worker() for _ in range(workers)]
    for node in nodes:
        made.add_node(node)
    for node in nodes:
        made.add_node_collection(node, tests)
    assert made.collection_is_completed
    made.schedule()
    return made, nodes


def run(
    tests: list[str], workers: int, *, order: random.Random, deadly: Iterable[str] = ()
) -> tuple[list[Worker], list[str]]:
    """Run tests as pytest-xdist does; return all workers, and the tests that killed one."""
    made, nodes = scheduler(tests, workers)
    alive, crashed = list(nodes), []
    while True:
        if made.tests_finished:
            for node in made.nodes:
                if not node.shutting_down:
                    node.shutdown()
        ready = [node for node in alive if not node.waits]
        if not ready:
            assert not made.has_pending, "every worker waits, and tests are left"
            return nodes, crashed
        node = order.choice(ready)
        index = node.queue.popleft()
        if tests[index] in deadly:
            crashed.append(made.remove_node(node))
            alive.remove(node)
            clone = Worker()
            nodes.append(clone)
            alive.append(clone)
            made.add_node(clone)
            made.add_node_collection(clone, tests)
            made.schedule()
        else:
            node.ran.append(index)
            made.mark_test_complete(node, index, duration=order.choice([0.0, 1.0]))


def drawn(order: random.Random) -> list[str]:
    """Return some tests: groups of gates of all sizes, and others between them."""
    tests = []
    for group in range(order.randrange(6)):
        tests += [f"{FILE}::{group}::{gate}" for gate in range(order.randint(1, 9))]
        tests += [f"test_{group}.py::test_{n}" for n in range(order.choice([0, 0, 1, 5, 30]))]
    return tests


@pytest.mark.parametrize("seed", range(100))
def test_a_group_is_run_whole_and_in_order_by_one_worker(seed: int) -> None:
    order = random.Random(seed)
    tests, workers = drawn(order), order.randint(1, 4)
    nodes, crashed = run(tests, workers, order=order)
    assert not crashed
    assert sorted(index for node in nodes for index in node.ran) == list(range(len(tests)))
    seen = []
    for node in nodes:
        for group, indices in groupby(node.ran, key=lambda i: groups_of([tests[i]], nowhere)[0]):
            found = list(indices)
            assert found == sorted(found)
            if group:
                seen.append(group)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("seed", range(100))
def test_a_worker_that_dies_loses_its_running_test_alone(seed: int) -> None:
    order = random.Random(1000 + seed)
    tests, workers = drawn(order), order.randint(1, 4)
    deadly = set(order.sample(tests, min(len(tests), order.randint(1, 4))))
    nodes, crashed = run(tests, workers, order=order, deadly=deadly)
    assert sorted(crashed) == sorted(deadly)
    ran = sorted(tests[index] for node in nodes for index in node.ran)
    assert ran == sorted(set(tests) - deadly)


def test_the_largest_groups_start_first_one_on_each_worker() -> None:
    sizes = {"a": 2, "b": 9, "c": 5}
    tests = ["test_it.py::test_1", "test_it.py::test_2"] * 4
    tests = [f"{test}_{index}" for index, test in enumerate(tests)]
    tests += [f"{FILE}::{name}::{gate}" for name, size in sizes.items() for gate in range(size)]
    _, (one, two) = scheduler(tests, 2)
    assert [tests[index].split("::")[1] for index in one.queue] == ["b"] * 9
    assert [tests[index].split("::")[1] for index in two.queue] == ["c"] * 5


def test_each_worker_gets_a_group_where_there_are_as_many() -> None:
    tests = [f"{FILE}::a::{gate}" for gate in range(10)] + [f"{FILE}::{name}::0" for name in "bc"]
    _, nodes = scheduler(tests, 3)
    queues = [[tests[index] for index in node.queue if index is not None] for node in nodes]
    assert queues == [tests[:10], [f"{FILE}::b::0"], [f"{FILE}::c::0"]]
    assert not any(node.waits for node in nodes)


def test_the_worker_that_replaces_another_starts_its_only_test_at_once() -> None:
    tests = [f"{FILE}::a::{gate}" for gate in range(9)] + [
        f"{FILE}::b::{gate}" for gate in range(3)
    ]
    made, (_, two) = scheduler(tests, 2)
    made.mark_test_complete(two, two.queue.popleft())
    assert made.remove_node(two) == f"{FILE}::b::1"
    clone = Worker()
    made.add_node(clone)
    made.add_node_collection(clone, tests)
    made.schedule()
    assert [tests[index] for index in clone.queue if index is not None] == [f"{FILE}::b::2"]
    assert not clone.waits


@pytest.mark.parametrize(("tests", "workers"), [(3, 2), (8, 2), (100, 3), (1000, 4)])
def test_other_tests_are_spread_as_pytest_xdist_spreads_them(tests: int, workers: int) -> None:
    ids = [f"test_{index}.py::test_it" for index in range(tests)]
    made, nodes = scheduler(ids, workers)
    theirs = LoadScheduling(made.config)
    other_nodes = [Worker() for _ in range(workers)]
    for node in other_nodes:
        theirs.add_node(node)
    for node in other_nodes:
        theirs.add_node_collection(node, ids)
    theirs.schedule()
    for step in range(tests):
        for scheduling, pair in ((made, nodes), (theirs, other_nodes)):
            node = pair[step % workers]
            if len(node.queue) > 1:
                scheduling.mark_test_complete(node, node.queue.popleft(), duration=step % 2)
        assert [list(node.queue) for node in nodes] == [list(node.queue) for node in other_nodes]


# When


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["--xai-model", "tiny", "-n2"], "GateScheduling"),
        ([FILE, "-n2"], "GateScheduling"),
        ([f"{FILE}::gradcam::iou", "-n2"], "GateScheduling"),
        (["--xai-model", "tiny", "-n2", "--dist", "load"], "LoadScheduling"),
        (["--xai-model", "tiny", "-n2", "--dist", "loadfile"], "LoadFileScheduling"),
        (["--xai-model", "tiny", "-d", "--tx", "2*popen"], "LoadScheduling"),
        (["test_it.py", "-n2"], "LoadScheduling"),
    ],
    ids=" ".join,
)
def test_gates_are_kept_together_unless_another_way_is_asked_for(
    asked: list[str], expected: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NodeManager, "setup_nodes", lambda self, putevent: [])
    project.gates(iou="above = 0.5")
    project.pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_xdist_make_scheduler():
            scheduler = yield
            pytest.exit(f"made a {type(scheduler).__name__}")
        """
    )
    project.pytester.makepyfile(test_it="def test_it(): pass")
    result = project.run(*asked)
    result.stdout.fnmatch_lines([f"*Exit: made a {expected} *"])


def test_the_plugin_loads_without_xdist(project: Project) -> None:
    project.gates(iou="above = 0.5")
    project.run("--xai-model", "tiny", "-p", "no:xdist").assert_outcomes(passed=1)


# Threads


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Keep what torch's number of threads is set to, of eight at the start."""
    found = [8]
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pytest_xai.distribution.threads.processors", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: found[-1])
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    return found


@pytest.mark.parametrize(("workers", "share"), [(2, 4), (3, 2), (8, 1), (20, 1)])
def test_each_worker_gets_its_share_of_the_threads(
    workers: int, share: int, threads: list[int]
) -> None:
    share_threads(SimpleNamespace(workerinput={"workercount": workers}))
    assert threads == [8, share]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_threads_that_the_user_set_stay(
    name: str, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "6")
    share_threads(SimpleNamespace(workerinput={"workercount": 2}))
    assert threads == [8]


def test_fewer_threads_than_the_share_stay(threads: list[int]) -> None:
    threads.append(3)
    share_threads(SimpleNamespace(workerinput={"workercount": 2}))
    assert threads == [8, 3]


@pytest.mark.parametrize(
    "config", [SimpleNamespace(), SimpleNamespace(workerinput={"workercount": 1})]
)
def test_one_process_has_all_threads(config: SimpleNamespace, threads: list[int]) -> None:
    share_threads(config)
    assert threads == [8]


def test_processors_are_those_that_the_process_may_use() -> None:
    found = processors()
    assert 1 <= found <= (os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        assert found == len(os.sched_getaffinity(0))
