"""What every metric that asks the classifier about changed images keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_classifier import CLASSES, LinearClassifier, some

from xai_core.errors import ShapeError, UndefinedMeasurementError
from xai_core.metrics import METRICS

SETTINGS: dict[str, dict[str, object]] = {
    "pixel_flipping": {},
    "effective_complexity": {},
    "average_gain": {},
    "road": {},
    "road_morf": {},
    "road_lerf": {},
    "irof": {"segments": 10},
    "faithfulness_correlation": {"samples": 10},
    "monotonicity": {},
    "infidelity": {"samples": 10},
    "infidelity_noise": {"samples": 5},
    "heatmap_infidelity": {"samples": 10},
    "deletion": {"substrate": "imputed"},
    "insertion": {"substrate": "imputed"},
}
SEEDED = [name for name in SETTINGS if "seed" in METRICS[name].settings]
DRAWING = sorted({*SEEDED} - {"pixel_flipping", "effective_complexity", "irof"})
"""Those that draw with these settings; the others do where they impute."""


def measure(
    name: str, images: np.ndarray, maps: np.ndarray, targets: np.ndarray, **changed: object
) -> np.ndarray:
    """A heatmap serves as attributions, one channel for all three."""
    if "attributions" in METRICS[name].needs:
        maps = maps[:, None] / 256
    classifier = changed.pop("classifier", None) or LinearClassifier()
    return METRICS[name].function(classifier, images, maps, targets, **SETTINGS[name], **changed)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_value_does_not_depend_on_batch_mates_or_order(name: str) -> None:
    given = some(4, size=12)
    together = measure(name, *given)
    alone = [measure(name, *(array[[index]] for array in given))[0] for index in range(4)]
    backwards = measure(name, *(array[::-1] for array in given))
    low, high = METRICS[name].range
    assert together.dtype == np.float64
    assert ((together >= low) & (together <= high)).all()
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(together, backwards[::-1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", sorted({*SETTINGS} - {"infidelity", "infidelity_noise"}))
def test_the_scale_of_the_heatmap_does_not_count(name: str) -> None:
    images, heatmaps, targets = some(3, size=12)
    np.testing.assert_allclose(
        measure(name, images, heatmaps * 32, targets),
        measure(name, images, heatmaps, targets),
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize("name", ["infidelity", "infidelity_noise"])
def test_the_scale_of_attributions_counts_unless_they_are_scaled(name: str) -> None:
    images, heatmaps, targets = some(3, size=12)
    for scaled in (True, False):
        once = measure(name, images, heatmaps, targets, scaled=scaled)
        more = measure(name, images, heatmaps * 8, targets, scaled=scaled)
        assert np.allclose(once, more, rtol=1e-6) is scaled


@pytest.mark.parametrize("name", SEEDED)
def test_the_seed_alone_decides_what_is_drawn(name: str) -> None:
    given = some(3, size=12)
    np.testing.assert_array_equal(measure(name, *given), measure(name, *given, seed=0))
    other = measure(name, *given, seed=1)
    assert (other != measure(name, *given)).all() == (name in DRAWING)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("target", [-1, CLASSES])
def test_a_target_that_is_no_class_is_refused(name: str, target: int) -> None:
    images, heatmaps, _ = some(2, size=12)
    with pytest.raises(ShapeError, match="class indices from 0 to 2"):
        measure(name, images, heatmaps, np.array([0, target]))


@pytest.mark.parametrize("name", SETTINGS)
def test_an_output_that_is_not_finite_is_undefined(name: str) -> None:
    class Broken(LinearClassifier):
        def logits(self, images: object) -> torch.Tensor:
            found = super().logits(images)  # type: ignore[arg-type]
            found[0] = float("nan")
            return found

    given = some(3, size=12)
    with pytest.raises(UndefinedMeasurementError, match="not finite") as caught:
        measure(name, *given, classifier=Broken())
    assert set(caught.value.reasons) == {0}


@pytest.mark.parametrize("name", SETTINGS)
def test_batches_are_full_and_arrays_stay_as_they_were(name: str) -> None:
    given = some(3, size=12)
    copies = [array.copy() for array in given]
    for array in given:
        array.setflags(write=False)
    classifier = LinearClassifier(batch=5)
    measure(name, *given, classifier=classifier)
    for sizes in classifier.calls:
        assert set(sizes[:-1]) <= {5}
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_calls_are_bounded_whatever_is_asked_for() -> None:
    classifier, given = LinearClassifier(batch=1), some(3, size=12)
    METRICS["deletion"].function(classifier, *given, steps=72)
    assert [len(sizes) for sizes in classifier.calls] == [64, 64, 64, 27]
