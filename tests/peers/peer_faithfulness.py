"""Correlations of relevance with change, infidelity and sufficiency beside Quantus's."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from both_sides import (
    PIXELS,
    SIDE,
    classifier,
    images,
    linear,
    maps,
    network,
    quantus_scores,
    targets,
)

from xai_core.errors import UndefinedMeasurementError
from xai_core.metrics import (
    WholeSet,
    faithfulness_correlation,
    infidelity,
    infidelity_noise,
    insertion_curve,
    monotonicity,
    sufficiency,
)
from xai_core.seeding import generator_for

SUBSET, DRAWS, GROUPS = 0.25, 4, 18


def test_faithfulness_correlation_is_theirs_on_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Theirs draws single channels' values from the global stream: it is handed our pixels."""
    module, samples = network(), 30
    ours = faithfulness_correlation(
        classifier(module),
        images(),
        maps(),
        targets(),
        subset=SUBSET,
        samples=samples,
        substrate="black",
    )
    count = round(SUBSET * PIXELS)

    def drawn(image: np.ndarray, sample: int) -> np.ndarray:
        stream = generator_for(image, seed=0, purpose=f"faithfulness_correlation|{sample}")
        chosen = stream.choice(PIXELS, count, replace=False)
        return np.concatenate([chosen + channel * PIXELS for channel in range(3)])

    subsets = iter([drawn(image, sample) for sample in range(samples) for image in images()])
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(subsets))
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=samples, subset_size=3 * count, perturb_baseline=0.0, return_aggregate=False
    )
    found = quantus_scores(metric, module, x_batch=images(), a_batch=maps(), softmax=True)
    assert np.ptp(ours) > 0.1
    np.testing.assert_allclose(ours, found, rtol=0, atol=1e-5)


def test_their_faithfulness_correlation_has_no_seed_and_ours_has() -> None:
    given = (classifier(network()), images(), maps(), targets())
    np.testing.assert_array_equal(*(faithfulness_correlation(*given, samples=5) for _ in range(2)))
    metric = quantus.FaithfulnessCorrelation(nr_runs=5, subset_size=30, return_aggregate=False)
    twice = [quantus_scores(metric, network(), x_batch=images(), a_batch=maps()) for _ in range(2)]
    assert not np.allclose(*twice)


def test_monotonicity_is_their_monotonicity_correlation_with_the_same_colours() -> None:
    """Theirs replaces a group by one random number for an image: it is handed our colours."""
    module = network()
    ours = monotonicity(classifier(module), images(), maps(), targets(), groups=GROUPS, draws=DRAWS)
    colours = [
        np.stack(
            [
                generator_for(image, seed=0, purpose=f"monotonicity|{draw}")
                .random(image.shape, dtype=np.float32)
                .ravel()
                for image in images()
            ]
        )
        for draw in range(DRAWS)
    ]
    turn = cycle(colours)

    def replaced(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        changed, colour, rows = arr.copy(), next(turn), np.arange(len(arr))[:, None]
        changed[rows, indices] = colour[rows, indices]
        return changed

    metric = quantus.MonotonicityCorrelation(
        nr_samples=DRAWS, features_in_step=3 * PIXELS // GROUPS, perturb_func=replaced
    )
    found = quantus_scores(metric, module, x_batch=images(), a_batch=maps())
    assert np.ptp(ours) > 0.05
    np.testing.assert_allclose(ours, found, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_their_monotonicity_correlation_fails_where_one_of_the_images_is_sure() -> None:
    """Its weight 1 / p^2 is put in the places of some of the images and computed for all."""
    module = linear()
    module.weights.data[:] = 0
    module.weights.data[1] = 100.0
    metric = quantus.MonotonicityCorrelation(features_in_step=24, nr_samples=1)
    with pytest.raises(ValueError, match="assign"):
        quantus_scores(metric, module, x_batch=images(), a_batch=maps())


def test_their_monotonicity_is_true_for_every_map() -> None:
    """It gives back the baseline's values where it should give the image's: nothing ever changes.
    With weights of both signs the probability falls somewhere as pixels come, least first."""
    module = linear()
    metric = quantus.Monotonicity(features_in_step=24)
    found = quantus_scores(metric, module, x_batch=images(), a_batch=maps(), softmax=True)
    assert found.tolist() == [True] * 4
    _, curve = insertion_curve(
        classifier(module), images(), -maps(), targets(), steps=GROUPS, substrate="black"
    )
    assert (np.diff(curve[:, 1:]) < 0).any(axis=1).all()


def shares(module: Any) -> np.ndarray:
    """What each value adds to the target's logit of a linear model."""
    found: np.ndarray = images() * module.weights.detach().numpy()[targets()]
    return found.astype(np.float32)


def slopes(module: Any) -> np.ndarray:
    found: np.ndarray = module.weights.detach().numpy()[targets()]
    return found.astype(np.float32)


def test_exact_attributions_of_a_linear_model_have_no_infidelity_on_both_sides() -> None:
    """Theirs multiplies by the change of the image, so it wants slopes; ours has one for each."""
    module = linear()
    given = (classifier(module), images())
    metric = quantus.Infidelity(perturb_baseline=0.0, perturb_patch_sizes=[4])
    found = quantus_scores(metric, module, x_batch=images(), a_batch=slopes(module))
    np.testing.assert_allclose(found, 0, atol=1e-10)
    np.testing.assert_allclose(
        infidelity(*given, shares(module), targets(), samples=20), 0, atol=1e-10
    )
    np.testing.assert_allclose(
        infidelity_noise(*given, slopes(module), targets(), samples=20), 0, atol=1e-10
    )


def fall_of_blocks(module: Any, *, cumulative: bool) -> np.ndarray:
    """Mean over blocks of 4 x 4 of the squared fall without them, which no relevance forecasts."""
    blocks = shares(module).astype(np.float64).reshape(4, 3, 3, 4, 3, 4).sum(axis=(1, 3, 5))
    falls = blocks.reshape(4, 9)
    falls = np.cumsum(falls, axis=1) if cumulative else falls
    return np.asarray(np.square(falls).mean(axis=1))


def test_their_infidelity_removes_one_block_after_another_and_never_puts_any_back() -> None:
    """With slopes of nearly zero the error is the squared fall: of all blocks so far, there. Ours
    removes one square at a time: with all squares of one pixel, the mean squared fall of each."""
    module = linear()
    nothing = 1e-12 * slopes(module)
    metric = quantus.Infidelity(perturb_baseline=0.0, perturb_patch_sizes=[4])
    found = quantus_scores(metric, module, x_batch=images(), a_batch=nothing)
    np.testing.assert_allclose(found, fall_of_blocks(module, cumulative=True), rtol=1e-4)
    assert not np.allclose(found, fall_of_blocks(module, cumulative=False), rtol=0.1)
    ours = infidelity(
        classifier(module), images(), nothing, targets(), samples=4000, largest=1 / SIDE
    )
    single = np.square(shares(module).sum(axis=1, dtype=np.float64)).mean(axis=(1, 2))
    np.testing.assert_allclose(ours, single, rtol=0.1)


def test_more_samples_change_nothing_in_their_infidelity() -> None:
    """Nothing in it is random: one sample and five are equal to the last digit."""
    one, five = (
        quantus_scores(
            quantus.Infidelity(n_perturb_samples=count), network(), x_batch=images(), a_batch=maps()
        )
        for count in (1, 5)
    )
    np.testing.assert_allclose(one, five, rtol=1e-15)
    given = (classifier(network()), images(), maps()[:, None], targets())
    assert (infidelity(*given, samples=1) != infidelity(*given, samples=5)).all()


def test_their_infidelity_needs_patches_that_divide_the_image() -> None:
    """It looks for the pixels of the padded image in the one that is not."""
    metric = quantus.Infidelity(perturb_patch_sizes=[5])
    with pytest.raises(IndexError):
        quantus_scores(metric, network(), x_batch=images(), a_batch=maps())


def predicted(count: int) -> np.ndarray:
    scores = classifier(linear(centred=True)).scores(torch.from_numpy(images(count)))
    found: np.ndarray = scores.numpy().argmax(axis=1)
    return found


def three_kinds(count: int = 12) -> np.ndarray:
    """Maps of three kinds, hardly different within one."""
    kinds = np.stack([maps(1, seed=kind)[0] for kind in range(3)])
    noise = np.random.default_rng(5).random((count, SIDE, SIDE)) * 1e-3
    return (kinds[np.arange(count) % 3] + noise).astype(np.float32)


def their_sufficiency(heatmaps: np.ndarray, batch: int = 64, **settings: Any) -> np.ndarray:
    return quantus_scores(
        quantus.Sufficiency(**settings),
        linear(centred=True),
        x_batch=images(len(heatmaps)),
        a_batch=heatmaps,
        batch_size=batch,
    )


def our_sufficiency(heatmaps: np.ndarray) -> np.ndarray:
    count = len(heatmaps)
    classes = predicted(count)
    return sufficiency(heatmaps, WholeSet(heatmaps, classes, np.arange(count)))


def test_sufficiency_is_theirs_where_both_see_the_same_neighbours() -> None:
    heatmaps = three_kinds()
    ours = our_sufficiency(heatmaps)
    assert len(set(ours)) > 1
    np.testing.assert_allclose(ours, their_sufficiency(heatmaps), rtol=1e-12)


def test_an_image_without_a_neighbour_has_a_sufficiency_of_0_there_and_none_here() -> None:
    heatmaps = np.concatenate([three_kinds(), maps(1, seed=77)])
    assert their_sufficiency(heatmaps)[-1] == 0
    with pytest.raises(UndefinedMeasurementError, match="no other image") as caught:
        our_sufficiency(heatmaps)
    assert set(caught.value.reasons) == {12}


def test_their_sufficiency_sees_the_neighbours_of_the_same_batch_alone() -> None:
    """In batches of three no two maps are of a kind: 0 for all. Ours is given the whole set."""
    assert their_sufficiency(three_kinds(), batch=3).tolist() == [0] * 12
    assert our_sufficiency(three_kinds()).max() > 0


def test_one_far_map_makes_all_others_neighbours_there() -> None:
    """Near is up to 0.6 of the largest distance in the batch; ours does not depend on others."""
    heatmaps = three_kinds()
    far = np.concatenate([heatmaps, 1e4 * maps(1, seed=77)])
    classes = predicted(13)[:12]
    prior = [(np.sum(classes == one) - 1) / 11 for one in classes]
    np.testing.assert_allclose(their_sufficiency(far)[:12], prior)
    whole = WholeSet(far, predicted(13), np.arange(12))
    np.testing.assert_allclose(sufficiency(heatmaps, whole), our_sufficiency(heatmaps))


def test_one_map_for_all_images_has_a_sufficiency_of_0_there_and_of_the_class_share_here() -> None:
    """A distance in units of a deviation of zero is no number, and no number is not near."""
    heatmaps = np.repeat(maps(1), 12, axis=0)
    with np.errstate(invalid="ignore"):
        assert their_sufficiency(heatmaps).tolist() == [0] * 12
    classes = predicted(12)
    prior = [(np.sum(classes == one) - 1) / 11 for one in classes]
    np.testing.assert_allclose(our_sufficiency(heatmaps), prior)
