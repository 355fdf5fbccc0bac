"""Pointing game, relevance rank and mass, top-k and AUC beside Quantus's."""

from __future__ import annotations

import numpy as np
import pytest
import quantus
from both_sides import PIXELS, images, maps, masks, quantus_scores
from sklearn.metrics import average_precision_score, roc_auc_score

from xai_core.errors import UndefinedMeasurementError
from xai_core.metrics import (
    energy_pointing_game,
    pixel_ap,
    pointing_game,
    relevance_rank,
    top_k_intersection,
)

EXACT = {"rtol": 0, "atol": 0}
ROUNDING = {"rtol": 0, "atol": 1e-6}


def theirs(metric: object, heatmaps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    return quantus_scores(
        metric, x_batch=images(len(heatmaps)), a_batch=heatmaps.copy(), s_batch=regions
    )


def test_the_pointing_game_without_tolerance_is_theirs() -> None:
    heatmaps, regions = maps(40), np.repeat(masks(), 10, axis=0)
    ours = pointing_game(heatmaps, regions, tolerance=0)
    assert 0 < ours.mean() < 1
    np.testing.assert_allclose(ours, theirs(quantus.PointingGame(), heatmaps, regions), **EXACT)


def test_an_empty_mask_is_a_hit_there_and_undefined_here() -> None:
    """Their NaN is put into an array of bool, where it is True."""
    nothing = np.zeros_like(masks())
    assert theirs(quantus.PointingGame(), maps(), nothing).tolist() == [True] * 4
    with pytest.raises(UndefinedMeasurementError, match="mask is empty"):
        pointing_game(maps(), nothing)


def test_one_of_many_tied_maxima_wins_there_and_counts_as_its_share_here() -> None:
    """A map that is the same nearly everywhere always hits there; a quarter of these maxima do."""
    heatmaps, regions = np.zeros((2, 12, 12), dtype=np.float32), np.zeros((2, 12, 12), dtype=bool)
    heatmaps[:, 0, :4] = regions[:, 0, 3] = 1
    assert theirs(quantus.PointingGame(), heatmaps, regions).tolist() == [True, True]
    assert pointing_game(heatmaps, regions, tolerance=0).tolist() == [0.25, 0.25]


def test_their_weighted_pointing_game_cannot_be_called() -> None:
    """The weights of shape [hits, 1] do not fit the array of hits."""
    with pytest.raises(TypeError, match="0 or 1-dimensional"):
        theirs(quantus.PointingGame(weighted=True), maps(40), np.repeat(masks(), 10, axis=0))


def test_relevance_rank_is_theirs_where_no_pixels_are_tied() -> None:
    ours = relevance_rank(maps(), masks())
    found = theirs(quantus.RelevanceRankAccuracy(), maps(), masks())
    np.testing.assert_allclose(ours, found, rtol=1e-12)


def test_tied_pixels_rank_by_their_place_there_and_by_chance_here() -> None:
    """Two of four tied pixels lie in the mask of two: 1/2, wherever in the image they stand."""
    heatmaps, regions = np.zeros((2, 12, 12), dtype=np.float32), np.zeros((2, 12, 12), dtype=bool)
    heatmaps[:, 0, :4] = 1
    regions[0, 0, :2] = regions[1, 0, 2:4] = True
    found = theirs(quantus.RelevanceRankAccuracy(), heatmaps, regions)
    assert found.sum() == pytest.approx(1)  # what one mask gets the other does not
    assert found[0] != found[1]
    assert relevance_rank(heatmaps, regions).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "metric",
    [
        quantus.RelevanceMassAccuracy(),
        quantus.AttributionLocalisation(),
        quantus.AttributionLocalisation(abs=False, positive_attributions=True),
    ],
)
def test_energy_is_their_mass_accuracy_and_localisation_of_positive_maps(metric: object) -> None:
    ours = energy_pointing_game(maps(), masks())
    np.testing.assert_allclose(ours, theirs(metric, maps(), masks()), **ROUNDING)


def test_of_signed_maps_energy_is_their_localisation_of_positive_attributions_alone() -> None:
    """Mass accuracy divides by a sum in which signs cancel: its share is above 1 or below 0."""
    heatmaps = maps() - np.float32(0.5)
    ours = energy_pointing_game(heatmaps, masks())
    positive = quantus.AttributionLocalisation(abs=False, positive_attributions=True)
    np.testing.assert_allclose(ours, theirs(positive, heatmaps, masks()), **ROUNDING)
    mass = theirs(quantus.RelevanceMassAccuracy(), heatmaps, masks())
    inside = (heatmaps * masks()).sum(axis=(1, 2)) / heatmaps.sum(axis=(1, 2))
    np.testing.assert_allclose(mass, inside, rtol=1e-3)
    assert ((mass < 0) | (mass > 1)).any()
    assert ((ours >= 0) & (ours <= 1)).all()


@pytest.mark.filterwarnings("ignore:Ratio is smaller")
def test_their_weighted_localisation_depends_on_how_many_images_come_with_it() -> None:
    """The weight is the mask's area over x_batch[2:].size, not over that of an image."""
    weighted = quantus.AttributionLocalisation(weighted=True)
    share = energy_pointing_game(maps(), masks())
    areas = masks().sum(axis=(1, 2))
    with np.errstate(divide="ignore"):
        two = theirs(weighted, maps()[:2], masks()[:2])
    three, four = (theirs(weighted, maps()[:n], masks()[:n]) for n in (3, 4))
    assert np.isinf(two).all()
    np.testing.assert_allclose(three, share[:3] * areas[:3] / (3 * PIXELS), rtol=1e-5)
    np.testing.assert_allclose(four, share * areas / (2 * 3 * PIXELS), rtol=1e-5)


def test_top_k_is_theirs_where_the_mask_has_room_for_k() -> None:
    share = 12 / PIXELS
    assert masks().sum(axis=(1, 2)).min() >= 12
    ours = top_k_intersection(maps(), masks(), share=share)
    np.testing.assert_allclose(ours, theirs(quantus.TopKIntersection(k=12), maps(), masks()))


def test_a_mask_smaller_than_k_cannot_reach_1_there_and_can_here() -> None:
    """Theirs divides by k = 36, ours by the 15 to 36 pixels that there is room for."""
    perfect = masks().astype(np.float32) + maps() / 10
    sizes = masks().sum(axis=(1, 2))
    found = theirs(quantus.TopKIntersection(k=36), perfect, masks())
    np.testing.assert_allclose(found, np.minimum(sizes, 36) / 36)
    assert found.min() < 0.5
    assert top_k_intersection(perfect, masks(), share=36 / PIXELS).tolist() == [1, 1, 1, 1]


def test_their_auc_is_that_of_roc_and_ours_that_of_precision_and_recall() -> None:
    """Different curves of one classification: each holds against scikit-learn's."""
    pairs = [(mask.ravel(), one.ravel()) for mask, one in zip(masks(), maps(), strict=True)]
    found = theirs(quantus.AUC(), maps(), masks())
    np.testing.assert_allclose(found, [roc_auc_score(*pair) for pair in pairs], rtol=1e-12)
    ours = pixel_ap(maps(), masks())
    np.testing.assert_allclose(ours, [average_precision_score(*pair) for pair in pairs])
