"""An evaluation computes each explanation and measurement once, and loses no image silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from xai_core.classifier import Classifier, TorchClassifier
from xai_core.errors import UndefinedMeasurementError, XaiError
from xai_core.evaluation import Evaluation, Explained, Measurement, Method, measure_rows
from xai_core.explainers import Explanation, GradCAM, IntegratedGradients
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import METRICS, ConfiguredMetric, Metric, stability
from xai_core.postprocess import apply, parse_postprocess

SIZE = (12, 10)
RNG = np.random.default_rng(8)
IMAGES = RNG.random((7, 3, *SIZE), dtype=np.float32)
MASKS = RNG.random((7, *SIZE)) < 0.4
LABELS = (0, 1, 2, 0, 1, 2, 0)


def classifier_of(*, batch_size: int = 3) -> TorchClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        )
        nn.init.normal_(net[-1].weight, std=20)
    return TorchClassifier(net, name="small", size=SIZE, batch_size=batch_size)


def images_of(
    rows: tuple[int, ...] = tuple(range(7)),
    *,
    labels: tuple[int | None, ...] = LABELS,
    masks: bool = True,
    reads: list[str] | None = None,
) -> ImageSet:
    def read(name: str, array: np.ndarray) -> np.ndarray:
        if reads is not None:
            reads.append(name)
        return array

    entries = [
        Entry(
            name=f"image_{row}",
            label=labels[row],
            read_image=partial(read, f"image_{row}", IMAGES[row]),
            read_mask=partial(read, f"mask_{row}", MASKS[row]) if masks else None,
            origin="test",
        )
        for row in rows
    ]
    return ImageSet(entries, name="seven", transform=Resize(SIZE))


CALLS: list[tuple[int, tuple[int, ...]]] = []


@dataclass(frozen=True)
class Recording:
    """Explains by one channel of the image, and notes its calls; ``flat`` images get a flat map."""

    kind: ClassVar[str] = "recording"

    channel: int = 0
    flat: tuple[int, ...] = ()

    def explain(
        self,
        classifier: Classifier,
        images: np.ndarray,
        targets: np.ndarray,
    ) -> Explanation:
        CALLS.append((len(images), tuple(targets.tolist())))
        heatmaps = images[:, self.channel].copy()
        for row in self.flat:
            heatmaps[(images == IMAGES[row]).all(axis=(1, 2, 3))] = 0.25
        return Explanation(heatmaps)


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def configured(name: str, **settings: object) -> ConfiguredMetric:
    return METRICS[name].configure(settings)


def of_heatmaps(function: Callable[..., np.ndarray]) -> ConfiguredMetric:
    """A metric that is not declared, so that no list of metrics sees it."""
    metric = Metric(
        name="odd",
        version="v1",
        better="higher",
        range=(-np.inf, np.inf),
        unit="",
        source="test",
        assertion="odd",
        function=function,
        needs=("heatmaps",),
        settings={},
    )
    return ConfiguredMetric(metric, ())


def test_an_explanation_is_computed_once_whatever_is_measured() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    method = Method("mine", Recording())
    for name in ("iou", "precision", "sparseness", "deletion", "iou"):
        evaluation.measure(method, configured(name))
    evaluation.explain(method)
    evaluation.measure_null("inverted", method, configured("iou"))
    assert CALLS == [(3, (0, 1, 2)), (3, (0, 1, 2)), (1, (0,))]


def test_a_measurement_is_computed_once() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    method = Method("mine", Recording())
    first = evaluation.measure(method, configured("deletion"))
    forwards = evaluation.classifier.passes.forwards
    assert evaluation.measure(method, configured("deletion")) is first
    assert evaluation.classifier.passes.forwards == forwards
    other = evaluation.measure(method, configured("deletion", steps=4))
    assert other.metric.protocol == "deletion@rise-2018(steps=4)"
    assert evaluation.measurements == [first, other]


def test_a_null_that_ignores_the_explainer_is_measured_once_for_all_of_them() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    one, two = Method("one", Recording()), Method("two", Recording(channel=1))
    metric = configured("iou")
    for null in ("random", "centre", "sobel"):
        first = evaluation.measure_null(null, one, metric)
        assert evaluation.measure_null(null, two, metric) is first
        assert (first.method, first.made_by) == (null, None)
    assert CALLS == []
    inverted = [evaluation.measure_null("inverted", m, metric).values for m in (one, two)]
    assert not np.array_equal(*inverted)


def test_post_processing_shares_the_explanation_and_is_another_method() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    smooth = Method("mine", Recording(), (parse_postprocess("gaussian(sigma=2)"),))
    raw = Method("mine", Recording())
    values = [evaluation.measure(method, configured("sparseness")).mean for method in (raw, smooth)]
    assert values[1] < values[0]
    assert len(CALLS) == 3
    assert smooth.identity != raw.identity
    assert "gaussian" in smooth.identity


def test_one_explainer_under_two_names_is_computed_once_and_keeps_both_names() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    one, two = (Method(name, Recording()) for name in ("one", "two"))
    measured = [evaluation.measure(method, configured("iou")) for method in (one, two)]
    assert [found.method for found in measured] == ["one", "two"]
    assert [found.made_by for found in measured] == [one, two]
    assert measured[0].values is measured[1].values
    assert len(CALLS) == 3


def test_a_measurement_tells_who_made_it() -> None:
    method = Method("mine", Recording(channel=2))
    found = Evaluation(classifier_of(), images_of()).measure(method, configured("iou"))
    assert found.made_by is method
    assert found.names == tuple(f"image_{row}" for row in range(7))
    assert found.values.dtype == np.float64
    assert method.parameters == {"channel": 2, "flat": ()}


def test_the_target_is_the_label() -> None:
    assert Evaluation(classifier_of(), images_of()).targets.tolist() == list(LABELS)


def test_the_target_without_a_label_is_the_predicted_class() -> None:
    classifier = classifier_of()
    predicted = classifier.scores(torch.from_numpy(IMAGES)).argmax(dim=1).tolist()
    wrong = tuple((p + 1) % 3 for p in predicted)
    none = Evaluation(classifier, images_of(labels=(None,) * 7))
    assert none.targets.tolist() == predicted
    assert none.targets.dtype == np.int64
    some = Evaluation(classifier, images_of(labels=(None, *wrong[1:6], None)))
    assert some.targets.tolist() == [predicted[0], *wrong[1:6], predicted[6]]


def test_labels_spare_the_forward_pass() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    evaluation.measure(Method("mine", Recording()), configured("iou"))
    assert evaluation.classifier.passes.forwards == 0


def test_the_accuracy_counts_labelled_images_only() -> None:
    classifier = classifier_of()
    predicted = classifier.scores(torch.from_numpy(IMAGES)).argmax(dim=1).tolist()
    labels = (predicted[0], (predicted[1] + 1) % 3, predicted[2], *[None] * 4)
    assert Evaluation(classifier, images_of(labels=labels)).accuracy == pytest.approx(2 / 3)
    assert Evaluation(classifier, images_of(labels=(None,) * 7)).accuracy is None


def test_a_label_that_the_classifier_has_no_class_for_is_refused() -> None:
    with pytest.raises(XaiError, match=r"seven: .*'image_4'.* label 3, .*small has 3 classes"):
        Evaluation(classifier_of(), images_of(labels=(0, 1, 2, 0, 3, 0, 0)))


def test_undefined_images_are_named_with_the_reason_and_the_others_measured() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    expected = evaluation.measure(Method("all", Recording()), configured("iou")).values
    found = evaluation.measure(Method("mine", Recording(flat=(1, 2, 6))), configured("iou"))
    assert found.undefined == dict.fromkeys((1, 2, 6), "the heatmap is constant (0.25)")
    assert np.flatnonzero(np.isnan(found.values)).tolist() == [1, 2, 6]
    kept = [0, 3, 4, 5]
    assert np.array_equal(found.values[kept], expected[kept])
    assert np.array_equal(found.defined, expected[kept])
    assert found.mean == pytest.approx(expected[kept].mean())


def test_an_image_without_a_mask_pixel_is_undefined() -> None:
    images = images_of()
    empty = images._entries[5]
    blank = partial(np.zeros, SIZE, dtype=bool)
    entries = [*images._entries[:5], images._entries[6]]
    entries.append(Entry(empty.name, empty.label, empty.read_image, blank, "test"))
    evaluation = Evaluation(
        classifier_of(), ImageSet(entries, name="blank", transform=Resize(SIZE))
    )
    found = evaluation.measure(Method("mine", Recording()), configured("iou"))
    assert found.undefined == {5: "the mask is empty"}


@pytest.mark.parametrize(("bad", "said"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_a_value_that_is_not_finite_is_undefined(bad: float, said: str) -> None:
    def odd(heatmaps: np.ndarray) -> np.ndarray:
        return np.where(heatmaps[:, 0, 0] == IMAGES[4, 0, 0, 0], bad, 1.0)

    evaluation = Evaluation(classifier_of(), images_of())
    found = evaluation.measure(Method("mine", Recording()), of_heatmaps(odd))
    assert found.undefined == {4: f"odd gave {said}"}
    assert np.isnan(found.values[4])
    assert found.mean == 1


def test_all_images_undefined_have_no_mean() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    found = evaluation.measure(Method("mine", Recording(flat=tuple(range(7)))), configured("iou"))
    assert len(found.undefined) == 7
    assert np.isnan(found.mean)


def test_what_is_undefined_in_a_part_is_undefined_in_the_whole() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    method = Method("mine", Recording(flat=(3,)))
    found = evaluation.measure(method, configured("faithfulness_gap"))
    assert found.undefined == {3: "the heatmap is constant (0.25)"}


def test_the_faithfulness_gap_is_insertion_minus_deletion() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    method = Method("mine", Recording())
    gap, insertion, deletion = (
        evaluation.measure(method, configured(name)).values
        for name in ("faithfulness_gap", "insertion", "deletion")
    )
    assert np.array_equal(gap, insertion - deletion)
    null = [
        evaluation.measure_null("sobel", method, configured(name)).values
        for name in ("faithfulness_gap", "insertion", "deletion")
    ]
    assert np.array_equal(null[0], null[1] - null[2])


def test_masks_that_are_missing_are_an_error_that_names_the_set() -> None:
    evaluation = Evaluation(classifier_of(), images_of(masks=False))
    with pytest.raises(XaiError, match="iou needs masks, and seven has none"):
        evaluation.measure(Method("mine", Recording()), configured("iou"))
    assert evaluation.measure(Method("mine", Recording()), configured("sparseness")).mean > 0


def test_completeness_needs_a_method_that_promises_it() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    with pytest.raises(XaiError, match="needs signed attributions, and cam gives none"):
        evaluation.measure(Method("cam", GradCAM(layer="1")), configured("completeness"))
    with pytest.raises(XaiError, match=r"completeness needs .*, and random"):
        evaluation.measure_null("random", Method("mine", Recording()), configured("completeness"))
    ig = Method("ig", IntegratedGradients(steps=30))
    assert evaluation.measure(ig, configured("completeness")).mean < 0.05


def test_stability_explains_noisy_images_with_the_same_method() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    smooth = Method("mine", Recording(), (parse_postprocess("gaussian(sigma=3)"),))
    raw = Method("mine", Recording())
    metric = configured("stability", samples=2)
    for method, steps in ((raw, ()), (smooth, smooth.postprocess)):
        expected = stability(
            lambda noisy, _targets, steps=steps: apply(noisy[:, 0], steps),
            IMAGES,
            np.array(LABELS),
            apply(IMAGES[:, 0], steps),
            samples=2,
        )
        np.testing.assert_allclose(evaluation.measure(method, metric).values, expected)
    assert len(CALLS) == 3 + 2 * 3 * 2  # once, and two samples of three batches for each method
    assert evaluation.measure_null("centre", raw, metric).mean == pytest.approx(1)


@pytest.mark.parametrize("name", ["iou", "deletion", "faithfulness_gap", "stability"])
@pytest.mark.parametrize("kind", ["explainer", "random", "sobel"])
def test_batches_and_neighbours_do_not_change_a_value(name: str, kind: str) -> None:
    method, metric = Method("cam", GradCAM(layer="1")), configured(name)

    def values(rows: tuple[int, ...], batch_size: int) -> dict[str, float]:
        evaluation = Evaluation(classifier_of(batch_size=batch_size), images_of(rows))
        if kind == "explainer":
            found = evaluation.measure(method, metric)
        else:
            found = evaluation.measure_null(kind, method, metric)
        return dict(zip(found.names, found.values.tolist(), strict=True))

    whole = values(tuple(range(7)), 7)
    assert values((6, 5, 4, 3, 2, 1, 0), 3) == pytest.approx(whole, abs=1e-5, nan_ok=True)
    some = values((2, 5), 1)
    expected = {key: whole[key] for key in some}
    assert some == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_a_small_set_is_decoded_once() -> None:
    reads: list[str] = []
    evaluation = Evaluation(classifier_of(), images_of(reads=reads))
    for name in ("iou", "precision", "deletion"):
        evaluation.measure(Method("mine", Recording()), configured(name))
    assert sorted(reads) == sorted([f"{w}_{r}" for w in ("image", "mask") for r in range(7)])


def test_heatmaps_of_another_shape_are_an_error_that_names_the_method() -> None:
    @dataclass(frozen=True)
    class Small:
        kind: ClassVar[str] = "small"

        def explain(self, classifier: object, images: np.ndarray, targets: object) -> Explanation:
            return Explanation(images[:, 0, ::2])

    evaluation = Evaluation(classifier_of(), images_of())
    with pytest.raises(XaiError, match=r"mine gave heatmaps of shape \(3, 6, 10\) for 'image_0'"):
        evaluation.explain(Method("mine", Small()))


def test_explanations_can_be_asked_for_later() -> None:
    evaluation = Evaluation(classifier_of(), images_of())
    explained = Explained(evaluation, Method("ig", IntegratedGradients(steps=2)))
    assert evaluation.classifier.passes.gradients == 0
    assert explained.heatmaps.shape == (7, *SIZE)
    assert explained.attributions.shape == (7, 3, *SIZE)
    assert evaluation.classifier.passes.gradients == 14


def test_progress_is_told_of_every_image() -> None:
    told: list[tuple[str, int, int]] = []

    class Teller:
        @contextmanager
        def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
            done: list[int] = []
            yield done.append
            told.append((what, total, sum(done)))

    evaluation = Evaluation(classifier_of(), images_of(), progress=Teller())
    evaluation.measure(Method("mine", Recording()), configured("iou"))
    assert told == [("explaining with mine", 7, 7), ("measuring iou of mine", 7, 7)]


def test_rows_are_measured_together_without_those_that_are_undefined() -> None:
    asked = []

    def odd(heatmaps: np.ndarray) -> np.ndarray:
        asked.append(heatmaps.tolist())
        reasons = {i: f"{v} is odd" for i, v in enumerate(heatmaps) if v % 2}
        if reasons:
            raise UndefinedMeasurementError(reasons)
        return heatmaps * 10.0

    values, undefined = measure_rows(
        of_heatmaps(odd), lambda rows: {"heatmaps": rows}, np.array([4, 5, 6, 7])
    )
    assert asked == [[4, 5, 6, 7], [4, 6]]
    assert undefined == {5: "5 is odd", 7: "7 is odd"}
    np.testing.assert_array_equal(values, [40, np.nan, 60, np.nan])


def test_a_measurement_without_values_has_no_mean() -> None:
    metric = configured("iou")
    measurement = Measurement(metric, "mine", ("a",), np.array([np.nan]), {0: "why"})
    assert np.isnan(measurement.mean)
    assert len(measurement.defined) == 0
