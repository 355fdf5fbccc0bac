"""The CAMs without gradients: Score-CAM, Ablation-CAM and Eigen-CAM against plain loops."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ClassifierError, ParameterError
from xai_core.explainers import AblationCAM, EigenCAM, ScoreCAM, parse_explainer

SIZE = (24, 20)
TARGETS = np.array([0, 1, 2])
IMAGES = np.random.default_rng(5).random((3, 3, *SIZE), dtype=np.float32)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def net() -> nn.Sequential:
    """Six channels at its last ReLU, of which number 4 is always zero and number 5 constant."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        module = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 6, 3, stride=2, padding=1),
                bn=nn.BatchNorm2d(6),
                relu=nn.ReLU(),
                last=nn.Conv2d(6, 6, 3, stride=2, padding=1),
                last_relu=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(2),
                flatten=nn.Flatten(),
                linear=nn.Linear(24, 3),
            )
        )
    with torch.no_grad():
        module.last.weight[4:] = 0
        module.last.bias[4:] = torch.tensor([-1.0, 0.5])
        module.linear.weight *= 20
    return module.eval()


def classifier_of(module: nn.Module) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=SIZE, mean=MEAN, std=STD)


def normalised(images: Tensor) -> Tensor:
    return torch.stack([(images[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)


def output_of(module: nn.Module, layer: str, image: Tensor) -> Tensor:
    kept: list[Tensor] = []
    hook = module.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[-1]))
    with torch.no_grad():
        module(normalised(image[None]))
    hook.remove()
    return kept[0][0].clone()


def logits_of(module: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return module(normalised(image[None]))[0]


def large(maps: Tensor) -> Tensor:
    return nn.functional.interpolate(maps[None, None], SIZE, mode="bilinear")[0, 0]


def assert_maps_close(got: np.ndarray, expected: list[Tensor]) -> None:
    reference = torch.stack(expected).numpy()
    assert got.dtype == np.float32
    assert reference.any()
    np.testing.assert_allclose(got, reference, rtol=2e-3, atol=1e-4 * reference.max())


def score_cam(module: nn.Module, image: Tensor, target: int, explainer: ScoreCAM) -> Tensor:
    """Algorithm 1 of the paper, one channel at a time."""
    activations = output_of(module, explainer.layer or "last_relu", image)

    def confidence(image: Tensor) -> Tensor:
        logits = logits_of(module, image)
        return (logits.softmax(0) if explainer.score == "probability" else logits)[target]

    baseline = torch.full_like(image, 1.0 if explainer.baseline == "white" else 0.0)
    increases = []
    for channel in activations[:4]:
        up = large(channel)
        mask = (up - up.min()) / (up.max() - up.min())
        increases.append(confidence(image * mask) - confidence(baseline))
    weights = torch.stack(increases)
    if explainer.weights == "softmax":
        weights = weights.exp() / weights.exp().sum()
    total = sum(weight * a for weight, a in zip(weights, activations[:4], strict=True))
    return large(total.clamp_min(0))


@pytest.mark.parametrize(
    "explainer",
    [
        ScoreCAM(),
        ScoreCAM(score="logit"),
        ScoreCAM(weights="increase"),
        ScoreCAM(layer="last", score="logit"),
        ScoreCAM(score="logit", weights="increase"),
        ScoreCAM(weights="increase", baseline="white"),
    ],
)
def test_score_cam_is_a_loop_over_masked_images(explainer: ScoreCAM) -> None:
    module = net()
    expected = [
        score_cam(module, torch.from_numpy(image), int(target), explainer)
        for image, target in zip(IMAGES, TARGETS, strict=True)
    ]
    got = explainer.explain(classifier_of(module), IMAGES, TARGETS)
    assert got.attributions is None
    assert_maps_close(got.heatmaps, expected)


def test_score_cam_scores_every_channel_that_is_not_constant_once() -> None:
    for explainer, baselines in ((ScoreCAM(), 0), (ScoreCAM(weights="increase"), 3)):
        classifier = classifier_of(net())
        explainer.explain(classifier, IMAGES, TARGETS)
        assert classifier.passes.forwards == 3 + 3 * 4 + baselines
        assert classifier.passes.gradients == 0


def test_score_cam_of_a_layer_without_any_contrast_is_zero() -> None:
    module = net()
    nn.init.zeros_(module.last.weight)
    maps = ScoreCAM(layer="last_relu").explain(classifier_of(module), IMAGES, TARGETS).heatmaps
    assert maps.shape == (3, *SIZE)
    assert not maps.any()


def test_a_baseline_that_would_cancel_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"cancels in the softmax .* set `weights`"):
        parse_explainer("score_cam(baseline='white')")
    assert parse_explainer("score_cam(baseline='white', weights='increase')").baseline == "white"
    with pytest.raises(ParameterError, match="no baseline 'wite': did you mean 'white'"):
        ScoreCAM(weights="increase", baseline="wite")


def ablation_cam(module: nn.Module, layer: str, image: Tensor, target: int) -> Tensor:
    """Equations 3 and 4: run the whole model again with one channel set to zero by a hook."""
    activations = output_of(module, layer, image)
    y = logits_of(module, image)[target]
    total = torch.zeros(activations.shape[1:])
    for k in range(len(activations)):

        def without(_m: object, _i: object, output: Tensor, k: int = k) -> Tensor:
            changed = output.clone()
            changed[:, k] = 0
            return changed

        hook = module.get_submodule(layer).register_forward_hook(without)
        y_k = logits_of(module, image)[target]
        hook.remove()
        total += (y - y_k) / y.abs() * activations[k]
    return large(total.clamp_min(0))


@pytest.mark.parametrize("layer", ["last_relu", "relu", "conv"])
def test_ablation_cam_is_a_loop_over_channels_set_to_zero(layer: str) -> None:
    module = net()
    expected = [
        ablation_cam(module, layer, torch.from_numpy(image), int(target))
        for image, target in zip(IMAGES, TARGETS, strict=True)
    ]
    got = AblationCAM(layer=layer).explain(classifier_of(module), IMAGES, TARGETS)
    assert got.attributions is None
    assert_maps_close(got.heatmaps, expected)


def test_ablation_cam_is_not_turned_upside_down_by_a_negative_logit() -> None:
    high, low = net(), net()
    with torch.no_grad():
        high.linear.bias += 50
        low.linear.bias -= 50
    maps = []
    for module in (high, low):
        classifier = classifier_of(module)
        logits = classifier.logits(torch.from_numpy(IMAGES))
        heatmaps = AblationCAM().explain(classifier, IMAGES, TARGETS).heatmaps
        maps.append(heatmaps * logits.abs().numpy()[range(3), TARGETS][:, None, None])
    assert (logits < 0).all()
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-2, atol=1e-4)


def test_ablation_cam_runs_every_channel_that_is_not_zero_once() -> None:
    classifier = classifier_of(net())
    AblationCAM().explain(classifier, IMAGES, TARGETS)
    # The activations, the image itself once more below the layer and once above, 5 channels.
    assert classifier.passes.forwards == 3 + 3 * (1 + 1 + 5)
    assert classifier.passes.gradients == 0


def test_eigen_cam_is_the_projection_on_the_first_singular_vector() -> None:
    module = net()
    expected = []
    for image in IMAGES:
        activations = output_of(module, "last_relu", torch.from_numpy(image))
        positions = activations.flatten(1).T.double().numpy()
        _, _, right = np.linalg.svd(positions)
        projected = positions @ right[0]
        signed = projected * np.sign(projected.sum())
        assert signed.min() >= -1e-9
        expected.append(large(torch.from_numpy(signed.reshape(6, 5)).float()))
    got = EigenCAM().explain(classifier_of(module), IMAGES, TARGETS)
    assert got.attributions is None
    assert_maps_close(got.heatmaps, expected)


def test_eigen_cam_takes_the_same_sign_whatever_the_algorithm_gives() -> None:
    """Where activations have signs, the part whose sum is positive remains."""
    module = net()
    maps = EigenCAM(layer="conv").explain(classifier_of(module), IMAGES, TARGETS).heatmaps
    for image, heatmap in zip(IMAGES, maps, strict=True):
        positions = output_of(module, "conv", torch.from_numpy(image)).flatten(1).T.numpy()
        left, values, _ = np.linalg.svd(positions, full_matrices=False)
        projected = left[:, 0] * values[0]
        signed = (projected * np.sign(projected.sum())).reshape(12, 10)
        expected = large(torch.from_numpy(np.maximum(signed, 0)))
        np.testing.assert_allclose(heatmap, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_eigen_cam_does_not_ask_for_the_target() -> None:
    classifier = classifier_of(net())
    one = EigenCAM().explain(classifier, IMAGES, TARGETS).heatmaps
    other = EigenCAM().explain(classifier, IMAGES, TARGETS[::-1].copy()).heatmaps
    assert np.array_equal(one, other)
    assert "target_sensitivity" not in EigenCAM.promises
    assert classifier.passes.forwards == 6
    assert classifier.passes.gradients == 0


class ScoresOnly:
    """A classifier whose layers nobody can reach, as an ONNX model's."""

    def __init__(self) -> None:
        self.name = "black box"

    def default_layer(self) -> str:
        return "last"


@pytest.mark.parametrize("explainer", [ScoreCAM(), AblationCAM(), EigenCAM()])
def test_a_classifier_without_layers_is_refused(explainer: ScoreCAM) -> None:
    with pytest.raises(ClassifierError, match=r"black box .* use an explainer that needs scores"):
        explainer.explain(ScoresOnly(), IMAGES, TARGETS)  # type: ignore[arg-type]
