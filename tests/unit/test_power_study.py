"""The power study's own logic: defects do what their names say, and rates follow their rule."""

from __future__ import annotations

import itertools
import json
import math
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import nn

from xai_core import GradCAM, IntegratedGradients, Method, TorchClassifier, load_imageset
from xai_core.demo.network import MEAN, STD, load_demo

POWER = Path(__file__).parents[2] / "examples" / "power"
MODULES = (
    "candidate_gates",
    "detection",
    "planted_defects",
    "planted_explainers",
    "power_plot",
    "power_table",
    "study",
    "trained_networks",
)


@pytest.fixture(scope="module")
def power() -> Any:
    """The example's modules by name, imported from its folder as the command does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(POWER))
        for name in MODULES:
            patch.delitem(sys.modules, name, raising=False)
        import candidate_gates
        import detection
        import planted_defects
        import planted_explainers
        import power_plot
        import power_table
        import study
        import trained_networks

        found: dict[str, ModuleType] = {
            "gates": candidate_gates,
            "detection": detection,
            "defects": planted_defects,
            "explainers": planted_explainers,
            "plot": power_plot,
            "table": power_table,
            "study": study,
            "networks": trained_networks,
        }
        yield type("Power", (), found)
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def bench(power: Any) -> Any:
    samples = tuple(load_imageset("demo", size=(64, 64), limit=4))
    images = np.stack([sample.image for sample in samples])
    labels = np.array([sample.label for sample in samples])
    methods = (Method("gradcam", GradCAM()), Method("ig", IntegratedGradients(steps=4)))
    return power.defects.Bench(
        load_demo("demo"), (64, 64), MEAN, STD, samples, {"as trained": (images, labels)}, methods
    )


@pytest.fixture(scope="module")
def conditions(power: Any) -> dict[str, Any]:
    found = power.defects.planted(
        early_layer="stem", late_layer="body.3", last_block=("features", "linear")
    )
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def kernels(module: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy() for p in module.parameters() if p.ndim >= 2]


# Defects of the weights


def test_int4_leaves_at_most_fifteen_values_a_tensor_or_channel(power: Any) -> None:
    module = load_demo("demo")
    for before, whole, each in zip(
        kernels(module),
        kernels(power.defects.rounded(module, 4, per_channel=False)),
        kernels(power.defects.rounded(module, 4, per_channel=True)),
        strict=True,
    ):
        assert len(np.unique(whole)) <= 15
        assert all(len(np.unique(channel)) <= 15 for channel in each)
        assert np.abs(whole - before).max() <= np.abs(before).max() / 14 * 1.0001
        assert np.abs(each - before).mean() < np.abs(whole - before).mean()


def test_pruning_zeroes_the_smallest_weights_of_all_kernels_together(power: Any) -> None:
    module = load_demo("demo")
    before = np.concatenate([kernel.ravel() for kernel in kernels(module)])
    after = np.concatenate(
        [kernel.ravel() for kernel in kernels(power.defects.pruned(module, 0.95))]
    )
    gone = after == 0
    assert gone.mean() == pytest.approx(0.95, abs=1 / len(before))
    assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min()
    np.testing.assert_array_equal(after[~gone], before[~gone])
    assert (before != 0).all()  # the good network itself was left alone


def test_float16_weights_are_the_nearest_ones(power: Any) -> None:
    module = load_demo("demo")
    for before, after in zip(
        kernels(module), kernels(power.defects.halved_precision(module)), strict=True
    ):
        np.testing.assert_array_equal(after, before.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("prefixes", [("features", "linear"), ("",)])
def test_only_the_layers_named_are_drawn_anew(power: Any, prefixes: tuple[str, ...]) -> None:
    module = load_demo("demo")
    changed = power.defects.drawn_anew(module, prefixes, seed=3)
    for name, kernel in module.named_parameters():
        if kernel.ndim >= 2:
            same = torch.equal(kernel, changed.get_parameter(name))
            assert same != (prefixes == ("",) or name.split(".")[0] in prefixes), name


def test_swapped_channels_are_the_model_of_the_image_in_bgr(
    bench: Any, conditions: dict[str, Any]
) -> None:
    images = torch.from_numpy(np.stack([sample.image for sample in bench.samples]))
    swapped = conditions["BGR"].plant(bench, 1).classifier().logits(images)
    plain = bench.classifier().logits(images[:, [2, 1, 0]].contiguous())
    torch.testing.assert_close(swapped, plain, rtol=1e-4, atol=1e-4)


# Defects of images and masks


def test_a_wrong_crop_loses_the_frame_of_the_image(power: Any) -> None:
    image = np.ones((3, 64, 64), dtype=np.float32)
    image[:, 4:-4, 4:-4] = 0.25
    assert power.defects.cropped(image) == pytest.approx(0.25)
    assert power.defects.cropped(image).shape == image.shape


def test_a_wrong_resize_repeats_every_second_pixel(power: Any) -> None:
    image = np.random.default_rng(0).random((3, 6, 8), dtype=np.float32)
    coarse = power.defects.coarsened(image)
    for row, column in itertools.product(range(6), range(8)):
        np.testing.assert_array_equal(
            coarse[:, row, column], image[:, row // 2 * 2, column // 2 * 2]
        )


def test_masks_and_maps_move_as_scipy_moves_them(power: Any) -> None:
    generator = np.random.default_rng(0)
    mask = generator.random((16, 16)) < 0.5
    moved = ndimage.shift(mask.astype(float), (3, 3), order=0, cval=0) > 0.5
    np.testing.assert_array_equal(power.defects.moved_mask(mask, 3), moved)
    maps = generator.random((2, 8, 9), dtype=np.float32)
    expected = ndimage.shift(maps, (0, 2, 1), order=0, mode="nearest")
    np.testing.assert_array_equal(power.explainers.shifted(maps, 2, 1), expected)


def test_shuffled_labels_are_the_same_labels_and_only_a_share_moves(power: Any) -> None:
    labels = torch.arange(1000)
    changed = power.networks.shuffled(labels, 0.3, np.random.default_rng(0))
    assert sorted(changed.tolist()) == labels.tolist()
    assert 0.25 < (changed != labels).float().mean() <= 0.3
    assert torch.equal(power.networks.shuffled(labels, 0.0, np.random.default_rng(0)), labels)


# Defects of explainers


class InPlace(nn.Module):
    """A convolution, a ReLU that overwrites its input, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.linear = nn.Linear(5, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.relu(self.convolution(images)).mean((2, 3)))


def test_the_overwritten_gradcam_is_that_of_a_hook_before_an_in_place_relu(power: Any) -> None:
    torch.manual_seed(0)
    module = InPlace().eval()
    images, targets = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32), [1, 2]
    kept: dict[str, torch.Tensor] = {}

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> None:
        kept["activations"] = output.detach()  # the same memory, which the ReLU overwrites
        output.register_hook(lambda gradient: kept.__setitem__("gradients", gradient))

    handle = module.convolution.register_forward_hook(keep)
    logits = module(torch.from_numpy(images))
    logits[[0, 1], targets].sum().backward()
    handle.remove()
    weights = kept["gradients"].mean((2, 3), keepdim=True)
    expected = torch.relu((weights * kept["activations"]).sum(1)).numpy()

    classifier = TorchClassifier(module, name="in place", size=(8, 8))
    mistaken = power.explainers.MistakenGradCAM("in-place")
    found = mistaken.explain(classifier, images, np.array(targets))
    np.testing.assert_allclose(found.native, expected, rtol=1e-4, atol=1e-6)
    sound = GradCAM().explain(classifier, images, np.array(targets)).native
    assert np.abs(sound - expected).max() > 0.01 * expected.max()


def test_the_gradient_of_the_probability_is_not_that_of_the_logit(power: Any, bench: Any) -> None:
    classifier = bench.classifier()
    images = np.stack([sample.image for sample in bench.samples])[:2]
    targets = np.array([bench.samples[0].label, bench.samples[1].label])
    network = bench.module
    normalised = (torch.from_numpy(images) - 0.5) / 0.25
    features = network.features(network.body(network.stem(normalised)))
    features = features.detach().requires_grad_()
    chances = network.linear(network.pool(features).flatten(1)).softmax(1)
    (gradients,) = torch.autograd.grad(chances[[0, 1], targets].sum(), features)
    expected = torch.relu((gradients.mean((2, 3), keepdim=True) * features).sum(1))
    found = power.explainers.MistakenGradCAM("probability").explain(classifier, images, targets)
    np.testing.assert_allclose(found.native, expected.detach().numpy(), rtol=1e-3, atol=1e-6)


def test_mistakes_of_integrated_gradients_are_what_they_are_called(power: Any, bench: Any) -> None:
    classifier = bench.classifier()
    images = np.stack([sample.image for sample in bench.samples])
    targets = np.array([sample.label for sample in bench.samples])
    sound = IntegratedGradients(steps=4).explain(classifier, images, targets)

    def mistaken(name: str, asked: np.ndarray = targets) -> Any:
        made = power.explainers.MistakenIntegratedGradients(name, 4)
        return made.explain(classifier, images, asked)

    np.testing.assert_array_equal(mistaken("sign").attributions, -sound.attributions)
    np.testing.assert_allclose(
        mistaken("absolute").heatmaps, sound.attributions.sum(1), rtol=1e-4, atol=1e-5
    )
    three = IntegratedGradients(steps=3).explain(classifier, images, targets)
    np.testing.assert_array_equal(mistaken("steps").heatmaps, three.heatmaps)
    grey = IntegratedGradients(steps=4, baseline="mean").explain(classifier, images, targets)
    np.testing.assert_array_equal(mistaken("baseline").heatmaps, grey.heatmaps)
    np.testing.assert_array_equal(mistaken("target", (targets - 1) % 6).heatmaps, sound.heatmaps)


# Records


def test_every_condition_leaves_the_good_bench_alone_and_is_measured_where_it_can_matter(
    power: Any, bench: Any, conditions: dict[str, Any]
) -> None:
    parts = {
        "weights": {"module", "batch_size", "threads", "folded"},
        "input": {"samples", "held_out", "mean", "std"},
        "masks": {"samples"},
        "gradcam": {"methods"},
        "ig": {"methods"},
    }
    before = [kernel.copy() for kernel in kernels(bench.module)]
    for condition in conditions.values():
        changed = condition.plant(bench, 1)
        different = {
            one.name
            for one in fields(bench)
            if getattr(changed, one.name) is not getattr(bench, one.name)
        }
        assert different, condition.name
        assert different <= parts[condition.part], condition.name
    for kernel, again in zip(kernels(bench.module), before, strict=True):
        np.testing.assert_array_equal(kernel, again)
    iou = power.gates.Candidate("gradcam", "iou")
    drop = power.gates.Candidate("gradcam", "average_drop")
    of_ig = power.gates.Candidate("ig", "iou")
    moved = {
        part: [power.study.moves(conditions[name], gate) for gate in (iou, drop, of_ig)]
        for part, name in {
            "weights": "BGR",
            "masks": "mask shifted by 1/8",
            "gradcam": "Grad-CAM: sign flipped",
            "ig": "IG: 3 steps",
        }.items()
    }
    assert moved == {
        "weights": [True, True, True],
        "masks": [True, False, True],
        "gradcam": [True, True, False],
        "ig": [False, False, True],
    }


def test_records_go_on_where_they_stopped_and_stay_in_the_order_of_the_samples(
    power: Any, bench: Any, conditions: dict[str, Any], tmp_path: Path
) -> None:
    names = ["images reversed", "batch norm not folded", "mask shifted by 1/8"]
    gates = [power.gates.Candidate("gradcam", "iou"), power.gates.Candidate("ig", "completeness")]
    subject = power.study.Subject(1, bench, [conditions[name] for name in names], gates)
    path = tmp_path / "demo.jsonl"
    power.study.run(iter([subject]), path)
    whole = path.read_text()
    assert len(whole.splitlines()) == 4
    # A run that was stopped while it wrote its last line.
    path.write_text(whole[: whole.rindex('"values"')] + "\n")
    for _ in range(2):
        power.study.run(iter([subject]), path)
    records = power.study.read(path)
    assert len(records) == 4
    found = {one.condition: one for one in records}
    assert list(found) == ["good", *names]
    good, moved = found["good"].values, found["mask shifted by 1/8"].values
    assert found["good"].accuracy == {"as trained": 1.0}
    assert len(set(good["gradcam iou"])) == 4
    for name in names[:2]:
        for gate in good:
            np.testing.assert_allclose(found[name].values[gate], good[gate], atol=1e-4)
    assert list(moved) == ["gradcam iou"]
    assert moved["gradcam iou"].mean() < good["gradcam iou"].mean() - 0.1


# Rates


@pytest.fixture
def made(power: Any) -> Any:
    """A study of eight networks, whose gates' values are drawn."""

    def study(changes: dict[str, Any] | None = None, **options: Any) -> Any:
        generator = np.random.default_rng(0)
        iou = power.gates.Candidate("gradcam", "iou")
        deletion = power.gates.Candidate("gradcam", "deletion")
        records = []
        for seed in range(1, 9):
            good = {
                "gradcam iou": 0.5 + generator.normal(0, 0.02) + generator.normal(0, 0.1, 10),
                "gradcam deletion": 0.2 + generator.normal(0, 0.01) + generator.normal(0, 0.1, 10),
            }
            jpeg = {name: values + generator.normal(0, 0.003) for name, values in good.items()}
            made_of = [("good", False, False, good), ("jpeg", False, False, jpeg)]
            for name, change in (changes or {}).items():
                broken = {key: values + change.get(key, 0) for key, values in good.items()}
                made_of.append((name, True, name.startswith("trained"), broken))
            for name, harmful, retrained, values in made_of:
                accuracy = {"as trained": 0.9 if name == "plain" else 1.0}
                records.append(
                    power.detection.Recorded(seed, name, harmful, retrained, accuracy, values)
                )
        records = [options["alter"](one) for one in records] if "alter" in options else records
        return power.detection.Study(records, [iou, deletion], alpha=0.01)

    return study


def test_a_threshold_is_the_prediction_bound_of_the_other_networks(made: Any) -> None:
    study = made()
    for gate, sign in zip(study.candidates, (1, -1), strict=True):
        others = np.array([study._good(gate, seed).mean() for seed in study.seeds if seed != 3])
        t = stats.t(len(others) - 1).ppf(1 - 0.01 / 4)
        slack = t * others.std(ddof=1) * math.sqrt(1 + 1 / len(others))
        assert study.threshold(gate, 3) == pytest.approx(others.mean() - sign * slack)


def test_a_share_of_hits_may_miss_as_often_as_chance_has_it(power: Any) -> None:
    """At 23 of 24 in the other networks, the fewest hits that come up in .01 of two tests."""
    hits = power.gates.Candidate("gradcam", "pointing_game", per_image=True)
    values = np.array([0.0] + [1.0] * 23)
    records = [
        power.detection.Recorded(seed, "good", False, False, {}, {hits.name: values})
        for seed in range(1, 6)
    ]
    study = power.detection.Study(records, [hits], alpha=0.01)
    fewest = round(study.threshold(hits, 1) * 24)
    generator = np.random.default_rng(0)
    chances = generator.beta(4 * 23 + 0.5, 4 + 0.5, 400_000)
    drawn = generator.binomial(24, chances)
    assert (drawn < fewest).mean() <= 0.005
    assert (drawn < fewest + 1).mean() > 0.005


def test_a_bound_on_each_image_is_judged_by_the_share_that_keeps_it(power: Any) -> None:
    gate = power.gates.Candidate("ig", "completeness", per_image=True, within=0.25)
    assert (gate.measure, gate.name) == ("ig completeness", "ig completeness ≤ 0.25")
    judged = gate.judged(np.array([0.1, 0.25, 6.0, math.nan]))
    np.testing.assert_array_equal(judged, [1, 1, 0, math.nan])
    assert gate.higher


def test_an_alarm_of_the_good_network_is_counted_once_and_detects_nothing(
    power: Any, made: Any
) -> None:
    def alter(one: Any) -> Any:
        worse = {name: values - 0.3 for name, values in one.values.items()}
        return replace(one, values=worse) if one.seed == 3 else one

    study = made({"hidden": {}}, alter=alter)
    failing = {
        name: [pair.seed for pair in study.pairs([name]) if study.caught_by(pair, ("threshold",))]
        for name in (power.detection.ANOTHER_SEED, "jpeg", "hidden")
    }
    assert failing == {power.detection.ANOTHER_SEED: [3], "jpeg": [], "hidden": []}


def test_a_network_has_no_part_in_its_own_bounds(power: Any, made: Any) -> None:
    def alter(one: Any) -> Any:
        worse = {name: values - 0.3 for name, values in one.values.items()}
        return replace(one, values=worse) if (one.seed, one.condition) == (3, "good") else one

    plain, altered = made(), made(alter=alter)
    gate = plain.candidates[0]
    assert altered.threshold(gate, 3) == plain.threshold(gate, 3)
    assert altered.threshold(gate, 4) != plain.threshold(gate, 4)
    pair = power.detection.Pair(3, power.detection.ANOTHER_SEED)
    assert altered.fails(pair, gate, "threshold")
    assert not plain.fails(pair, gate, "threshold")


def test_a_collapse_fails_in_either_direction_of_a_metric_and_a_gain_does_not(
    power: Any, made: Any
) -> None:
    changes = {
        "worse": {"gradcam iou": -0.3, "gradcam deletion": 0.3},
        "better": {"gradcam iou": 0.3, "gradcam deletion": -0.15},
        "none": {"gradcam iou": math.nan, "gradcam deletion": math.nan},
    }
    study = made(changes)
    both = frozenset({"gradcam iou", "gradcam deletion"})
    for seed in study.seeds:
        assert study.caught_by(power.detection.Pair(seed, "worse"), ("threshold",)) == both
        assert study.caught_by(power.detection.Pair(seed, "none"), ("threshold",)) == both
        assert study.caught_by(power.detection.Pair(seed, "better")) == frozenset()


def test_small_margins_are_not_asked_of_other_training_runs(power: Any, made: Any) -> None:
    slight = {"gradcam iou": -0.03}
    study = made({"trained so": slight, "changed so": slight})
    caught = {
        name: [bool(study.caught_by(pair)) for pair in study.pairs([name])]
        for name in ("trained so", "changed so", power.detection.ANOTHER_SEED, "jpeg")
    }
    assert all(caught["changed so"])
    assert not any(caught["trained so"])
    assert not any(caught[power.detection.ANOTHER_SEED])
    assert not any(caught["jpeg"])


def test_subtle_is_what_costs_less_than_two_points_of_accuracy(power: Any, made: Any) -> None:
    study = made({"plain": {}, "hidden": {}})
    assert not any(study.is_subtle(pair) for pair in study.pairs(["plain"]))
    assert all(study.is_subtle(pair) for pair in study.pairs(["hidden"]))


def test_what_a_change_moves_is_told_in_harmless_changes(power: Any, made: Any) -> None:
    study = made({"as a jpeg": {}, "worse": {"gradcam iou": -0.3, "gradcam deletion": 0.3}})
    pair = power.detection.Pair(2, "worse")
    harmless = [
        np.abs(
            study._records[2, "jpeg"].values[gate.name]
            - study._records[2, "good"].values[gate.name]
        ).mean()
        for gate in study.candidates
    ]
    assert study.movement(pair) == pytest.approx(np.median([0.3 / one for one in harmless]))
    assert study.movement(power.detection.Pair(2, "as a jpeg")) == 0
    assert study.movement(power.detection.Pair(2, "jpeg")) == 1


def test_rates_have_the_exact_interval(power: Any) -> None:
    for hits, of in [(0, 20), (19, 20), (7, 13)]:
        interval = stats.binomtest(hits, of).proportion_ci(method="exact")
        shown = f"{hits}/{of} ({interval.low:.2f}-{interval.high:.2f})"
        assert str(power.detection.Rate(hits, of)) == shown
    assert str(power.detection.Rate(0, 0)) == "-"


def test_the_smallest_set_catches_all_that_any_gate_does_and_little_more(power: Any) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        caught = {
            power.detection.Pair(row, "x"): frozenset(
                f"gate {column}" for column in range(7) if generator.random() < 0.25
            )
            for row in range(15)
        }
        chosen = power.detection.smallest_cover(caught)
        names = {gate for gate, _ in chosen}
        assert all(gates & names for gates in caught.values() if gates)
        assert sum(added for _, added in chosen) == sum(bool(gates) for gates in caught.values())
        best = next(
            size
            for size in range(8)
            for some in itertools.combinations([f"gate {column}" for column in range(7)], size)
            if all(gates & set(some) for gates in caught.values() if gates)
        )
        assert best <= len(names) <= best + 1


# Report


def test_the_report_counts_what_is_caught(power: Any, made: Any, tmp_path: Path) -> None:
    study = made({"worse": {"gradcam iou": -0.3}, "hidden": {}})
    nothing = power.detection.OneNetworkStudy([], [], alpha=0.01)
    text = power.table.report(study, nothing)
    assert "Caught of those that cost less than two points of accuracy: 8/16" in text
    assert "Harmless changes that fail: 0/16" in text
    assert "Blind spots, caught less than 0.95: hidden 0/8 (0.00-0.37)." in text
    worse = next(line for line in text.splitlines() if line.startswith("| worse |"))
    assert "| 8/8 (0.63-1.00) | 1.00 | 1.00 |" in worse
    smallest = text[text.index("### The smallest set") :]
    assert "`gradcam iou` | 8/16" in smallest
    assert "`gradcam deletion`" not in smallest
    pytest.importorskip("matplotlib")
    power.plot.plot(study, tmp_path / "power.png")
    assert (tmp_path / "power.png").read_bytes().startswith(b"\x89PNG")


def test_one_network_is_judged_by_what_harmless_changes_did_on_other_images(
    power: Any, made: Any
) -> None:
    many = made({"changed so": {"gradcam iou": -0.03}, "slight": {"gradcam iou": -1e-4}})
    records = list(many._records.values())
    study = power.detection.OneNetworkStudy(records, many.candidates, alpha=0.01)
    gate = study.candidates[0]
    losses = [
        (study._good(gate, seed) - study._records[seed, "jpeg"].values[gate.name]).mean()
        for seed in study.seeds
        if seed != 2
    ]
    margin = study.margin(gate, frozenset({2}), "same training")
    assert margin == pytest.approx(max(0.002, 2 * max(losses)))
    assert "other training" not in study.ways(power.detection.Pair(2, "changed so"))
    assert study.fails(power.detection.Pair(2, "changed so"), gate, "same training")
    assert not study.fails(power.detection.Pair(2, "slight"), gate, "same training")


def test_the_committed_thresholds_are_read_with_their_direction(power: Any) -> None:
    found = power.table.committed(power.gates.DEMO, power.table._COMMITTED)
    assert found["gradcam iou"] == (0.5, True)
    assert found["gradcam active_fraction"] == (0.1, False)
    assert not {"gradcam insertion", "ig completeness ≤ 0.25"} & set(found)


def test_a_record_is_one_line_of_builtin_types(power: Any, bench: Any) -> None:
    gates = [power.gates.Candidate("gradcam", "iou")]
    nothing = power.defects.Condition("good", False, "weights", lambda bench, _: bench)
    subject = power.study.Subject(1, bench, [], gates)
    good = power.study.Evaluation(bench.classifier(), bench.images())
    found = power.study.measure(subject, nothing, good)
    again = json.loads(json.dumps(found))
    assert again == found
    expected = [
        round(value, 6) for value in good.measure(bench.methods[0], gates[0].configured).values
    ]
    assert again["values"]["gradcam iou"] == expected


def test_a_page_keeps_what_its_marks_do_not_enclose(power: Any) -> None:
    begin, end = power.study.BEGIN, power.study.END
    page = f"# Title\n\n{begin}\nold\n{end}\n\nmore\n"
    changed = power.study.between_marks(page, "new")
    assert changed == f"# Title\n\n{begin}\n\nnew\n{end}\n\nmore\n"
    assert power.study.between_marks(changed, "new") == changed
    assert power.study.between_marks("no marks", "new") == "new"


def test_the_accuracy_of_one_network_is_taken_once_and_counts_for_every_set(
    power: Any, made: Any
) -> None:
    def alter(one: Any) -> Any:
        return one if one.seed == 1 else replace(one, accuracy={})

    records = made({"plain": {}, "hidden": {}}, alter=alter)._records.values()
    gates = made().candidates
    study = power.detection.OneNetworkStudy(records, gates, alpha=0.01)
    assert not any(study.is_subtle(pair) for pair in study.pairs(["plain"]))
    assert all(study.is_subtle(pair) for pair in study.pairs(["hidden"]))
