"""How far heatmaps move with their images, against plain loops and networks solved by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.metrics import METRICS, average_sensitivity, local_lipschitz, max_sensitivity
from xai_core.seeding import generator_for

RNG = np.random.default_rng(12)
IMAGES = RNG.random((3, 3, 9, 7)).astype(np.float32)
IMAGES[2] = np.round(IMAGES[2])  # half of its neighbours' values are clipped
TARGETS = np.array([0, 1, 2])
SENSITIVITIES = {
    "max_sensitivity": max_sensitivity,
    "average_sensitivity": average_sensitivity,
    "local_lipschitz": local_lipschitz,
}


def explain(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Some heatmap that depends on image and target, pixel by pixel."""
    weights = np.array([[1, 2, 3], [3, 2, 1], [-1, 0, 4]], dtype=np.float32)[targets]
    return (images * weights[:, :, None, None]).sum(axis=1) ** 2


HEATMAPS = explain(IMAGES, TARGETS)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    pairs = zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs))


def plain(name: str, radius: float, samples: int, seed: int) -> list[float]:
    values = []
    for image, target, heatmap in zip(IMAGES, TARGETS, HEATMAPS, strict=True):
        stream = generator_for(image, seed=seed, purpose="sensitivity")
        found = []
        for _ in range(samples):
            drawn = np.float32(radius) * (2 * stream.random(image.shape, dtype=np.float32) - 1)
            neighbour = np.minimum(np.maximum(image + drawn, 0), 1)
            moved = explain(neighbour[None], np.array([target]))[0]
            norm = distance(heatmap, np.zeros_like(heatmap))
            apart, step = distance(moved, heatmap), distance(neighbour, image)
            found.append(apart / (step if name == "local_lipschitz" else norm))
        values.append(np.mean(found) if name == "average_sensitivity" else max(found))
    return values


@pytest.mark.parametrize("name", SENSITIVITIES)
def test_a_sensitivity_equals_a_plain_loop(name: str) -> None:
    given = {"radius": 0.3, "samples": 4, "seed": 5}
    measured = SENSITIVITIES[name](explain, IMAGES, TARGETS, HEATMAPS, **given)
    np.testing.assert_allclose(measured, plain(name, **given), rtol=1e-6)
    assert (measured > 0.01).all()


def test_the_lipschitz_constant_of_a_map_that_is_a_channel_of_its_image() -> None:
    def red(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return 5 * images[:, 0]

    # A third of the square of a step goes into red, and the map goes five times as far.
    images = RNG.random((2, 3, 64, 64)).astype(np.float32)
    measured = local_lipschitz(red, images, 0, red(images, TARGETS))
    np.testing.assert_allclose(measured, 5 / np.sqrt(3), rtol=0.03)


def test_neighbours_fill_the_box_around_the_image_and_stay_images() -> None:
    seen: list[np.ndarray] = []

    def watched(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        seen.append(images)
        return explain(images, targets)

    grey = np.full((1, 3, 48, 48), 0.5, dtype=np.float32)
    heatmap = RNG.random((1, 48, 48))
    max_sensitivity(watched, grey, 0, heatmap, radius=0.1, samples=3)
    drawn = np.stack(seen) - 0.5
    assert len(seen) == len({images.tobytes() for images in seen}) == 3
    assert (drawn.min(), drawn.max()) == pytest.approx((-0.1, 0.1), abs=1e-4)
    assert drawn.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)  # of a uniform distribution
    max_sensitivity(watched, grey, 0, heatmap, radius=1.0, samples=1)
    assert (seen[-1].min(), seen[-1].max()) == (0.0, 1.0)


@pytest.mark.parametrize("name", SENSITIVITIES)
def test_a_value_does_not_depend_on_batch_mates_or_order(name: str) -> None:
    measure = SENSITIVITIES[name]
    together = measure(explain, IMAGES, TARGETS, HEATMAPS)
    alone = [measure(explain, IMAGES[i], TARGETS[i], HEATMAPS[i])[0] for i in range(3)]
    backwards = measure(explain, IMAGES[::-1], TARGETS[::-1], HEATMAPS[::-1])
    assert together.dtype == np.float64
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, backwards[::-1])


@pytest.mark.parametrize("name", SENSITIVITIES)
def test_the_seed_decides_the_neighbours(name: str) -> None:
    first, again, other = (
        SENSITIVITIES[name](explain, IMAGES, TARGETS, HEATMAPS, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_the_mean_never_exceeds_the_maximum_and_one_sample_makes_them_equal() -> None:
    mean = average_sensitivity(explain, IMAGES, TARGETS, HEATMAPS)
    assert (mean < max_sensitivity(explain, IMAGES, TARGETS, HEATMAPS)).all()
    one = {"samples": 1}
    np.testing.assert_array_equal(
        average_sensitivity(explain, IMAGES, TARGETS, HEATMAPS, **one),
        max_sensitivity(explain, IMAGES, TARGETS, HEATMAPS, **one),
    )


def test_more_samples_never_lower_a_maximum() -> None:
    for measure in (max_sensitivity, local_lipschitz):
        few, many = (measure(explain, IMAGES, TARGETS, HEATMAPS, samples=n) for n in (2, 20))
        assert (few <= many).all()


@pytest.mark.parametrize("name", SENSITIVITIES)
def test_scaling_the_maps_scales_the_lipschitz_constant_alone(name: str) -> None:
    def eightfold(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return 8 * explain(images, targets)

    measure = SENSITIVITIES[name]
    plain, scaled = (
        measure(explained, IMAGES, TARGETS, explained(IMAGES, TARGETS))
        for explained in (explain, eightfold)
    )
    np.testing.assert_allclose(scaled, plain * (8 if name == "local_lipschitz" else 1))


@pytest.mark.parametrize("name", SENSITIVITIES)
def test_a_map_that_stays_is_perfect_and_a_steeper_one_is_worse(name: str) -> None:
    measure = SENSITIVITIES[name]
    stays = measure(lambda *_: HEATMAPS, IMAGES, TARGETS, HEATMAPS)
    np.testing.assert_array_equal(stays, METRICS[name].perfect)

    def steep(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return HEATMAPS + 3 * (explain(images, targets) - HEATMAPS)

    plain = measure(explain, IMAGES, TARGETS, HEATMAPS)
    np.testing.assert_allclose(measure(steep, IMAGES, TARGETS, HEATMAPS), 3 * plain, rtol=1e-3)


def test_a_larger_radius_moves_a_map_more() -> None:
    for measure in (max_sensitivity, average_sensitivity):
        near, far = (
            measure(explain, IMAGES, TARGETS, HEATMAPS, radius=radius) for radius in (0.01, 0.2)
        )
        assert (near < far).all()


@pytest.mark.parametrize("name", SENSITIVITIES)
def test_an_image_without_a_value_costs_the_others_nothing(name: str) -> None:
    calls: list[int] = []

    def breaks_later(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        heatmaps = explain(images, targets)
        if len(calls) == 2:
            heatmaps[0] = 7
            heatmaps[2, 0, 0] = np.nan
        return heatmaps

    with pytest.raises(UndefinedMeasurementError) as caught:
        SENSITIVITIES[name](breaks_later, IMAGES, TARGETS, HEATMAPS, samples=3)
    where = "in the neighbourhood (sample 2 of 3), the heatmap"
    assert caught.value.reasons == {
        0: f"{where} is constant (7)",
        2: f"{where}'s pixels have 1 values not finite",
    }
    assert caught.value.values is not None
    assert (
        caught.value.values[1]
        == SENSITIVITIES[name](explain, IMAGES, TARGETS, HEATMAPS, samples=3)[1]
    )
    with pytest.raises(UndefinedMeasurementError) as caught:
        SENSITIVITIES[name](lambda *_: HEATMAPS * 0, IMAGES, TARGETS, HEATMAPS)
    assert set(caught.value.reasons) == {0, 1, 2}


@pytest.mark.parametrize("name", SENSITIVITIES)
def test_a_radius_that_changes_nothing_is_no_stability(name: str) -> None:
    images = IMAGES.copy()
    images[:2] = np.maximum(images[:2], 0.5)  # float32 has no numbers so near to these
    with pytest.raises(UndefinedMeasurementError, match="give a larger `radius`") as caught:
        SENSITIVITIES[name](explain, images, TARGETS, HEATMAPS, radius=1e-12)
    assert set(caught.value.reasons) == {0, 1}


@pytest.mark.parametrize("name", SENSITIVITIES)
def test_maps_of_another_shape_are_refused(name: str) -> None:
    with pytest.raises(ShapeError, match="explain"):
        SENSITIVITIES[name](lambda images, _: images[:, 0, 1:], IMAGES, TARGETS, HEATMAPS)


@pytest.mark.parametrize("name", SENSITIVITIES)
@pytest.mark.parametrize(
    ("setting", "value"),
    [("radius", 0.0), ("radius", 1.5), ("samples", 0), ("radius", float("nan"))],
)
def test_a_setting_out_of_range_is_refused(name: str, setting: str, value: float) -> None:
    with pytest.raises(ParameterError, match=setting):
        METRICS[name].configure({setting: value})


def test_the_protocols_name_the_papers() -> None:
    assert METRICS["max_sensitivity"].configure({}).protocol == "max_sensitivity@yeh-2019"
    lipschitz = METRICS["local_lipschitz"].configure({"radius": 0.1, "seed": 3}).protocol
    assert lipschitz == "local_lipschitz@alvarez-melis-2018(radius=0.1)"
