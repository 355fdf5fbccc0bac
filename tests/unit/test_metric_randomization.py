"""Random logits and networks trained on permuted labels, against plain loops and null maps."""

from __future__ import annotations

import sys
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from xai_core import load_classifier
from xai_core.checks import SmallCNN
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.demo.network import MEAN, STD, DemoNet
from xai_core.demo.scenes import CLASSES, scene
from xai_core.errors import ClassifierError, ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import GradCAM, IntegratedGradients
from xai_core.imageset import load_imageset
from xai_core.metrics import METRICS, data_randomization, random_logit

RNG = np.random.default_rng(7)
IMAGES = RNG.random((5, 3, 24, 32)).astype(np.float32)
TARGETS = np.array([0, 1, 2, 0, 1])


class Classes:
    """All that `random_logit` asks of a classifier."""

    def __init__(self, count: int) -> None:
        self.num_classes = count


def by_class(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Some heatmap that depends on image and class, pixel by pixel."""
    weights = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    return np.einsum("nchw,nc->nhw", images, weights[targets])


HEATMAPS = by_class(IMAGES, TARGETS)


def asked(**settings: Any) -> np.ndarray:
    """The classes that `random_logit` asks to be explained."""
    classes: list[np.ndarray] = []

    def explain(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        classes.append(targets)
        return by_class(images, targets)

    count = settings.pop("count", 3)
    images = settings.pop("images", IMAGES)
    targets = settings.pop("targets", TARGETS)
    heatmaps = by_class(images, targets)
    random_logit(Classes(count), explain, images, targets, heatmaps, **settings)
    assert len(classes) == 1  # one explanation for each image
    return classes[0]


def test_the_other_class_is_never_the_target_and_every_other_as_likely() -> None:
    images = RNG.random((600, 3, 3, 3)).astype(np.float32)
    drawn = asked(images=images, targets=np.full(600, 2), count=4)
    counts = Counter(drawn.tolist())
    assert set(counts) == {0, 1, 3}
    assert all(150 < count < 250 for count in counts.values())
    assert (asked(count=2, targets=np.array([0, 1, 0, 1, 1])) == [1, 0, 1, 0, 0]).all()


def test_the_seed_decides_the_class_and_batch_mates_do_not() -> None:
    images, targets = np.tile(IMAGES, (8, 1, 1, 1)), np.tile(TARGETS, 8)
    images = images * RNG.random((40, 1, 1, 1)).astype(np.float32)
    first, again, other = (
        asked(images=images, targets=targets, count=50, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.8
    backwards = asked(images=images[::-1], targets=targets[::-1], count=50)
    np.testing.assert_array_equal(first, backwards[::-1])


@pytest.mark.parametrize("similarity", ["ssim", "spearman"])
def test_random_logit_is_the_similarity_to_the_other_classs_map(similarity: str) -> None:
    from scipy.stats import spearmanr
    from skimage.metrics import structural_similarity

    def scaled(heatmap: np.ndarray) -> np.ndarray:
        return (heatmap.astype(np.float64) - heatmap.min()) / np.ptp(heatmap.astype(np.float64))

    others = by_class(IMAGES, asked())
    expected = [
        structural_similarity(scaled(own), scaled(other), data_range=1.0)
        if similarity == "ssim"
        else spearmanr(own.ravel(), other.ravel()).statistic
        for own, other in zip(HEATMAPS, others, strict=True)
    ]
    found = random_logit(Classes(3), by_class, IMAGES, TARGETS, HEATMAPS, similarity=similarity)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (np.abs(found) < 0.999).all()
    larger = random_logit(
        Classes(3), lambda *x: 3 * by_class(*x), IMAGES, TARGETS, HEATMAPS, similarity=similarity
    )
    np.testing.assert_allclose(larger, expected, atol=1e-5)


def test_a_map_that_ignores_the_class_has_similarity_one_and_an_empty_one_zero() -> None:
    def odd(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        maps = HEATMAPS.copy()
        maps[3] = 0.0
        return maps

    found = random_logit(Classes(3), odd, IMAGES, TARGETS, HEATMAPS)
    np.testing.assert_allclose(found, [1, 1, 1, 0, 1])


def test_maps_of_the_other_class_must_be_finite_and_of_the_same_shape() -> None:
    def broken(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        maps = HEATMAPS.copy()
        maps[1, 0, 0] = np.nan
        return maps

    with pytest.raises(UndefinedMeasurementError, match="for another class") as caught:
        random_logit(Classes(3), broken, IMAGES, TARGETS, HEATMAPS)
    assert set(caught.value.reasons) == {1}
    with pytest.raises(ShapeError, match="explain: expected"):
        random_logit(Classes(3), lambda i, t: HEATMAPS[:, 1:], IMAGES, TARGETS, HEATMAPS)


def of_models(monkeypatch: pytest.MonkeyPatch, **functions: Callable[[], object]) -> None:
    """Make functions importable from the module ``our_models``."""
    module = types.ModuleType("our_models")
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, "our_models", module)


def explained_with(method: Any) -> Callable[..., np.ndarray]:
    return lambda classifier, change=None: method.explain(classifier, IMAGES, TARGETS).heatmaps


def test_data_randomization_is_the_similarity_to_the_map_under_the_model_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scipy.stats import spearmanr

    classifier, other = SmallCNN().classifier(), SmallCNN(seed=5).classifier()
    of_models(
        monkeypatch,
        module=SmallCNN(seed=5).module,  # gets the classifier's normalisation
        classifier=lambda: other,  # brings its own
        same=SmallCNN().module,
    )
    explain = explained_with(GradCAM())
    heatmaps = explain(classifier)
    expected = [
        spearmanr(a.ravel(), b.ravel()).statistic
        for a, b in zip(heatmaps, explain(other), strict=True)
    ]
    for name in ("module", "classifier"):
        found = data_randomization(classifier, heatmaps, explain, model=f"our_models:{name}")
        np.testing.assert_allclose(found, expected, atol=1e-4)
    found = data_randomization(classifier, heatmaps, explain, model="our_models:same")
    np.testing.assert_allclose(found, 1.0, atol=1e-4)
    passes = classifier.passes.gradients
    data_randomization(classifier, heatmaps, explain, model="our_models:module")
    assert classifier.passes.gradients == passes + 5


def test_a_model_that_cannot_be_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = SmallCNN().classifier()
    explain = explained_with(GradCAM())
    heatmaps = explain(classifier)
    of_models(monkeypatch, five=SmallCNN(classes=5).module)

    class BlackBox(Classes):
        name = "box.onnx"

    with pytest.raises(ParameterError, match=r"needs its setting model='package\.module:function'"):
        data_randomization(classifier, heatmaps, explain)
    with pytest.raises(ClassifierError, match=r"has 5 classes, .* 3; give the same architecture"):
        data_randomization(classifier, heatmaps, explain, model="our_models:five")
    with pytest.raises(ClassifierError, match="'four'"):
        data_randomization(classifier, heatmaps, explain, model="our_models:four")
    with pytest.raises(ClassifierError, match=r"box\.onnx is none: return a Classifier"):
        data_randomization(BlackBox(5), heatmaps, explain, model="our_models:five")


def trained_on_permuted_labels() -> nn.Module:
    """The demo's architecture after it has learnt 60 shuffled labels by heart."""
    torch.manual_seed(0)
    scenes = [scene(500 + i, label=i % len(CLASSES), watermark="random") for i in range(60)]
    images = (torch.from_numpy(np.stack([one.image for one in scenes])) - MEAN[0]) / STD[0]
    labels = torch.tensor([one.label for one in scenes])[torch.randperm(60)]
    network = DemoNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=8e-3)
    for _ in range(100):  # how many it takes differs between processors, as roundings do
        for batch in torch.split(torch.randperm(60), 30):
            loss = nn.functional.cross_entropy(network.train()(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            if bool((network.eval()(images).argmax(1) == labels).all()):
                return network
    raise AssertionError("it never learnt all of them")


def test_maps_of_the_demo_change_when_it_learns_permuted_labels_and_null_maps_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with torch.random.fork_rng(devices=[]):
        network = trained_on_permuted_labels()
    of_models(monkeypatch, permuted=lambda: network)
    classifier: Classifier = load_classifier("demo")
    assert isinstance(classifier, TorchClassifier)
    evaluation = Evaluation(classifier, load_imageset("demo", size=classifier.size, limit=12))
    metric = METRICS["data_randomization"].configure({"model": "our_models:permuted"})
    for explainer in (GradCAM(), IntegratedGradients(steps=5)):
        found = evaluation.measure(Method(explainer.kind, explainer), metric)
        assert found.mean < 0.6, explainer
        assert (found.values < 0.9).all()
    for null in ("centre", "sobel"):
        values = evaluation.measure_null(null, Method("gradcam", GradCAM()), metric).values
        np.testing.assert_allclose(values, 1.0)


def test_grad_cam_tells_classes_apart_and_null_maps_do_not() -> None:
    classifier = load_classifier("demo")
    evaluation = Evaluation(classifier, load_imageset("demo", size=classifier.size, limit=12))
    metric, method = METRICS["random_logit"].configure({}), Method("gradcam", GradCAM())
    assert evaluation.measure(method, metric).mean < 0.5
    for null in ("centre", "sobel", "random"):
        np.testing.assert_allclose(evaluation.measure_null(null, method, metric).values, 1.0)
