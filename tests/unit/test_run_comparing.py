"""The verdict of a gate beside an earlier run, on the plugin's own path but without a model.

The earlier values go through the text of a saved run; the gate, its family and the correction are
those of a run of pytest. Only the measuring is given.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_xai.gate_items import GateItem
from pytest_xai.items import Subject
from pytest_xai.neighbour_gate import NeighbourSearch
from pytest_xai.neighbour_thresholds import NeighbourSpec
from pytest_xai.runs.comparing import Comparing, Held
from pytest_xai.runs.folder import EarlierRun
from pytest_xai.runs.measured import measured_by, rests_on_what_is_saved
from pytest_xai.runs.saved_run import (
    FORMAT,
    SCHEMA_VERSION,
    SavedGate,
    SavedImage,
    SavedMeasurement,
    SavedRun,
    SavedSubject,
    as_text,
    from_bytes,
)
from pytest_xai.session import SESSION
from pytest_xai.thresholds import GateSpec
from xai_core.explainers import build_explainer
from xai_core.gate import Conditions, judge_values
from xai_core.measurement import Measurement, Method
from xai_core.metrics import METRICS

TRANSFORM = "resize()"
SUBJECT = Subject("net", "pets", ("pets",))
METHOD = Method("gradcam", build_explainer("gradcam", {}))
LEVEL = 0.025
Values = Mapping[str, float | None]


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


class Gate(GateItem):
    """A gate whose values are given."""

    values: Values = {}  # noqa: RUF012 - set on each
    asked = 0
    nodeid = ""  # type: ignore[assignment] - of a gate that nobody collected

    def measured(self, session: Any) -> Measurement:
        self.asked += 1
        numbers = [np.nan if value is None else value for value in self.values.values()]
        return Measurement(
            self.gate.metric,
            "gradcam",
            tuple(self.values),
            np.array(numbers, dtype=np.float64),
            {row: "constant" for row, number in enumerate(numbers) if np.isnan(number)},
            METHOD,
        )


def saved(gates: Sequence[Gate], earlier: Sequence[Values]) -> EarlierRun:
    names = sorted({name for values in earlier for name in values})
    subject = SavedSubject(
        model="net",
        data="pets",
        fingerprint="f",
        classes=2,
        device="cpu",
        transform=TRANSFORM,
        masks_from=None,
        accuracy=None,
        images=[SavedImage(name, 0, digest(name)) for name in names],
        gates=[
            SavedGate(
                "gradcam",
                item.gate.name,
                item.gate.metric.metric.name,
                item.gate.metric.protocol,
                True,
            )
            for item in gates
        ],
        not_measured=[],
        measurements=[
            SavedMeasurement(
                **{
                    key: getattr(measured_by(item.gate), key)
                    for key in (
                        "method",
                        "explainer",
                        "parameters",
                        "postprocess",
                        "metric",
                        "protocol",
                        "settings",
                    )
                },
                values=dict(values),
                undefined={name: "constant" for name in values if values[name] is None},
            )
            for item, values in zip(gates, earlier, strict=True)
        ],
    )
    run = SavedRun(FORMAT, SCHEMA_VERSION, datetime(2026, 11, 20, tzinfo=UTC), 0, {}, [subject])
    return EarlierRun("v1", Path("v1.json"), from_bytes(as_text(run).encode(), shown="v1.json"))


class World:
    """A run of pytest whose gates have given values, and the run that they are held against."""

    def __init__(
        self,
        now: Sequence[Values],
        earlier: Sequence[Values],
        *,
        metrics: Sequence[str] = ("iou",),
        margin: float = 0.02,
        strict: bool = False,
    ) -> None:
        config = SimpleNamespace(stash=pytest.Stash())
        names = list(now[0])
        evaluation = SimpleNamespace(
            classifier=SimpleNamespace(mean=(0.0, 0.0, 0.0), device="cpu"),
            images=SimpleNamespace(names=names, transform=TRANSFORM),
            targets=np.zeros(len(names), dtype=np.int64),
            digests=[digest(name) for name in names],
        )
        config.stash[SESSION] = SimpleNamespace(
            settings=SimpleNamespace(strict=strict),
            sources=SimpleNamespace(seed=0),
            evaluation=lambda *_: evaluation,
            images=lambda *_: evaluation.images,
        )
        session = SimpleNamespace(items=[])
        self.strict = strict
        self.gates: list[Gate] = []
        for place, values in enumerate(now):
            metric = metrics[place % len(metrics)]
            better = METRICS[metric].better
            edge = {"above": -1e9} if better == "higher" else {"below": 1e9}
            item = object.__new__(Gate)
            fields = {
                "config": config,
                "session": session,
                "subject": SUBJECT,
                "values": values,
                "line": place,
                "plan": SimpleNamespace(shown="net.toml"),
                # Another setting, so that each gate measures something of its own.
                "gate": GateSpec(
                    f"gate-{place}",
                    METHOD,
                    METRICS[metric].configure(settings_of(metric, place)),
                    Conditions(**edge, not_worse_by=margin, undefined=len(values)),
                    "fail",
                    place,
                ),
            }
            for key, value in fields.items():
                setattr(item, key, value)
            item.nodeid = f"net.toml::gradcam::gate-{place}"
            self.gates.append(item)
        session.items[:] = self.gates
        self.comparing = Comparing(saved(self.gates, earlier))

    def hold(self, place: int = 0) -> Held:
        item = self.gates[place]
        measurement = item.measured(None)
        judgement = judge_values(measurement, item.gate.conditions, model="net", nulls={})
        held = self.comparing.hold(item, judgement)
        assert held is not None
        return held

    def passes(self, place: int = 0) -> bool:
        held = self.hold(place)
        return not held.error and held.judgement.passes(strict=self.strict)


def settings_of(metric: str, place: int) -> dict[str, Any]:
    return (
        {"steps": place + 2}
        if metric in ("deletion", "insertion")
        else ({"binarize": f"fraction={(place + 1) / 100}"} if metric == "iou" else {})
    )


def named(values: Sequence[float | None]) -> dict[str, float | None]:
    return {f"image-{row}": value for row, value in enumerate(values)}


HIGHER, LOWER = "iou", "deletion"
SHARES = st.lists(st.floats(0.3, 0.6), min_size=2, max_size=30)


@given(SHARES, st.floats(0.03, 0.25), st.sampled_from([HIGHER, LOWER]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_collapse_fails_whichever_direction_is_better(
    earlier: list[float], loss: float, metric: str, strict: bool
) -> None:
    sign = -1 if metric == HIGHER else 1
    now = [value + sign * loss for value in earlier]
    world = World([named(now)], [named(earlier)], metrics=[metric], strict=strict)
    assert not world.passes()
    assert world.hold().judgement.outcome == "fail"


@given(SHARES, st.floats(0.0, 0.25), st.sampled_from([HIGHER, LOWER]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_gain_passes_whichever_direction_is_better(
    earlier: list[float], gain: float, metric: str, strict: bool
) -> None:
    sign = 1 if metric == HIGHER else -1
    now = [value + sign * gain for value in earlier]
    assert World([named(now)], [named(earlier)], metrics=[metric], strict=strict).passes()


@given(SHARES, st.data(), st.sampled_from([HIGHER, LOWER]))
@settings(deadline=None, max_examples=40)
def test_a_value_missing_in_one_run_is_left_out_and_said_and_strict_does_not_pass_it(
    earlier: list[float], data: st.DataObject, metric: str
) -> None:
    missing = data.draw(st.sets(st.integers(0, len(earlier) - 1), min_size=1))
    in_this_run = data.draw(st.booleans())
    holed = [None if row in missing else value for row, value in enumerate(earlier)]
    runs = (holed, earlier) if in_this_run else (earlier, holed)
    now, then = (named(values) for values in runs)
    held = World([now], [then], metrics=[metric]).hold()
    left = len(earlier) - len(missing)
    assert held.row["images"] == left
    if left or not in_this_run:
        word = "now" if in_this_run else "then"
        assert f"undefined only {word}" in held.row["left_out"]
    if left:
        assert held.judgement.findings[-1].value == 0
    else:  # nothing is left to be compared, or to be judged
        assert held.error or held.judgement.too_many_undefined
    assert not World([now], [then], metrics=[metric], strict=True).passes()


@given(SHARES, SHARES, st.sampled_from([HIGHER, LOWER]))
@settings(deadline=None, max_examples=40)
def test_the_difference_is_the_mean_over_common_images_turned_so_that_more_is_better(
    now: list[float], then: list[float], metric: str
) -> None:
    held = World([named(now)], [named(then)], metrics=[metric]).hold()
    common = min(len(now), len(then))
    slow = 0.0
    for row in range(common):
        slow += now[row] - then[row] if metric == HIGHER else then[row] - now[row]
    assert held.row["difference"] == pytest.approx(slow / common, abs=1e-12)
    assert held.row["images"] == common


@given(SHARES, st.randoms())
@settings(deadline=None, max_examples=20)
def test_the_order_of_images_does_not_matter(values: list[float], random) -> None:
    rng = np.random.default_rng(0)
    now = named([value + float(rng.normal(-0.02, 0.02)) for value in values])
    shuffled = list(now.items())
    random.shuffle(shuffled)
    one, other = (World([run], [named(values)]).hold() for run in (now, dict(shuffled)))
    assert one.row["difference"] == pytest.approx(other.row["difference"], abs=1e-12)


def holm_by_hand(p_values: Sequence[float], level: float) -> list[bool]:
    """Reject the smallest while it is below the level over the number of those left."""
    rejected = [False] * len(p_values)
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        if p_values[index] > level / (len(p_values) - place):
            break
        rejected[index] = True
    return rejected


def losses(shift: float, seed: int) -> dict[str, float | None]:
    noise = np.random.default_rng(seed).normal(-0.02 - shift, 0.02, 30)
    return named([0.5 + float(value) for value in noise])


SHIFTS = st.lists(st.floats(0.0, 0.02), min_size=1, max_size=5)


@given(SHIFTS, st.randoms())
@settings(deadline=None, max_examples=25)
def test_losses_are_proven_as_holm_proves_them_in_whatever_order_gates_run(
    shifts: list[float], random
) -> None:
    now = [losses(shift, seed) for seed, shift in enumerate(shifts)]
    world = World(now, [named([0.5] * 30)] * len(now))
    order = list(range(len(now)))
    random.shuffle(order)
    held = {place: world.hold(place) for place in order}
    p_values = [held[place].row["p_loss"] or 0.0 for place in range(len(now))]
    proven = [held[place].row["loss_is_proven"] for place in range(len(now))]
    assert proven == holm_by_hand(p_values, LEVEL)
    assert [not held[place].judgement.passes() for place in range(len(now))] == proven


def test_a_run_at_its_margins_cries_wolf_no_oftener_than_it_says() -> None:
    """The mean of each gate lost exactly the margin, so that every failure is a false alarm."""
    runs, gates, images = 80, 4, 30
    alarms = uncorrected = 0
    earlier = [named([0.5] * images)] * gates
    for run in range(runs):
        now = [losses(0.0, gates * run + gate) for gate in range(gates)]
        world = World(now, earlier)
        held = [world.hold(gate) for gate in range(gates)]
        alarms += not all(one.judgement.passes() for one in held)
        uncorrected += any((one.row["p_loss"] or 0.0) <= LEVEL for one in held)
    # Binomial: what is said, and what four independent gates come to without Holm, +- 3 deviations.
    assert alarms <= runs * LEVEL + 3 * (runs * LEVEL * (1 - LEVEL)) ** 0.5
    expected = 1 - (1 - LEVEL) ** gates
    spread = 3 * (runs * expected * (1 - expected)) ** 0.5
    assert abs(uncorrected - runs * expected) <= spread


def test_only_a_loss_that_the_others_decide_has_them_measured() -> None:
    clear, none, between = losses(0.1, 0), losses(-0.05, 1), losses(0.0106, 3)
    earlier = [named([0.5] * 30)] * 3
    alone = World([between], earlier[:1])
    (p_value,) = [alone.hold().row["p_loss"]]
    assert LEVEL / 2 < p_value <= LEVEL  # else this test says nothing
    assert not alone.passes()
    for first, asked in ((0, 0), (1, 0), (2, 1)):
        world = World([clear, none, between], earlier)
        world.hold(first)
        others = [item.asked for place, item in enumerate(world.gates) if place != first]
        assert others == [asked, asked]


def test_a_gate_that_cannot_be_measured_counts_as_one_that_proves_nothing() -> None:
    between, earlier = losses(0.0106, 3), named([0.5] * 30)
    world = World([between, between], [earlier, earlier])

    def broken(session: Any) -> Measurement:
        raise ZeroDivisionError

    world.gates[1].measured = broken  # type: ignore[method-assign]
    assert world.passes(0)  # p would be below the level alone: see above


def test_a_member_that_the_earlier_run_lacks_is_not_of_the_family() -> None:
    between, earlier = losses(0.0106, 3), named([0.5] * 30)
    world = World([between, between], [earlier, earlier])
    del world.comparing.earlier.run.subjects[0].measurements[1]
    assert world.hold(0).row["family"] == 1
    assert not world.passes(0)


@pytest.mark.parametrize("strict", [False, True])
def test_a_loss_that_is_not_proven_passes_unless_it_must_be_proven_small(strict: bool) -> None:
    rng = np.random.default_rng(5)
    now = named([0.5 + float(value) for value in rng.normal(-0.02, 0.05, 12)])
    world = World([now], [named([0.5] * 12)], strict=strict)
    held = world.hold()
    assert held.judgement.findings[-1].outcome == "inconclusive"
    assert world.passes() is not strict


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("change", "says", "fails_by_default"),
    [
        ({"added": True}, "1 image added (new)", False),
        ({"removed": True}, "1 image removed (image-9)", False),
        ({"edited": True}, "1 image changed, paired by name (image-3)", False),
        ({"target": True}, "1 image explained for another class (image-3)", False),
        ({"transform": "crop()"}, "another preprocessing, crop() -> resize()", False),
        ({"all": True}, "no image is in both runs with a value: 10 images added", True),
    ],
)
def test_what_is_otherwise_with_the_images_is_an_error_where_strict(
    change: dict, says: str, fails_by_default: bool, strict: bool
) -> None:
    now, then = named([0.5] * 10), named([0.5] * 10)
    if "added" in change:
        now["new"] = 0.5
    if "removed" in change:
        del now["image-9"]
    world = World([now], [then], strict=strict)
    (subject,) = world.comparing.earlier.run.subjects
    images, transform = list(subject.images), change.get("transform", TRANSFORM)
    if "edited" in change:
        images[3] = SavedImage("image-3", 0, digest("other"))
    if "target" in change:
        images[3] = SavedImage("image-3", 1, digest("image-3"))
    if "all" in change:
        images = [
            SavedImage(f"other {one.image}", 0, digest(f"other {one.image}")) for one in images
        ]
    fields = {key: getattr(subject, key) for key in subject.__struct_fields__}
    world.comparing.earlier.run.subjects[0] = SavedSubject(
        **{**fields, "images": images, "transform": transform}
    )
    held = world.hold()
    if strict or fails_by_default:
        assert says in held.error
        assert held.error.startswith("cannot be compared with v1: ")
    else:
        assert not held.error
        assert world.passes()


@pytest.mark.parametrize("strict", [False, True])
def test_another_explainer_is_never_compared_and_is_an_error_where_strict(strict: bool) -> None:
    values = named([0.5] * 10)
    world = World([named([0.1] * 10)], [values], strict=strict)
    gate = world.gates[0].gate
    other = Method("gradcam", build_explainer("gradcam", {"layer": "layer3"}))
    world.gates[0].gate = dataclasses.replace(gate, method=other)
    held = world.hold()
    assert held.row["status"] == ("error" if strict else "incomparable")
    assert "layer None -> 'layer3'" in held.row["why"]
    assert bool(held.error) is strict
    assert not held.judgement.against


def test_a_gate_without_a_margin_is_not_compared() -> None:
    world = World([named([0.1] * 5)], [named([0.9] * 5)])
    item = world.gates[0]
    conditions = dataclasses.replace(item.gate.conditions, not_worse_by=None)
    judgement = judge_values(item.measured(None), conditions, model="net", nulls={})
    assert world.comparing.hold(item, judgement) is None


def test_what_rests_on_more_than_a_saved_run_knows_is_not_held_to_its_values() -> None:
    def gate(metric: str, **settings: object) -> GateSpec:
        configured = METRICS[metric].configure(settings)
        return GateSpec(metric, METHOD, configured, Conditions(above=0.0), "fail", 1)

    needed = {
        "background_class": {"on": "sky"},
        "agreement": {"other": "saliency"},
        **{name: {"concept": "striped"} for name in METRICS if name.startswith("concept_")},
        "data_randomization": {"model": "ours:shuffled"},
    }
    unsettled = {
        name for name in METRICS if not rests_on_what_is_saved(gate(name, **needed.get(name, {})))
    }
    assert unsettled == {
        "sufficiency",
        "data_randomization",
        "concept_iou",
        "concept_correlation",
        "concept_energy",
    }
    neighbours = NeighbourSpec(
        NeighbourSearch("elsewhere"), Conditions(above=0.0), "fail", 1, {"": "net.toml"}
    )
    assert not rests_on_what_is_saved(neighbours)
