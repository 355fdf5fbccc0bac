"""Metrics that remove pixels in the heatmap's order: pixel flipping, selectivity, IROF, ROAD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from both_sides import (
    PIXELS,
    Linear,
    classifier,
    images,
    linear,
    maps,
    network,
    quantus_scores,
    targets,
)
from quantus.functions.perturb_func import noisy_linear_imputation
from quantus.helpers.utils import get_superpixel_segments
from torch import Tensor, nn

from xai_core.metrics import (
    deletion,
    deletion_curve,
    irof,
    pixel_flipping,
    road_lerf,
    road_morf,
)
from xai_core.metrics.imputation import imputed
from xai_core.superpixels import superpixels

STEP = 8
STEPS = PIXELS // STEP
CLOSE = {"rtol": 0, "atol": 1e-5}


def flipped(module: nn.Module, *, softmax: bool, **settings: Any) -> np.ndarray:
    """Their curve; 24 values are the three channels of 8 pixels, whose relevance is tied."""
    metric = quantus.PixelFlipping(features_in_step=3 * STEP, **settings)
    return quantus_scores(
        metric, module, x_batch=images(), y_batch=targets(), a_batch=maps(), softmax=softmax
    )


def test_the_deletion_curve_is_their_pixel_flipping_of_whole_pixels_to_black() -> None:
    """Theirs starts after the first step, ours with the whole image."""
    module = network()
    given = (classifier(module), images(), maps(), targets())
    _, ours = deletion_curve(*given, steps=STEPS, substrate="black")
    found = flipped(module, softmax=True, perturb_baseline=0.0)
    assert found.shape == (4, STEPS)
    assert ours.shape == (4, STEPS + 1)
    assert np.ptp(found, axis=1).min() > 0.04
    np.testing.assert_allclose(ours[:, 1:], found, **CLOSE)


def test_pixel_flipping_is_the_logit_minus_the_area_under_their_curve_with_its_first_point() -> (
    None
):
    module = network()
    ours = pixel_flipping(
        classifier(module), images(), maps(), targets(), steps=STEPS, substrate="black"
    )
    found = flipped(module, softmax=False, perturb_baseline=0.0)
    with torch.no_grad():
        whole = module(torch.from_numpy(images())).numpy()[np.arange(4), targets()]
    curve = np.concatenate([whole[:, None], found], axis=1)
    expected = whole - np.trapezoid(curve, dx=1 / STEPS, axis=1)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_their_area_is_not_defined_with_numpy_of_today() -> None:
    """It calls np.trapz, which NumPy 2.4 no longer has."""
    assert not hasattr(np, "trapz")
    with pytest.raises(AttributeError, match="trapz"):
        flipped(network(), softmax=True, return_auc_per_sample=True)


def test_their_area_grows_with_the_number_of_steps_and_ours_does_not(
    trapz: list[np.ndarray],
) -> None:
    """On a model that gives p for any image, the area is p; theirs is p (steps - 1)."""
    constant = Linear(np.zeros((3, 3, 12, 12)))
    areas = {}
    for pixels in (8, 16, 24, 48):
        metric = quantus.PixelFlipping(features_in_step=pixels, return_auc_per_sample=True)
        areas[pixels] = quantus_scores(metric, constant, x_batch=images(), a_batch=maps())[0]
    for pixels, area in areas.items():
        assert area == pytest.approx((3 * PIXELS / pixels - 1) / 3)
    given = (classifier(constant), images(), maps(), targets())
    for steps in (9, 18):
        np.testing.assert_allclose(deletion(*given, steps=steps), 1 / 3, rtol=1e-6)
    assert len(trapz) == 4


def test_black_is_the_images_darkest_value_there_and_rgb_0_here() -> None:
    """On images from 0.5 to 1 their last point, where all is black, is that of a grey image."""
    module, bright = linear(), 0.5 + images() / 2
    metric = quantus.PixelFlipping(features_in_step=24, perturb_baseline="black")
    found = quantus_scores(
        metric, module, x_batch=bright, y_batch=targets(), a_batch=maps(), softmax=False
    )
    weights = module.weights.detach().numpy()[targets()].sum(axis=(1, 2, 3))
    darkest = bright.min(axis=(1, 2, 3))
    np.testing.assert_allclose(found[:, -1], weights * darkest, rtol=1e-4)
    _, ours = deletion_curve(
        classifier(module), bright, maps(), targets(), steps=STEPS, substrate="black"
    )
    np.testing.assert_allclose(ours[:, -1], 1 / 3, rtol=1e-6)  # all logits are 0


def test_selectivity_is_our_deletion_curve_of_a_map_of_one_value_a_patch() -> None:
    """There is no metric of that name here: superpixels in order of relevance are IROF's."""
    module, ranks = network(), maps(4, side=3)
    patches = ranks.repeat(4, axis=1).repeat(4, axis=2)
    metric = quantus.Selectivity(patch_size=4, perturb_baseline=0.0)
    found = quantus_scores(metric, module, x_batch=images(), a_batch=patches)
    _, ours = deletion_curve(
        classifier(module), images(), patches, targets(), steps=9, substrate="black"
    )
    np.testing.assert_allclose(ours[:, 1:], found, **CLOSE)


def colourful(count: int = 4, side: int = 24) -> np.ndarray:
    """Smooth images, that SLIC cuts into many parts."""
    coarse = np.random.default_rng(4).random((count, 3, 6, 6), dtype=np.float32)
    enlarged = nn.functional.interpolate(torch.from_numpy(coarse), size=(side, side))
    return enlarged.numpy()


def noise(count: int = 4, side: int = 24) -> np.ndarray:
    """No two superpixels of these have the same mean, as those of whole numbers may."""
    return np.random.default_rng(9).random((count, side, side), dtype=np.float32)


def black(arr: np.ndarray, mask: np.ndarray, **_: Any) -> np.ndarray:
    return np.where(mask, np.float32(0), arr)


def their_irof(module: nn.Module, of: slice = slice(None), **settings: Any) -> np.ndarray:
    metric = quantus.IROF(return_aggregate=False, **settings)
    return quantus_scores(
        metric,
        module,
        x_batch=colourful()[of],
        y_batch=targets()[of],
        a_batch=noise()[of],
    )


def our_irof(module: nn.Module) -> np.ndarray:
    return irof(
        classifier(module, side=24),
        colourful(),
        noise(),
        targets(),
        segments=100,
        substrate="black",
    )


def test_their_irof_takes_no_rgb_image() -> None:
    """Its mask has one channel, and its replacement wants the image's three."""
    with pytest.raises(AssertionError, match="shape"):
        their_irof(network())
    assert np.isfinite(our_irof(network())).all()


def test_irof_is_theirs_with_the_whole_image_in_the_curve_and_divided_by_the_superpixels(
    trapz: list[np.ndarray],
) -> None:
    """Theirs = L - area under p_1 ... p_L in steps of 1; ours = 1 - area under p_0 ... p_L over L."""
    module, ours = network(), our_irof(network())
    for index in range(4):
        image = colourful()[index]
        labels = superpixels(image, segments=100, compactness=10.0)
        same = get_superpixel_segments(image.transpose(1, 2, 0).astype("double"), "slic")
        np.testing.assert_array_equal(labels, same)
        count = labels.max() + 1
        (found,) = their_irof(module, slice(index, index + 1), perturb_func=black)
        curve = trapz[-1][0]
        assert curve.shape == (count,)
        assert found == pytest.approx(count - np.trapezoid(curve))
        whole = np.concatenate([[1.0], curve])
        assert ours[index] == pytest.approx(1 - np.trapezoid(whole) / count, abs=1e-5)
        assert abs(found) > 5 * abs(ours[index])


@pytest.mark.filterwarnings("ignore:.*perturb.*:UserWarning")
def test_their_irof_of_an_image_depends_on_the_superpixels_of_the_images_beside_it(
    trapz: list[np.ndarray],
) -> None:
    """A shorter curve is filled with zeros: half of its last point is added to its area."""
    module = network()
    together = their_irof(module, perturb_func=black)
    alone = np.concatenate(
        [their_irof(module, slice(i, i + 1), perturb_func=black) for i in range(4)]
    )
    last = np.array([curve[0, -1] for curve in trapz[1:]])
    counts = [superpixels(one, segments=100, compactness=10.0).max() + 1 for one in colourful()]
    assert len(set(counts)) > 1
    shorter = np.array(counts) < max(counts)
    np.testing.assert_allclose(together, alone - shorter * last / 2, rtol=1e-5, atol=1e-4)
    assert np.abs(together - alone).max() > 0.01


class OfGrey(nn.Module):
    """The same network for images of one channel."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.expand(-1, 3, -1, -1))


def grey() -> np.ndarray:
    """Of 400 pixels, any share of which is a whole number of them."""
    return np.random.default_rng(8).random((24, 1, 20, 20), dtype=np.float32)


def one_sided(sure: float = 1e5) -> Linear:
    """Sure of class 0 where the left half is brighter, else of class 1."""
    weights = np.zeros((3, 3, 20, 20))
    weights[0, :, :, :10] = weights[1, :, :, 10:] = sure / 600
    weights[2] = -sure
    return Linear(weights)


def test_the_imputation_is_theirs() -> None:
    rng = np.random.default_rng(6)
    image = images(1)[0]
    for share in (0.05, 0.5, 0.95):
        gone = rng.permutation(PIXELS)[: round(share * PIXELS)]
        removed = np.zeros(PIXELS, dtype=bool)
        removed[gone] = True
        found = noisy_linear_imputation(image.astype(np.float64), gone, noise=0.0)
        ours = imputed(image, removed.reshape(12, 12), np.zeros_like(image))
        np.testing.assert_allclose(ours, found, rtol=0, atol=1e-6)


PERCENTAGES = [10, 20, 30, 40, 50, 70, 90]


def their_road(x: np.ndarray, module: nn.Module, heatmaps: np.ndarray, batch: int = 64) -> Any:
    metric = quantus.ROAD(percentages=PERCENTAGES, noise=0.0)
    labels = np.zeros(len(x), dtype=int)
    given = {"x_batch": x, "y_batch": labels, "a_batch": heatmaps[:, None], "channel_first": True}
    return metric(model=module, batch_size=batch, **given)


@pytest.mark.parametrize(("ours", "sign"), [(road_morf, 1), (road_lerf, -1)])
def test_road_of_a_sure_model_is_their_accuracy_on_grey_images(
    ours: Callable[..., np.ndarray], sign: int
) -> None:
    """Where the probability is 0 or 1 it is the accuracy; theirs takes images of one channel."""
    module, heatmaps = one_sided(), maps(24, side=20)
    rgb = np.repeat(grey(), 3, axis=1)
    found = their_road(grey(), OfGrey(module), sign * heatmaps + (sign < 0) * 2)
    mean = ours(classifier(module, 20), rgb, heatmaps, np.zeros(24, dtype=int)).mean()
    assert 0.2 < mean < 0.8
    # Their noise is switched off; ours, of 0.01, turns none of these 168 predictions.
    assert mean == pytest.approx(np.mean(list(found.values())), abs=1e-6)


def test_their_road_takes_no_rgb_image_and_reads_the_first_batch_alone() -> None:
    """With three channels it asks for pixel 3 H W; with small batches it drops all but one."""
    module, heatmaps = one_sided(), maps(24, side=20)
    with pytest.raises(IndexError):
        their_road(np.repeat(grey(), 3, axis=1), module, heatmaps)
    of_all, of_two = (their_road(grey(), OfGrey(module), heatmaps, batch) for batch in (64, 2))
    first_two = their_road(grey()[:2], OfGrey(module), heatmaps[:2])
    assert of_two == first_two
    assert of_two != of_all
