"""The power study's own logic: defects do what their names say, and rates follow their rule."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
from collections import Counter
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
from xai_core.classifier import weights_digest
from xai_core.demo.network import MEAN, STD, load_demo

POWER = Path(__file__).parents[2] / "examples" / "power"
MODULES = (
    "candidate_gates",
    "detection",
    "planted_defects",
    "planted_explainers",
    "power_plot",
    "power_table",
    "rates",
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
        import rates
        import study
        import trained_networks

        found: dict[str, ModuleType] = {
            "gates": candidate_gates,
            "detection": detection,
            "defects": planted_defects,
            "explainers": planted_explainers,
            "plot": power_plot,
            "rates": rates,
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


# What changes only code


def contents(bench: Any) -> Counter[str]:
    """Digests of the tensors of a bench's network and of its images with their masks."""
    arrays = [tensor.numpy() for tensor in bench.module.state_dict().values()]
    listed = [f"{one.shape}{one.dtype}".encode() + one.tobytes() for one in arrays]
    for sample in bench.samples:
        listed.append(sample.image.tobytes() + sample.mask.tobytes() + bytes([sample.label]))
    return Counter(hashlib.sha256(one).hexdigest() for one in listed)


def test_what_changes_only_code_leaves_every_weight_pixel_and_mask_as_it_is(
    power: Any, bench: Any, conditions: dict[str, Any]
) -> None:
    before, weights = contents(bench), weights_digest(bench.classifier())
    for name, condition in conditions.items():
        changed = condition.plant(bench, 1)
        same = contents(changed) == before
        assert condition.code_only == same, name
        if same:  # then a run would be held to the values of the last release
            assert weights_digest(changed.classifier()) == weights, name
    for name in ("BGR", "no normalisation", "IG: 3 steps", "2 threads", "images reversed"):
        assert conditions[name].code_only, name
    for name in ("float16 weights", "pruned 50 %", "JPEG quality 95", "mask shifted by 1/16"):
        assert not conditions[name].code_only, name


def test_other_threads_and_kernels_are_those_of_the_condition_alone(
    power: Any, bench: Any, conditions: dict[str, Any]
) -> None:
    images = torch.from_numpy(np.stack([one.image for one in bench.samples]))
    threads, scores = torch.get_num_threads(), {}
    for name in ("2 threads", "other kernels"):
        changed = conditions[name].plant(bench, 1)
        with changed.arithmetic():
            scores[name] = changed.classifier().scores(images)
            assert torch.get_num_threads() == changed.threads
        assert torch.get_num_threads() == threads
    difference = (scores["2 threads"] - scores["other kernels"]).abs().max()
    assert 0 < difference < 1e-4  # other roundings, of the same numbers


def test_records_are_told_by_the_name_which_changes_are_of_code_alone(
    power: Any, conditions: dict[str, Any], tmp_path: Path
) -> None:
    names = [name for name, condition in conditions.items() if condition.code_only]
    assert set(names) == power.study.CODE_ONLY
    retrained = {one.name for one in power.study._retrained(tmp_path)}
    path = tmp_path / "demo.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "seed": 1,
                    "condition": name,
                    "harmful": True,
                    "retrained": name in retrained,
                    "accuracy": {},
                    "values": {},
                }
            )
            + "\n"
            for name in ("good", *conditions, *retrained)
        )
    )
    assert [one.condition for one in power.study.read(path) if one.code_only] == names


# Records


def test_every_condition_leaves_the_good_bench_alone_and_is_measured_where_it_can_matter(
    power: Any, bench: Any, conditions: dict[str, Any]
) -> None:
    parts = {
        "weights": {"module", "batch_size", "threads", "onednn", "folded"},
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
                code = name.startswith(("code", "jpeg of code"))
                records.append(
                    power.detection.Recorded(seed, name, harmful, retrained, accuracy, values, code)
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
    pair = power.rates.Pair(3, power.detection.ANOTHER_SEED)
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
        assert study.caught_by(power.rates.Pair(seed, "worse"), ("threshold",)) == both
        assert study.caught_by(power.rates.Pair(seed, "none"), ("threshold",)) == both
        assert study.caught_by(power.rates.Pair(seed, "better")) == frozenset()


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


def test_code_around_the_same_weights_must_reproduce_what_was(power: Any, made: Any) -> None:
    """Held against a count by hand: of a range of 1, a thousandth is 0.001."""
    few, most = np.zeros(10), np.zeros(10)
    few[:5], most[:6] = 0.0011, 0.0011
    study = made(
        {
            "code moves half": {"gradcam iou": few},
            "code moves most": {"gradcam iou": most},
            "code moves all by little": {"gradcam iou": 0.0009, "gradcam deletion": -0.0009},
            "code moves all for the better": {"gradcam iou": 0.1},
            "moves most": {"gradcam iou": most},
            "trained so": {"gradcam iou": 0.1},
        }
    )
    caught = {
        name: {study.caught_by(pair, ("reproduction",)) for pair in study.pairs([name])}
        for name in (*study.harmful, *study.harmless, power.detection.ANOTHER_SEED)
    }
    failing = {"code moves most", "code moves all for the better"}
    for name, gates in caught.items():
        assert gates == {frozenset({"gradcam iou"} if name in failing else ())}, name
    pair = power.rates.Pair(3, "code moves most")
    assert study.caught_by(pair) == {"gradcam iou"}
    assert not study.caught_by(pair, ("threshold", "other training", "same training"))
    assert study.most_moved(pair) == 0.6
    for one in study.pairs(study.harmful):
        for gate in study.candidates:
            now = study._records[one.seed, one.condition].values[gate.measure]
            then = study._records[one.seed, "good"].values[gate.measure]
            moved = sum(abs(a - b) > 0.001 for a, b in zip(now, then, strict=True))
            assert study.fails(one, gate, "reproduction") == (
                one.condition.startswith("code") and moved > len(then) / 2
            )


def test_images_without_a_value_have_no_part_in_what_is_reproduced(power: Any, made: Any) -> None:
    """Four of ten have none, neither now nor then; of the six others three or four moved."""

    def alter(one: Any) -> Any:
        values = {name: found.copy() for name, found in one.values.items()}
        for found in values.values():
            found[6:] = math.nan
        return replace(one, values=values)

    three, four = np.zeros(10), np.zeros(10)
    three[:3], four[:4] = 0.01, 0.01
    changes = {"code three": {"gradcam iou": three}, "code four": {"gradcam iou": four}}
    study = made(changes, alter=alter)
    gate = study.candidates[0]
    assert not study.fails(power.rates.Pair(1, "code three"), gate, "reproduction")
    assert study.fails(power.rates.Pair(1, "code four"), gate, "reproduction")
    assert study.reproduced(power.rates.Pair(1, "code four"), gate).images == 6


def test_what_is_reproduced_are_an_images_values_and_not_whether_they_keep_a_bound(
    power: Any,
) -> None:
    gate = power.gates.Candidate("ig", "completeness", per_image=True, within=0.25)
    good = np.array([0.01, 0.02, 0.03, 0.04])
    records = [
        power.detection.Recorded(seed, name, name == "code", False, {}, values, name == "code")
        for seed in (1, 2)
        for name, values in (("good", {gate.measure: good}), ("code", {gate.measure: 2 * good}))
    ]
    study = power.detection.Study(records, [gate], alpha=0.01)
    assert study.fails(power.rates.Pair(1, "code"), gate, "reproduction")
    assert not study.fails(power.rates.Pair(1, "code"), gate, "same training")


def test_subtle_is_what_costs_less_than_two_points_of_accuracy(power: Any, made: Any) -> None:
    study = made({"plain": {}, "hidden": {}})
    assert not any(study.is_subtle(pair) for pair in study.pairs(["plain"]))
    assert all(study.is_subtle(pair) for pair in study.pairs(["hidden"]))


def test_what_a_change_moves_is_told_in_harmless_changes(power: Any, made: Any) -> None:
    study = made({"as a jpeg": {}, "worse": {"gradcam iou": -0.3, "gradcam deletion": 0.3}})
    pair = power.rates.Pair(2, "worse")
    harmless = [
        np.abs(
            study._records[2, "jpeg"].values[gate.name]
            - study._records[2, "good"].values[gate.name]
        ).mean()
        for gate in study.candidates
    ]
    assert study.movement(pair) == pytest.approx(np.median([0.3 / one for one in harmless]))
    assert study.movement(power.rates.Pair(2, "as a jpeg")) == 0
    assert study.movement(power.rates.Pair(2, "jpeg")) == 1


def test_rates_have_the_exact_interval(power: Any) -> None:
    for hits, of in [(0, 20), (19, 20), (7, 13)]:
        interval = stats.binomtest(hits, of).proportion_ci(method="exact")
        shown = f"{hits}/{of} ({interval.low:.2f}-{interval.high:.2f})"
        assert str(power.rates.Rate(hits, of)) == shown
    assert str(power.rates.Rate(0, 0)) == "-"


def test_the_smallest_sets_are_all_that_trying_every_set_finds(power: Any) -> None:
    generator = np.random.default_rng(0)
    gates = [f"gate {column}" for column in range(7)]
    several = 0
    for rows in range(1, 21):
        caught = {
            power.rates.Pair(row, "x"): frozenset(
                gate for gate in gates if generator.random() < 0.25
            )
            for row in range(rows)
        }
        tried = [
            frozenset(some)
            for size in range(8)
            for some in itertools.combinations(gates, size)
            if all(found & set(some) for found in caught.values() if found)
        ]
        smallest = [one for one in tried if len(one) == min(len(other) for other in tried)]
        assert set(power.rates.smallest_covers(caught)) == set(smallest)
        several += len(smallest) > 1
        order = power.rates.by_what_they_add(smallest[0], caught)
        assert frozenset(order) == smallest[0]
        seen: set[str] = set()
        for place, gate in enumerate(order):
            added = {
                one: sum(one in found and not found & seen for found in caught.values())
                for one in order[place:]
            }
            assert added[gate] == max(added.values())
            seen.add(gate)
    assert several
    assert power.rates.smallest_covers({power.rates.Pair(1, "x"): frozenset()}) == [frozenset()]


# Report


def test_the_report_counts_what_is_caught(power: Any, made: Any, tmp_path: Path) -> None:
    study = made({"worse": {"gradcam iou": -0.3}, "hidden": {}})
    text = power.table.report("Made", study)
    assert text.startswith("## Made\n")
    assert "Caught of those that cost less than two points of accuracy: 8/16" in text
    assert "Harmless changes that fail: 0/16" in text
    assert "Blind spots, caught less than 0.95: hidden 0/8 (0.00-0.37)." in text
    worse = next(line for line in text.splitlines() if line.startswith("| worse |"))
    assert "| 8/8 (0.63-1.00) | 1.00 | 1.00 | - |" in worse
    smallest = text[text.index("### The smallest set") :]
    assert "`gradcam iou` | 8/16" in smallest
    assert "Smallest sets that catch all that any gate does: 1 of 1 gates." in smallest
    assert "`gradcam deletion`" not in smallest
    pytest.importorskip("matplotlib")
    power.plot.plot(study, tmp_path / "power.png")
    assert (tmp_path / "power.png").read_bytes().startswith(b"\x89PNG")


def test_the_summary_says_which_way_caught_what(power: Any, made: Any) -> None:
    """8 networks: defects for thresholds, for margins, for reproduction alone and for nothing."""
    moved = {"gradcam iou": np.array([0.01, -0.01] * 5)}
    worse, slightly = {"gradcam iou": -0.3}, {"gradcam iou": -0.03}
    study = made({"worse": worse, "code slightly": slightly, "code": moved, "hidden": {}})
    lines = power.table.report("Made", study)
    assert (
        "- Caught of those that cost less than two points of accuracy: 24/32 (0.57-0.89); by "
        "thresholds alone 8/32 (0.11-0.43), by margins against the last release alone 16/32 "
        "(0.32-0.68), by the two together 16/32 (0.32-0.68)." in lines
    )
    assert (
        "- By reproduction alone, of the 16 of these in which only code differs, which are asked: "
        "16/16 (0.79-1.00); by nothing else 8/16 (0.25-0.75)." in lines
    )
    assert "at most nan of them, under defects at least 1.00; fails above 0.50." in lines
    assert (
        "thresholds and wide margins alone: caught 8/32 (0.11-0.43); blind spots then: "
        "code slightly 0/8 (0.00-0.37), code 0/8 (0.00-0.37), hidden 0/8 (0.00-0.37)." in lines
    )
    row = next(line for line in lines.splitlines() if line.startswith("| code |"))
    assert "| 8/8 (0.63-1.00) | 0.00 | 0.00 | 1.00 | gradcam iou 1.00 |" in row


def test_of_equally_small_sets_the_files_comes_first_then_the_one_that_needs_no_release(
    power: Any, made: Any
) -> None:
    moved = np.array([0.01, -0.01] * 5)
    study = made({"code": {"gradcam iou": -0.3, "gradcam deletion": moved}})
    pairs = study.pairs(["code"])
    for there, best, inside in (
        ((), "gradcam iou", 0),
        (("gradcam deletion",), "gradcam deletion", 1),
        (("gradcam deletion", "gradcam iou"), "gradcam iou", 2),
    ):
        assert power.table._chosen(study, pairs, frozenset(there)) == ([best], 2, inside)


def test_what_the_page_calls_the_smallest_set_is_what_the_demo_asks(power: Any) -> None:
    page = (POWER / "README.md").read_text(encoding="utf-8")
    table = page[page.index("### The smallest set") : page.index("Smallest sets that catch all")]
    listed = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert listed
    assert listed <= power.table.in_file(power.gates.DEMO, power.table._COMMITTED)
    marked = {
        (table, line.split("=")[0].strip())
        for table, lines in tables(power.table._COMMITTED)
        for line in lines
        if line.endswith("# smallest set")
    }
    of_gate = {one.name: (f"gates.{one.method}", one.metric) for one in power.gates.DEMO}
    assert marked == {of_gate[name] for name in listed}


def tables(path: Path) -> list[tuple[str, list[str]]]:
    parts = path.read_text(encoding="utf-8").split("\n[")
    return [(part.partition("]")[0], part.splitlines()[1:]) for part in parts[1:]]


def test_a_file_asks_a_candidate_by_method_metric_and_other_explainer(
    power: Any, tmp_path: Path
) -> None:
    path = tmp_path / "some.toml"
    path.write_text(
        "[gates.gradcam]\niou = { above = 0.9 }\n"
        "hires = { metric = 'agreement', other = 'hirescam', above = 0.9 }\n"
        "[gates.ig]\nagreement = { other = 'integrated_gradients(steps=99)', above = 0.9 }\n"
    )
    expected = {"gradcam iou", "gradcam agreement with hirescam", "ig agreement with another ig"}
    assert power.table.in_file(power.gates.DEMO, path) == expected


def test_one_network_is_judged_by_what_harmless_changes_did_on_other_images(
    power: Any, made: Any
) -> None:
    many = made({"changed so": {"gradcam iou": -0.03}, "slight": {"gradcam iou": -1e-4}})
    records = list(many._records.values())
    study = power.detection.OneNetworkStudy(records, many.candidates, alpha=0.01)
    gate = study.candidates[0]
    losses = np.concatenate(
        [
            study._good(gate, seed) - study._records[seed, "jpeg"].values[gate.name]
            for seed in study.seeds
            if seed != 2
        ]
    )
    margin = study.margin(gate, frozenset({2}), "same training")
    # Two bounds a gate, one run in a hundred.
    quantile = stats.t.ppf(1 - 0.01 / (2 * len(study.candidates)), len(losses) - 1)
    of_two_means = np.sqrt(1 / len(study._good(gate, 2)) + 1 / len(losses))
    slack = quantile * np.std(losses, ddof=1) * of_two_means
    assert margin == pytest.approx(np.mean(losses) + slack)
    assert "other training" not in study.ways(power.rates.Pair(2, "changed so"))
    assert study.fails(power.rates.Pair(2, "changed so"), gate, "same training")
    assert not study.fails(power.rates.Pair(2, "slight"), gate, "same training")


def test_sets_together_have_the_images_of_all_and_the_accuracy_of_the_first(
    power: Any, made: Any
) -> None:
    study = made({"changed": {"gradcam iou": -0.03}})
    records = list(study._records.values())
    joined = power.detection.together(records, 3)  # 8 sets: 1, 3, 5, 7 and 2, 4, 6, 8
    found = {(one.seed, one.condition): one for one in joined}
    assert {seed for seed, _ in found} == {1, 2}
    for one in joined:
        members = [study._records[seed, one.condition] for seed in range(one.seed, 9, 2)]
        assert one.accuracy == members[0].accuracy
        for name, values in one.values.items():
            expected = np.concatenate([member.values[name] for member in members])
            np.testing.assert_array_equal(values, expected)
    larger = power.detection.OneNetworkStudy(joined, study.candidates, alpha=0.01)
    assert larger.images(1) == 4 * study.images(1)
    text = power.table.of_larger_sets(larger)
    assert text.startswith(f"### Sets of {larger.images(1)}\n\n2 sets of images, ")


def test_sets_together_tell_of_what_all_of_them_have_so_far(power: Any, made: Any) -> None:
    records = list(made({"changed": {"gradcam iou": -0.03}})._records.values())
    stopped = [one for one in records if (one.seed, one.condition) != (8, "changed")]
    joined = power.detection.together(stopped, 3)
    asked = {(one.seed, one.condition) for one in joined}
    assert asked == {(1, "good"), (1, "jpeg"), (1, "changed"), (2, "good"), (2, "jpeg")}
    assert power.detection.together([one for one in records if one.seed < 3], 3) == []


def test_a_run_of_photographs_that_has_just_begun_has_a_report(
    power: Any, made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = made({"changed": {"gradcam iou": -0.03}})
    lines = [
        {
            "seed": record.seed,
            "condition": record.condition,
            "harmful": record.harmful,
            "retrained": record.retrained,
            "accuracy": record.accuracy,
            "values": {name: values.tolist() for name, values in record.values.items()},
        }
        for record in one._records.values()
        if record.seed < 3
    ]
    path = tmp_path / "photographs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert power.study.main(["report", "--work", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "2 sets of images" in said
    assert "### Sets of" not in said


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
    between, begin, end = power.study.between_marks, power.study.BEGIN, power.study.END
    page = "# Title\n\n"
    for name in ("a", "b"):
        page += f"{begin.format(name)}\nold\n{end.format(name)}\n\nmore of {name}\n"
    changed = between(page, "b", "new")
    assert changed == page.replace(f"{begin.format('b')}\nold\n", f"{begin.format('b')}\n\nnew\n")
    assert between(changed, "b", "new") == changed
    assert between("", "a", "new") == f"{begin.format('a')}\n\nnew\n{end.format('a')}\n"
    assert between("no marks\n", "a", "new").startswith("no marks\n")


def test_the_pages_of_the_study_have_their_marks(power: Any) -> None:
    page = (POWER / "README.md").read_text(encoding="utf-8")
    for name, title in (("demo", "The demo"), ("photographs", "Photographs")):
        begin, end = power.study.BEGIN.format(name), power.study.END.format(name)
        assert page.partition(begin)[2].partition(end)[0].startswith(f"\n\n## {title}\n")


def test_an_explainer_held_against_itself_is_asked_only_of_its_own_mistakes(power: Any) -> None:
    itself = next(one for one in power.gates.PHOTOGRAPHS if one.with_itself)
    planted = power.defects.planted(early_layer="a", late_layer="b", last_block=("c",))
    asked = [one.name for one in planted if power.study.moves(one, itself)]
    assert asked == [one.name for one in planted if one.name.startswith("IG: ")] != []


def test_a_costly_method_is_spared_the_mistakes_of_others(power: Any) -> None:
    planted = power.defects.planted(early_layer="a", late_layer="b", last_block=("c",))
    gates = [power.gates.Candidate(method, "precision") for method in ("gradcam", "ig")]
    subject = power.study.Subject(1, None, planted, gates, spared="ig")
    asked = {one.name: [gate.method for gate in subject.asked(one)] for one in planted}
    assert asked["BGR"] == ["gradcam"]
    assert asked["JPEG quality 95"] == ["gradcam", "ig"]
    assert asked["IG: sign flipped"] == ["ig"]
    assert asked["mask shifted by 1/8"] == ["gradcam"]
    everything = replace(subject, spared="")
    assert [gate.method for gate in everything.asked(planted[0])] == ["gradcam", "ig"]
    good = power.defects.Condition(power.study.GOOD, True, "weights", lambda bench, _: bench)
    assert subject.asked(good) == gates


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
