"""Model parameter randomisation tests against plain loops, closed forms and null maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from xai_core.checks import SmallCNN
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.errors import ClassifierError, ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import GradCAM, GuidedBackprop, Saliency
from xai_core.gate import Conditions, judge
from xai_core.imageset import load_imageset
from xai_core.metrics import (
    METRICS,
    efficient_mprt,
    mprt_cascading,
    mprt_independent,
    smooth_mprt,
)
from xai_core.seeding import generator_for
from xai_core.statistics import skill

RNG = np.random.default_rng(6)
SIZE = (24, 32)
IMAGES = RNG.random((4, 3, *SIZE)).astype(np.float32)
TARGETS = np.array([0, 1, 2, 0])
ALL = ("mprt_cascading", "mprt_independent", "smooth_mprt", "efficient_mprt")
OF_SIMILARITY = ALL[:3]


class Layers:
    """A classifier of five layers that only remembers which of them are drawn anew."""

    name, num_classes = "layers", 2

    def __init__(self, drawn: Sequence[str] = (), seed: int | None = None) -> None:
        self.drawn, self.seed = list(drawn), seed

    def parameter_layers(self) -> list[str]:
        return list("abcde")

    def reinitialised(self, layers: Sequence[str], *, seed: int) -> Layers:
        return Layers(layers, seed)


def explained(
    maps: Callable[[Layers], np.ndarray],
) -> Callable[[Layers, Any], np.ndarray]:
    return lambda classifier, change=None: maps(classifier)


def of_network(
    method: Any, images: np.ndarray = IMAGES, targets: np.ndarray = TARGETS
) -> Callable[..., np.ndarray]:
    """What an evaluation gives: heatmaps of the images under any classifier."""

    def maps(classifier: Classifier, change: Any = None, /) -> np.ndarray:
        changed = images if change is None else change(images)
        return method.explain(classifier, changed, targets).heatmaps

    return maps


def measure(
    name: str, classifier: Any, method: Any, rows: Any = slice(None), **settings: Any
) -> Any:
    maps = of_network(method, IMAGES[rows].copy(), TARGETS[rows].copy())
    return METRICS[name].function(classifier, maps(classifier), maps, **settings)


@pytest.mark.parametrize(
    ("order", "stages", "expected"),
    [
        ("top-down", 5, ["e", "ed", "edc", "edcb", "edcba"]),
        ("top-down", 2, ["edc", "edcba"]),
        ("bottom-up", 3, ["ab", "abcd", "abcde"]),
        ("bottom-up", 1, ["abcde"]),
        ("bottom-up", 1000, ["a", "ab", "abc", "abcd", "abcde"]),
    ],
)
def test_cascading_draws_ever_more_layers_until_none_is_left(
    order: str, stages: int, expected: list[str]
) -> None:
    seen: list[Layers] = []

    def keep(classifier: Layers) -> np.ndarray:
        seen.append(classifier)
        return heatmaps

    heatmaps = RNG.random((2, 8, 8)).astype(np.float32)
    mprt_cascading(Layers(), heatmaps, explained(keep), order=order, stages=stages, seed=7)
    assert ["".join(classifier.drawn) for classifier in seen] == expected
    assert {classifier.seed for classifier in seen} == {7}


@pytest.mark.parametrize(
    ("stages", "expected"),
    [(5, ["a", "b", "c", "d", "e"]), (2, ["abc", "de"]), (1, ["abcde"]), (99, list("abcde"))],
)
def test_independent_draws_every_layer_once(stages: int, expected: list[str]) -> None:
    seen: list[str] = []

    def keep(classifier: Layers) -> np.ndarray:
        seen.append("".join(classifier.drawn))
        return heatmaps

    heatmaps = RNG.random((2, 8, 8)).astype(np.float32)
    mprt_independent(Layers(), heatmaps, explained(keep), stages=stages)
    assert seen == expected


@pytest.mark.parametrize("name", ["mprt_cascading", "mprt_independent"])
def test_the_original_with_itself_is_not_averaged_in(name: str) -> None:
    heatmaps = RNG.random((2, 8, 8)).astype(np.float32)
    upside_down = explained(lambda classifier: 1 - heatmaps if classifier.drawn else heatmaps)
    values = METRICS[name].function(Layers(), heatmaps, upside_down, stages=2)
    np.testing.assert_allclose(values, -1.0)  # with the original's own 1 it were -1/3


def test_the_value_is_the_mean_over_the_stages() -> None:
    heatmaps = np.float32([[[0, 1, 2], [3, 4, 5], [6, 7, 8]]])
    stages = {
        "e": heatmaps * 2 + 1,  # similarity 1
        "ed": -heatmaps,  # -1
        "edc": np.where(heatmaps == 8, -1, heatmaps).astype(np.float32),  # 1 - 6 x 72 / (9 x 80)
        "edcb": np.zeros_like(heatmaps),  # nothing is left: 0
        "edcba": heatmaps,  # 1
    }
    maps = explained(lambda classifier: stages["".join(classifier.drawn)])
    value = mprt_cascading(Layers(), heatmaps, maps, stages=5)
    assert value == pytest.approx((1 - 1 + (1 - 6 * 72 / 720) + 0 + 1) / 5)


@pytest.mark.parametrize("fill", [0.0, 2.5])
@pytest.mark.parametrize("name", OF_SIMILARITY)
@pytest.mark.parametrize("similarity", ["spearman", "spearman_abs", "ssim", "hog"])
def test_a_map_that_becomes_constant_has_changed_altogether_and_counts_as_zero(
    fill: float, name: str, similarity: str
) -> None:
    heatmaps = RNG.random((3, 9, 9)).astype(np.float32)

    def silent(classifier: Layers) -> np.ndarray:
        maps = heatmaps.copy()
        if classifier.drawn:
            maps[1] = fill
        return maps

    values = METRICS[name].function(Layers(), heatmaps, explained(silent), similarity=similarity)
    np.testing.assert_allclose(values, [1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_map_that_becomes_infinite_is_undefined_and_the_others_keep_their_values(
    name: str,
) -> None:
    heatmaps = RNG.random((3, 9, 9)).astype(np.float32)

    def breaks(classifier: Layers) -> np.ndarray:
        maps = heatmaps.copy()
        if classifier.drawn and "a" in classifier.drawn:
            maps[1, 2, 2] = np.inf
            maps[2, 0, 0] = np.nan
        return maps

    with pytest.raises(UndefinedMeasurementError, match="not finite") as caught:
        METRICS[name].function(Layers(), heatmaps, explained(breaks))
    assert set(caught.value.reasons) == {1, 2}
    assert caught.value.values is not None
    assert caught.value.values[0] == pytest.approx(0 if name == "efficient_mprt" else 1)


def test_sizes_without_contrast_are_undefined_where_sizes_are_compared() -> None:
    heatmaps = RNG.normal(size=(3, 9, 9)).astype(np.float32)
    heatmaps[2] = np.sign(heatmaps[2])
    other = RNG.normal(size=(3, 9, 9)).astype(np.float32)
    other[1] = np.sign(other[1])
    maps = explained(lambda classifier: other)
    with pytest.raises(
        UndefinedMeasurementError, match="no contrast in what 'spearman_abs'"
    ) as error:
        mprt_cascading(Layers(), heatmaps, maps, similarity="spearman_abs")
    assert set(error.value.reasons) == {2}
    assert error.value.values is not None
    assert error.value.values[1] == 0
    assert error.value.values[0] != 0


def test_grad_cam_of_a_last_layer_drawn_anew_changes_as_its_formula_says() -> None:
    from scipy.stats import spearmanr

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    classifier = TorchClassifier(module, name="linear", size=SIZE)
    other = classifier.reinitialised(["3"], seed=4).private_module()
    weights = [net.weight.detach().numpy() for net in (module[3], other.get_submodule("model.3"))]
    expected, expected_rise = [], []
    for image, target in zip(IMAGES, TARGETS, strict=True):
        # The layer is the image itself, so the map is ReLU(sum of the class's weights x RGB).
        own, new = (np.maximum(np.tensordot(w[target], image, 1), 0).ravel() for w in weights)
        flat = len(np.unique(new)) == 1
        expected.append(0.0 if flat else spearmanr(own, new).statistic)
        expected_rise.append(plain_entropy(new) / plain_entropy(own) - 1)
    assert len(set(expected)) > 1
    for name in ("mprt_cascading", "mprt_independent"):
        found = measure(name, classifier, GradCAM("0"), seed=4)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    rises = measure("efficient_mprt", classifier, GradCAM("0"), seed=4)
    np.testing.assert_allclose(rises, expected_rise, atol=0.05)  # pixels on the edge of a bin


def plain_entropy(values: np.ndarray) -> float:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return 0.0
    counts = [0] * 100
    for value in values.ravel():
        counts[min(int((float(value) - low) / (high - low) * 100), 99)] += 1
    total = sum(counts)
    return -sum(c / total * math.log(c / total) for c in counts if c)


def test_the_rise_of_entropy_equals_a_plain_loop() -> None:
    heatmaps = RNG.normal(size=(3, 30, 20)).astype(np.float32) ** 3
    other = RNG.random((3, 30, 20)).astype(np.float32)
    other[2] = 0.25
    maps = explained(lambda classifier: other if len(classifier.drawn) == 5 else heatmaps)
    expected = [
        plain_entropy(b) / plain_entropy(a) - 1 for a, b in zip(heatmaps, other, strict=True)
    ]
    found = efficient_mprt(Layers(), heatmaps, maps)
    np.testing.assert_allclose(found, expected, rtol=5e-3)
    assert found[0] > 0
    assert found[2] == -1  # nothing is left that could be complex
    np.testing.assert_allclose(efficient_mprt(Layers(), heatmaps * 5, maps), found, rtol=1e-3)


def test_smooth_equals_a_plain_loop() -> None:
    from scipy.stats import spearmanr

    classifier, method = SmallCNN().classifier(), Saliency()
    layers = classifier.parameter_layers()  # 5: two convolutions, two norms, one linear
    networks = [classifier, *(classifier.reinitialised(layers[:n], seed=3) for n in (3, 5))]
    means = []
    for network in networks:
        total = np.zeros((4, *SIZE))
        for sample in range(3):
            noisy = IMAGES.copy()
            for row, image in enumerate(IMAGES):
                stream = generator_for(image, seed=3, purpose=f"smooth_mprt {sample}")
                noise = stream.standard_normal(image.shape, dtype=np.float32)
                span = np.float32(image.max() - image.min())
                noisy[row] = np.minimum(np.maximum(image + np.float32(0.2) * span * noise, 0), 1)
            total += method.explain(network, noisy, TARGETS).heatmaps
        means.append(total / 3)
    expected = [
        np.mean([spearmanr(own.ravel(), new[row].ravel()).statistic for new in means[1:]])
        for row, own in enumerate(means[0])
    ]
    found = measure("smooth_mprt", classifier, method, samples=3, noise=0.2, stages=2, seed=3)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_noise_that_leaves_no_map_to_compare_is_undefined() -> None:
    heatmaps = RNG.random((2, 9, 9)).astype(np.float32)
    flat = explained(lambda classifier: np.stack([heatmaps[0], np.zeros_like(heatmaps[1])]))
    with pytest.raises(UndefinedMeasurementError, match=r"over 10 noisy images, .* zero") as caught:
        smooth_mprt(Layers(), heatmaps, flat)
    assert set(caught.value.reasons) == {1}


@pytest.mark.parametrize("name", ALL)
def test_a_value_does_not_depend_on_batch_mates_order_or_the_scale_of_maps(name: str) -> None:
    classifier = SmallCNN().classifier()
    settings = {"samples": 2} if name == "smooth_mprt" else {}
    together = measure(name, classifier, Saliency(), **settings)
    backwards = measure(name, classifier, Saliency(), slice(None, None, -1), **settings)
    alone = [measure(name, classifier, Saliency(), [i], **settings)[0] for i in range(4)]
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-4)
    np.testing.assert_allclose(alone, together, atol=1e-4)
    maps = of_network(Saliency(), IMAGES)
    scaled = METRICS[name].function(
        classifier, maps(classifier), lambda *given: 8 * maps(*given), **settings
    )
    np.testing.assert_allclose(scaled, together, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_the_seed_decides_and_passes_are_counted_by_the_classifier(name: str) -> None:
    classifier = SmallCNN().classifier()
    settings = {"samples": 2} if name == "smooth_mprt" else {}
    first = measure(name, classifier, Saliency(), seed=0, **settings)
    passes = {"smooth_mprt": 4 + 2 * 4 * 5, "efficient_mprt": 4 + 4}.get(name, 4 + 4 * 4)
    assert (classifier.passes.forwards, classifier.passes.gradients) == (0, passes)
    again = measure(name, classifier, Saliency(), seed=0, **settings)
    other = measure(name, classifier, Saliency(), seed=1, **settings)
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    from xai_core import load_classifier

    classifier = load_classifier("demo")
    return Evaluation(classifier, load_imageset("demo", size=classifier.size, limit=12))


GRADCAM = Method("gradcam", GradCAM())
GUIDED = Method("guided_backprop", GuidedBackprop())


@pytest.mark.parametrize("null", ["centre", "sobel", "random"])
@pytest.mark.parametrize("name", ALL)
def test_a_null_map_never_changes_and_so_is_caught(
    evaluation: Evaluation, name: str, null: str
) -> None:
    settings = {"samples": 2} if name == "smooth_mprt" else {}
    metric = METRICS[name].configure(settings)
    found = evaluation.measure_null(null, GRADCAM, metric).values
    np.testing.assert_allclose(found, 0 if name == "efficient_mprt" else 1, atol=1e-12)


@pytest.mark.parametrize("similarity", ["spearman", "spearman_abs", "ssim", "hog"])
def test_cascading_tells_grad_cam_from_guided_backpropagation_as_the_paper_does(
    evaluation: Evaluation, similarity: str
) -> None:
    metric = METRICS["mprt_cascading"].configure({"similarity": similarity})
    gradcam = evaluation.measure(GRADCAM, metric).mean
    guided = evaluation.measure(GUIDED, metric).mean
    assert gradcam < 0.35
    assert guided > gradcam + 0.03
    if similarity.startswith("spearman"):
        assert guided > 0.6


def test_a_gate_can_hold_it_against_null_maps_and_the_skill_is_finite(
    evaluation: Evaluation,
) -> None:
    metric = METRICS["mprt_cascading"].configure({})
    judgement = judge(evaluation, GRADCAM, metric, Conditions(beats=("centre", "sobel")))
    assert judgement.passes(strict=True)
    own = evaluation.measure(GRADCAM, metric).mean
    null = evaluation.measure_null("centre", GRADCAM, metric).mean
    expected = (1 - own) / 2  # the best value is -1, the null's is 1
    assert skill(own, null, perfect=metric.metric.perfect) == pytest.approx(expected)


@pytest.mark.parametrize("name", ALL)
def test_a_classifier_without_weights_at_hand_is_refused(name: str) -> None:
    class BlackBox:
        name = "box.onnx"

    class Weightless(Layers):
        def parameter_layers(self) -> list[str]:
            return []

    heatmaps = RNG.random((2, 9, 9)).astype(np.float32)
    maps = explained(lambda classifier: heatmaps)
    with pytest.raises(ClassifierError, match=r"box\.onnx .* torch module"):
        METRICS[name].function(BlackBox(), heatmaps, maps)
    with pytest.raises(ClassifierError, match="no weights"):
        METRICS[name].function(Weightless(), heatmaps, maps)


@pytest.mark.parametrize("name", ALL)
def test_maps_of_another_shape_are_refused(name: str) -> None:
    heatmaps = RNG.random((2, 9, 9)).astype(np.float32)
    with pytest.raises(ShapeError, match=r"explained_by: .* \(2, 9, 9\), got \(1, 9, 9\)"):
        METRICS[name].function(Layers(), heatmaps, explained(lambda classifier: heatmaps[:1]))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("mprt_cascading", "order", "sideways"),
        ("mprt_cascading", "stages", 0),
        ("mprt_independent", "similarity", "cosine"),
        ("smooth_mprt", "samples", 0),
        ("smooth_mprt", "noise", 0.0),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, setting: str, value: object) -> None:
    with pytest.raises(ParameterError, match=setting):
        METRICS[name].configure({setting: value})
