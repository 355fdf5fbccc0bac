"""Weights drawn anew: all of them, only them, and by rules that can be said."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.checks import SmallCNN, TinyTransformer
from xai_core.classifier import TorchClassifier
from xai_core.errors import ClassifierError, LayerError
from xai_core.torchvision_import import import_torchvision

SIZE = 32
IMAGES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def shaken(module: nn.Module) -> nn.Module:
    """The module as if trained: no value is still what its initialiser gives."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.01 + 0.002)
    return module.eval()


def classifier_of(module: nn.Module, size: int = SIZE) -> TorchClassifier:
    return TorchClassifier(module, name="net", size=(size, size))


def weights(classifier: TorchClassifier) -> dict[str, Tensor]:
    """What a weights file of the classifier would hold."""
    return classifier.private_module().get_submodule("model").state_dict()


def of_torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(import_torchvision().models, name)(weights=None, num_classes=5)


NETWORKS = {
    "resnet18": of_torchvision("resnet18"),
    "densenet121": of_torchvision("densenet121"),
    "swin_t": of_torchvision("swin_t"),
    "convnext_tiny": of_torchvision("convnext_tiny"),
    "vit": TinyTransformer().module,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_float_of_a_weights_file_changes_and_every_integer_stays(name: str) -> None:
    classifier = classifier_of(shaken(NETWORKS[name]()))
    layers = classifier.parameter_layers()
    other = classifier.reinitialised(layers, seed=3)
    before, after = weights(classifier), weights(other)
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        if tensor.is_floating_point():
            same = float((tensor == after[key]).double().mean())
            assert same <= 1 / max(tensor.numel(), 100), key
        else:
            assert torch.equal(tensor, after[key]), key
    assert other.reinitialised_share == 1.0
    assert classifier.reinitialised_share == 0.0
    assert torch.isfinite(other.scores(IMAGES)).all()


def test_queries_keys_and_values_class_token_and_positions_are_layers_in_order_of_use() -> None:
    classifier = classifier_of(shaken(TinyTransformer().module()))
    block = [
        "ln_1", "self_attention", "self_attention.out_proj", "ln_2", "mlp.0", "mlp.3",
    ]  # fmt: skip
    assert classifier.parameter_layers() == [
        "conv_proj",
        "",  # the model itself holds the class token
        "encoder",  # and the encoder the positions
        *(f"encoder.layers.encoder_layer_{i}.{layer}" for i in (0, 1) for layer in block),
        "encoder.ln",
        "heads.head",
    ]
    attention = "encoder.layers.encoder_layer_0.self_attention"
    other = classifier.reinitialised(["", "encoder", attention], seed=0)
    before, after = weights(classifier), weights(other)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {
        "class_token",
        "encoder.pos_embedding",
        f"{attention}.in_proj_weight",
        f"{attention}.in_proj_bias",
    }


def test_tables_of_relative_positions_and_layer_scales_are_drawn_anew() -> None:
    swin = classifier_of(NETWORKS["swin_t"]())
    (table,) = (
        key for key in weights(swin) if key.endswith("7.1.attn.relative_position_bias_table")
    )
    other = swin.reinitialised(["features.7.1.attn"], seed=0)
    assert not (weights(swin)[table] == weights(other)[table]).any()
    index = table.replace("bias_table", "index")
    assert torch.equal(weights(swin)[index], weights(other)[index])
    convnext = classifier_of(NETWORKS["convnext_tiny"]())
    other = convnext.reinitialised(["features.1.0"], seed=0)
    scale = weights(other)["features.1.0.layer_scale"]
    assert 1e-6 * 0.4 < float(scale.std()) < 1e-6 * 0.6  # all were 1e-6: half of it
    assert (scale > 0).all()


class Backwards(nn.Module):
    """Layers defined in another order than they are used, and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.tensor([0.5]))
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.head.weight.dtype)  # to ask for a type is no use
        return self.head((self.conv(x) * self.scale).mean(dim=(2, 3)))


def test_layers_are_listed_as_they_are_used_and_unused_ones_last() -> None:
    assert classifier_of(Backwards()).parameter_layers() == ["conv", "", "head", "unused"]


def test_layers_that_are_not_named_keep_their_weights() -> None:
    classifier = classifier_of(shaken(SmallCNN().module()))
    assert classifier.parameter_layers() == ["0", "1", "4", "5", "9"]
    other = classifier.reinitialised(["5", "9"], seed=0)
    before, after = weights(classifier), weights(other)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    batch_norm = ("weight", "bias", "running_mean", "running_var")
    assert changed == {"9.weight", "9.bias", *(f"5.{key}" for key in batch_norm)}
    floats = {key: t.numel() for key, t in before.items() if t.is_floating_point()}
    drawn = sum(floats[key] for key in changed)
    assert other.reinitialised_share == pytest.approx(drawn / sum(floats.values()))


def test_an_initialiser_that_reaches_into_other_layers_leaves_them_alone() -> None:
    classifier = classifier_of(shaken(TinyTransformer().module()))
    attention = "encoder.layers.encoder_layer_0.self_attention"
    other = classifier.reinitialised([attention], seed=0)  # torch zeroes out_proj.bias along
    before, after = weights(classifier), weights(other)
    for key in ("weight", "bias"):
        assert torch.equal(
            before[f"{attention}.out_proj.{key}"], after[f"{attention}.out_proj.{key}"]
        )
    assert not (before[f"{attention}.in_proj_weight"] == after[f"{attention}.in_proj_weight"]).any()
    assert not after[f"{attention}.in_proj_bias"].any()  # as torch initialises it


def test_layers_initialise_themselves_where_they_can() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 500),
    )  # fmt: skip
    classifier = classifier_of(shaken(module))
    after = weights(classifier.reinitialised(["0", "1", "5"], seed=0))
    assert torch.equal(after["1.weight"], torch.ones(8))
    assert torch.equal(after["1.bias"], torch.zeros(8))
    assert torch.equal(after["1.running_mean"], torch.zeros(8))
    assert torch.equal(after["1.running_var"], torch.ones(8))
    bound = 8**-0.5  # uniform within +-1 / sqrt(inputs)
    assert float(after["5.weight"].abs().max()) <= bound
    assert float(after["5.weight"].std()) == pytest.approx(bound / 3**0.5, rel=0.03)


class Custom(nn.Module):
    """Weights that no layer of torch initialises."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.normal = nn.Parameter(2 + 3 * torch.randn(20000, generator=generator))
        self.zeros = nn.Parameter(torch.zeros(20000))
        self.constant = nn.Parameter(torch.full((20000,), -4.0))
        self.temperature = nn.Parameter(torch.tensor(7.0))
        self.register_buffer("variance", torch.rand(20000, generator=generator) ** 4)
        self.register_buffer("mask", torch.ones(3), persistent=False)
        self.register_buffer("index", torch.arange(3))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(dim=(2, 3)) * self.mask[self.index])


def test_other_weights_are_drawn_with_the_mean_and_deviation_of_their_tensor() -> None:
    classifier = classifier_of(Custom())
    other = classifier.reinitialised([""], seed=0)
    before, after = weights(classifier), weights(other)
    assert float(after["normal"].mean()) == pytest.approx(2, abs=0.1)
    assert float(after["normal"].std()) == pytest.approx(3, rel=0.03)
    correlation = np.corrcoef(before["normal"], after["normal"])[0, 1]
    assert abs(correlation) < 0.03
    assert float(after["zeros"].mean()) == pytest.approx(0, abs=1e-3)
    assert float(after["zeros"].std()) == pytest.approx(0.02, rel=0.03)
    assert float(after["constant"].mean()) == pytest.approx(-4, abs=0.1)
    assert float(after["constant"].std()) == pytest.approx(2, rel=0.03)
    assert 0 < float(after["temperature"]) != 7.0
    assert float(before["variance"].min()) >= 0
    assert (after["variance"] >= 0).all()
    assert not (before["variance"] == after["variance"]).any()
    model = other.private_module().get_submodule("model")
    assert torch.equal(model.get_buffer("mask"), torch.ones(3))  # no file holds it
    assert torch.equal(after["index"], torch.arange(3))


class Partly(nn.Module):
    """An initialiser that forgets a weight, writes past autograd, or wants an argument."""

    def __init__(self, *, wants: bool) -> None:
        super().__init__()
        self.set, self.halved, self.forgotten = (
            nn.Parameter(torch.arange(1.0, 5.0) + i) for i in range(3)
        )
        self.head = nn.Linear(3, 2)
        if wants:
            self.reset_parameters = self.of_gain  # type: ignore[assignment]

    def of_gain(self, gain: float) -> None:
        self.set.data.fill_(gain)

    def reset_parameters(self) -> None:
        self.set.data.fill_(9.0)
        self.halved.data[:2] = 9.0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(dim=(2, 3)))


def test_what_an_initialiser_leaves_is_drawn_all_the_same() -> None:
    classifier = classifier_of(Partly(wants=False))
    before, after = weights(classifier), weights(classifier.reinitialised([""], seed=0))
    assert torch.equal(after["set"], torch.full((4,), 9.0))
    for key in ("halved", "forgotten"):
        assert torch.isfinite(after[key]).all()
        assert not torch.isin(after[key], torch.cat([before[key], torch.tensor([9.0])])).any()


def test_an_initialiser_that_fails_is_done_without() -> None:
    classifier = classifier_of(Partly(wants=True))
    before, after = weights(classifier), weights(classifier.reinitialised([""], seed=0))
    for key in ("set", "halved", "forgotten"):
        assert torch.isfinite(after[key]).all()
        assert not (before[key] == after[key]).any()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x.mean(dim=(2, 3)))))


@pytest.mark.parametrize("layers", [["first"], ["second"], ["second", "first"]])
def test_a_weight_that_two_layers_share_stays_shared_and_counts_once(layers: list[str]) -> None:
    classifier = classifier_of(Tied())
    other = classifier.reinitialised(layers, seed=0)
    before, after = weights(classifier), weights(other)
    assert torch.equal(after["first.weight"], after["second.weight"])
    assert not (before["first.weight"] == after["first.weight"]).any()
    assert other.reinitialised_share == pytest.approx((9 + 3 * len(layers)) / 15)


def test_the_seed_decides_and_a_layer_does_not_depend_on_the_others() -> None:
    classifier = classifier_of(TinyTransformer().module())
    layers = classifier.parameter_layers()
    alone = weights(classifier.reinitialised(["encoder.layers.encoder_layer_1.mlp.0"], seed=5))
    again, backwards, other = (
        weights(classifier.reinitialised(chosen, seed=seed))
        for chosen, seed in ((layers, 5), (layers[::-1], 5), (layers, 6))
    )
    assert all(torch.equal(again[key], backwards[key]) for key in again)
    key = "encoder.layers.encoder_layer_1.mlp.0.weight"
    assert torch.equal(alone[key], again[key])
    assert not (again[key] == other[key]).all()
    drawn = [again[key].flatten()[:8].tolist() for key in again if key.endswith("mlp.0.weight")]
    assert len({tuple(values) for values in drawn}) == len(drawn)  # each layer its own stream


def test_the_users_module_the_classifier_and_torchs_random_state_stay_as_they_were() -> None:
    module = SmallCNN().module().train()
    kept = copy.deepcopy(module.state_dict())
    classifier = SmallCNN().classifier()
    scores = classifier.scores(IMAGES[..., :24, :])
    torch.manual_seed(8)
    expected = torch.rand(3)
    torch.manual_seed(8)
    around = classifier_of(module)
    around.reinitialised(around.parameter_layers(), seed=0)
    classifier.reinitialised(classifier.parameter_layers(), seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(kept[key], value) for key, value in module.state_dict().items())
    assert torch.equal(classifier.scores(IMAGES[..., :24, :]), scores)


def test_folded_batch_norm_is_drawn_anew_as_the_module_has_it() -> None:
    classifier = classifier_of(shaken(SmallCNN().module()))
    assert "Identity" in repr(classifier.private_module(folded=True))  # there is something folded
    other = classifier.reinitialised(["1", "4"], seed=0)
    with torch.no_grad():
        expected = other.private_module()(IMAGES)
    got = other.logits(IMAGES)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, classifier.logits(IMAGES), rtol=1e-2)


def test_passes_are_counted_where_the_original_counts_and_all_else_is_its_own() -> None:
    classifier = TorchClassifier(
        NETWORKS["densenet121"](), name="dense", size=(64, 64), mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7), batch_size=2,
    )  # fmt: skip
    other = classifier.reinitialised(["classifier"], seed=0)
    assert (classifier.passes.forwards, classifier.passes.gradients) == (0, 0)
    other.scores(IMAGES)
    other.gradients(IMAGES, torch.tensor([0, 1, 2]), at="features_relu")
    assert (classifier.passes.forwards, classifier.passes.gradients) == (3, 3)
    assert other.passes is classifier.passes
    same = ("name", "size", "mean", "std", "device", "num_classes")
    assert all(getattr(other, key) == getattr(classifier, key) for key in same)
    assert other.batch_size(32, 32) == 2
    assert other.default_layer() == classifier.default_layer() == "features_relu"
    assert other.fingerprint != classifier.fingerprint


def test_weights_that_cannot_be_drawn_are_an_error_that_names_them() -> None:
    module = Backwards()
    module.register_buffer("bias_of_mask", torch.tensor([0.0, float("-inf")]))
    classifier = classifier_of(module)
    with pytest.raises(ClassifierError, match=r"1 tensors cannot be: bias_of_mask; .*not finite"):
        classifier.reinitialised(["", "head"], seed=0)
    classifier.reinitialised(["head"], seed=0)  # what is not named need not be drawn


def test_a_layer_without_weights_of_its_own_is_refused_with_those_inside_it() -> None:
    classifier = classifier_of(NETWORKS["resnet18"]())
    with pytest.raises(LayerError, match=r"'layer4\.1' has no weights .*layer4\.1\.conv1"):
        classifier.reinitialised(["layer4.1"], seed=0)
    with pytest.raises(LayerError, match=r"no layer 'layer4\.1\.conf2' .*'layer4\.1\.conv2'"):
        classifier.reinitialised(["layer4.1.conf2"], seed=0)
