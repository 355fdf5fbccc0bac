"""Interactions of concepts against networks whose second differences are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from xai_core.classifier import load_classifier
from xai_core.concepts import FeatureStore, concept_set, interaction
from xai_core.errors import ConceptError, LayerError, ParameterError


class Product(nn.Module):
    """Logit 0 = mean red, logit 1 = mean red times mean green; `look` hands the image on."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.look.weight.copy_(torch.eye(3)[:, :, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red, green, _ = self.look(images).mean(dim=(2, 3)).unbind(dim=1)
        return torch.stack([red, red * green], dim=1)


def painted(name: str, red: float, green: float, count: int = 20):
    rng = np.random.default_rng(len(name))
    images = rng.random((count, 3, 6, 6)) * 0.01
    images[:, 0] += red
    images[:, 1] += green
    return concept_set(name, images.astype(np.float32))


@pytest.fixture
def store():
    return FeatureStore(load_classifier(Product(), normalization="none", size=(6, 6)))


def given(store):
    images = painted("some", 0.2, 0.3, count=5)
    return (painted("red", 0.6, 0.1), painted("green", 0.1, 0.5), painted("dark", 0.1, 0.1), images)


def test_a_product_gives_the_product_of_the_two_moves(store):
    red, green, dark, images = given(store)
    found = interaction(store, red, green, dark, images, 1, layer="look")
    means = [
        part.batch(0, 20).images.astype(np.float64).mean(axis=(0, 2, 3))
        for part in (red, green, dark)
    ]
    one, other = means[0] - means[2], means[1] - means[2]
    # (r + a1 + a2)(g + b1 + b2) - (r + a1)(g + b1) - (r + a2)(g + b2) + r g
    expected = one[0] * other[1] + other[0] * one[1]
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.interaction == pytest.approx(expected, abs=1e-6)
    assert found.interval.low <= found.interaction <= found.interval.high
    assert found.interval.low > 0.15
    own = images.batch(0, 5).images.mean(axis=(2, 3))
    alone = ((own[:, 0] + one[0]) * (own[:, 1] + one[1]) - own[:, 0] * own[:, 1]).mean()
    assert found.alone[0] == pytest.approx(alone, abs=1e-6)
    assert found.together == pytest.approx(sum(found.alone) + found.interaction, abs=1e-6)
    assert "more than the sum" in found.headline()


def test_a_linear_network_knows_no_interaction(store):
    red, green, dark, images = given(store)
    found = interaction(store, red, green, dark, images, 0, layer="look")
    assert found.alone[0] == pytest.approx(0.5, abs=0.01)
    assert found.interaction == pytest.approx(0, abs=1e-6)
    assert max(abs(found.interval.low), abs(found.interval.high)) < 1e-6


def test_opposite_moves_give_less_than_the_sum(store):
    red, _, dark, images = given(store)
    found = interaction(store, red, painted("less", 0.1, 0.02), dark, images, 1, layer="look")
    assert found.interval.high < 0
    assert "less than the sum" in found.headline()


def test_one_image_says_nothing_of_others(store):
    red, green, dark, _ = given(store)
    found = interaction(store, red, green, dark, painted("one", 0.2, 0.3, 1), 1, layer="look")
    assert (found.interval.low, found.interval.high) == (-np.inf, np.inf)


def test_it_is_the_same_for_a_seed_and_leaves_no_trace_of_batches(store):
    red, green, dark, images = given(store)
    one = interaction(store, red, green, dark, images, 1, layer="look", seed=3)
    narrow = load_classifier(Product(), normalization="none", size=(6, 6), batch_size=2)
    again = interaction(FeatureStore(narrow), red, green, dark, images, 1, layer="look", seed=3)
    np.testing.assert_allclose(one.values, again.values, atol=1e-6)
    assert one.interval.low == pytest.approx(again.interval.low, abs=1e-6)


def test_what_cannot_be_asked_is_refused(store):
    red, green, dark, images = given(store)
    with pytest.raises(ConceptError, match="'red' and 'red' are the same images"):
        interaction(store, red, red, dark, images, 1, layer="look")
    with pytest.raises(LayerError, match="no layer 'lock'"):
        interaction(store, red, green, dark, images, 1, layer="lock")
    with pytest.raises(ParameterError, match="`draws` must be 2 or more"):
        interaction(store, red, green, dark, images, 1, layer="look", draws=1)
