"""What a trained ResNet-50 rests on, in photographs, by concepts from public sets of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xai_core import METRICS, Evaluation, GradCAM, Method, load_classifier, load_imageset
from xai_core.concepts import TCAV, FeatureStore, corrected, load_concepts
from xai_core.concepts.map_fitting import ConceptMaps

DATA = Path(__file__).parents[3] / "shared/data"
WEIGHTS = DATA / "weights/resnet50.safetensors"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"needs {WEIGHTS.name} of the shared data"),
]


@pytest.fixture(scope="module")
def store():
    return FeatureStore(load_classifier("resnet50", weights=str(WEIGHTS)))


@pytest.fixture(scope="module")
def images(store):
    return load_imageset(DATA / "coco", size=store.classifier.size)


@pytest.fixture(scope="module")
def library(store):
    return load_concepts(DATA / "concepts", size=store.classifier.size)


def test_the_zebra_rests_on_stripes_and_bananas_on_no_fur(store, images, library):
    labels = {name: index for index, name in images.classes.items()}
    asked = [("zebra", "striped"), ("zebra", "bubbly"), ("brown_bear", "fur"), ("banana", "fur")]
    found = corrected(
        [
            TCAV(layer="layer4").test(
                store,
                library.concept(concept),
                library.random,
                images.of_label(labels[label]),
                labels[label],
            )
            for label, concept in asked
        ]
    )
    verdicts = dict(zip(asked, [one.verdict for one in found], strict=True))
    shown = "\n".join(one.headline() for one in found)
    assert verdicts["zebra", "striped"] == "present", shown
    assert verdicts["brown_bear", "fur"] == "present", shown
    assert verdicts["zebra", "bubbly"] not in ("present", "opposed"), shown
    assert verdicts["banana", "fur"] == "absent", shown


def test_grad_cam_of_a_zebra_looks_at_the_stripes_more_than_a_blob_does(store, images, library):
    zebras = images.of_label(340)
    evaluation = Evaluation(store.classifier, zebras, concept_source=ConceptMaps(library))
    metric = METRICS["concept_energy"].configure({"concept": "striped", "layer": "layer4"})
    method = Method("gradcam", GradCAM())
    values = evaluation.measure(method, metric).values
    blob = evaluation.measure_null("centre", method, metric).values
    assert (values > blob).all(), np.stack([values, blob])
