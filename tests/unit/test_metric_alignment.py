"""How a heatmap agrees with a concept map, and how an evaluation comes by concept maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.filters import threshold_otsu

import pytest_xai
from pytest_xai.assertions import ExplanationError
from xai_core.checks import SmallCNN
from xai_core.classifier import Classifier, load_classifier
from xai_core.concepts.loading import ConceptLibrary, load_concepts
from xai_core.concepts.map_fitting import ConceptMaps
from xai_core.demo.scenes import CLASSES, scene
from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError, XaiError
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import CentreMap, GradCAM
from xai_core.gate import Conditions, judge
from xai_core.imageset import Entry, ImageSet
from xai_core.imageset.transform import Resize
from xai_core.metrics import METRICS, concept_correlation, concept_energy, concept_iou

RNG = np.random.default_rng(8)
HEATMAPS = RNG.normal(size=(4, 9, 7)).astype(np.float32)
CONCEPT_MAPS = np.clip(RNG.normal(size=(4, 9, 7)), 0, 1).astype(np.float32)
ALL = {
    "concept_iou": concept_iou,
    "concept_correlation": concept_correlation,
    "concept_energy": concept_energy,
}
WITH_REGION = ("concept_iou", "concept_energy")


def gives(maps: np.ndarray) -> Callable[[str, str], np.ndarray]:
    return lambda concept, layer: maps


def region(concept_map: np.ndarray, extent: str) -> np.ndarray:
    if extent == "otsu":
        return concept_map > threshold_otsu(concept_map.astype(np.float64))
    return concept_map >= float(extent.partition("=")[2]) * concept_map.max()


@pytest.mark.parametrize("extent", ["otsu", "fraction=0.3"])
@pytest.mark.parametrize("binarize", ["otsu", "fraction=0.5"])
def test_the_iou_is_that_of_the_two_sets_of_pixels(binarize: str, extent: str) -> None:
    found = concept_iou(
        HEATMAPS, gives(CONCEPT_MAPS), concept="striped", binarize=binarize, extent=extent
    )
    for value, heatmap, concept_map in zip(found, HEATMAPS, CONCEPT_MAPS, strict=True):
        relevant = {tuple(place) for place in np.argwhere(region(heatmap, binarize))}
        places = {tuple(place) for place in np.argwhere(region(concept_map, extent))}
        assert value == len(relevant & places) / len(relevant | places)
        assert 0 < value < 1


def test_the_iou_takes_as_many_pixels_as_the_concept_has() -> None:
    found = concept_iou(
        HEATMAPS, gives(CONCEPT_MAPS), concept="striped", binarize="top=mask", extent="fraction=0.9"
    )
    for value, heatmap, concept_map in zip(found, HEATMAPS, CONCEPT_MAPS, strict=True):
        places = region(concept_map, "fraction=0.9").ravel()
        top = np.argsort(-heatmap.ravel(), kind="stable")[: places.sum()]
        hits = places[top].sum()
        assert value == hits / (2 * places.sum() - hits)


def test_the_correlation_is_spearman_s() -> None:
    found = concept_correlation(HEATMAPS, gives(CONCEPT_MAPS), concept="striped")
    expected = [
        spearmanr(heatmap.ravel(), concept_map.ravel()).statistic
        for heatmap, concept_map in zip(HEATMAPS, CONCEPT_MAPS, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("extent", ["otsu", "fraction=0.3"])
def test_the_energy_is_the_positive_relevance_inside_over_all(extent: str) -> None:
    found = concept_energy(HEATMAPS, gives(CONCEPT_MAPS), concept="striped", extent=extent)
    for value, heatmap, concept_map in zip(found, HEATMAPS, CONCEPT_MAPS, strict=True):
        places = region(concept_map, extent)
        inside = everywhere = 0.0
        for place, relevance in np.ndenumerate(heatmap):
            everywhere += max(0.0, float(relevance))
            inside += max(0.0, float(relevance)) if places[place] else 0.0
        assert value == pytest.approx(inside / everywhere)


@pytest.mark.parametrize("name", ALL)
def test_a_map_of_the_concept_itself_agrees_best(name: str) -> None:
    own, inverted = (
        ALL[name](maps, gives(CONCEPT_MAPS), concept="striped")
        for maps in (CONCEPT_MAPS, 1 - CONCEPT_MAPS)
    )
    if name != "concept_energy":  # some of a concept map lies outside its own region
        np.testing.assert_allclose(own, 1)
    assert (own > 0.6).all()
    assert (inverted < 0.3).all()


@pytest.mark.parametrize("name", ALL)
def test_names_of_concept_and_layer_are_what_is_asked_for(name: str) -> None:
    asked = []

    def maps_of(concept: str, layer: str) -> np.ndarray:
        asked.append((concept, layer))
        return CONCEPT_MAPS

    ALL[name](HEATMAPS, maps_of, concept="dotted", layer="body.1")
    ALL[name](HEATMAPS, maps_of, concept="dotted")
    assert asked == [("dotted", "body.1"), ("dotted", "")]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("fill", "why"),
    [
        (0.0, "the map of the concept 'striped' is zero everywhere"),
        (1.0, "the map of the concept 'striped' is constant (1)"),
        (np.nan, "the pixels of the map of the concept 'striped' have 63 values not finite"),
    ],
)
def test_a_concept_that_is_nowhere_or_everywhere_gives_no_value(
    name: str, fill: float, why: str
) -> None:
    maps = CONCEPT_MAPS.copy()
    maps[2] = fill
    with pytest.raises(UndefinedMeasurementError) as caught:
        ALL[name](HEATMAPS, gives(maps), concept="striped")
    assert caught.value.reasons == {2: why}


@pytest.mark.parametrize("name", WITH_REGION)
def test_a_region_of_the_whole_image_gives_no_value(name: str) -> None:
    maps = CONCEPT_MAPS.copy()
    maps[1] = 0.9
    maps[1, 0, 0] = 1
    with pytest.raises(UndefinedMeasurementError) as caught:
        ALL[name](HEATMAPS, gives(maps), concept="striped", extent="fraction=0.5")
    assert caught.value.reasons == {
        1: "the concept 'striped' covers the whole image by 'fraction=0.5'"
    }


@pytest.mark.parametrize("name", WITH_REGION)
def test_a_map_without_a_positive_value_has_no_region_by_a_share_of_its_maximum(name: str) -> None:
    maps = CONCEPT_MAPS.copy()
    maps[3] = -maps[3]
    with pytest.raises(UndefinedMeasurementError) as caught:
        ALL[name](HEATMAPS, gives(maps), concept="striped", extent="fraction=0.5")
    assert caught.value.reasons == {
        3: "no pixel belongs to the concept 'striped' by 'fraction=0.5'"
    }


def test_a_heatmap_without_positive_relevance_has_no_energy() -> None:
    heatmaps = HEATMAPS.copy()
    heatmaps[0] = -np.abs(heatmaps[0])
    with pytest.raises(UndefinedMeasurementError, match="no positive relevance") as caught:
        concept_energy(heatmaps, gives(CONCEPT_MAPS), concept="striped")
    assert set(caught.value.reasons) == {0}


@pytest.mark.parametrize("name", ALL)
def test_without_a_concept_or_with_maps_of_another_shape_there_is_an_error(name: str) -> None:
    with pytest.raises(
        ParameterError, match=r"'concept': expected the name of a concept, e\.g\. 'st"
    ):
        ALL[name](HEATMAPS, gives(CONCEPT_MAPS))
    with pytest.raises(ShapeError, match=r"concept_maps_of 'striped': expected .* \(4, 9, 7\)"):
        ALL[name](HEATMAPS, gives(CONCEPT_MAPS[:3]), concept="striped")


@pytest.mark.parametrize("extent", ["top=mask", "fraction=0", "fraction=1.5", "half"])
def test_an_unknown_extent_is_refused_with_the_known_ones(extent: str) -> None:
    for name in WITH_REGION:
        with pytest.raises(ParameterError, match=r"'otsu' or 'fraction=f' with 0 < f <= 1, e\.g\."):
            METRICS[name].configure({"concept": "striped", "extent": extent})


def test_the_protocol_names_concept_and_layer() -> None:
    configured = METRICS["concept_iou"].configure({"concept": "striped", "layer": "layer3"})
    assert configured.protocol == "concept_iou@v1(concept=striped, layer=layer3)"


def test_assertions_take_the_concept_maps_as_an_array() -> None:
    values = concept_energy(HEATMAPS, gives(CONCEPT_MAPS), concept="striped")
    judged = pytest_xai.assert_concept_energy_above(
        HEATMAPS, 0.0, concept_maps=CONCEPT_MAPS, concept="striped"
    )
    np.testing.assert_array_equal(judged.measurement.values, values)
    with pytest.raises(ExplanationError, match="concept_energy"):
        pytest_xai.assert_concept_energy_above(
            HEATMAPS, 0.99, concept_maps=CONCEPT_MAPS, concept="striped"
        )
    with pytest.raises(ParameterError, match="concept_iou of plain heatmaps also needs concept_ma"):
        pytest_xai.assert_concept_iou_above(HEATMAPS, 0.0, concept="striped")
    with pytest.raises(ShapeError, match="concept_maps: expected 4, one for each"):
        pytest_xai.assert_concept_iou_above(
            HEATMAPS, 0.0, concept_maps=CONCEPT_MAPS[:3], concept="striped"
        )


def test_an_array_s_image_without_a_value_costs_the_others_nothing() -> None:
    maps = CONCEPT_MAPS.copy()
    maps[1] = 0
    judged = pytest_xai.assert_concept_iou_above(
        HEATMAPS, 0.0, concept_maps=maps, concept="striped", undefined=1
    )
    expected = concept_iou(HEATMAPS, gives(CONCEPT_MAPS), concept="striped")
    kept = [0, 2, 3]
    np.testing.assert_array_equal(judged.measurement.values[kept], expected[kept])
    assert judged.measurement.undefined == {
        1: "the map of the concept 'striped' is zero everywhere"
    }


@cache
def demo_library() -> ConceptLibrary:
    return load_concepts("demo", size=(64, 64))


def image_set(images: np.ndarray, labels: list[int] | None = None) -> ImageSet:
    entries = [
        Entry(f"{i:03d}", labels[i] if labels else 0, partial(np.copy, image), None, "test")
        for i, image in enumerate(images)
    ]
    return ImageSet(entries, name="some", transform=Resize(images.shape[-2:]))


class Brightness:
    """The concept "bright": a map is the image's own first channel."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int]] = []

    def __call__(
        self, classifier: Classifier, concept: str, layer: str, images: np.ndarray
    ) -> np.ndarray:
        self.calls.append((concept, layer, len(images)))
        return images[:, 0]


def test_an_evaluation_makes_each_concept_s_maps_once_for_all_metrics_and_null_maps() -> None:
    images = RNG.random((5, 3, 16, 16)).astype(np.float32)
    classifier = SmallCNN(classes=3).classifier(batch_size=2)
    source = Brightness()
    at = Evaluation(classifier, image_set(images), concept_source=source)
    gradcam = Method("gradcam", GradCAM())
    default = classifier.default_layer()
    for name in ALL:
        metric = METRICS[name].configure({"concept": "bright"})
        expected = ALL[name](at.explain(gradcam).heatmaps, gives(images[:, 0]), concept="bright")
        np.testing.assert_allclose(at.measure(gradcam, metric).values, expected)
        centre = at.measure_null("centre", gradcam, metric)
        itself = at.measure(Method("centre", CentreMap()), metric)
        np.testing.assert_allclose(centre.values, itself.values)
        named = METRICS[name].configure({"concept": "bright", "layer": default})
        np.testing.assert_allclose(at.measure(gradcam, named).values, expected)
    assert source.calls == [("bright", default, count) for count in (2, 2, 1)]
    at.concept_maps("dark", "stem")
    assert source.calls[3:] == [("dark", "stem", count) for count in (2, 2, 1)]
    np.testing.assert_array_equal(at.concept_maps("bright"), images[:, 0])


def test_an_image_without_the_concept_is_undefined_in_an_evaluation() -> None:
    images = RNG.random((5, 3, 16, 16)).astype(np.float32)
    images[3, 0] = 0
    classifier = SmallCNN(classes=3).classifier(batch_size=2)
    at = Evaluation(classifier, image_set(images), concept_source=Brightness())
    metric = METRICS["concept_correlation"].configure({"concept": "bright"})
    found = at.measure(Method("centre", CentreMap()), metric)
    assert found.undefined == {3: "the map of the concept 'bright' is zero everywhere"}
    assert np.isfinite(found.values[[0, 1, 2, 4]]).all()


def test_without_concepts_an_evaluation_says_how_to_give_them() -> None:
    at = Evaluation(SmallCNN(classes=3).classifier(), image_set(np.ones((1, 3, 16, 16))))
    metric = METRICS["concept_iou"].configure({"concept": "bright"})
    with pytest.raises(XaiError, match=r"the concept 'bright' need .*: --xai-concepts DIR"):
        at.measure(Method("centre", CentreMap()), metric)


def test_concept_maps_of_another_shape_are_an_error_that_names_the_concept() -> None:
    at = Evaluation(
        SmallCNN(classes=3).classifier(),
        image_set(np.ones((2, 3, 16, 16), dtype=np.float32)),
        concept_source=lambda classifier, concept, layer, images: images[:, 0, ::2],
    )
    with pytest.raises(
        XaiError, match=r"'bright' have the shape \(2, 8, 16\), expected \(2, 16, 1"
    ):
        at.concept_maps("bright")


def test_what_the_maps_cost_is_the_concept_s() -> None:
    classifier = load_classifier("demo")
    scenes = [scene(900 + i, label=0) for i in range(4)]
    concepts = ConceptMaps(demo_library())
    at = Evaluation(
        classifier,
        image_set(np.stack([s.image for s in scenes]), [0] * 4),
        concept_source=concepts,
    )
    metric = METRICS["concept_energy"].configure({"concept": "striped"})
    at.measure(Method("centre", CentreMap()), metric)
    assert at.costs["explain", "concept striped"].forwards == 60 + 240 + 4
    assert at.costs["measure", "concept_energy"].forwards == 0


def test_the_demo_s_classifier_looks_at_the_stripes_and_its_shortcut_does_not() -> None:
    scenes = [scene(700 + i, label=i % 2 * 3) for i in range(12)]
    assert all(CLASSES[s.label].startswith("striped") for s in scenes)
    images = image_set(np.stack([s.image for s in scenes]), [s.label for s in scenes])
    concepts = ConceptMaps(demo_library())
    metric = METRICS["concept_energy"].configure({"concept": "striped"})
    gradcam = Method("gradcam", GradCAM())
    verdicts = {}
    for name in ("demo", "demo-shortcut"):
        # Where the stripes are is what `demo` sees; whether the other looks there is asked.
        demo = load_classifier("demo")
        source = lambda classifier, *given, demo=demo: concepts(demo, *given)  # noqa: E731
        at = Evaluation(load_classifier(name), images, concept_source=source)
        verdicts[name] = judge(at, gradcam, metric, Conditions(above=0.5, beats=["centre"]))
    assert verdicts["demo"].passes(strict=True)
    assert not verdicts["demo-shortcut"].passes(strict=False)
