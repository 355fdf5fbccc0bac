"""DeepLIFT and LRP against loops, closed forms, their conservation laws and Captum."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai_core.arrays import Float32
from xai_core.classifier import TorchClassifier
from xai_core.errors import ClassifierError, ParameterError
from xai_core.explainers import LRP, DeepLIFT, Explainer, build_explainer
from xai_core.torchvision_import import import_torchvision

RNG = np.random.default_rng(8)
IMAGES = RNG.random((3, 3, 8, 8), dtype=np.float32)
TARGETS = np.array([1, 0, 2])
COMPOSITES = ("epsilon", "composite", "alpha1beta0")


class ResNetLike(nn.Module):
    """A pooled stem and one residual block, with one ReLU in place used all over."""

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.stem, self.one = nn.Conv2d(3, 6, 3, bias=bias), nn.Conv2d(6, 6, 3, 1, 1, bias=bias)
            self.two = nn.Conv2d(6, 6, 3, 1, 1, bias=bias)
            self.head = nn.Linear(6 * 9, 3, bias=bias)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.stem(x)))
        out = self.two(self.relu(self.one(x)))
        out += x
        return self.head(self.relu(out).flatten(1))  # type: ignore[no-any-return]


class Chain(nn.Module):
    """Layers and a linear head, in a form that Captum takes."""

    def __init__(self, *layers: nn.Module, bias: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=bias), *layers)
            for layer in layers:  # made before the seed was set
                if isinstance(layer, nn.Conv2d):
                    layer.reset_parameters()
            with torch.no_grad():
                width = self.layers(torch.zeros(1, 3, 8, 8)).numel()
            self.head = nn.Linear(width, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).flatten(1))  # type: ignore[no-any-return]


class Gated(Chain):
    """Activations multiplied with each other, as squeeze-and-excitation does."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.layers(x)
        return self.head((features * features.mean(dim=1, keepdim=True)).flatten(1))  # type: ignore[no-any-return]


def classifier_of(module: nn.Module, batch_size: int = 4, **options: object) -> TorchClassifier:
    return TorchClassifier(
        module.eval(),
        name="mine",
        size=(8, 8),
        batch_size=batch_size,
        **options,  # type: ignore[arg-type]
    )


def attributions(explainer: Explainer, classifier: TorchClassifier) -> Float32:
    found = explainer.explain(classifier, IMAGES, TARGETS).attributions
    assert found is not None
    return found


def target_logits(module: nn.Module, images: Float32 = IMAGES) -> Float32:
    with torch.no_grad():
        logits: Float32 = module(torch.from_numpy(images)).numpy()
    return logits[range(len(TARGETS)), TARGETS]


# ---- DeepLIFT


def deeplift_in_loops(net: Chain, size: int, stride: int, padding: int) -> Float32:
    """Convolution, max pooling, ReLU, head: multipliers window by window, from black."""
    conv, result = net.layers[0], np.zeros_like(IMAGES)
    for n, target in enumerate(TARGETS):
        with torch.no_grad():
            before = conv(torch.from_numpy(IMAGES[n])).numpy()
            before0 = conv(torch.zeros(3, 8, 8)).numpy()
        side = (8 + 2 * padding - size) // stride + 1
        weights = net.head.weight[target].detach().numpy().reshape(4, side, side)
        multipliers = np.zeros_like(before)
        for c, i, j in np.ndindex(4, side, side):
            rows = slice(max(i * stride - padding, 0), i * stride - padding + size)
            columns = slice(max(j * stride - padding, 0), j * stride - padding + size)
            window, window0 = before[c, rows, columns], before0[c, rows, columns]
            rise = window.max() - window0.max()
            of = window if rise >= 0 else window0
            y, x = np.unravel_index(of.argmax(), of.shape)
            share = rise / (window - window0)[y, x]
            rectified = max(window.max(), 0) - max(window0.max(), 0)
            multipliers[c, rows, columns][y, x] += weights[c, i, j] * rectified / rise * share
        weight = conv.weight.detach()
        back = F.conv_transpose2d(torch.from_numpy(multipliers)[None], weight, padding=1)
        result[n] = IMAGES[n] * back[0].numpy()
    return result


@pytest.mark.parametrize("pool", [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_deeplift_is_the_rescale_rule_in_loops(pool: tuple[int, int, int]) -> None:
    net = Chain(nn.MaxPool2d(*pool), nn.ReLU())
    expected = deeplift_in_loops(net, *pool)
    found = attributions(DeepLIFT(), classifier_of(net))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.ReLU()],
        [nn.MaxPool2d(2)],
        [nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Sigmoid(), nn.AvgPool2d(2)],
        [nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Softplus()],
    ],
    ids=str,
)
def test_deeplift_agrees_with_captum_where_captum_is_complete(layers: list[nn.Module]) -> None:
    # Not where max pooling windows overlap or a ReLU stands beside a max pooling: there Captum
    # 0.9 does not follow the rule, see the loops above.
    net = Chain(*layers).eval()
    images, black = torch.from_numpy(IMAGES), torch.zeros(IMAGES.shape)
    with pytest.warns(UserWarning, match="hooks"):
        theirs = captum.attr.DeepLift(net).attribute(
            images, black, target=torch.from_numpy(TARGETS)
        )
    found = attributions(DeepLIFT(), classifier_of(net))
    np.testing.assert_allclose(found, theirs.detach().numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("baseline", ["black", "white", "mean", "blurred(sigma=1)"])
@pytest.mark.parametrize(
    "module",
    [ResNetLike(), Chain(nn.Hardswish(), nn.MaxPool2d(3, 1)), Chain(nn.LeakyReLU(inplace=True))],
    ids=lambda module: type(module).__name__,
)
def test_deeplift_is_complete(module: nn.Module, baseline: str) -> None:
    classifier = classifier_of(module, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    explainer = DeepLIFT(baseline=baseline)
    differences = explainer.differences(classifier, IMAGES, TARGETS)
    sums = attributions(explainer, classifier).sum(axis=(1, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(sums, differences, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_deeplift_is_complete_on_torchvisions_networks(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = getattr(import_torchvision().models, name)(weights=None, num_classes=3)
        for child in module.modules():
            if isinstance(child, nn.BatchNorm2d):
                child.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                child.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    classifier = TorchClassifier(module.eval(), name=name, size=(48, 48))
    images = RNG.random((2, 3, 48, 48), dtype=np.float32)
    explanation = DeepLIFT().explain(classifier, images, TARGETS[:2])
    assert explanation.attributions is not None
    sums = explanation.attributions.sum(axis=(1, 2, 3), dtype=np.float64)
    differences = DeepLIFT().differences(classifier, images, TARGETS[:2])
    np.testing.assert_allclose(sums, differences, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("net", [Gated(nn.ReLU()), Chain(nn.GroupNorm(2, 4))], ids=str)
def test_deeplift_refuses_what_it_has_no_rule_for(net: nn.Module) -> None:
    with pytest.raises(ClassifierError, match="multiplies or normalises activations"):
        attributions(DeepLIFT(), classifier_of(net))


def test_deeplift_runs_image_and_baseline_together_within_the_batch() -> None:
    sizes: list[int] = []

    class Watched(ResNetLike):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super().forward(x)

    classifier = classifier_of(Watched())
    sizes.clear()
    together = attributions(DeepLIFT(), classifier)
    assert sizes == [4, 2]
    assert (classifier.passes.gradients, classifier.passes.forwards) == (6, 0)
    alone = DeepLIFT().explain(classifier, IMAGES[1:2], TARGETS[1:2]).attributions
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-6)


# ---- LRP


@pytest.mark.parametrize("rule", COMPOSITES)
@pytest.mark.parametrize(
    "module",
    [
        ResNetLike(bias=False),
        # 36 values reach the head: enough that each logit has a positive contribution.
        Chain(
            *(nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ReLU()),
            bias=False,
        ),
    ],
    ids=lambda module: type(module).__name__,
)
def test_lrp_conserves_the_logit_where_there_are_no_biases(module: nn.Module, rule: str) -> None:
    found = attributions(build_explainer("lrp", {"rule": rule}), classifier_of(module))
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), target_logits(module), rtol=2e-3)


def test_alpha1beta0_hands_back_nothing_of_a_logit_without_positive_contributions() -> None:
    net = Chain(nn.ReLU(), bias=False)
    with torch.no_grad():
        net.head.weight[TARGETS[0]] = -net.head.weight[TARGETS[0]].abs()
    found = attributions(LRP(rule="alpha1beta0"), classifier_of(net))
    assert target_logits(net)[0] < 0
    assert not found[0].any()
    assert found[TARGETS[0] != TARGETS].any()


def test_lrp_with_a_tiny_epsilon_is_gradient_times_input_on_relu_networks() -> None:
    classifier = classifier_of(ResNetLike(), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    found = attributions(LRP(rule="epsilon", epsilon=1e-9), classifier)
    images = torch.from_numpy(IMAGES)
    gradients = classifier.gradients(images, torch.from_numpy(TARGETS)).gradients
    zero = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    np.testing.assert_allclose(found, ((images - zero) * gradients).numpy(), atol=1e-4)


def test_lrp_agrees_with_captum_on_a_network_without_sums() -> None:
    net = Chain(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    theirs = captum.attr.LRP(net.eval()).attribute(
        torch.from_numpy(IMAGES), target=torch.from_numpy(TARGETS)
    )
    found = attributions(LRP(rule="epsilon", epsilon=1e-9), classifier_of(net))
    np.testing.assert_allclose(found, theirs.detach().numpy(), rtol=1e-3, atol=1e-5)


def test_a_large_epsilon_absorbs_relevance_as_its_formula_says() -> None:
    net = Chain(bias=False)
    with torch.no_grad():
        values = net.layers(torch.from_numpy(IMAGES))
        logits = net.head(values.flatten(1))[range(3), TARGETS]
        handed = logits / (logits + torch.where(logits < 0, -0.5, 0.5))
        relevance = (handed[:, None] * net.head.weight[TARGETS] * values.flatten(1)).view_as(values)
        shares = relevance / (values + torch.where(values < 0, -0.5, 0.5))
        back = F.conv_transpose2d(shares, net.layers[0].weight, padding=1)
        expected = torch.from_numpy(IMAGES) * back
    found = attributions(LRP(rule="epsilon", epsilon=0.5), classifier_of(net))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-5)


def test_alpha1beta0_hands_on_positive_contributions_alone() -> None:
    net = Chain(nn.ReLU())
    mean = 0.5  # so that the normalised image has both signs
    images = IMAGES - mean
    conv = net.layers[0]
    with torch.no_grad():
        values = net.layers(torch.from_numpy(images)).flatten(1).numpy()
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = np.zeros_like(padded)
    for n, target in enumerate(TARGETS):
        head = net.head.weight[target].detach().numpy()
        offset = max(net.head.bias[target].item(), 0.0)
        positive = np.maximum(values[n] * head, 0)
        logit = float(values[n] @ head + net.head.bias[target].item())
        relevance = (positive / (positive.sum() + offset) * logit).reshape(4, 8, 8)
        for c, i, j in np.ndindex(4, 8, 8):
            window = (n, slice(None), slice(i, i + 3), slice(j, j + 3))
            shares = np.maximum(padded[window] * weight[c], 0)
            total = shares.sum() + max(bias[c], 0.0)
            expected[window] += shares / total * relevance[c, i, j] if total else 0
    found = attributions(
        LRP(rule="alpha1beta0"), classifier_of(net, mean=(mean,) * 3, std=(1.0,) * 3)
    )
    np.testing.assert_allclose(found, expected[:, :, 1:-1, 1:-1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GELU(), nn.ReLU6(), nn.LeakyReLU()], ids=str)
def test_lrp_hands_the_relevance_of_an_activation_to_its_input(activation: nn.Module) -> None:
    net = Chain(activation, bias=False)
    found = attributions(LRP(rule="epsilon", epsilon=0.0), classifier_of(net))
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), target_logits(net), rtol=2e-3)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Gated(nn.ReLU()), "products of activations"),
        (Chain(nn.GroupNorm(2, 4)), "group norm"),
        (Chain(nn.Sigmoid()), "sigmoid"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lrp_refuses_what_it_has_no_rule_for(net: nn.Module, reason: str) -> None:
    with pytest.raises(ClassifierError, match=reason):
        attributions(LRP(), classifier_of(net))


def test_lrp_counts_its_gradients_and_the_batch_makes_no_difference() -> None:
    classifier = classifier_of(ResNetLike(), batch_size=2)
    together = attributions(LRP(), classifier)
    assert (classifier.passes.gradients, classifier.passes.forwards) == (3, 0)
    alone = LRP().explain(classifier, IMAGES[1:2], TARGETS[1:2]).attributions
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "parameters", "named"),
    [
        ("deeplift", {"baseline": "blak"}, "did you mean 'black'"),
        ("lrp", {"rule": "gamma"}, "rule"),
        ("lrp", {"epsilon": -1.0}, "epsilon"),
    ],
)
def test_what_makes_no_sense_is_refused(
    kind: str, parameters: dict[str, object], named: str
) -> None:
    with pytest.raises(ParameterError, match=named):
        build_explainer(kind, parameters)
