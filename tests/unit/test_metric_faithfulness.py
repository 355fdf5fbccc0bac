"""Faithfulness metrics against a plain reading of RISE's and Grad-CAM++'s definitions."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor

from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.metrics import (
    METRICS,
    average_drop,
    deletion,
    deletion_curve,
    faithfulness_gap,
    increase_in_confidence,
    insertion,
    insertion_curve,
)
from xai_core.metrics.removal import substrate_images

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 4


class Stub:
    """A linear classifier on a grid of 4 x 4 cells, with ImageNet's normalisation inside.

    It keeps the sizes of the batches that it was given.
    """

    num_classes = CLASSES
    mean = MEAN
    device = "cpu"

    def __init__(self, *, batch: int = 7, scale: float = 3.0) -> None:
        made = torch.Generator().manual_seed(1)
        self.weights = scale * torch.randn(48, CLASSES, generator=made, dtype=torch.float64) / 7
        self.batch = batch
        self.calls: list[list[int]] = []

    def batch_size(self, height: int, width: int) -> int:
        assert height == width
        return self.batch

    def normalised_scores(self, inputs: Tensor) -> Tensor:
        cells = torch.nn.functional.adaptive_avg_pool2d(inputs.double(), 4)
        return torch.softmax(cells.flatten(1) @ self.weights, dim=1)

    def scores(self, images: Tensor | Iterable[Tensor]) -> Tensor:
        batches = [images] if isinstance(images, Tensor) else images
        self.calls.append([])
        given = []
        for batch in batches:
            assert batch.dtype == torch.float32
            self.calls[-1].append(len(batch))
            mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
            given.append(self.normalised_scores((batch.double() - mean) / std))
        return torch.cat(given)


def some(size: int, count: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, heatmaps without ties, targets."""
    rng = np.random.default_rng(seed)
    heatmaps = np.stack([rng.permutation(size * size).reshape(size, size) for _ in range(count)])
    images = rng.random((count, 3, size, size)).astype(np.float32)
    return images, heatmaps.astype(np.float32), rng.integers(0, CLASSES, count)


def rise(
    stub: Stub, image: np.ndarray, heatmap: np.ndarray, target: int, *, mode: str, step: int
) -> tuple[float, list[float]]:
    """RISE as its authors measure it: one image, one step at a time, in normalised space."""
    from scipy.ndimage import gaussian_filter

    side = heatmap.shape[0]
    mean, std = (np.array(v)[:, None, None] for v in (MEAN, STD))
    normal = torch.from_numpy((image.astype(np.float64) - mean) / std)[None]
    dirac = np.zeros((11, 11))
    dirac[5, 5] = 1
    kernel = torch.zeros(3, 3, 11, 11, dtype=torch.float64)
    for channel in range(3):
        kernel[channel, channel] = torch.from_numpy(gaussian_filter(dirac, 5))
    if mode == "deletion":
        start, finish = normal.clone(), torch.zeros_like(normal)
    else:
        start, finish = torch.nn.functional.conv2d(normal, kernel, padding=5), normal.clone()
    order = np.flip(np.argsort(heatmap.reshape(-1)))
    scores = []
    for number in range(math.ceil(side * side / step) + 1):
        scores.append(float(stub.normalised_scores(start)[0, target]))
        here = torch.from_numpy(order[number * step : (number + 1) * step].copy())
        start.view(3, -1)[:, here] = finish.view(3, -1)[:, here]
    return (sum(scores) - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1), scores


@pytest.mark.parametrize(("size", "step", "steps"), [(224, 1792, 28), (32, 32, 32)])
@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_the_default_protocol_is_rises(mode: str, size: int, step: int, steps: int) -> None:
    stub, (images, heatmaps, targets) = Stub(), some(size, count=2)
    expected = [
        rise(stub, image, heatmap, target, mode=mode, step=step)
        for image, heatmap, target in zip(images, heatmaps, targets, strict=True)
    ]
    curve, area = {
        "deletion": (deletion_curve, deletion),
        "insertion": (insertion_curve, insertion),
    }[mode]
    shares, probabilities = curve(stub, images, heatmaps, targets, steps=steps)
    np.testing.assert_allclose(shares, np.arange(steps + 1) / steps)
    np.testing.assert_allclose(probabilities, [scores for _, scores in expected], atol=1e-6)
    measured = area(stub, images, heatmaps, targets, steps=steps)
    np.testing.assert_allclose(measured, [value for value, _ in expected], atol=1e-6)
    assert METRICS[mode].settings["steps"][1] == 28


def test_the_last_step_takes_what_is_left_and_counts_for_its_width() -> None:
    stub, (images, heatmaps, targets) = Stub(), some(12)
    shares, probabilities = deletion_curve(stub, images, heatmaps, targets, steps=10)
    assert shares.tolist() == [min(15 * k, 144) / 144 for k in range(11)]
    area = 0.0
    for k in range(10):
        area += (shares[k + 1] - shares[k]) * (probabilities[:, k] + probabilities[:, k + 1]) / 2
    np.testing.assert_allclose(deletion(stub, images, heatmaps, targets, steps=10), area)


def test_no_step_is_empty_where_the_pixels_run_out_early() -> None:
    stub, (images, heatmaps, targets) = Stub(), some(8)
    shares, probabilities = insertion_curve(stub, images, heatmaps, targets, steps=28)
    assert shares.tolist() == [min(3 * k, 64) / 64 for k in range(23)]
    assert probabilities.shape == (3, 23)


def test_equally_relevant_pixels_go_in_reading_order() -> None:
    stub, (images, _, targets) = Stub(), some(8, count=1)
    tied = np.zeros((1, 8, 8))
    tied[0, 5, 5] = 1
    order = np.zeros(64)
    order[5 * 8 + 5] = 100
    order -= np.arange(64) / 64
    expected = deletion_curve(stub, images, order.reshape(1, 8, 8), targets, steps=64)[1]
    np.testing.assert_array_equal(
        deletion_curve(stub, images, tied, targets, steps=64)[1], expected
    )


@pytest.mark.parametrize(("substrate", "colour"), [("mean", MEAN), ("black", 0), ("white", 1)])
def test_curves_end_at_the_image_and_at_the_substrate(substrate: str, colour: object) -> None:
    stub, (images, heatmaps, targets) = Stub(), some(16)
    flat = torch.ones(1, 3, 16, 16) * torch.tensor(colour).reshape(-1, 1, 1)
    gone = stub.scores(flat)[0].numpy()[targets]
    whole = stub.scores(torch.from_numpy(images)).numpy()[np.arange(3), targets]
    _, going = deletion_curve(stub, images, heatmaps, targets, substrate=substrate)
    _, coming = insertion_curve(stub, images, heatmaps, targets, substrate=substrate)
    for probabilities in (going, coming[:, ::-1]):
        np.testing.assert_allclose(probabilities[:, 0], whole)
        np.testing.assert_allclose(probabilities[:, -1], gone, atol=1e-7)


def test_the_blur_is_the_image_inside_a_frame_of_mean_colour() -> None:
    from scipy.ndimage import gaussian_filter

    images, _, _ = some(15, count=2)
    dirac = np.zeros((11, 11))
    dirac[5, 5] = 1
    kernel = gaussian_filter(dirac, 5)
    assert kernel.sum() == pytest.approx(1)
    mean = np.array(MEAN)[None, :, None, None]
    framed = np.broadcast_to(mean, (2, 3, 25, 25)).copy()
    framed[:, :, 5:-5, 5:-5] = images
    expected = np.empty((2, 3, 15, 15))
    for row in range(15):
        for column in range(15):
            seen = framed[:, :, row : row + 11, column : column + 11]
            expected[:, :, row, column] = (seen * kernel).sum(axis=(2, 3))
    np.testing.assert_allclose(substrate_images(images, "blur", MEAN), expected, atol=1e-6)


def test_deletion_backwards_is_insertion_of_the_inverted_map() -> None:
    stub, (images, heatmaps, targets) = Stub(), some(16)
    going = deletion(stub, images, heatmaps, targets, steps=16, substrate="black")
    coming = insertion(stub, images, -heatmaps, targets, steps=16, substrate="black")
    np.testing.assert_allclose(going, coming)


def test_all_steps_of_all_images_share_full_batches_in_one_pass() -> None:
    stub, (images, heatmaps, targets) = Stub(batch=8), some(16, count=5)
    deletion(stub, images, heatmaps, targets, steps=4)
    average_drop(stub, images, heatmaps, targets)
    assert stub.calls == [[8, 8, 8, 1], [8, 2]]


def test_batches_are_built_one_at_a_time() -> None:
    alive: list[int] = []

    class Asks(Stub):
        def scores(self, images: Tensor | Iterable[Tensor]) -> Tensor:
            import weakref

            kept, found = [], []
            for batch in images:
                kept.append(weakref.ref(batch))
                found.append(torch.full((len(batch), CLASSES), 0.25))
                del batch
                alive.append(sum(ref() is not None for ref in kept))
            return torch.cat(found)

    images, heatmaps, targets = some(16)
    deletion(Asks(), images, heatmaps, targets)
    assert len(alive) > 5
    assert max(alive) <= 1


def plain_confidences(
    stub: Stub, image: np.ndarray, heatmap: np.ndarray, target: int
) -> tuple[float, float]:
    low, high = float(heatmap.min()), float(heatmap.max())
    shade = ((heatmap.astype(np.float64) - low) / (high - low)).astype(np.float32)
    whole, shaded = (stub.scores(torch.from_numpy(i)[None])[0] for i in (image, image * shade))
    return float(whole[target]), float(shaded[target])


def test_average_drop_and_increase_equal_a_plain_loop() -> None:
    stub, (images, heatmaps, targets) = Stub(scale=6), some(16, count=12)
    pairs = [
        plain_confidences(stub, *given) for given in zip(images, heatmaps, targets, strict=True)
    ]
    drops = [max(0.0, y - o) / y * 100 for y, o in pairs]
    rises = [100.0 if o > y else 0.0 for y, o in pairs]
    assert set(rises) == {0.0, 100.0}
    assert max(drops) > 10
    np.testing.assert_allclose(average_drop(stub, images, heatmaps, targets), drops, atol=1e-5)
    np.testing.assert_array_equal(increase_in_confidence(stub, images, heatmaps, targets), rises)


def test_an_equal_probability_is_no_increase() -> None:
    _, heatmaps, targets = some(16)
    black = np.zeros((3, 3, 16, 16), dtype=np.float32)
    assert not increase_in_confidence(Stub(), black, heatmaps, targets).any()
    assert not average_drop(Stub(), black, heatmaps, targets).any()


def test_average_drop_ignores_scale_and_offset_of_the_heatmap() -> None:
    stub, (images, heatmaps, targets) = Stub(), some(16)
    shifted = average_drop(stub, images, heatmaps * 4 - 512, targets)
    np.testing.assert_allclose(shifted, average_drop(stub, images, heatmaps, targets), atol=1e-5)


@pytest.mark.parametrize("name", ["average_drop", "increase_in_confidence"])
def test_a_probability_of_zero_is_undefined(name: str) -> None:
    class Sure(Stub):
        def scores(self, images: Tensor | Iterable[Tensor]) -> Tensor:
            assert not isinstance(images, Tensor)
            found = torch.zeros(sum(len(batch) for batch in images), CLASSES)
            found[:, 2] = 1
            return found

    images, heatmaps, _ = some(16)
    with pytest.raises(UndefinedMeasurementError, match="probability on the image is 0") as caught:
        METRICS[name].function(Sure(), images, heatmaps, [2, 0, 2])
    assert set(caught.value.reasons) == {1}


@pytest.mark.parametrize("name", ["deletion", "insertion", "average_drop"])
def test_a_probability_that_is_not_finite_is_undefined(name: str) -> None:
    class Broken(Stub):
        def scores(self, images: Tensor | Iterable[Tensor]) -> Tensor:
            found = super().scores(images)
            found[0] = float("nan")
            return found

    images, heatmaps, targets = some(16)
    with pytest.raises(UndefinedMeasurementError, match="not finite") as caught:
        METRICS[name].function(Broken(), images, heatmaps, targets)
    assert set(caught.value.reasons) == {0}


@pytest.mark.parametrize("targets", [[0, 1, CLASSES], [0, -1, 2]])
@pytest.mark.parametrize(
    "measured", [deletion, insertion, average_drop, increase_in_confidence, deletion_curve]
)
def test_a_target_that_is_no_class_is_refused(measured: object, targets: list[int]) -> None:
    images, heatmaps, _ = some(16)
    with pytest.raises(ShapeError, match="class indices from 0 to 3"):
        measured(Stub(), images, heatmaps, targets)  # type: ignore[operator]


@pytest.mark.parametrize("curve", [deletion_curve, insertion_curve])
def test_curves_check_what_they_get_as_metrics_do(curve: object) -> None:
    images, heatmaps, targets = some(16)
    with pytest.raises(ParameterError, match="steps"):
        curve(Stub(), images, heatmaps, targets, steps=0)  # type: ignore[operator]
    with pytest.raises(UndefinedMeasurementError, match="zero everywhere"):
        curve(Stub(), images, heatmaps * 0, targets)  # type: ignore[operator]
    with pytest.raises(ShapeError, match="differ"):
        curve(Stub(), images, heatmaps[:, 1:], targets)  # type: ignore[operator]


@pytest.mark.parametrize(
    "name", ["deletion", "insertion", "average_drop", "increase_in_confidence"]
)
def test_a_value_does_not_depend_on_batch_mates_or_order(name: str) -> None:
    images, heatmaps, targets = some(16, count=4, seed=9)
    measured = METRICS[name].function
    together = measured(Stub(), images, heatmaps, targets)
    alone = [measured(Stub(), images[i], heatmaps[i], targets[i])[0] for i in range(4)]
    backwards = measured(Stub(), images[::-1], heatmaps[::-1], targets[::-1])
    low, high = METRICS[name].range
    assert together.dtype == np.float64
    assert ((together >= low) & (together <= high)).all()
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    np.testing.assert_allclose(together, backwards[::-1], rtol=1e-12)


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_only_the_order_of_the_pixels_counts(name: str) -> None:
    images, heatmaps, targets = some(16)
    measured = METRICS[name].function
    bent = np.sign(heatmaps - 128) * np.sqrt(np.abs(heatmaps - 128))
    np.testing.assert_array_equal(
        measured(Stub(), images, bent, targets), measured(Stub(), images, heatmaps, targets)
    )


def test_arrays_that_may_not_be_written_to_are_taken_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    images, heatmaps, targets = some(16)
    for array in (images, heatmaps, targets):
        array.setflags(write=False)
    deletion(Stub(), images, heatmaps, targets)
    average_drop(Stub(), images, heatmaps, targets)
    assert not recwarn.list


def test_a_single_target_serves_all_images() -> None:
    images, heatmaps, _ = some(16)
    np.testing.assert_array_equal(
        deletion(Stub(), images, heatmaps, 2), deletion(Stub(), images, heatmaps, [2, 2, 2])
    )


def test_a_good_map_beats_its_inverse() -> None:
    stub = Stub()
    stub.weights = torch.zeros(48, CLASSES, dtype=torch.float64)
    stub.weights[0::16, 1] = 4.0  # class 1 looks at the top left cell alone
    images = np.full((1, 3, 16, 16), 0.45, dtype=np.float32)
    images[:, :, :4, :4] = 1.0
    heatmap = np.zeros((1, 16, 16))
    heatmap[:, :4, :4] = 1
    assert deletion(stub, images, heatmap, 1) < deletion(stub, images, -heatmap, 1) - 0.3
    assert average_drop(stub, images, heatmap, 1) < 1e-6
    assert average_drop(stub, images, -heatmap, 1) > 50


def test_the_gap_is_insertion_minus_deletion() -> None:
    np.testing.assert_allclose(faithfulness_gap([0.9, 0.2], [0.1, 0.6]), [0.8, -0.4])


def test_the_gap_of_a_missing_value_is_undefined() -> None:
    with pytest.raises(UndefinedMeasurementError) as caught:
        faithfulness_gap([0.9, np.nan], [0.1, 0.6])
    assert set(caught.value.reasons) == {1}
