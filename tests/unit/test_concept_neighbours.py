"""Neighbours: which images of a reference set the classifier takes for the most alike."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from forward_only import ForwardOnly
from torch import nn

import pytest_xai
from pytest_xai.assertions import ExplanationError
from xai_core.classifier import TorchClassifier
from xai_core.concepts.embedding import embeddings
from xai_core.concepts.neighbours import nearest, neighbour_agreement
from xai_core.errors import ClassifierError, ConceptError, LayerError, ParameterError, ShapeError
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.statistics import mean_interval

RNG = np.random.default_rng(3)
SIZE = (8, 8)


class Channels(nn.Module):
    """Ten channels of 4 x 4 places, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer = nn.Conv2d(3, 10, 2, stride=2)
        self.linear = nn.Linear(10, 4)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.layer(images)).mean(dim=(2, 3)))


class Brightness(nn.Module):
    """A layer that gives the image back: pooled, it is the mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.linear = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.layer(images).mean(dim=(2, 3)))


def classifier_of(module: nn.Module, batch: int | None = 3) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=SIZE, batch_size=batch)


def noise(count: int) -> np.ndarray:
    return RNG.random((count, 3, *SIZE)).astype(np.float32)


def set_of(images: np.ndarray, labels: list[int | None]) -> ImageSet:
    entries = [
        Entry(f"{i:03d}.png", label, partial(np.copy, image), None, f"set[{i}]")
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    return ImageSet(entries, name="set", transform=Resize(SIZE))


def grey(*levels: float) -> np.ndarray:
    """Images of one grey each: 1/256ths, so that means and differences are exact."""
    return np.stack([np.full((3, *SIZE), level / 256, np.float32) for level in levels])


def plain_embeddings(module: nn.Module, images: np.ndarray) -> np.ndarray:
    """One image at a time, by the module's own layer in float64."""
    layer = module.layer.double()
    with torch.no_grad():
        pooled = [layer(torch.from_numpy(one)[None].double()).mean(dim=(2, 3))[0] for one in images]
    module.float()
    return torch.stack(pooled).numpy()


def test_an_embedding_is_the_mean_of_the_layer_over_its_places() -> None:
    module, images = Channels(), noise(7)
    found = embeddings(classifier_of(module), [images[:5], images[5:]], at="layer")
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, plain_embeddings(module, images), rtol=0, atol=2e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_those_of_scikit_learn(metric: str) -> None:
    from sklearn.neighbors import NearestNeighbors

    module, images, reference = Channels(), noise(9), noise(41)
    classifier = classifier_of(module)
    found = nearest(classifier, images, reference, 6, at="layer", distance=metric)
    here, there = (embeddings(classifier, [some], at="layer") for some in (images, reference))
    fitted = NearestNeighbors(n_neighbors=6, algorithm="brute", metric=metric).fit(there)
    distances, indices = fitted.kneighbors(here)
    assert np.array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=0, atol=1e-12)
    assert found.indices.dtype == np.int64
    assert found.names[2][3] == f"reference[{indices[2, 3]}]"
    assert found.labels == ((None,) * 6,) * 9


def test_the_default_layer_is_the_classifiers() -> None:
    classifier, images, reference = classifier_of(Channels()), noise(3), noise(9)
    named = nearest(classifier, images, reference, at=classifier.default_layer())
    assert np.array_equal(nearest(classifier, images, reference).distances, named.distances)


def test_images_equally_far_come_in_the_order_of_the_reference_whatever_the_batches() -> None:
    reference = grey(20, 60, 40, 20, 60, 99, 20, 60)
    for batch in (1, 2, 3, 8, 50):
        found = nearest(
            classifier_of(Brightness(), batch),
            grey(40),
            reference,
            6,
            at="layer",
            distance="euclidean",
        )
        # 2 is the image itself; 0, 1, 3, 4, 6 and 7 are 20 away, 5 is farther.
        assert found.indices.tolist() == [[0, 1, 3, 4, 6, 7]]
        assert len(set(found.distances[0].tolist())) == 1
        assert found.distances[0, 0] == pytest.approx(20 / 256 * np.sqrt(3), abs=1e-12)


def test_every_copy_of_an_image_is_left_out_and_nothing_else() -> None:
    images = noise(4)
    almost = images[1].copy()
    almost[0, 0, 0] += np.float32(1e-3)
    reference = np.concatenate([noise(3), images[1:2], noise(2), images[1:2], almost[None]])
    found = nearest(classifier_of(Channels()), images[:2], reference, 6, at="layer")
    assert sorted(found.indices[1].tolist()) == [0, 1, 2, 4, 5, 7]
    assert found.indices[1, 0] == 7
    assert len(nearest(classifier_of(Channels()), images[:1], reference, 8).indices[0]) == 8


def test_a_sets_names_and_labels_stand_beside_its_neighbours() -> None:
    reference = set_of(grey(10, 80, 30, 50), [4, None, 6, 7])
    found = nearest(
        classifier_of(Brightness()), grey(33), reference, 3, at="layer", distance="euclidean"
    )
    assert found.names == (("002.png", "003.png", "000.png"),)
    assert found.labels == ((6, 7, 4),)


def test_a_set_and_its_array_have_the_same_neighbours() -> None:
    images, reference = noise(5), noise(17)
    classifier = classifier_of(Channels())
    one = nearest(classifier, images, reference, at="layer")
    other = nearest(classifier, set_of(images, [None] * 5), set_of(reference, [0] * 17), at="layer")
    assert np.array_equal(one.indices, other.indices)
    assert np.array_equal(one.distances, other.distances)


def test_each_image_passes_once() -> None:
    classifier = classifier_of(Channels())
    nearest(classifier, noise(5), noise(17), at="layer")
    assert (classifier.passes.forwards, classifier.passes.gradients) == (22, 0)


def test_agreement_is_the_share_of_neighbours_of_the_target() -> None:
    reference = grey(*range(0, 120, 10))
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0]
    images, targets = grey(1, 45, 61, 119), [0, 1, 1, 1]
    ask = partial(neighbour_agreement, classifier_of(Brightness()), images, targets)
    found = ask(reference, labels, 3, at="layer", distance="euclidean")
    # 1: 0, 10, 20; 45: 40 and 50, then 30 before 60; 61: 60, 70, 50; 119: 110, 100, 90.
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [1, 1, 1 / 3, 0], rtol=0, atol=1e-15)
    by_set = ask(set_of(reference, labels), k=3, at="layer", distance="euclidean")
    assert np.array_equal(found, by_set)
    overruled = ask(set_of(reference, labels), [1] * 12, k=3, at="layer", distance="euclidean")
    assert overruled.tolist() == [0, 1, 1, 1]


def test_agreement_is_that_of_a_plain_loop() -> None:
    module, images, reference = Channels(), noise(6), noise(30)
    targets, labels = RNG.integers(0, 3, 6), RNG.integers(0, 3, 30)
    found = neighbour_agreement(
        classifier_of(module), images, targets, reference, labels, 4, at="layer"
    )
    here, there = plain_embeddings(module, images), plain_embeddings(module, reference)
    for row, (one, target) in enumerate(zip(here, targets, strict=True)):
        apart = [1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other) for other in there]
        near = sorted(range(30), key=lambda index: apart[index])[:4]
        assert found[row] == sum(labels[index] == target for index in near) / 4


def test_one_target_serves_all_images() -> None:
    reference = grey(10, 20, 30)
    found = neighbour_agreement(
        classifier_of(Brightness()),
        grey(1, 2),
        1,
        reference,
        [1, 1, 0],
        2,
        at="layer",
        distance="euclidean",
    )
    assert found.tolist() == [1, 1]


def test_an_assertion_passes_and_fails_with_the_mean_and_the_worst_images() -> None:
    classifier = classifier_of(Brightness())
    ask = partial(
        pytest_xai.assert_neighbours_agree_above,
        classifier,
        grey(1, 45, 61, 119),
        targets=[0, 1, 1, 1],
        reference=grey(*range(0, 120, 10)),
        reference_labels=[0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0],
        k=3,
        at="layer",
        distance="euclidean",
    )
    assert ask(0.58).tolist() == [1, 1, 1 / 3, 0]
    with pytest.raises(ExplanationError) as caught:
        ask(0.6)
    interval = mean_interval(np.array([1, 1, 1 / 3, 0]), bounds=(0.0, 1.0))
    assert str(caught.value) == (
        f"neighbour_agreement small: 0.583 < 0.600 ({interval}, n=4, k=3)\n\nworst images:\n"
        "      0.000  image 3\n      0.333  image 2\n      1.000  image 0\n      1.000  image 1"
    )
    with pytest.raises(ExplanationError, match=r"0\.583 >= 0\.500 .*: not proven"):
        ask(0.5, strict=True)
    assert len(ask(interval.low, strict=True)) == 4
    with pytest.raises(ParameterError, match="cannot compare NaN"):
        ask(float("nan"))
    with pytest.raises(ParameterError, match="`k` must be at least 1"):
        ask(0.5, k=0)


def test_an_assertion_on_a_set_names_its_images() -> None:
    classifier, images = classifier_of(Brightness()), set_of(grey(1, 45), [0, 1])
    reference = set_of(grey(0, 10, 20, 30), [0, 0, 2, 2])
    with pytest.raises(ExplanationError, match=r"0\.500 < 0\.900[^$]*0\.000  001\.png"):
        pytest_xai.assert_neighbours_agree_above(
            classifier,
            images,
            0.9,
            targets=[0, 1],
            reference=reference,
            k=2,
            at="layer",
            distance="euclidean",
        )


def test_what_cannot_be_asked_is_refused() -> None:
    classifier, images, reference = classifier_of(Channels()), noise(2), noise(4)
    with pytest.raises(ParameterError, match="`k` must be at least 1, got 0"):
        nearest(classifier, images, reference, 0)
    with pytest.raises(ParameterError, match="did you mean 'cosine'"):
        nearest(classifier, images, reference, 1, distance="cosin")
    with pytest.raises(LayerError, match="layr"):
        nearest(classifier, images, reference, 1, at="layr")
    with pytest.raises(ShapeError, match="reference"):
        nearest(classifier, images, reference[:, :2], 1)
    with pytest.raises(ConceptError, match=r"images\[0\] has 4 other images .* of 4, asked for 5"):
        nearest(classifier, images, reference, 5)
    with pytest.raises(ConceptError, match=r"images\[0\] has 3 other images in the reference of 4"):
        nearest(classifier, reference[1:2], reference, 4)
    with pytest.raises(ShapeError, match="targets: expected 2, one for each image, got 3"):
        neighbour_agreement(classifier, images, [0, 1, 2], reference, [0] * 4, 1)
    with pytest.raises(ShapeError, match=r"reference_labels: expected 4, .* got 2"):
        neighbour_agreement(classifier, images, [0, 1], reference, [0, 1], 1)
    with pytest.raises(ConceptError, match=r"1 of 4 images have no label, the first is '002\.png'"):
        neighbour_agreement(classifier, images, [0, 1], set_of(reference, [0, 1, None, 1]), k=1)


def test_an_embedding_of_zero_has_a_distance_but_no_cosine() -> None:
    classifier, reference = classifier_of(Brightness()), grey(10, 0, 30)
    with pytest.raises(ConceptError, match=r"reference\[1\]: its activations .* zero everywhere"):
        nearest(classifier, grey(20), reference, 2, at="layer")
    found = nearest(classifier, grey(4), reference, 2, at="layer", distance="euclidean")
    assert found.indices.tolist() == [[1, 0]]


def test_a_classifier_without_layers_has_no_embedding() -> None:
    with pytest.raises(ClassifierError, match="an embedding reads the layers of a torch model"):
        nearest(ForwardOnly(lambda images: images.mean(dim=(2, 3))), noise(1), noise(2), 1)
