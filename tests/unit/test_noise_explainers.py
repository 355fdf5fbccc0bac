"""SmoothGrad and its relatives against closed forms and Captum under the same noise."""

from __future__ import annotations

from collections.abc import Iterator

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.arrays import Float32
from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.explainers import Explainer, SmoothGrad, SmoothGradSquared, VarGrad, build_explainer
from xai_core.seeding import generator_for

RNG = np.random.default_rng(5)
IMAGES = RNG.random((3, 3, 6, 5), dtype=np.float32)
TARGETS = np.array([1, 0, 2])
WEIGHTS = RNG.normal(size=(3, 3, 6, 5)).astype(np.float32)
METHODS = (SmoothGrad(samples=5), SmoothGradSquared(samples=5), VarGrad(samples=5))
CAPTUM = {"smoothgrad": "smoothgrad", "smoothgrad_squared": "smoothgrad_sq", "vargrad": "vargrad"}


class Quadratic(nn.Module):
    """Logit k = sum of w_k x^2, whose gradient is 2 w_k x."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(WEIGHTS))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", x**2, self.weights)


def small_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 6 * 5, 3)
        ).eval()


def classifier_of(module: nn.Module, batch_size: int = 4) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=(6, 5), batch_size=batch_size)


def noise_of(image: Float32, samples: int, seed: int = 0) -> Float32:
    generator = generator_for(image, seed=seed, purpose="noise")
    drawn = [generator.standard_normal(image.shape, dtype=np.float32) for _ in range(samples)]
    return np.stack(drawn)


def attributions(explainer: Explainer, classifier: TorchClassifier) -> Float32:
    found = explainer.explain(classifier, IMAGES, TARGETS).attributions
    assert found is not None
    return found


def test_on_a_quadratic_model_each_is_the_moment_of_its_own_noise() -> None:
    noise = np.stack([noise_of(image, 5) for image in IMAGES])
    gradients = 2 * WEIGHTS[TARGETS][:, None] * (IMAGES[:, None] + 0.15 * noise)
    expected = {
        "smoothgrad": gradients.mean(axis=1),
        "smoothgrad_squared": (gradients**2).mean(axis=1),
        "vargrad": gradients.var(axis=1),
    }
    for method in METHODS:
        found = attributions(method, classifier_of(Quadratic()))
        np.testing.assert_allclose(found, expected[method.kind], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_it_agrees_with_captum_under_the_same_noise(
    method: Explainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = attributions(method, classifier_of(small_net()))
    for image, target, ours in zip(IMAGES, TARGETS, found, strict=True):
        noise: Iterator[Tensor] = iter([torch.from_numpy(0.15 * noise_of(image, 5))])
        monkeypatch.setattr(torch, "normal", lambda *_, noise=noise, **__: next(noise))
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(small_net()))
        theirs = tunnel.attribute(
            torch.from_numpy(image)[None],
            nt_type=CAPTUM[method.kind],
            nt_samples=5,
            stdevs=0.15,
            target=int(target),
            abs=False,
        )
        np.testing.assert_allclose(ours, theirs[0].detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_images_and_samples_share_batches_and_every_gradient_is_counted(
    method: Explainer,
) -> None:
    sizes: list[int] = []

    class Watched(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super().forward(x)  # type: ignore[no-any-return]

    classifier = classifier_of(Watched(*small_net()))
    sizes.clear()
    attributions(method, classifier)
    assert sizes == [4, 4, 4, 3]
    assert (classifier.passes.gradients, classifier.passes.forwards) == (15, 0)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_the_batch_makes_no_difference_and_the_seed_does(method: Explainer) -> None:
    together = attributions(method, classifier_of(small_net()))
    apart = attributions(method, classifier_of(small_net(), batch_size=1))
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-6)
    alone = method.explain(classifier_of(small_net()), IMAGES[1:2], TARGETS[1:2]).attributions
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-6)
    again = build_explainer(method.kind, {"samples": 5, "seed": 1})
    assert not np.allclose(together, attributions(again, classifier_of(small_net())), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "parameters", "named"),
    [
        ("smoothgrad", {"sigma": 0.0}, "sigma"),
        ("smoothgrad_squared", {"samples": 0}, "samples"),
        ("vargrad", {"samples": 1}, "variance"),
        ("smoothgrad", {"sample": 3}, "did you mean 'samples'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    kind: str, parameters: dict[str, object], named: str
) -> None:
    with pytest.raises(ParameterError, match=named):
        build_explainer(kind, parameters)
