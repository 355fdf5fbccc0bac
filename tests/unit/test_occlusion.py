"""Occlusion against a plain loop, and against Captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from forward_only import ForwardOnly
from torch import Tensor

from xai_core.errors import ParameterError
from xai_core.explainers import Occlusion

RNG = np.random.default_rng(4)
IMAGES = RNG.random((3, 3, 13, 16), dtype=np.float32)
TARGETS = np.array([1, 0, 2])
WEIGHTS = torch.from_numpy(RNG.normal(size=(3 * 13 * 16, 3)).astype(np.float32) / 4)


def linear(images: Tensor) -> Tensor:
    return images.flatten(1) @ WEIGHTS


def probability(image: np.ndarray, target: int) -> float:
    return float(torch.softmax(linear(torch.from_numpy(image)[None]), dim=1)[0, target])


@pytest.mark.parametrize(
    ("substrate", "colour"), [("black", (0, 0, 0)), ("mean", ForwardOnly.mean)]
)
def test_a_pixel_gets_the_mean_loss_over_the_windows_that_cover_it(
    substrate: str, colour: tuple[float, ...]
) -> None:
    maps = Occlusion(5, 3, substrate).explain(ForwardOnly(linear), IMAGES, TARGETS).heatmaps
    for image, target, found in zip(IMAGES, TARGETS, maps, strict=True):
        losses: dict[tuple[int, int], list[float]] = {}
        for top in (0, 3, 6, 8):  # 8: the last window ends at the border
            for left in (0, 3, 6, 9, 11):
                covered = image.copy()
                covered[:, top : top + 5, left : left + 5] = np.array(colour)[:, None, None]
                loss = probability(image, target) - probability(covered, target)
                for y in range(top, top + 5):
                    for x in range(left, left + 5):
                        losses.setdefault((y, x), []).append(loss)
        for (y, x), of_pixel in losses.items():
            assert found[y, x] == pytest.approx(np.mean(of_pixel), abs=1e-6)


def test_it_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    images, targets = torch.from_numpy(IMAGES[:, :, :12]), torch.from_numpy(TARGETS)
    weights = WEIGHTS[: 3 * 12 * 16]
    expected = captum.Occlusion(lambda x: torch.softmax(x.flatten(1) @ weights, 1)).attribute(
        images, sliding_window_shapes=(3, 4, 4), strides=(3, 2, 2), target=targets
    )
    classifier = ForwardOnly(lambda x: x.flatten(1) @ weights)
    found = Occlusion(4, 2, "black").explain(classifier, images.numpy(), TARGETS).heatmaps
    np.testing.assert_allclose(found, expected[:, 0].numpy(), atol=1e-6)


def test_it_costs_a_forward_for_each_window_and_one_for_the_image() -> None:
    classifier = ForwardOnly(linear, batch=8)
    Occlusion(5, 3).explain(classifier, IMAGES, TARGETS)
    assert classifier.forwards == 3 * (4 * 5 + 1)
    assert classifier.calls == [[8] * 7 + [7]]


def test_a_call_of_the_classifier_is_bounded_however_many_windows_there_are() -> None:
    classifier = ForwardOnly(linear, batch=2)
    Occlusion(1, 1).explain(classifier, IMAGES, TARGETS)
    assert classifier.forwards == 3 * (13 * 16 + 1)
    assert max(map(sum, classifier.calls)) == 2 * 64
    assert classifier.largest_batch == 2


def test_an_image_has_one_map_whatever_stands_beside_it() -> None:
    together = Occlusion(4, 2).explain(ForwardOnly(linear), IMAGES, TARGETS).heatmaps
    alone = Occlusion(4, 2).explain(ForwardOnly(linear), IMAGES[1:2], TARGETS[1:2]).heatmaps
    np.testing.assert_allclose(alone[0], together[1], atol=1e-6)


def test_a_window_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ParameterError, match="`window` is 16 px and the images are 13 x 16"):
        Occlusion().explain(ForwardOnly(linear), IMAGES, TARGETS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window": 0}, "window"),
        ({"window": 4, "stride": 5}, "every pixel is covered"),
        ({"stride": 0}, "stride"),
        ({"substrate": "mena"}, "did you mean 'mean'"),
    ],
)
def test_a_wrong_parameter_is_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Occlusion(**parameters)  # type: ignore[arg-type]
