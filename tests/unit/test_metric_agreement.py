"""Whether two explainers say the same, against SciPy, scikit-learn and counted pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_core.checks import SmallCNN
from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import GradCAM, IntegratedGradients
from xai_core.imageset import Entry, ImageSet, Resize
from xai_core.metrics import METRICS, agreement
from xai_core.metrics.similarity import ssim

RNG = np.random.default_rng(13)
HEATMAPS = RNG.normal(size=(4, 12, 10)).astype(np.float32)
OTHERS = (HEATMAPS + 0.7 * RNG.normal(size=HEATMAPS.shape)).astype(np.float32)
SIMILARITIES = ["spearman", "spearman_abs", "ssim", "iou", "iou(top=0.2)"]


def gives(maps: np.ndarray) -> Callable[[str], np.ndarray]:
    return lambda text: maps


@pytest.mark.parametrize("similarity", ["spearman", "spearman_abs"])
def test_rank_agreement_equals_scipys(similarity: str) -> None:
    from scipy.stats import spearmanr

    size = np.abs if similarity == "spearman_abs" else np.asarray
    expected = [
        spearmanr(size(a).ravel(), size(b).ravel()).statistic
        for a, b in zip(HEATMAPS, OTHERS, strict=True)
    ]
    measured = agreement(HEATMAPS, gives(OTHERS), other="x", similarity=similarity)
    np.testing.assert_allclose(measured, expected, atol=1e-12)


def test_agreement_of_structure_is_ssim() -> None:
    measured = agreement(HEATMAPS, gives(OTHERS), other="x", similarity="ssim")
    np.testing.assert_array_equal(measured, ssim(HEATMAPS, OTHERS))


def test_iou_of_otsus_pixels_equals_scikit_learns_jaccard() -> None:
    from skimage.filters import threshold_otsu
    from sklearn.metrics import jaccard_score

    expected = []
    for a, b in zip(HEATMAPS.astype(np.float64), OTHERS.astype(np.float64), strict=True):
        relevant = [(m > threshold_otsu(m)).ravel() for m in (a, b)]
        expected.append(jaccard_score(*relevant))
    measured = agreement(HEATMAPS, gives(OTHERS), other="x", similarity="iou")
    np.testing.assert_allclose(measured, expected, rtol=1e-12)


@pytest.mark.parametrize(("share", "count"), [("0.2", 24), ("0.001", 1), (".999", 119)])
def test_iou_of_the_top_share_counts_the_pixels_that_both_rank_highest(
    share: str, count: int
) -> None:
    expected = []
    for a, b in zip(HEATMAPS, OTHERS, strict=True):
        tops = [set(sorted(range(120), key=m.ravel().__getitem__)[-count:]) for m in (a, b)]
        expected.append(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))
    measured = agreement(HEATMAPS, gives(OTHERS), other="x", similarity=f"iou(top={share})")
    np.testing.assert_allclose(measured, expected, rtol=1e-12)


def test_tied_pixels_are_relevant_together_or_not_at_all() -> None:
    heatmap = np.zeros((10, 10), dtype=np.float32)
    heatmap[0, :5] = 1  # five relevant pixels, and 95 that share the next place
    other = np.zeros((10, 10), dtype=np.float32)
    other[9, 5:] = 1
    for top in ("0.2", "0.05"):
        same = agreement(heatmap, gives(heatmap), other="x", similarity=f"iou(top={top})")
        assert same.tolist() == [1.0]
        apart = agreement(heatmap, gives(other), other="x", similarity=f"iou(top={top})")
        assert apart.tolist() == [0.0]


def test_more_maxima_than_the_share_takes_have_no_top() -> None:
    tied = HEATMAPS.copy()
    tied[2] = np.minimum(tied[2], 0)  # about half of the pixels are the maximum
    with pytest.raises(UndefinedMeasurementError) as caught:
        agreement(tied, gives(OTHERS), other="x", similarity="iou(top=0.2)")
    why = "more pixels than 'iou(top=0.2)' takes share a map's maximum"
    assert caught.value.reasons == {2: why}
    with pytest.raises(UndefinedMeasurementError) as caught:
        agreement(OTHERS, gives(tied), other="x", similarity="iou(top=0.2)")
    assert caught.value.reasons == {2: why}


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_an_explainer_agrees_with_itself(similarity: str) -> None:
    measured = agreement(HEATMAPS, gives(HEATMAPS), other="x", similarity=similarity)
    np.testing.assert_allclose(measured, 1.0, atol=1e-12)


@settings(deadline=None)  # the first example pays for late imports
@given(
    hnp.arrays(np.float32, (2, 4, 5), elements=st.integers(-4, 4).map(float)).filter(
        lambda maps: (np.ptp(maps, axis=(1, 2)) > 0).all()
    ),
    st.sampled_from(["spearman", "ssim", "iou"]),
)
def test_agreement_is_mutual_and_within_its_range(maps: np.ndarray, similarity: str) -> None:
    one, other = (
        agreement(a, gives(b), other="x", similarity=similarity)[0]
        for a, b in ((maps[:1], maps[1:]), (maps[1:], maps[:1]))
    )
    assert one == pytest.approx(other, abs=1e-9)
    low, high = METRICS["agreement"].range
    assert low - 1e-9 <= one <= high + 1e-9


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_closer_maps_agree_more(similarity: str) -> None:
    noise = RNG.normal(size=HEATMAPS.shape).astype(np.float32)
    near, far = (
        agreement(HEATMAPS, gives(HEATMAPS + scale * noise), other="x", similarity=similarity)
        for scale in (0.05, 3.0)
    )
    assert (near > far).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_scaling_a_map_leaves_its_agreement(similarity: str) -> None:
    plain, scaled = (
        agreement(factor * HEATMAPS, gives(OTHERS), other="x", similarity=similarity)
        for factor in (1, 8)
    )
    np.testing.assert_allclose(scaled, plain, atol=1e-6)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_value_does_not_depend_on_batch_mates_or_order(similarity: str) -> None:
    given = {"other": "x", "similarity": similarity}
    together = agreement(HEATMAPS, gives(OTHERS), **given)
    alone = [agreement(HEATMAPS[i], gives(OTHERS[i]), **given)[0] for i in range(4)]
    backwards = agreement(HEATMAPS[::-1], gives(OTHERS[::-1]), **given)
    assert (together.dtype, together.shape) == (np.float64, (4,))
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, backwards[::-1])


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_an_image_without_another_map_costs_the_others_nothing(similarity: str) -> None:
    broken = OTHERS.copy()
    broken[1], broken[3, 0, 0] = 0, np.nan
    with pytest.raises(UndefinedMeasurementError) as caught:
        agreement(HEATMAPS, gives(broken), other="rise(masks=9)", similarity=similarity)
    assert caught.value.reasons == {
        1: "of rise(masks=9), the heatmap is zero everywhere",
        3: "of rise(masks=9), the heatmap's pixels have 1 values not finite",
    }
    whole = agreement(HEATMAPS, gives(OTHERS), other="x", similarity=similarity)
    assert caught.value.values is not None
    np.testing.assert_array_equal(caught.value.values[[0, 2]], whole[[0, 2]])
    with pytest.raises(UndefinedMeasurementError) as caught:
        agreement(HEATMAPS, gives(np.zeros_like(OTHERS)), other="x", similarity=similarity)
    assert set(caught.value.reasons) == {0, 1, 2, 3}


def test_a_map_of_one_size_with_two_signs_has_no_order_without_them() -> None:
    signs = HEATMAPS.copy()
    signs[1] = np.sign(signs[1])
    assert agreement(signs, gives(OTHERS), other="x")[1] > 0
    with pytest.raises(UndefinedMeasurementError) as caught:
        agreement(signs, gives(OTHERS), other="x", similarity="spearman_abs")
    assert caught.value.reasons == {1: "|h| of one of the heatmaps is the same everywhere"}


def test_maps_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="heatmaps_of 'gradcam'"):
        agreement(HEATMAPS, gives(OTHERS[:, 1:]), other="gradcam")


def test_without_another_explainer_there_is_no_agreement() -> None:
    with pytest.raises(ParameterError, match=r"setting 'other': expected the text of the other"):
        agreement(HEATMAPS, gives(OTHERS))


@pytest.mark.parametrize(
    "similarity", ["cosine", "iou(top=0)", "iou(top=1)", "iou(top=1.5)", "iou(top=a)", "iou()"]
)
def test_an_unknown_similarity_is_refused_with_the_known_ones(similarity: str) -> None:
    with pytest.raises(ParameterError, match=r"expected 'spearman', .* or 'iou\(top=f\)'"):
        METRICS["agreement"].configure({"other": "x", "similarity": similarity})


def test_the_protocol_names_the_other_explainer() -> None:
    configured = METRICS["agreement"].configure({"other": "rise(masks=9)", "similarity": "iou"})
    assert configured.protocol == "agreement@v1(other=rise(masks=9), similarity=iou)"


def test_an_evaluation_gives_the_other_explainers_maps() -> None:
    images = RNG.random((3, 3, 16, 16)).astype(np.float32)
    entries = [Entry(str(i), i, partial(np.copy, images[i]), None, "test") for i in range(3)]
    at = Evaluation(
        SmallCNN(classes=3).classifier(batch_size=2),
        ImageSet(entries, name="three", transform=Resize((16, 16))),
    )
    gradcam = Method("gradcam", GradCAM())
    metric = METRICS["agreement"].configure({"other": "integrated_gradients(steps=3)"})
    other = at.explain(Method("ig", IntegratedGradients(steps=3))).heatmaps
    expected = agreement(at.explain(gradcam).heatmaps, gives(other), other="x")
    np.testing.assert_allclose(at.measure(gradcam, metric).values, expected)
    itself = METRICS["agreement"].configure({"other": "gradcam"})
    np.testing.assert_allclose(at.measure(gradcam, itself).values, 1.0)
    unknown = METRICS["agreement"].configure({"other": "gradcan"})
    with pytest.raises(ParameterError, match="no explainer 'gradcan': did you mean 'gradcam'"):
        at.measure(gradcam, unknown)
