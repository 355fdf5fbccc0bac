"""Concept maps and attributions (Visual-TCAV): against plain loops, closed forms and the demo."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache

import numpy as np
import pytest
import torch
from forward_only import ForwardOnly
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier, load_classifier
from xai_core.concepts import layer_activations
from xai_core.concepts.loading import ConceptLibrary, concept_set
from xai_core.concepts.map_fitting import ConceptMaps, contraharmonic_means, fit_concept_mapper
from xai_core.concepts.maps import ConceptMapper, pattern_cav
from xai_core.demo.scenes import CLASSES, concept_images, scene
from xai_core.errors import ClassifierError, ConceptError, ParameterError, ShapeError
from xai_core.statistics import mean_interval
from xai_core.torchvision_import import import_torchvision

RNG = np.random.default_rng(3)
SIZE = (12, 10)
CONCEPT = RNG.random((20, 3, *SIZE), dtype=np.float32) * np.float32(0.4)
CONCEPT[:, 0] += 0.6
RANDOM = RNG.random((25, 3, *SIZE), dtype=np.float32) * np.float32(0.4)
IMAGES = RNG.random((4, 3, *SIZE), dtype=np.float32) * np.float32(0.4)
IMAGES[:, 0, :, :5] += 0.6
TARGETS = np.array([0, 1, 2, 1])


def net(*, relu: bool, seed: int = 3) -> nn.Sequential:
    """A layer that has negative values unless a ReLU ends it, and a head with kinks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 6, 3, padding=1, stride=2),
                layer=nn.ReLU() if relu else nn.Tanh(),
                mixed=nn.Conv2d(6, 5, 3, padding=1),
                after=nn.SiLU(),
                pool=nn.AdaptiveAvgPool2d(2),
                flatten=nn.Flatten(),
                linear=nn.Linear(20, 3),
            )
        ).eval()


def classifier_of(
    module: nn.Module, size: tuple[int, int] = SIZE, **options: int
) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=size, **options)


class PlainLoops:
    """Visual-TCAV as the paper tells it: one image, one position, one channel at a time."""

    def __init__(self, module: nn.Module, steps: int) -> None:
        self.below = module[:2]
        self.above = module[2:]
        self.steps = steps
        shown, other = ([self.features(image) for image in some] for some in (CONCEPT, RANDOM))
        channels = range(len(shown[0]))
        self.cav = [
            sum(float(f[c].mean()) for f in shown) / len(shown)
            - sum(float(f[c].mean()) for f in other) / len(other)
            for c in channels
        ]
        self.positive, self.negative = (
            sorted_median([self.emblem(f) for f in some]) for some in (shown, other)
        )

    def features(self, image: np.ndarray) -> Tensor:
        with torch.no_grad():
            return self.below(torch.from_numpy(image)[None])[0]

    def strength(self, features: Tensor, row: int, column: int) -> float:
        along = sum(v * float(f[row, column]) for v, f in zip(self.cav, features, strict=True))
        return max(0.0, along)

    def emblem(self, features: Tensor) -> float:
        _, height, width = features.shape
        found = [self.strength(features, i, j) for i in range(height) for j in range(width)]
        return sum(s * s for s in found) / sum(found) if sum(found) else 0.0

    def map(self, features: Tensor) -> np.ndarray:
        _, height, width = features.shape
        found = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                s = self.strength(features, i, j)
                share = (s - self.negative) / (self.positive - self.negative)
                found[i, j] = min(1.0, max(0.0, share))
        return found

    def share(self, features: Tensor, target: int) -> float:
        with torch.no_grad():
            raised = self.above(features[None])[0] - self.above(0 * features[None])[0]
        return max(0.0, float(raised[target] / raised.max()))

    def attribution(self, features: Tensor, target: int) -> float:
        integral = torch.zeros_like(features)
        for k in range(self.steps + 1):
            point = (features * k / self.steps).requires_grad_()
            (gradient,) = torch.autograd.grad(self.above(point[None])[0, target], point)
            integral += gradient * (0.5 if k in (0, self.steps) else 1.0) / self.steps
        positive = (features * integral).clamp_min(0)
        seen = self.map(features)
        carried, weights = [], []
        for c, v in enumerate(self.cav):
            negative = float((torch.from_numpy(seen) * features[c]).sum()) < 0
            weights.append(max(0.0, -v if negative else v))
            carried.append(float((torch.from_numpy(seen) * positive[c]).sum() / positive.sum()))
        return (
            self.share(features, target)
            * sum(w * a for w, a in zip(weights, carried, strict=True))
            / max(weights)
        )


def sorted_median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else sum(ordered[middle - 1 : middle + 1]) / 2


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("batch_size", [3, 64])
def test_maps_and_attributions_are_those_of_the_plain_loops(relu: bool, batch_size: int) -> None:
    module = net(relu=relu)
    plain = PlainLoops(module, steps=8)
    mapper = fit_concept_mapper(
        classifier_of(module, batch_size=batch_size),
        CONCEPT,
        RANDOM,
        layer="layer",
        steps=8,
        rule="trapezoid",
    )
    np.testing.assert_allclose(mapper.cav, plain.cav, rtol=1e-5, atol=1e-7)
    assert mapper.positive_emblem == pytest.approx(plain.positive, rel=1e-4)
    assert mapper.negative_emblem == pytest.approx(plain.negative, rel=1e-4)
    expected = np.stack([plain.map(plain.features(image)) for image in IMAGES])
    native = mapper.native_maps(IMAGES)
    np.testing.assert_allclose(native, expected, atol=2e-4)
    assert 0 < expected.mean() < 1
    features = [plain.features(image) for image in IMAGES]
    shares = []
    for targets in (TARGETS, (TARGETS + 1) % 3, (TARGETS + 2) % 3):
        values = mapper.attributions(IMAGES, targets)
        wanted = [plain.attribution(f, int(t)) for f, t in zip(features, targets, strict=True)]
        np.testing.assert_allclose(values, wanted, rtol=2e-3, atol=1e-5)
        assert max(wanted) > 0.01
        shares += [plain.share(f, int(t)) for f, t in zip(features, targets, strict=True)]
    assert {0.0, 1.0} < set(shares)  # and some between
    large = torch.nn.functional.interpolate(
        torch.from_numpy(native)[:, None], size=SIZE, mode="bilinear"
    )
    np.testing.assert_allclose(mapper.maps(IMAGES), large[:, 0].numpy(), atol=1e-6)


def test_where_channels_are_negative_the_sign_matters() -> None:
    """Otherwise the plain loops' rule for the sign would not be tried at all."""
    module = net(relu=False)
    plain = PlainLoops(module, steps=4)
    features = [plain.features(image) for image in IMAGES]
    sums = [[float((torch.from_numpy(plain.map(f)) * c).sum()) for c in f] for f in features]
    assert any(s < 0 and v != 0 for row in sums for s, v in zip(row, plain.cav, strict=True))


@cache
def demo(concept: str) -> ConceptMapper:
    classifier = load_classifier("demo")
    examples = (concept_images(name, count) for name, count in ((concept, 30), ("random", 60)))
    return fit_concept_mapper(classifier, *examples)


def scenes(label: int, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    made = [scene(500 + i, label=label, watermark="none") for i in range(count)]
    return np.stack([s.image for s in made]), np.stack([s.mask for s in made])


def test_below_a_linear_head_the_attribution_has_a_closed_form() -> None:
    """The gradient is the weight, whatever the activations: no integral is left."""
    mapper = demo("striped")
    images, _ = scenes(0, 3)
    linear = mapper.classifier.private_module().model.linear
    weights, bias = linear.weight.double().numpy(), linear.bias.double().numpy()
    activations = (
        mapper.classifier.activations(torch.from_numpy(images), "features").double().numpy()
    )
    maps = mapper.native_maps(images).astype(np.float64)
    for target in (0, 1):
        positive = np.maximum(activations * weights[target][None, :, None, None], 0)
        rises = np.maximum(activations.mean(axis=(2, 3)) @ weights.T, 0)
        logits = mapper.classifier.logits(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(
            activations.mean(axis=(2, 3)) @ weights.T + bias, logits, rtol=1e-3, atol=1e-3
        )
        masked = np.einsum("nhw,nchw->nc", maps, positive) / positive.sum(axis=(1, 2, 3))[:, None]
        up = np.maximum(mapper.cav, 0) / mapper.cav.max()
        expected = rises[:, target] / rises.max(axis=1) * (masked @ up)
        found = mapper.attributions(images, target)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
        assert (found > 0).any() or not rises[:, target].any()


@pytest.mark.parametrize(("concept", "label"), [("striped", 0), ("striped", 3), ("dotted", 1)])
def test_the_map_of_a_texture_lies_on_the_demo_s_objects_of_that_texture(
    concept: str, label: int
) -> None:
    images, masks = scenes(label)
    maps = demo(concept).maps(images)
    inside = (maps * masks).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    rows, columns = np.indices(masks.shape[1:]) - (masks.shape[1] - 1) / 2
    centre = np.exp(-(rows**2 + columns**2) / (2 * 16**2))
    by_centre = (centre * masks).sum(axis=(1, 2)) / centre.sum()
    assert inside.mean() > 3 * by_centre.mean()
    assert (inside > by_centre).all()


@pytest.mark.parametrize("shape", [0, 3])
def test_objects_of_another_texture_are_seen_half_as_strongly(shape: int) -> None:
    strengths = []
    for texture in range(3):
        images, masks = scenes(shape + texture)
        strengths.append((demo("striped").maps(images) * masks).sum() / masks.sum())
    assert CLASSES[shape].startswith("striped")
    assert strengths[0] > 0.6
    assert strengths[0] > 1.7 * max(strengths[1:])


def test_a_texture_is_attributed_to_the_classes_that_are_made_of_it() -> None:
    found = {}
    for label in range(6):
        images, _ = scenes(label)
        found[label] = demo("striped").global_attribution(images, label)
    others = [found[label] for label in range(6) if label not in (0, 3)]
    for label in (0, 3):
        assert found[label].interval.low > max(other.interval.high for other in others)
        assert found[label].mean > 4 * max(other.mean for other in others)


def test_the_global_attribution_is_the_mean_of_the_local_ones_with_a_bootstrap_interval() -> None:
    mapper = demo("striped")
    images, _ = scenes(0, 6)
    found = mapper.global_attribution(images, 0, confidence=0.9, seed=3)
    local = mapper.attributions(images, np.zeros(6, dtype=np.int64))
    np.testing.assert_array_equal(found.values, local)
    assert found.mean == pytest.approx(local.mean())
    assert found.interval == mean_interval(local, confidence=0.9, bounds=(0, 1), seed=3)
    assert found.interval.low < found.mean < found.interval.high
    assert ((local >= 0) & (local <= 1)).all()


def test_a_class_that_the_activations_do_not_raise_gets_nothing() -> None:
    mapper = demo("striped")
    images, _ = scenes(0, 4)
    own = mapper.classifier.activations(torch.from_numpy(images), "features").mean(dim=(2, 3))
    rises = own @ mapper.classifier.private_module().model.linear.weight.T
    image, target = np.argwhere(rises.numpy() < 0)[0]
    assert mapper.attributions(images[image], int(target)).tolist() == [0.0]


def test_an_attribution_takes_five_forward_passes_and_the_steps() -> None:
    classifier = classifier_of(net(relu=True))
    mapper = fit_concept_mapper(classifier, CONCEPT, RANDOM, layer="layer", steps=7)
    assert (classifier.passes.forwards, classifier.passes.gradients) == (45, 0)
    mapper.attributions(IMAGES, TARGETS)
    assert (classifier.passes.forwards - 45, classifier.passes.gradients) == (4 * 5, 4 * 7)


def test_activations_that_do_not_fit_are_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = fit_concept_mapper(
        classifier_of(net(relu=True), batch_size=3), CONCEPT, RANDOM, layer="layer"
    )
    monkeypatch.setattr(layer_activations, "_MOST_BYTES", 6 * 6 * 5 * 4 * 22)
    classifier = classifier_of(net(relu=True), batch_size=3)
    anew = fit_concept_mapper(classifier, CONCEPT, RANDOM, layer="layer")
    assert classifier.passes.forwards == 20 + 2 * 25
    np.testing.assert_array_equal(anew.cav, kept.cav)
    assert anew.positive_emblem == kept.positive_emblem
    assert anew.negative_emblem == kept.negative_emblem


def _vit(models: object) -> nn.Module:
    return models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4
    )  # fmt: skip


ARCHITECTURES = {
    "resnet": lambda models: models.resnet18(num_classes=4),
    "densenet": lambda models: models.DenseNet(8, (2, 2, 2, 2), 16, num_classes=4),
    "convnext": lambda models: models.ConvNeXt(
        [models.convnext.CNBlockConfig(16, 32, 1), models.convnext.CNBlockConfig(32, None, 1)], num_classes=4
    ),
    "vit": _vit,
}  # fmt: skip


FINE = {"resnet": "layer1", "densenet": "features.transition1", "convnext": None, "vit": None}
"""Layers that have four columns or more, and see one half at a time."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_works_on_the_networks_of_torchvision(name: str) -> None:
    """A brightly coloured left half is the concept; random weights tell colours apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = ARCHITECTURES[name](import_torchvision().models)
        if name == "vit":
            nn.init.normal_(module.heads.head.weight)
    size = (64, 64) if name in ("resnet", "densenet") else (32, 32)
    rng = np.random.default_rng(4)
    random = rng.random((20, 3, *size), dtype=np.float32) * 0.2 + 0.4
    shown = random.copy()
    shown[:, 0] = 1.0
    classifier = TorchClassifier(module.eval(), name=name, size=size)
    mapper = fit_concept_mapper(classifier, shown, random, steps=3)
    assert mapper.layer == classifier.default_layer()
    images = random[:3].copy()
    images[..., : size[1] // 2] = shown[:3, ..., : size[1] // 2]
    maps, native = mapper.maps(images), mapper.native_maps(images)
    assert maps.shape == (3, *size)
    assert native.shape[1] > 1
    assert native.shape[1] < size[0]
    assert ((native >= 0) & (native <= 1)).all()
    assert (mapper.maps(shown).mean(axis=(1, 2)) > mapper.maps(random).mean(axis=(1, 2))).all()
    fine = fit_concept_mapper(classifier, shown, random, layer=FINE[name]).native_maps(images)
    half = fine.shape[2] // 2
    assert half >= 2
    assert (fine[..., :half].mean(axis=(1, 2)) > fine[..., half:].mean(axis=(1, 2)) + 0.1).all()
    alone = mapper.native_maps(images[1])
    np.testing.assert_allclose(alone, native[1:2], atol=1e-4)
    top = classifier.logits(torch.from_numpy(images)).argmax(dim=1).numpy()
    values = mapper.attributions(images, top)
    assert ((values >= 0) & (values <= 1)).all()
    assert np.isfinite(values).all()


def test_contraharmonic_means_lean_towards_the_large_values() -> None:
    maps = RNG.random((5, 3, 4)) ** 3
    maps[2] = 0
    expected = [
        sum(float(s) ** 2 for s in m.ravel()) / sum(map(float, m.ravel())) if m.any() else 0.0
        for m in maps
    ]
    np.testing.assert_allclose(contraharmonic_means(maps), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("concept", "random", "complaint"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), r"of one length, got \(2, 3\) and \(2, 4\)"),
        (np.zeros(3), np.zeros((2, 3)), r"of one length, got \(3,\) and \(2, 3\)"),
        (np.zeros((0, 3)), np.zeros((2, 3)), "at least one vector on each side"),
        (np.zeros((2, 3)), np.full((2, 3), np.nan), "finite vectors, got NaN"),
    ],
)
def test_a_pattern_cav_of_vectors_that_do_not_fit_is_refused(
    concept: np.ndarray, random: np.ndarray, complaint: str
) -> None:
    with pytest.raises(ShapeError, match=complaint):
        pattern_cav(concept, random)


def test_a_concept_that_the_layer_does_not_tell_apart_is_no_map_of_zeros() -> None:
    complaint = (
        "layer 'layer' of small does not tell the concept 'concept' from its counterexamples: the "
        r"emblem of its images is \S+, theirs is \S+; name another layer, or give clearer examples"
    )
    with pytest.raises(ConceptError, match=complaint):
        fit_concept_mapper(classifier_of(net(relu=True)), RANDOM, RANDOM, layer="layer")


def test_what_makes_no_map_is_refused() -> None:
    classifier = classifier_of(net(relu=True))
    with pytest.raises(ConceptError, match="'concept' has 19 images; a concept map needs 20"):
        fit_concept_mapper(classifier, CONCEPT[:19], RANDOM)
    with pytest.raises(ConceptError, match="'random' has 19 images; a concept map needs 20"):
        fit_concept_mapper(classifier, CONCEPT, RANDOM[:19])
    with pytest.raises(ParameterError, match="`steps` must be at least 1, got 0"):
        fit_concept_mapper(classifier, CONCEPT, RANDOM, layer="layer", steps=0)
    blind = ForwardOnly(lambda images: images.mean(dim=(2, 3)))
    with pytest.raises(
        ClassifierError, match=r"a concept map reads the layers .* use a torch model"
    ):
        fit_concept_mapper(blind, CONCEPT, RANDOM, layer="layer")
    mapper = fit_concept_mapper(classifier, CONCEPT, RANDOM, layer="layer")
    with pytest.raises(ParameterError, match="got 3 targets for 4 images"):
        mapper.attributions(IMAGES, TARGETS[:3])
    with pytest.raises(ParameterError, match="at least one image"):
        mapper.maps(IMAGES[:0])
    with pytest.raises(ClassifierError, match="target 3 is out of range"):
        mapper.attributions(IMAGES, 3)


def library() -> ConceptLibrary:
    concepts = {
        "reddish": concept_set("reddish", CONCEPT),
        "other": concept_set("other", CONCEPT[:, [0, 0, 1]]),
    }
    return ConceptLibrary("mine", concepts, concept_set("random", RANDOM))


def test_the_maps_of_a_library_are_made_once_for_each_concept_layer_and_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier = classifier_of(net(relu=True))
    maps = ConceptMaps(library())
    found = maps(classifier, "reddish", "layer", IMAGES)
    assert classifier.passes.forwards == 45 + 4
    expected = fit_concept_mapper(classifier_of(net(relu=True)), CONCEPT, RANDOM, layer="layer")
    np.testing.assert_array_equal(found, expected.maps(IMAGES))
    maps(classifier, "reddish", "layer", IMAGES)
    assert classifier.passes.forwards == 45 + 4 + 4
    maps(classifier, "other", "layer", IMAGES)  # the counterexamples are known
    assert classifier.passes.forwards == 45 + 8 + 20 + 4
    other = classifier_of(net(relu=True, seed=8))  # the same name, other weights
    assert maps.mapper(other, "reddish", "layer").classifier is other
    assert maps.mapper(classifier, "reddish", "conv").layer == "conv"
    monkeypatch.setattr(classifier, "default_layer", lambda: "layer")
    assert maps.mapper(classifier, "reddish") is maps.mapper(classifier, "reddish", "layer")


def test_an_unknown_concept_names_the_known_ones() -> None:
    with pytest.raises(ConceptError, match="mine: no concept 'redish': did you mean 'reddish'"):
        ConceptMaps(library())(classifier_of(net(relu=True)), "redish", "layer", IMAGES)
