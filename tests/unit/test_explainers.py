"""Explainers by name, and what every explainer promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ParameterError
from xai_core.explainers import (
    EXPLAINERS,
    Explainer,
    GradCAM,
    IntegratedGradients,
    build_explainer,
    parse_explainer,
    reduce_channels,
)
from xai_core.parameters import identity

# The others have parameters that do not fit such small images; their own tests say the same.
OF_ANY_SIZE = ("gradcam", "integrated_gradients", "random", "centre", "sobel", "inverted")
IMAGES = np.random.default_rng(1).random((5, 3, 12, 10), dtype=np.float32)
TARGETS = np.array([0, 1, 2, 1, 0])


def small_classifier(*, batch_size: int | None = None) -> TorchClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        )
    return TorchClassifier(net, name="small", size=(12, 10), batch_size=batch_size)


@pytest.mark.parametrize("kind", EXPLAINERS)
def test_an_explainer_is_built_by_the_name_that_it_carries(kind: str) -> None:
    explainer = build_explainer(kind, {})
    assert isinstance(explainer, Explainer)
    assert explainer.kind == kind
    assert explainer == EXPLAINERS[kind]()
    assert hash(explainer) == hash(EXPLAINERS[kind]())


@pytest.mark.parametrize("kind", OF_ANY_SIZE)
def test_the_map_of_an_image_depends_on_that_image_alone(kind: str) -> None:
    explainer = build_explainer(kind, {})
    together = explainer.explain(small_classifier(), IMAGES, TARGETS).heatmaps
    assert together.shape == (5, 12, 10)
    assert together.dtype == np.float32
    order = [3, 0, 4, 2, 1]
    classifier = small_classifier(batch_size=2)
    shuffled = explainer.explain(classifier, IMAGES[order], TARGETS[order]).heatmaps
    tolerance = 1e-5 * np.abs(together).max()
    np.testing.assert_allclose(shuffled, together[order], rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("kind", OF_ANY_SIZE)
def test_an_explainer_does_not_change_the_images(kind: str) -> None:
    images, targets = IMAGES.copy(), TARGETS.copy()
    build_explainer(kind, {}).explain(small_classifier(), images, targets)
    assert np.array_equal(images, IMAGES)
    assert np.array_equal(targets, TARGETS)


def test_a_text_names_an_explainer_with_its_parameters() -> None:
    assert parse_explainer("gradcam") == GradCAM()
    parsed = parse_explainer("integrated_gradients(steps=20, baseline=('black', 'white'))")
    assert parsed == IntegratedGradients(steps=20, baseline=("black", "white"))


def test_a_table_gives_the_parameters_as_toml_has_them() -> None:
    table = {"steps": 7, "rule": "trapezoid", "baseline": ["black", "mean"], "reduce": "sum"}
    assert build_explainer("integrated_gradients", table) == IntegratedGradients(
        steps=7, rule="trapezoid", baseline=("black", "mean"), reduce="sum"
    )


@pytest.mark.parametrize(
    ("kind", "table", "message"),
    [
        ("gradcan", {}, "no explainer 'gradcan': did you mean 'gradcam'"),
        ("gradcam", {"layr": "a"}, "explainer 'gradcam' has no parameter 'layr': .*'layer'"),
        ("sobel", {"sigma": 1}, "explainer 'sobel' takes no parameters, got 'sigma'"),
        ("integrated_gradients", {"steps": "50"}, "'integrated_gradients'.*`int`.*steps"),
        ("integrated_gradients", {"steps": 2.5}, "'integrated_gradients'.*`int`.*steps"),
        ("integrated_gradients", {"steps": True}, "'integrated_gradients'.*`int`.*steps"),
        ("integrated_gradients", {"steps": 0}, "`steps` must be at least 1, got 0"),
        ("integrated_gradients", {"rule": "simpson"}, "'integrated_gradients'.*simpson.*rule"),
        ("no_such_package:Mine", {}, "'no_such_package:Mine' cannot be imported"),
        ("pathlib:Nothing", {}, "'pathlib:Nothing' cannot be imported"),
        (":Mine", {}, "':Mine' cannot be imported"),
        (".relative:Mine", {}, "'.relative:Mine' cannot be imported"),
        ("pathlib:Path", {}, "'pathlib:Path' must be a frozen dataclass"),
    ],
)
def test_an_explainer_that_cannot_be_is_refused(
    kind: str, table: dict[str, object], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        build_explainer(kind, table)


MINE = """
from dataclasses import dataclass
from typing import ClassVar
from xai_core.explainers import Explanation

@dataclass(frozen=True)
class Mine:
    kind: ClassVar[str] = "mine"
    channel: int = 0

    def explain(self, classifier, images, targets):
        return Explanation(images[:, self.channel])

class NoDataclass:
    kind = "plain"

    def explain(self, classifier, images, targets):
        return Explanation(images[:, 0])
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_explainers.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_explainers"


def test_an_explainer_of_ones_own_is_named_by_its_module(own_module: str) -> None:
    explainer = build_explainer(f"{own_module}:Mine", {"channel": 2})
    maps = explainer.explain(small_classifier(), IMAGES, TARGETS).heatmaps
    np.testing.assert_array_equal(maps, IMAGES[:, 2])


def test_a_class_that_is_no_dataclass_is_refused(own_module: str) -> None:
    with pytest.raises(ParameterError, match="NoDataclass' must be a frozen dataclass"):
        build_explainer(f"{own_module}:NoDataclass", {})


def test_the_identity_of_an_explainer_shows_every_parameter() -> None:
    shown = identity("integrated_gradients", IntegratedGradients(steps=20))
    for part in ("steps=20", "rule='gauss-legendre'", "baseline='black'", "reduce='abs-sum'"):
        assert part in shown


def test_channels_are_reduced_as_named() -> None:
    attributions = np.array([[[[1.0]], [[-3.0]], [[1.5]]]], dtype=np.float32)
    assert reduce_channels(attributions, "abs-sum").item() == 5.5
    assert reduce_channels(attributions, "sum").item() == -0.5
    assert reduce_channels(attributions, "max-abs").item() == 3.0
