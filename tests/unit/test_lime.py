"""LIME against the coefficients of linear models, scikit-learn and Captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from forward_only import ForwardOnly
from torch import Tensor

from xai_core.errors import ParameterError
from xai_core.explainers import LIME
from xai_core.explainers.lime import weighted_ridge
from xai_core.superpixels import superpixels

RNG = np.random.default_rng(7)
TILES = RNG.permutation(np.linspace(0.2, 0.9, 8)).reshape(2, 4)
IMAGE = np.stack([np.kron(TILES, np.ones((16, 16)))] * 3)[None].astype(np.float32)
COEFFICIENTS = RNG.normal(size=8) / 30
PARAMETERS = {"segments": 8, "compactness": 1.0, "substrate": "black"}


def tile_means(images: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(images[:, :1], (2, 4)).flatten(1)


def linear_in_tiles(images: Tensor) -> Tensor:
    """A probability that is a constant and a coefficient for each tile that is left."""
    left = tile_means(images) / torch.from_numpy(TILES.ravel()).float()
    first = 0.5 + left @ torch.from_numpy(COEFFICIENTS).float()
    return torch.stack([first, 1 - first], dim=1)


def wavy(images: Tensor) -> Tensor:
    """Logits of three classes that are no linear function of the tiles."""
    tiles = tile_means(images)
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(8, 3))).float()
    return torch.sin(3 * tiles) @ weights + (tiles[:, :3] * tiles[:, 3:6]) * 2


def test_the_coefficients_of_a_linear_probability_are_found() -> None:
    classifier = ForwardOnly(linear_in_tiles, batch=64, probabilities=True)
    explainer = LIME(samples=400, ridge=1e-6, **PARAMETERS)  # type: ignore[arg-type]
    (found,) = explainer.explain(classifier, IMAGE, np.array([0])).heatmaps
    expected = np.kron(COEFFICIENTS.reshape(2, 4), np.ones((16, 16)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_regression_is_scikit_learns() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rows = RNG.random((60, 9)) < 0.5
    values, weights = RNG.normal(size=60), RNG.random(60)
    expected = linear_model.Ridge(alpha=0.7).fit(rows, values, sample_weight=weights).coef_
    np.testing.assert_allclose(weighted_ridge(rows, values, weights, 0.7), expected, rtol=1e-9)


def test_it_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    models = pytest.importorskip("captum._utils.models.linear_model")

    def kernel(_image: Tensor, _sample: Tensor, left: Tensor, **_: object) -> Tensor:
        distance = 1 - left.float().mean(dim=1).sqrt()
        return torch.exp(-(distance**2) / 0.25**2 / 2)

    lime = captum.Lime(
        lambda x: torch.softmax(wavy(x), 1),
        interpretable_model=models.SkLearnRidge(alpha=1.0),
        similarity_func=kernel,
    )
    labels = superpixels(IMAGE[0], segments=8, compactness=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = lime.attribute(
            torch.from_numpy(IMAGE),
            target=2,
            feature_mask=torch.from_numpy(labels)[None, None],
            n_samples=3000,
            perturbations_per_eval=500,
        )
    explainer = LIME(samples=3000, **PARAMETERS)  # type: ignore[arg-type]
    (found,) = explainer.explain(ForwardOnly(wavy, batch=256), IMAGE, np.array([2])).heatmaps
    assert np.corrcoef(found.ravel(), expected[0, 0].numpy().ravel())[0, 1] > 0.999


def test_every_sample_costs_one_forward_and_images_share_batches() -> None:
    images = np.concatenate([IMAGE, IMAGE[..., ::-1], IMAGE[..., ::-1, :]])
    classifier = ForwardOnly(wavy, batch=16)
    LIME(samples=33, segments=8).explain(classifier, images, np.array([0, 1, 2]))
    assert classifier.calls == [[16] * 6 + [3]]


def test_an_image_has_one_map_whatever_stands_beside_it_and_whatever_ran_before() -> None:
    images = np.concatenate([IMAGE, RNG.random(IMAGE.shape, dtype=np.float32)])
    explainer = LIME(samples=50, segments=8)
    together = explainer.explain(ForwardOnly(wavy), images, np.array([0, 1])).heatmaps
    torch.rand(3)
    alone = explainer.explain(ForwardOnly(wavy, batch=3), images[1:], np.array([1])).heatmaps
    np.testing.assert_allclose(alone[0], together[1], atol=1e-6)


def test_the_seed_decides_the_samples() -> None:
    def found(seed: int) -> list[float]:
        explainer = LIME(samples=20, segments=8, seed=seed)
        return explainer.explain(ForwardOnly(wavy), IMAGE, np.array([0])).heatmaps.tolist()

    assert found(1) == found(1)
    assert found(1) != found(2)


@pytest.mark.parametrize("field", ["samples", "width", "ridge", "segments", "compactness"])
def test_a_wrong_parameter_is_refused(field: str) -> None:
    with pytest.raises(ParameterError, match=field):
        LIME(**{field: 0})  # type: ignore[arg-type]
