"""The maps on a layer's own grid that class activation maps and rollouts carry beside heatmaps."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from skimage.transform import resize
from torch import Tensor

from xai_core.checks import SmallCNN, TinyTransformer
from xai_core.checks.networks import Network
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import (
    EXPLAINERS,
    Explanation,
    GradCAM,
    attention,
    build_explainer,
    layer_maps,
)
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import (
    METRICS,
    active_fraction,
    relative_complexity,
    sparseness,
)
from xai_core.postprocess import Gaussian

CNN, VIT = SmallCNN(), TinyTransformer()
GRIDS: dict[Network, tuple[int, int]] = {CNN: (12, 16), VIT: (4, 4)}
"""Height and width of the default layer's grid; images are 24 x 32 and 32 x 32."""

OF_A_LAYER = (
    "gradcam", "gradcam_plus_plus", "hirescam", "layercam", "xgradcam", "score_cam",
    "ablation_cam", "eigen_cam", "integrated_gradcam",
)  # fmt: skip
OF_ATTENTION = ("attention_rollout", "gradient_rollout")
CASES = [(kind, network) for kind in OF_A_LAYER for network in (CNN, VIT)] + [
    (kind, VIT) for kind in OF_ATTENTION
]


def images_of(network: Network, count: int = 5) -> np.ndarray:
    return np.random.default_rng(23).random((count, 3, *network.size), dtype=np.float32)


def explain(kind: str, network: Network, batch_size: int | None = 2) -> Explanation:
    images = images_of(network)
    targets = np.arange(5) % 3
    return build_explainer(kind, {}).explain(
        network.classifier(batch_size=batch_size), images, targets
    )


@pytest.mark.parametrize(("kind", "network"), CASES)
def test_heatmaps_are_the_native_maps_enlarged_bilinearly(kind: str, network: Network) -> None:
    found = explain(kind, network)
    assert found.native is not None
    assert found.native.dtype == np.float32
    assert found.native.shape == (5, *GRIDS[network])
    expected = np.stack(
        [resize(one, network.size, order=1, mode="edge", clip=False) for one in found.native]
    )
    assert np.abs(expected).max() > 0
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(found.heatmaps, expected, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize(("kind", "network"), CASES)
def test_the_native_map_of_an_image_does_not_depend_on_its_batch(
    kind: str, network: Network
) -> None:
    in_pairs, at_once = explain(kind, network).native, explain(kind, network, None).native
    assert in_pairs is not None
    assert at_once is not None
    tolerance = 1e-5 * np.abs(at_once).max()
    np.testing.assert_allclose(in_pairs, at_once, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("kind", sorted(set(EXPLAINERS) - set(OF_A_LAYER) - set(OF_ATTENTION)))
def test_what_works_at_the_images_resolution_has_no_native_maps(kind: str) -> None:
    images = images_of(CNN, count=1)
    explanation = build_explainer(kind, {}).explain(CNN.classifier(), images, np.array([1]))
    assert explanation.native is None


@pytest.mark.parametrize("kind", [*OF_A_LAYER, *OF_ATTENTION])
def test_no_images_have_no_native_maps(kind: str) -> None:
    network = VIT if kind in OF_ATTENTION else CNN
    none = np.zeros((0, 3, *network.size), dtype=np.float32)
    found = build_explainer(kind, {}).explain(network.classifier(), none, np.zeros(0, dtype=int))
    assert found.heatmaps.shape == (0, *network.size)
    assert found.native is None


@pytest.mark.parametrize("kind", OF_ATTENTION)
def test_no_more_of_the_attention_is_kept_than_the_maps(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Tensor] = []

    def keep(maps: list[Tensor], size: tuple[int, int]) -> Explanation:
        kept.extend(maps)
        return layer_maps.enlarged(maps, size)

    monkeypatch.setattr(attention, "enlarged", keep)
    explain(kind, VIT, batch_size=1)
    assert [one.untyped_storage().nbytes() for one in kept] == [4 * 4 * 4] * 5


def test_native_metrics_measure_the_map_before_enlargement_and_post_processing() -> None:
    images = images_of(CNN)
    entries = [
        Entry(f"image_{row}", row % 3, partial(np.copy, images[row]), None, "test")
        for row in range(5)
    ]
    at = Evaluation(
        CNN.classifier(batch_size=2), ImageSet(entries, name="five", transform=Resize(CNN.size))
    )
    native = GradCAM().explain(CNN.classifier(), images, np.arange(5) % 3).native
    assert native is not None
    smooth = Method("smooth", GradCAM(), (Gaussian(sigma=4),))
    for name, plain in (
        ("native_sparseness", sparseness),
        ("native_complexity", relative_complexity),
        ("native_active_fraction", active_fraction),
    ):
        found = at.measure(smooth, METRICS[name].configure({})).values
        np.testing.assert_allclose(found, plain(native), rtol=1e-3, atol=1e-3)
        assert np.abs(plain(at.explain(smooth).heatmaps) - found).min() > 0.01
