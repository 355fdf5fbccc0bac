"""Captum's classes as explainers, by name and with checked parameters."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from xai_core.arrays import Float32
from xai_core.classifier import TorchClassifier
from xai_core.errors import ClassifierError, LayerError, MissingExtraError, ParameterError
from xai_core.explainers import (
    Explainer,
    Explanation,
    build_explainer,
    captum_bridge,
    parse_explainer,
)
from xai_core.parameters import identity

IMAGES = np.random.default_rng(4).random((2, 3, 10, 10), dtype=np.float32)
TARGETS = np.array([1, 2])
PARAMETERS: dict[str, dict[str, object]] = {
    "DeepLiftShap": {"baselines": ["black", "white"]},
    "GradientShap": {"baselines": ["black", "white"], "stdevs": 0.1},
    "KernelShap": {"n_samples": 30},
    "Lime": {"n_samples": 30},
    "NeuronGradient": {"neuron_selector": [0, 1, 1]},
    "Occlusion": {"sliding_window_shapes": [3, 4, 4], "strides": [3, 2, 2]},
}
AT_THE_IMAGE = (
    *("Deconvolution", "DeepLift", "DeepLiftShap", "FeatureAblation", "GradientShap"),
    *("GuidedBackprop", "GuidedGradCam", "InputXGradient", "IntegratedGradients", "KernelShap"),
    *("Lime", "NeuronGradient", "Occlusion", "Saliency"),
)
AT_A_LAYER = (
    *("InternalInfluence", "LayerActivation", "LayerConductance", "LayerDeepLift"),
    *("LayerFeatureAblation", "LayerGradCam", "LayerGradientXActivation"),
    "LayerIntegratedGradients",
)


def small_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 5, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 3),
        ).eval()


def classifier_of(module: nn.Module | None = None) -> TorchClassifier:
    return TorchClassifier(
        module or small_net(),
        name="small",
        size=(10, 10),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
        batch_size=4,
    )


def made(name: str, **parameters: object) -> Explainer:
    return build_explainer(f"captum:{name}", {**PARAMETERS.get(name, {}), **parameters})


def explained(explainer: Explainer, images: Float32 = IMAGES) -> Explanation:
    return explainer.explain(classifier_of(), images, TARGETS[-len(images) :])


@pytest.mark.parametrize("name", AT_THE_IMAGE)
def test_a_method_of_the_image_gives_signed_attributions(name: str) -> None:
    explanation = explained(made(name))
    assert explanation.attributions is not None
    assert explanation.attributions.shape == IMAGES.shape
    np.testing.assert_allclose(
        explanation.heatmaps, np.abs(explanation.attributions).sum(axis=1), rtol=1e-6
    )
    assert explanation.heatmaps.dtype == np.float32


@pytest.mark.parametrize("name", AT_A_LAYER)
def test_a_method_of_a_layer_gives_enlarged_heatmaps(name: str) -> None:
    explanation = explained(made(name))
    assert explanation.attributions is None
    assert explanation.heatmaps.shape == (2, 10, 10)
    assert explanation.heatmaps.any()


@pytest.mark.parametrize("name", [*AT_THE_IMAGE, *AT_A_LAYER])
def test_no_map_depends_on_the_batch_or_on_torchs_generator(name: str) -> None:
    both = explained(made(name))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    alone = explained(made(name), IMAGES[1:])
    np.testing.assert_array_equal(both.heatmaps[1:], alone.heatmaps)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["GradientShap", "KernelShap"])
def test_the_seed_decides_what_is_drawn(name: str) -> None:
    one, other = explained(made(name)), explained(made(name, seed=1))
    assert not np.allclose(one.heatmaps, other.heatmaps, rtol=1e-3)


def test_the_numbers_are_captums_on_the_model_with_its_normalisation() -> None:
    explainer = made("IntegratedGradients", n_steps=7, baselines="white", method="riemann_left")
    theirs = captum.attr.IntegratedGradients(classifier_of().private_module()).attribute(
        torch.from_numpy(IMAGES),
        torch.ones(IMAGES.shape),
        target=torch.from_numpy(TARGETS),
        n_steps=7,
        method="riemann_left",
    )
    found = explained(explainer).attributions
    np.testing.assert_allclose(found, theirs.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_the_layer_is_taken_by_the_name_it_has_in_the_users_model() -> None:
    named = made("LayerGradCam", layer="1")
    module = classifier_of().private_module()
    for child in module.modules():
        if isinstance(child, nn.ReLU):
            child.inplace = False
    layer = module.get_submodule("model.1")
    theirs = captum.attr.LayerGradCam(module, layer).attribute(
        torch.from_numpy(IMAGES), target=torch.from_numpy(TARGETS)
    )
    np.testing.assert_allclose(
        explained(named).heatmaps, np.abs(theirs[:, 0].detach().numpy()), rtol=1e-4, atol=1e-7
    )
    with pytest.raises(LayerError, match="no layer 'x'"):
        explained(made("LayerGradCam", layer="x"))


@pytest.mark.parametrize(
    ("name", "gradients", "forwards"),
    [
        ("Saliency", 2, 0),
        ("IntegratedGradients", 100, 0),
        ("DeepLift", 4, 0),
        ("Occlusion", 0, 2 * (1 + 16)),
    ],
)
def test_what_runs_through_the_model_is_counted(name: str, gradients: int, forwards: int) -> None:
    classifier = classifier_of()
    made(name).explain(classifier, IMAGES, TARGETS)
    assert (classifier.passes.gradients, classifier.passes.forwards) == (gradients, forwards)


@pytest.mark.parametrize("name", ["IntegratedGradients", "LayerConductance", "FeatureAblation"])
def test_captum_gets_no_more_than_a_batch_at_once(name: str) -> None:
    sizes: list[int] = []

    class Watched(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            return super().forward(x)  # type: ignore[no-any-return]

    made(name).explain(classifier_of(Watched(*small_net())), IMAGES, TARGETS)
    assert max(sizes) == 4


def test_an_explainer_is_a_frozen_dataclass_that_prints_reads_and_pickles_itself() -> None:
    text = "captum:IntegratedGradients(n_steps=20, baselines='mean')"
    explainer = parse_explainer(text)
    assert pickle.loads(pickle.dumps(explainer)) == explainer
    assert hash(explainer) == hash(parse_explainer(text))
    assert parse_explainer(identity(explainer.kind, explainer)) == explainer
    with pytest.raises(dataclasses.FrozenInstanceError):
        explainer.n_steps = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("Salency", {}, "did you mean 'Saliency'"),
        ("Saliency", {"abss": True}, "did you mean 'abs'"),
        ("IntegratedGradients", {"n_steps": "many"}, "Expected `int`"),
        ("Occlusion", {"sliding_window_shapes": "large"}, "sliding_window_shapes"),
        ("IntegratedGradients", {"baselines": "blak"}, "did you mean 'black'"),
        ("NoiseTunnel", {}, "does not explain an image by itself"),
        ("LLMAttribution", {}, "does not explain an image by itself"),
        ("LimeBase", {}, "which no threshold file can hold"),
        ("FeaturePermutation", {}, "would depend on its neighbours"),
    ],
)
def test_a_wrong_name_or_parameter_is_refused_with_what_is_right(
    name: str, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        build_explainer(f"captum:{name}", parameters)


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(ParameterError, match="sliding_window_shapes"):
        build_explainer("captum:Occlusion", {})


def test_what_captum_cannot_do_is_an_error_of_ours() -> None:
    # Captum's LRP has no rule for Flatten.
    with pytest.raises(ClassifierError, match=r"captum:LRP cannot explain small: .*Flatten"):
        explained(made("LRP"))


def test_captum_is_imported_when_it_is_asked_for_and_no_earlier() -> None:
    code = (
        "import sys, xai_core.explainers as e; assert 'captum' not in sys.modules; "
        "e.parse_explainer('captum:Saliency'); assert 'captum' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_captum_the_name_and_the_extra_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    # No other test asks for this class: those once made are kept.
    with pytest.raises(
        MissingExtraError,
        match=r"captum:ShapleyValueSampling needs .*pip install 'pytest-xai\[captum\]'",
    ):
        parse_explainer("captum:ShapleyValueSampling")
    # To a module's __getattr__, which Python itself asks, it is a name that is not there.
    with pytest.raises(AttributeError, match=r"pip install 'pytest-xai\[captum\]'"):
        _ = captum_bridge.ShapleyValueSampling


def test_the_classifier_is_left_as_it_was() -> None:
    classifier = classifier_of()
    images, targets = torch.from_numpy(IMAGES), torch.from_numpy(TARGETS)
    before = classifier.gradients(images, targets).gradients
    for name in ("GuidedBackprop", "DeepLift", "Deconvolution"):
        made(name).explain(classifier, IMAGES, TARGETS)
    assert torch.equal(classifier.gradients(images, targets).gradients, before)
