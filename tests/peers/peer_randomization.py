"""Parameter randomisation and random logit beside Quantus's, on the same random networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from both_sides import classifier, images, network, quantus_scores, targets
from quantus.functions.similarity_func import correlation_spearman
from quantus.helpers.utils import get_wrapped_model
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from xai_core.arrays import Float32
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.errors import UndefinedMeasurementError
from xai_core.explainers import IntegratedGradients
from xai_core.metrics import (
    efficient_mprt,
    mprt_cascading,
    mprt_independent,
    random_logit,
    smooth_mprt,
)
from xai_core.metrics.similarity import ssim

ALL = 1000
"""More stages than there are layers: one for each."""

PLAIN = {"abs": False, "normalise": False}


def explain(of: Classifier, x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    given = np.clip(np.asarray(x, dtype=np.float32), 0, 1)
    return IntegratedGradients(steps=4).explain(of, given, np.asarray(classes)).heatmaps


def explain_func(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> Any:
    return explain(classifier(model), inputs, targets)[:, None]


def heatmaps() -> np.ndarray:
    return explain(classifier(network()), images(), targets())


def theirs(metric: Any, module: nn.Module | None = None, **given: Any) -> Any:
    module = network() if module is None else module
    return metric(
        model=module,
        x_batch=images(),
        y_batch=targets(),
        a_batch=given.pop("a_batch", heatmaps()[:, None]),
        explain_func=explain_func,
        channel_first=True,
        **given,
    )


class AsTheirs:
    """A classifier whose weights are drawn anew as Quantus draws them."""

    def __init__(self, module: nn.Module, order: str) -> None:
        wrapped = get_wrapped_model(module, channel_first=True, softmax=False)
        drawn = wrapped.get_random_layer_generator(order=order, seed=42)
        self._stages = {name: classifier(deepcopy(stage)) for name, stage in drawn}
        self._order = order
        self.original = classifier(module)

    def parameter_layers(self) -> list[str]:
        names = list(self._stages)
        return names[::-1] if self._order == "top_down" else names

    def reinitialised(self, layers: Sequence[str], *, seed: int) -> TorchClassifier:
        return self._stages[layers[-1]]


def explained_by(of: Any, change: Callable[[Float32], Float32] | None = None, /) -> Float32:
    of = of.original if isinstance(of, AsTheirs) else of
    return explain(of, images() if change is None else change(images()), targets())


@pytest.mark.parametrize("order", ["top-down", "bottom-up"])
def test_cascading_mprt_is_the_mean_of_their_layers(order: str) -> None:
    theirs_of = order.replace("-", "_")
    metric = quantus.MPRT(layer_order=theirs_of, seed=42, **PLAIN)
    found = theirs(metric)
    layers = [np.asarray(scores) for name, scores in found.items() if name != "original"]
    assert len(layers) == 3
    ours = mprt_cascading(
        AsTheirs(network(), theirs_of), heatmaps(), explained_by, order=order, stages=ALL
    )
    assert np.ptp(ours) > 0.05
    np.testing.assert_allclose(ours, np.mean(layers, axis=0), rtol=0, atol=1e-5)


def test_independent_mprt_is_the_mean_of_their_layers() -> None:
    metric = quantus.MPRT(layer_order="independent", seed=42, **PLAIN)
    layers = [scores for name, scores in theirs(metric).items() if name != "original"]
    ours = mprt_independent(
        AsTheirs(network(), "independent"), heatmaps(), explained_by, stages=ALL
    )
    np.testing.assert_allclose(ours, np.mean(layers, axis=0), rtol=0, atol=1e-5)


def test_their_average_has_the_similarity_of_the_original_to_itself_in_it() -> None:
    """The key that is passed over is called "orig", the one that is there "original"."""
    metric = quantus.MPRT(layer_order="top_down", seed=42, return_average_correlation=True, **PLAIN)
    ours = mprt_cascading(AsTheirs(network(), "top_down"), heatmaps(), explained_by, stages=ALL)
    np.testing.assert_allclose(theirs(metric), (1 + 3 * ours) / 4, rtol=0, atol=1e-5)


class Attending(nn.Module):
    """A class token and a position table before attention: parameters of three kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.ones(1, 1, 8))
        self.positions = nn.Parameter(torch.ones(1, 10, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1) + self.positions
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0][:, 0])


def test_their_randomised_transformer_keeps_qkv_token_and_positions_and_ours_nothing() -> None:
    """They draw what has `reset_parameters`; attention has `_reset_parameters`, a table nothing."""
    module = Attending()
    before = {name: value.clone() for name, value in module.named_parameters()}
    wrapped = get_wrapped_model(module, channel_first=True, softmax=False)
    *_, (_, last) = wrapped.get_random_layer_generator(order="top_down", seed=42)
    kept = {name for name, value in last.named_parameters() if torch.equal(value, before[name])}
    untouched = {"token", "positions", "attention.in_proj_weight", "attention.in_proj_bias"}
    assert kept == untouched
    share = sum(before[name].numel() for name in kept) / sum(v.numel() for v in before.values())
    assert share > 0.35

    own, x = classifier(module), torch.from_numpy(images())
    drawn = own.reinitialised(own.parameter_layers(), seed=0)
    assert drawn.reinitialised_share == 1
    for layer in ("", "attention"):  # token and positions; the three matrices
        changed = own.reinitialised([layer], seed=0).logits(x) - own.logits(x)
        assert changed.abs().max() > 0.01


def test_efficient_mprt_is_theirs_up_to_values_at_the_edge_of_a_bin() -> None:
    found = theirs(quantus.EfficientMPRT(seed=42, **PLAIN))
    ours = efficient_mprt(AsTheirs(network(), "bottom_up"), heatmaps(), explained_by)
    assert np.ptp(ours) > 0.005
    np.testing.assert_allclose(ours, found, rtol=0, atol=1e-5)


def test_a_map_without_entropy_is_divided_by_there_and_undefined_here() -> None:
    flat = np.ones((4, 12, 12), dtype=np.float32)

    def constant(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> Any:
        blank = np.ones((len(inputs), 1, 12, 12), dtype=np.float32)
        blank[0, 0, 0, 0] = 2  # they refuse a batch in which nothing differs
        return blank

    with np.errstate(invalid="ignore", divide="ignore"):
        found = quantus.EfficientMPRT(**PLAIN)(
            model=network(),
            x_batch=images(),
            y_batch=targets(),
            a_batch=constant(network(), images(), targets()),
            explain_func=constant,
            channel_first=True,
        )
    assert np.isnan(found[1:]).all()
    with pytest.raises(UndefinedMeasurementError, match="constant"):
        efficient_mprt(classifier(network()), flat, explained_by)


def test_smooth_mprt_without_noise_is_theirs_without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs does not ask the explain_func it is given, but quantus.explain, which is replaced."""
    monkeypatch.setattr(quantus, "explain", explain_func)
    metric = quantus.SmoothMPRT(seed=42, nr_samples=1, return_average_correlation=True, **PLAIN)
    ours = smooth_mprt(
        AsTheirs(network(), "bottom_up"),
        heatmaps(),
        explained_by,
        samples=1,
        noise=1e-7,
        stages=ALL,
    )
    np.testing.assert_allclose(theirs(metric), (1 + 3 * ours) / 4, rtol=0, atol=1e-5)


def test_one_of_their_noisy_images_is_without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of N copies is the image itself, so N = 1 is no smooth test at all; ours has N."""
    seen: list[np.ndarray] = []

    def watch(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> Any:
        seen.append(np.abs(np.asarray(inputs) - images()).max())
        return explain_func(model, inputs, targets)

    monkeypatch.setattr(quantus, "explain", watch)
    theirs(quantus.SmoothMPRT(nr_samples=3, **PLAIN))
    assert len(seen) % 3 == 0
    assert np.count_nonzero(seen) == 2 * len(seen) / 3
    changes: list[float] = []

    def noisy(of: Classifier, change: Callable[[Float32], Float32] | None = None, /) -> Float32:
        assert change is not None
        changes.append(float(np.abs(change(images()) - images()).max()))
        return explained_by(of, change)

    smooth_mprt(classifier(network()), heatmaps(), noisy, samples=3, stages=1)
    assert len(changes) == 6
    assert min(changes) > 0


@pytest.mark.parametrize("ours", [0, 1])
def test_random_logit_of_two_classes_is_theirs(ours: int) -> None:
    """The other of two classes is not random. Ranks are compared; their SSIM is another."""
    module, classes = network(classes=2), np.array([0, 1, 1, 0])

    def of_two(x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return explain(classifier(module), x, wanted)

    own = of_two(images(), classes)
    metric = quantus.RandomLogit(num_classes=2, similarity_func=correlation_spearman, **PLAIN)
    found = quantus_scores(
        metric,
        module,
        x_batch=images(),
        y_batch=classes,
        a_batch=own,
        explain_func=explain_func,
    )
    values = random_logit(
        classifier(module), of_two, images(), classes, own, similarity="spearman", seed=ours
    )
    np.testing.assert_allclose(values, found, rtol=0, atol=1e-5)


def test_their_ssim_is_of_one_dimension_and_ours_of_two() -> None:
    """They flatten the maps: what is beside a pixel counts, and what is above it does not. A map
    that moves down and one that moves right are equally like the first, but not there."""
    row, column = np.mgrid[:24, :24]
    blob = np.exp(-((row - 10) ** 2 + (column - 10) ** 2) / 40.0)
    down, right = np.roll(blob, 5, axis=0), np.roll(blob, 5, axis=1)

    def flattened(a: np.ndarray, b: np.ndarray) -> float:
        span = max(a.max(), b.max()) - min(a.min(), b.min())
        return float(structural_similarity(a.ravel(), b.ravel(), data_range=span))

    found = [
        quantus.ssim(blob.reshape(1, -1), moved.reshape(1, -1), batched=True)[0]
        for moved in (down, right)
    ]
    np.testing.assert_allclose(found, [flattened(blob, down), flattened(blob, right)])
    assert found[0] > 2 * found[1]
    moved = np.stack([down, right]).astype(np.float32)
    ours = ssim(np.stack([blob, blob]).astype(np.float32), moved)
    assert ours[0] == pytest.approx(ours[1], abs=1e-3)
    plain = structural_similarity(blob, down, data_range=1.0, win_size=7)
    assert ours[0] == pytest.approx(plain, abs=1e-3)
