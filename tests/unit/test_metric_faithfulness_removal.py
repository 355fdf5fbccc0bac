"""What takes the place of removed pixels, against a dense solution of ROAD's equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_classifier import LinearClassifier, some

from xai_core.metrics import deletion, deletion_curve, insertion_curve
from xai_core.metrics.imputation import NOISE, imputed
from xai_core.metrics.removal import Removal, changed_counts, substrate_images
from xai_core.seeding import generator_for

RNG = np.random.default_rng(3)
IMAGE = RNG.random((3, 9, 12), dtype=np.float32)
SILENCE = np.zeros_like(IMAGE)


def dense_imputation(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """One equation for each removed pixel, written out and solved as a full matrix."""
    height, width = removed.shape
    places = [tuple(place) for place in np.argwhere(removed)]
    matrix, right = np.zeros((len(places), len(places))), np.zeros((len(places), 3))
    for number, (row, column) in enumerate(places):
        around = [
            ((row + down, column + across), 1 / 12 if down and across else 1 / 6)
            for down in (-1, 0, 1)
            for across in (-1, 0, 1)
            if (down or across) and 0 <= row + down < height and 0 <= column + across < width
        ]
        total = sum(weight for _, weight in around)
        matrix[number, number] = 1.0
        for place, weight in around:
            if place in places:
                matrix[number, places.index(place)] -= weight / total
            else:
                right[number] += weight / total * image[:, place[0], place[1]]
    filled = image.astype(np.float64)
    filled[:, removed] = np.linalg.solve(matrix, right).T
    return filled


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_imputed_pixels_solve_the_weighted_equations_of_their_neighbours(share: float) -> None:
    removed = RNG.random((9, 12)) < share
    removed[0, 0] = removed[8, 11] = True  # corners have three neighbours
    filled = imputed(IMAGE, removed, SILENCE)
    np.testing.assert_allclose(filled, dense_imputation(IMAGE, removed), atol=1e-6)
    np.testing.assert_array_equal(filled[:, ~removed], IMAGE[:, ~removed])


def test_imputation_equals_grad_cams_where_it_adds_no_noise() -> None:
    from xai_core.torchvision_import import import_torchvision

    import_torchvision()  # grad-cam imports it too, and stops where its operators are missing
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    removed = RNG.random((9, 12)) < 0.6
    theirs = road.NoisyLinearImputer(noise=0.0)(
        torch.from_numpy(IMAGE), torch.from_numpy(~removed).float()
    )
    np.testing.assert_allclose(imputed(IMAGE, removed, SILENCE), theirs, atol=1e-6)


def test_a_plane_is_imputed_exactly_inside_the_image() -> None:
    down, across = np.mgrid[:9, :12]
    plane = np.stack([0.02 * down + 0.03 * across] * 3).astype(np.float32)
    removed = np.zeros((9, 12), dtype=bool)
    removed[2:7, 3:9] = True
    np.testing.assert_allclose(imputed(plane, removed, SILENCE), plane, atol=1e-6)


def test_nothing_removed_is_the_image_and_nothing_left_is_its_mean_colour() -> None:
    nothing = np.zeros((9, 12), dtype=bool)
    np.testing.assert_array_equal(imputed(IMAGE, nothing, SILENCE + 1), IMAGE)
    empty = imputed(IMAGE, ~nothing, SILENCE)
    means = IMAGE.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(empty, np.broadcast_to(means, IMAGE.shape), atol=1e-6)


def test_noise_lies_on_what_is_imputed_and_on_nothing_else() -> None:
    removed = RNG.random((9, 12)) < 0.5
    noise = RNG.normal(size=IMAGE.shape).astype(np.float32)
    difference = imputed(IMAGE, removed, noise) - imputed(IMAGE, removed, SILENCE)
    np.testing.assert_allclose(difference, noise * removed, atol=1e-6)


def test_each_image_has_its_own_noise_of_the_stated_size_from_the_seed() -> None:
    images = np.full((2, 3, 40, 40), 0.5, dtype=np.float32)
    images[1, 0, 5, 5] = 0.4

    def noise(order: list[int], seed: int) -> np.ndarray:
        removal = Removal(LinearClassifier(), images[order], "imputed", seed=seed)
        removed = torch.ones(2, 40, 40, dtype=torch.bool)
        removed[:, 0, 0] = False
        left = removal.without(torch.tensor([0, 1]), removed).numpy()
        return (left - images[order])[:, :, 20:, 20:]

    first = noise([0, 1], seed=0)
    np.testing.assert_allclose(first.std(axis=(1, 2, 3)), NOISE, rtol=0.1)
    np.testing.assert_array_equal(first, noise([1, 0], seed=0)[::-1])
    assert not np.allclose(first[0], first[1], atol=1e-3)
    assert not np.allclose(first, noise([0, 1], seed=1), atol=1e-3)


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_the_imputed_curve_imputes_at_every_step_from_what_is_left(mode: str) -> None:
    classifier, (images, heatmaps, targets) = LinearClassifier(), some(2, size=8)
    curve = {"deletion": deletion_curve, "insertion": insertion_curve}[mode]
    shares, found = curve(
        classifier, images, heatmaps, targets, steps=4, substrate="imputed", seed=5
    )
    for index, (image, heatmap, target) in enumerate(zip(images, heatmaps, targets, strict=True)):
        stream = generator_for(image, seed=5, purpose="imputation")
        noise = NOISE * stream.standard_normal(image.shape, dtype=np.float32)
        order = np.argsort(-heatmap, axis=None)
        for point, share in enumerate(shares):
            removed = np.full(64, mode == "insertion")
            removed[order[: round(64 * share)]] = mode == "deletion"
            removed = removed.reshape(8, 8)
            if removed.all():
                left = np.broadcast_to(image.mean(axis=(1, 2))[:, None, None], image.shape)
            elif removed.any():
                left = dense_imputation(image, removed)
            else:
                left = image
            expected = classifier.probability(left + noise * removed, target)
            assert found[index, point] == pytest.approx(expected, abs=1e-6)


def test_the_seed_matters_to_the_imputed_substrate_alone() -> None:
    classifier, given = LinearClassifier(), some(2, size=8)
    other = deletion(classifier, *given, seed=1)
    np.testing.assert_array_equal(deletion(classifier, *given, seed=0), other)
    first = deletion(classifier, *given, substrate="imputed", seed=0)
    np.testing.assert_array_equal(deletion(classifier, *given, substrate="imputed"), first)
    assert (first != deletion(classifier, *given, substrate="imputed", seed=1)).all()


def test_the_negative_is_what_is_missing_to_white() -> None:
    images, _, _ = some(2)
    np.testing.assert_allclose(substrate_images(images, "inverted", (0, 0, 0)) + images, 1)


@pytest.mark.parametrize(
    ("pixels", "steps", "counts"),
    [(10, 4, [0, 3, 6, 9, 10]), (4, 9, [0, 1, 2, 3, 4]), (6, 1, [0, 6])],
)
def test_every_step_changes_as_many_pixels_but_the_last(
    pixels: int, steps: int, counts: list[int]
) -> None:
    assert changed_counts(pixels, steps).tolist() == counts
