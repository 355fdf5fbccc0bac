"""Gradients at given activations of a layer, and their integral from zero."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from forward_only import ForwardOnly
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier, load_classifier
from xai_core.concepts.layer_gradients import integrated_from, layer_integrated_gradients
from xai_core.demo.scenes import scene
from xai_core.errors import ClassifierError, LayerError, ParameterError
from xai_core.torchvision_import import import_torchvision

SIZE = (12, 10)
TARGETS = np.array([0, 1, 2])
IMAGES = np.random.default_rng(5).random((3, 3, *SIZE), dtype=np.float32)
FIRST = torch.from_numpy(IMAGES[:1])


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Below(nn.Module):
    """Notes the images that run below the layer; shared by every copy, opaque to torch.fx."""

    __module__ = "torch.nn.below"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def __deepcopy__(self, memo: dict[int, object]) -> Below:
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x


def net(
    after: nn.Module | None = None, *, bias: bool = False, below: nn.Module | None = None
) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            OrderedDict(
                below=below or nn.Identity(),
                conv=nn.Conv2d(3, 4, 3, padding=1, bias=bias),
                relu=nn.ReLU(),
                mixed=nn.Conv2d(4, 5, 3, padding=1, bias=False),
                after=after or nn.Identity(),
                pool=nn.AdaptiveAvgPool2d(2),
                flatten=nn.Flatten(),
                linear=nn.Linear(20, 3, bias=bias),
            )
        ).eval()


class SkipsItself(nn.Module):
    """The layer ``side`` is bypassed by its own input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side = nn.Conv2d(3, 2, 3), nn.Conv2d(2, 2, 1)
        self.square, self.linear = Square(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        both = torch.cat([stem, self.square(self.side(stem)) * stem], dim=1)
        return self.linear(both.mean(dim=(2, 3)))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.square, self.linear = nn.Conv2d(3, 4, 3), Square(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) if x.sum() > -1e9 else x
        return self.linear(self.square(x).mean(dim=(2, 3)))


def vit() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = import_torchvision().models.VisionTransformer(
            image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3
        )  # fmt: skip
        nn.init.normal_(made.heads.head.weight)
    return made.eval()


def classifier_of(
    module: nn.Module, size: tuple[int, int] = SIZE, **options: int
) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=size, **options)


def some_activations(like: Tensor, count: int) -> Tensor:
    return torch.randn(count, *like.shape[1:], generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("module", "layer"),
    [(net(Square()), "relu"), (net(Square()), "mixed"), (SkipsItself(), "side"), (Untraceable(), "conv")],
    ids=["below", "beside", "bypassed", "untraceable"],
)  # fmt: skip
def test_the_gradients_are_the_finite_differences_of_the_logits(
    module: nn.Module, layer: str
) -> None:
    """Every logit is quadratic in the layer, so a central difference has no error of its own."""
    classifier = classifier_of(module)
    given = some_activations(classifier.activations(FIRST, layer), 2)
    (found,) = classifier.gradients_from(FIRST, 1, layer, [given])
    places = [(0, 0, 0, 0), (0, 1, 4, 3), (1, 1, 2, 7), (1, 0, 7, 6)]
    for place in places:
        step = torch.zeros_like(given)
        step[place] = 0.5
        ends = classifier.logits_from(FIRST, layer, [given + step, given - step])
        expected = (ends[place[0], 1] - ends[2 + place[0], 1]) / 1.0
        assert found.gradients[place].item() == pytest.approx(expected.item(), rel=2e-4, abs=2e-6)
    assert found.gradients.abs().max() > 1e-3
    torch.testing.assert_close(found.logits, classifier.logits_from(FIRST, layer, [given])[:, 1])
    torch.testing.assert_close(found.activations, given)


def test_at_the_image_s_own_activations_they_are_the_gradients_of_the_image() -> None:
    for classifier, image in ((classifier_of(net(Square())), FIRST), (classifier_of(vit(), (16, 16)), torch.rand(1, 3, 16, 16))):  # fmt: skip
        layer = classifier.default_layer()
        expected = classifier.gradients(image, torch.tensor([2]), layer)
        (found,) = classifier.gradients_from(image, 2, layer, [expected.activations])
        for got, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
        assert found.gradients.shape == found.activations.shape


def test_batches_are_answered_one_by_one_and_only_what_follows_the_layer_runs() -> None:
    below = Below()
    classifier = classifier_of(net(Square(), below=below))
    own = classifier.activations(FIRST, "relu")
    list(classifier.gradients_from(FIRST, 0, "relu", [own]))
    below.seen.clear()
    before = classifier.passes.forwards, classifier.passes.gradients
    asked: list[int] = []

    def batches() -> Iterator[Tensor]:
        for count in (2, 3):
            asked.append(count)
            yield own.repeat(count, 1, 1, 1)

    answers = classifier.gradients_from(FIRST, 0, "relu", batches())
    assert (len(next(answers).logits), asked) == (2, [2])
    assert [len(one.logits) for one in answers] == [3]
    assert below.seen == [1]
    passes = classifier.passes
    assert (passes.forwards - before[0], passes.gradients - before[1]) == (1, 5)


def test_the_given_activations_stay_as_they_are_where_the_model_changes_its_own() -> None:
    module = net()
    module.relu = nn.ReLU(inplace=True)
    classifier = classifier_of(module)
    given = some_activations(classifier.activations(FIRST, "conv"), 2)
    kept = given.clone()
    (found,) = classifier.gradients_from(FIRST, 0, "conv", [given])
    assert torch.equal(given, kept)
    assert torch.equal(found.activations, kept)
    assert not found.gradients[given < 0].any()


def test_what_cannot_be_derived_is_refused() -> None:
    classifier = classifier_of(net())
    own = classifier.activations(FIRST, "relu")
    with pytest.raises(LayerError, match="no layer 'rellu': did you mean 'relu'"):
        classifier.gradients_from(FIRST, 0, "rellu", [own])
    with pytest.raises(ClassifierError, match="target 3 is out of range: small has 3 classes"):
        classifier.gradients_from(FIRST, 3, "relu", [own])
    cut = vit()
    layer = classifier_of(cut, (16, 16)).default_layer().replace("ln_1", "mlp")
    blind = classifier_of(cut, (16, 16))
    image = torch.rand(1, 3, 16, 16)
    with pytest.raises(LayerError, match="gets no gradient from the logits"):
        list(blind.gradients_from(image, 0, layer, [blind.activations(image, layer)]))


def by_hand(
    classifier: TorchClassifier, module: nn.Module, layer: str, nodes: np.ndarray, by: np.ndarray
) -> np.ndarray:
    """One image and one node at a time, on the whole module with the layer's output replaced."""
    result = []
    for image, target in zip(IMAGES, TARGETS, strict=True):
        batch = torch.from_numpy(image)[None]
        own = classifier.activations(batch, layer)
        total = torch.zeros_like(own)
        for node, weight in zip(nodes, by, strict=True):
            point = (float(node) * own).requires_grad_()
            hook = module.get_submodule(layer).register_forward_hook(lambda *_, p=point: p.clone())
            (gradient,) = torch.autograd.grad(module(batch)[0, int(target)], point)
            hook.remove()
            total += float(weight) * gradient
        result.append((own * total)[0].detach().numpy())
    return np.stack(result)


def test_the_integral_is_the_sum_over_the_path_one_point_at_a_time() -> None:
    module = net(nn.SiLU(), bias=True)
    trapezoid = np.full(9, 1 / 8)
    trapezoid[[0, -1]] = 1 / 16
    points, gauss = np.polynomial.legendre.leggauss(6)
    rules = {
        ("trapezoid", 8): (np.linspace(0, 1, 9), trapezoid),
        ("gauss-legendre", 6): ((points + 1) / 2, gauss / 2),
    }
    for (rule, steps), (nodes, by) in rules.items():
        for batch_size in (1, 4):  # images and nodes fall into batches of other sizes
            classifier = classifier_of(module, batch_size=batch_size)
            found = layer_integrated_gradients(
                classifier, IMAGES, TARGETS, "relu", steps=steps, rule=rule
            )
            expected = by_hand(classifier, module, "relu", nodes, by)
            assert np.abs(expected).max() > 1e-3
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
            assert (found.dtype, found.shape) == (np.float32, (3, 4, *SIZE))


def test_it_agrees_with_captum_where_the_baseline_s_activations_are_zero() -> None:
    """Captum starts from the activations of a black image, which are zero without a bias."""
    attr = pytest.importorskip("captum.attr")
    module = net(nn.SiLU())
    captum = attr.LayerIntegratedGradients(module, module.relu)
    expected = captum.attribute(
        torch.from_numpy(IMAGES),
        baselines=0,
        target=torch.from_numpy(TARGETS),
        n_steps=20,
        method="gausslegendre",
    )
    found = layer_integrated_gradients(classifier_of(module), IMAGES, TARGETS, "relu", steps=20)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_they_sum_to_what_the_activations_add_to_the_logit() -> None:
    cases = [
        (classifier_of(net(nn.SiLU(), bias=True)), IMAGES, "relu"),
        (classifier_of(SkipsItself()), IMAGES, "side"),
        (classifier_of(vit(), (16, 16)), np.random.default_rng(1).random((3, 3, 16, 16), dtype=np.float32), None),
    ]  # fmt: skip
    for classifier, images, layer in cases:
        found = layer_integrated_gradients(classifier, images, TARGETS, layer)
        layer = layer or classifier.default_layer()
        for image, target, attributions in zip(images, TARGETS, found, strict=True):
            batch = torch.from_numpy(image)[None]
            own = classifier.activations(batch, layer)
            at_image, at_zero = classifier.logits_from(batch, layer, [own, 0 * own])[:, target]
            assert attributions.sum() == pytest.approx((at_image - at_zero).item(), rel=1e-3)


def test_below_a_linear_head_they_are_activations_times_weights_exactly() -> None:
    classifier = load_classifier("demo")
    images = np.stack([scene(seed).image for seed in (1, 2)])
    found = layer_integrated_gradients(classifier, images, 4, steps=1)
    activations = classifier.activations(torch.from_numpy(images), "features").numpy()
    weights = classifier.private_module().model.linear.weight[4].numpy()
    positions = activations.shape[-1] * activations.shape[-2]
    expected = activations * weights[:, None, None] / positions
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_it_takes_two_forward_passes_and_the_steps_for_each_image() -> None:
    classifier = classifier_of(net(nn.SiLU()))
    layer_integrated_gradients(classifier, IMAGES, TARGETS, "relu", steps=7)
    assert (classifier.passes.forwards, classifier.passes.gradients) == (6, 21)


def test_no_batch_is_larger_than_the_classifier_s() -> None:
    sizes = []

    class Watch(nn.Module):
        __module__ = "torch.nn.watch"

        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return x

    classifier = classifier_of(net(Watch()), batch_size=3)
    sizes.clear()
    layer_integrated_gradients(classifier, IMAGES, TARGETS, "relu", steps=8)
    assert max(sizes) == 3


def test_wrong_inputs_say_what_is_wrong() -> None:
    classifier = classifier_of(net())
    with pytest.raises(ParameterError, match="`steps` must be at least 1, got 0"):
        layer_integrated_gradients(classifier, IMAGES, TARGETS, "relu", steps=0)
    with pytest.raises(ParameterError, match="`steps` must be at least 1, got 0"):
        integrated_from(
            classifier, FIRST, 0, "relu", classifier.activations(FIRST, "relu"), steps=0
        )
    with pytest.raises(ParameterError, match="got 2 targets for 3 images"):
        layer_integrated_gradients(classifier, IMAGES, TARGETS[:2], "relu")
    with pytest.raises(ParameterError, match="at least one image"):
        layer_integrated_gradients(classifier, IMAGES[:0], TARGETS[:0], "relu")
    with pytest.raises(LayerError, match="has no space"):
        layer_integrated_gradients(classifier, IMAGES, TARGETS, "linear")
    blind = ForwardOnly(lambda images: images.mean(dim=(2, 3)))
    with pytest.raises(ClassifierError, match="reads the layers of a torch model"):
        layer_integrated_gradients(blind, IMAGES, TARGETS, "relu")
