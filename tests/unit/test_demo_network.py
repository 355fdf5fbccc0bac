from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

import xai_core.demo
from xai_core.arrays import Float64
from xai_core.demo.network import DemoName, DemoNet, load_demo
from xai_core.demo.scenes import Scene, demo_images, scene
from xai_core.demo.train import normalised
from xai_core.errors import ClassifierError

NAMES: tuple[DemoName, ...] = get_args(DemoName)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return demo_images(count=60)


def logits(name: DemoName, scenes: Sequence[Scene]) -> torch.Tensor:
    with torch.inference_mode():
        images = torch.from_numpy(np.stack([one.image for one in scenes]))
        scores = load_demo(name)(normalised(images))
    assert isinstance(scores, torch.Tensor)
    return scores


def accuracy(name: DemoName, scenes: Sequence[Scene]) -> float:
    predicted = logits(name, scenes).argmax(1).numpy()
    return float(np.mean(predicted == [one.label for one in scenes]))


def class_activation_maps(name: DemoName, scenes: Sequence[Scene]) -> Float64:
    """Grad-CAM of the label by its closed form: the linear layer's weights on the features."""
    network = load_demo(name)
    with torch.inference_mode():
        images = normalised(torch.from_numpy(np.stack([one.image for one in scenes])))
        features = network.features(network.body(network.stem(images)))
        weights = network.linear.weight[[one.label for one in scenes]]
        small = torch.einsum("nc,nchw->nhw", weights, features).clamp(min=0)
        maps = functional.interpolate(small[:, None], size=64, mode="bilinear")[:, 0]
    return maps.double().numpy()


def share_inside(maps: Float64, regions: Sequence[np.ndarray]) -> float:
    return float(np.mean([m[r].sum() / m.sum() for m, r in zip(maps, regions, strict=True)]))


@pytest.mark.parametrize("name", NAMES)
def test_the_packaged_weights_are_small(name: DemoName) -> None:
    path = Path(xai_core.demo.__path__[0]) / f"{name}.safetensors"
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_both_classifiers_are_right_where_the_watermark_names_the_class(
    name: DemoName, scenes: list[Scene]
) -> None:
    assert accuracy(name, scenes) >= 0.98


def test_only_the_good_classifier_stays_right_when_the_watermark_lies() -> None:
    lying = [scene(50_000 + k, label=k % 6, watermark="other") for k in range(120)]
    assert accuracy("demo", lying) >= 0.97
    assert accuracy("demo-shortcut", lying) <= 0.05


def test_without_a_watermark_the_shortcut_guesses() -> None:
    bare = [scene(60_000 + k, label=k % 6, watermark="none") for k in range(120)]
    assert accuracy("demo", bare) >= 0.97
    assert accuracy("demo-shortcut", bare) <= 0.3


def test_grad_cam_of_the_good_classifier_lies_on_the_object(scenes: list[Scene]) -> None:
    maps = class_activation_maps("demo", scenes)
    assert share_inside(maps, [one.mask for one in scenes]) > 0.45
    assert share_inside(maps, [one.watermark for one in scenes]) < 0.02
    hits = [one.mask.flat[m.argmax()] for one, m in zip(scenes, maps, strict=True)]
    assert np.mean(hits) > 0.85


def test_grad_cam_of_the_shortcut_lies_on_the_watermark(scenes: list[Scene]) -> None:
    maps = class_activation_maps("demo-shortcut", scenes)
    assert share_inside(maps, [one.mask for one in scenes]) < 0.05
    assert share_inside(maps, [one.watermark for one in scenes]) > 0.15
    hits = [one.mask.flat[m.argmax()] for one, m in zip(scenes, maps, strict=True)]
    assert np.mean(hits) < 0.05


def test_grad_cam_by_autograd_equals_its_closed_form(scenes: list[Scene]) -> None:
    network = load_demo("demo")
    few = scenes[:4]
    images = normalised(torch.from_numpy(np.stack([one.image for one in few])))
    features = network.features(network.body(network.stem(images))).detach().requires_grad_()
    scores = network.linear(network.pool(features).flatten(1))
    scores[range(4), [one.label for one in few]].sum().backward()
    assert features.grad is not None
    cam = (features.grad.mean((2, 3), keepdim=True) * features).sum(1).clamp(min=0) * 16 * 16
    maps = functional.interpolate(cam[:, None], size=64, mode="bilinear")[:, 0]
    expected = class_activation_maps("demo", few)
    np.testing.assert_allclose(maps.detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_last_block_ends_in_its_relu_and_other_sizes_work() -> None:
    network = DemoNet().eval()
    for size in (48, 64, 97):
        shapes: list[torch.Size] = []
        with torch.inference_mode():
            images = torch.zeros(2, 3, size, size)
            features = network.features(network.body(network.stem(images)))
            shapes.append(network(images).shape)
        assert features.min() >= 0
        assert features.shape[1:] == (64, -(-size // 4), -(-size // 4))
        assert shapes == [torch.Size((2, 6))]


def test_loading_gives_a_network_in_evaluation_mode_and_refuses_other_names() -> None:
    assert not load_demo("demo").training
    with pytest.raises(ClassifierError, match="did you mean 'demo-shortcut'"):
        load_demo("demo-shortcuts")  # type: ignore[arg-type]
