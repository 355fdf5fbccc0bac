"""TCAV against closed forms, plain re-implementations, Captum, and the demo's known truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from tcav_results import tcav_result

from xai_core.classifier import load_classifier
from xai_core.concepts.cav import fit_cavs, gram_matrix
from xai_core.concepts.features import FeatureStore, LayerFeatures
from xai_core.concepts.loading import concept_set, load_concepts
from xai_core.concepts.tcav import TCAV, TCAVResult, corrected
from xai_core.demo.scenes import CLASSES, concept_images, demo_images
from xai_core.errors import ClassifierError, ConceptError, LayerError, ParameterError
from xai_core.statistics import Interval

QUICK = TCAV(layer="body", runs=5, null_sets=20)


@pytest.fixture(scope="module")
def library():
    return load_concepts("demo", size=(64, 64))


@pytest.fixture(scope="module")
def stores():
    return {name: FeatureStore(load_classifier(name)) for name in ("demo", "demo-shortcut")}


@pytest.fixture(scope="module")
def scenes():
    found = demo_images(count=60)
    return {
        label: concept_set(name, np.stack([one.image for one in found if one.label == label]))
        for label, name in enumerate(CLASSES)
    }


# -- what is true of the demo ---------------------------------------------------------------


@pytest.mark.parametrize("cav", ["logistic", "svm", "pattern"])
def test_the_texture_that_a_class_is_made_of_is_present(library, stores, scenes, cav):
    tcav = TCAV(layer="body", cav=cav, null_sets=20, runs=10)
    for label, texture in ((0, "striped"), (1, "dotted"), (4, "dotted")):
        found = tcav.test(
            stores["demo"], library.concept(texture), library.random, scenes[label], label
        )
        assert found.verdict == "present", found.headline()
        assert found.score == 1.0


@pytest.mark.parametrize("label", [0, 4])
def test_the_watermark_is_absent_in_the_sound_model_and_present_in_the_shortcut(
    library, stores, scenes, label
):
    concept = library.concept(f"watermark_{CLASSES[label]}")
    verdicts = {
        name: TCAV(layer="body").test(store, concept, library.random, scenes[label], label).verdict
        for name, store in stores.items()
    }
    assert verdicts == {"demo": "absent", "demo-shortcut": "present"}


def test_a_score_of_one_does_not_make_a_concept_present(library, stores, scenes):
    found = TCAV(layer="body").test(
        stores["demo"], library.concept("watermark"), library.random, scenes[0], 0
    )
    assert found.score > 0.95
    assert found.verdict == "absent"
    assert found.null_scores[1] > 0.2  # as far apart are the scores of random sets


def test_another_texture_speaks_against_a_class_relative_to_its_own(library, stores, scenes):
    own, other = library.concept("striped"), library.concept("dotted")
    tcav = TCAV(layer="body")
    for_it = tcav.test(stores["demo"], own, other, scenes[0], 0, random=library.random)
    against = tcav.test(stores["demo"], other, own, scenes[0], 0, random=library.random)
    assert (for_it.verdict, against.verdict) == ("present", "opposed")
    assert for_it.logit_change == pytest.approx(-against.logit_change)
    assert for_it.null_alignments == against.null_alignments


def test_random_images_are_not_learnt(library, stores, scenes):
    concept = concept_set("nothing", concept_images("random", 40, seed=77))
    found = QUICK.test(stores["demo"], concept, library.random, scenes[0], 0)
    assert found.verdict == "not learnt"
    assert found.accuracy == pytest.approx(0.5, abs=0.2)


# -- closed forms and plain re-implementations ------------------------------------------------


def test_before_a_linear_head_the_change_is_the_mean_difference_of_the_logits(
    library, stores, scenes
):
    """Global average pooling and a linear layer follow `features`: the derivative is exact."""
    store, concept = stores["demo"], library.concept("checked")
    found = replace(QUICK, layer="features").test(store, concept, library.random, scenes[2], 2)
    logits = [store.logits(part)[:, 2].mean() for part in (concept, library.random)]
    assert found.logit_change == pytest.approx(logits[0] - logits[1], abs=1e-4)
    here, elsewhere = store.logits(scenes[2])[:, 2], store.logits(library.random)[:, 2]
    middle = (here.mean() + elsewhere.mean()) / 2
    spread = math.sqrt((((here - middle) ** 2).mean() + ((elsewhere - middle) ** 2).mean()) / 2)
    assert found.effect == pytest.approx((logits[0] - logits[1]) / spread, rel=1e-4)
    assert found.effect_interval.low < found.effect < found.effect_interval.high


@pytest.mark.parametrize("pooling", ["mean", "flatten"])
def test_score_alignment_and_magnitude_are_those_of_a_plain_loop(
    library, stores, scenes, pooling, monkeypatch
):
    store, concept = stores["demo"], library.concept("dotted")
    tcav = replace(QUICK, layer="stem", pooling=pooling, strength=0.1)
    drawn = []
    monkeypatch.setattr(
        "xai_core.concepts.question.fit_cavs",
        lambda *given, **options: drawn.append(fit_cavs(*given, **options)) or drawn[-1],
    )
    found = tcav.test(store, concept, library.random, scenes[1], 1)
    rows = np.concatenate([_features(store, part, pooling) for part in (concept, library.random)])
    gradients = _gradients(store, scenes[1], 1, pooling)
    labels = np.repeat([1, 0], [33, 33])
    signs, cosines, positive, sizes, per_image = [], [], 0.0, 0.0, []
    for own in drawn[0].rows:
        # Two thirds of 50 images of each side.
        assert (own[:33] < 60).all()
        assert (own[33:] >= 60).all()
        model = LogisticRegression(C=0.1, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
        if rows.shape[1] > 2000:
            model.set_params(solver="lbfgs")
        vector = model.fit(rows[own], labels).coef_[0]
        vector /= np.linalg.norm(vector)
        for gradient in gradients:
            along = float(gradient @ vector)
            signs.append(along > 0)
            cosines.append(along / np.linalg.norm(gradient))
            positive, sizes = positive + max(along, 0), sizes + abs(along)
        per_image.append(gradients @ vector)
    assert found.set_size == 50
    assert found.score == pytest.approx(np.mean(signs), abs=1e-9)
    assert found.alignment == pytest.approx(np.mean(cosines), abs=1e-5)
    assert found.magnitude_score == pytest.approx(positive / sizes, abs=1e-4)
    np.testing.assert_allclose(found.sensitivities, np.mean(per_image, axis=0), atol=1e-5)


def test_the_p_value_is_that_of_one_new_observation(library, stores, scenes, monkeypatch):
    kept = {}
    once = FeatureStore.once

    def spy(self, key, compute):
        kept[key[0]] = once(self, key, compute)
        return kept[key[0]]

    monkeypatch.setattr(FeatureStore, "once", spy)
    found = QUICK.test(stores["demo"], library.concept("dotted"), library.random, scenes[0], 0)
    null, scores = kept["null"]
    assert len(null) == len(scores) == 20
    spread = null.std(ddof=1) * math.sqrt(1 + 1 / 20)
    t = (found.alignment - null.mean()) / spread
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 19))
    assert found.null_alignments == (pytest.approx(null.mean()), pytest.approx(spread))
    assert found.null_scores == (pytest.approx(scores.mean()), pytest.approx(scores.std(ddof=1)))
    expected = spread * (stats.t.ppf(0.975, 19) + stats.t.ppf(0.8, 19))
    assert found.detectable == pytest.approx(expected)


def test_captums_score_is_ours_for_the_same_images_and_a_seeded_classifier(
    library, stores, scenes, tmp_path
):
    """With CAVs that are seeded and fitted anew; its own are unseeded and kept by name."""
    from captum.concept import TCAV as CaptumTCAV  # noqa: N811
    from captum.concept import Classifier, Concept

    class Logistic(Classifier):
        def __init__(self):
            self.order, self.model = None, None

        def train_and_eval(self, dataloader, **_):
            batches = list(dataloader)
            inputs = torch.cat([one for one, _ in batches]).double().numpy()
            labels = torch.cat([one for _, one in batches]).numpy()
            self.order = np.unique(labels)
            self.model = LogisticRegression(C=0.05, tol=1e-10, max_iter=10_000).fit(inputs, labels)
            return {"accs": torch.tensor(1.0)}

        def weights(self):
            # For two classes scikit-learn's vector points to the second of its sorted labels.
            vector = torch.from_numpy(self.model.coef_[0])
            return torch.stack([-vector, vector])

        def classes(self):
            return self.order.tolist()

    store, target = stores["demo"], 1
    sets = [library.random.batch(0, 40).images, library.concept("dotted").batch(0, 40).images]
    module = store.classifier.private_module()
    concepts = [
        Concept(index, name, [torch.from_numpy(images)])
        for index, (name, images) in enumerate(zip(("random", "dotted"), sets, strict=True))
    ]
    captum = CaptumTCAV(
        module, layers=["model.body"], classifier=Logistic(), save_path=str(tmp_path)
    )
    images = scenes[target].batch(0, 10).images
    theirs = captum.interpret(torch.from_numpy(images), [concepts], target=target)
    theirs = theirs["0-1"]["model.body"]

    gathered = [concept_set("set", one) for one in sets]
    rows = np.concatenate([_features(store, one, "flatten", "body") for one in gathered])
    cavs = fit_cavs(
        gram_matrix(rows, rows),
        np.arange(40, 80)[None],
        np.arange(40)[None],
        kind="logistic",
        strength=0.05,
    )
    gradients = _gradients(store, scenes[target], target, "flatten", "body")
    along = cavs.along(gram_matrix(gradients, rows))[0]
    assert float(theirs["sign_count"][1]) == pytest.approx((along > 0).mean(), abs=1e-6)
    # Its magnitude is the mean of the positive derivatives along the CAV as it is, not a share.
    expected = (np.maximum(along, 0) * cavs.lengths[0]).mean()
    assert float(theirs["magnitude"][1]) == pytest.approx(expected, rel=1e-3)
    # With two sets its other CAV is minus the first, whose score says nothing new.
    assert float(theirs["sign_count"][0]) == pytest.approx(1 - (along > 0).mean(), abs=1e-6)


# -- the test's promises ------------------------------------------------------------------


def test_random_concepts_are_found_at_the_nominal_rate(stores, scenes):
    """80 sets against pools of their own, at level .05: more than 10 have p = .003."""
    store = stores["demo"]
    tcav = TCAV(layer="body", cav="pattern", runs=4, null_sets=30, set_size=20)
    images = concept_images("random", 1000, seed=1000)
    draws, found = np.random.default_rng(0), []
    for _ in range(80):
        some = images[draws.permutation(1000)[:100]]
        concept, pool = concept_set("concept", some[:20]), concept_set("pool", some[20:])
        found.append(tcav.test(store, concept, pool, scenes[0], 0).p)
    assert 0 < sum(p < 0.05 for p in found) <= 10
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_the_same_seed_gives_the_same_result_and_another_gives_other_draws(library, stores, scenes):
    given = (library.concept("striped"), library.random, scenes[0], 0)
    fresh = FeatureStore(stores["demo"].classifier)
    one, again = QUICK.test(stores["demo"], *given), QUICK.test(fresh, *given)
    other = replace(QUICK, seed=1).test(stores["demo"], *given)
    assert _same(one, again)
    assert one.alignment != other.alignment
    assert one.alignment == pytest.approx(other.alignment, abs=0.05)


def test_names_have_no_part_in_what_is_kept(library, stores, scenes):
    """A new model under an old name, or new images in an old folder, start afresh."""
    sound, shortcut = (stores[name].classifier for name in ("demo", "demo-shortcut"))
    store = FeatureStore(sound)
    concept = library.concept("watermark_striped_disc")
    before = QUICK.test(store, concept, library.random, scenes[0], 0)
    shortcut_named_demo = FeatureStore(shortcut)
    shortcut_named_demo._rows, shortcut_named_demo._kept = store._rows, store._kept
    after = QUICK.test(shortcut_named_demo, concept, library.random, scenes[0], 0)
    assert after.alignment != before.alignment
    renamed = concept_set("anything", concept.batch(0, 60).images)
    again = QUICK.test(store, renamed, library.random, scenes[0], 0)
    assert again.alignment == before.alignment
    assert again.passes == 0


def test_each_image_goes_through_once_for_a_layer_whatever_is_asked(library, scenes):
    classifier = load_classifier("demo")
    store = FeatureStore(classifier)
    for concept in ("striped", "dotted"):
        for label in (0, 1):
            QUICK.test(store, library.concept(concept), library.random, scenes[label], label)
    random, each = len(library.random), 60
    # The layer of every image, the logits of the random ones, the gradients of each class image.
    assert classifier.passes.forwards == random + 2 * each + random
    assert classifier.passes.gradients == 20


def test_verdicts_follow_from_accuracy_p_value_and_effect():
    found = _result()
    assert found.verdict == "undecided"
    assert replace(found, p_corrected=0.04).verdict == "present"
    assert replace(found, p_corrected=0.04, alignment=-0.3).verdict == "opposed"
    assert replace(found, effect_interval=Interval(-0.09, 0.1)).verdict == "absent"
    assert replace(found, effect_interval=Interval(-0.11, 0.0)).verdict == "undecided"
    unlearnt = replace(found, p_corrected=0.0, accuracy_interval=Interval(0.49, 0.7))
    assert unlearnt.verdict == "not learnt"


def test_p_values_are_corrected_over_the_family():
    p_values = [0.02, 0.001, 0.03, 0.5]
    found = corrected([replace(_result(), p=p) for p in p_values])
    assert [one.p_corrected for one in found] == pytest.approx([0.06, 0.004, 0.06, 0.5])
    assert {one.tests for one in found} == {4}
    assert found[0].verdict == "undecided"
    assert "p = 0.06 (4 tests, Holm)" in found[0].headline()


def test_equal_scores_have_wilsons_interval_over_images(library, stores, scenes):
    found = TCAV(layer="body").test(
        stores["demo"], library.concept("striped"), library.random, scenes[0], 0
    )
    assert found.score == 1.0
    assert found.score_interval.low == pytest.approx(0.7225, abs=1e-3)
    assert found.score_interval.high == 1


def test_overlap_is_stated():
    assert (
        replace(_result(), counterexamples=400).overlap
        == "5 counterparts of 50, none sharing an image"
    )
    assert "each image is in 2.5 of them" in replace(_result(), counterexamples=100).overlap


def test_counterparts_share_no_image_where_there_are_enough():
    from xai_core.concepts.question import _parts

    draws = np.random.default_rng(0)
    apart = _parts(draws, np.arange(100, 200), 20, 5)
    assert sorted(apart.ravel()) == list(range(100, 200))
    shared = _parts(draws, np.arange(99), 20, 5)
    assert all(len(set(row)) == 20 for row in shared.tolist())


@pytest.mark.parametrize("kind", ["gradcam", "integrated_gradients"])
def test_features_of_a_class_are_those_of_a_plain_computation(library, stores, kind):
    store = stores["demo"]
    images = concept_set("few", library.concept("striped").batch(0, 3).images)
    found = store.features(images, "body", LayerFeatures(kind, steps=8), target=2)
    classifier = store.classifier
    tensor = torch.from_numpy(images.batch(0, 3).images)
    given = classifier.gradients(tensor, torch.full((3,), 2), at="body")
    if kind == "gradcam":
        expected = given.gradients.mean(dim=(2, 3)) * given.activations.mean(dim=(2, 3))
    else:
        rest = torch.nn.Sequential(*list(classifier.private_module().model.children())[2:4])
        linear = classifier.private_module().model.linear
        nodes, weights = np.polynomial.legendre.leggauss(8)
        total = torch.zeros_like(given.activations)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            point = (float(node) * given.activations).detach().requires_grad_()
            logit = linear(rest(point).flatten(1))[:, 2].sum()
            total += float(weight) * torch.autograd.grad(logit, point)[0]
        expected = (total * given.activations).mean(dim=(2, 3))
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=2e-5, rtol=1e-3)


# -- what is refused ------------------------------------------------------------------------


def test_too_few_images_are_refused(library, stores, scenes):
    few = concept_set("stripes", library.concept("striped").batch(0, 19).images)
    with pytest.raises(ConceptError, match=r"'stripes' has 19 images; a CAV needs 20 or more"):
        QUICK.test(stores["demo"], few, library.random, scenes[0], 0)
    pool = concept_set("random", library.random.batch(0, 39).images)
    with pytest.raises(ConceptError, match=r"are 39; sets of 20 need 40 or more"):
        QUICK.test(stores["demo"], library.concept("striped"), pool, scenes[0], 0)
    with pytest.raises(ConceptError, match="'striped' has 60 images; sets of 61 are asked for"):
        replace(QUICK, set_size=61).test(
            stores["demo"], library.concept("striped"), library.random, scenes[0], 0
        )


def test_a_concept_against_itself_is_refused(library, stores, scenes):
    one = np.repeat(library.concept("striped").batch(0, 1).images, 60, axis=0)
    same = concept_set("same", one)
    with pytest.raises(ConceptError, match="the same features"):
        QUICK.test(stores["demo"], same, same, scenes[0], 0)


def test_layers_and_classes_that_are_not_there_are_refused(library, stores, scenes):
    given = (library.concept("striped"), library.random, scenes[0])
    with pytest.raises(LayerError, match="no layer 'bodi'"):
        replace(QUICK, layer="bodi").test(stores["demo"], *given, 0)
    with pytest.raises(ClassifierError, match="target 6 is out of range"):
        QUICK.test(stores["demo"], *given, 6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"runs": 1}, "`runs` must be 2 or more"),
        ({"null_sets": 9}, "`null_sets` must be 10 or more"),
        ({"level": 0}, "`level` must lie between 0 and 1"),
        ({"margin": -1}, "`margin` must be 0 or more"),
        ({"strength": 0}, "`strength` must be positive"),
        ({"set_size": 19}, "`set_size` must be 20 or more"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ParameterError, match=message):
        TCAV(**parameters)


def test_a_classifier_without_layers_is_refused():
    from linear_classifier import LinearClassifier

    with pytest.raises(ClassifierError, match="TCAV reads the layers of a torch model"):
        FeatureStore(LinearClassifier())


def _features(store, images, pooling, at="stem"):
    """Return features of a plain forward pass, image by image."""
    rows = []
    for sample in images:
        found = store.classifier.activations(torch.from_numpy(sample.image)[None], at)[0]
        rows.append((found.mean(dim=(1, 2)) if pooling == "mean" else found.flatten()).numpy())
    return np.stack(rows).astype(np.float64)


def _gradients(store, images, target, pooling, at="stem"):
    rows = []
    for sample in images:
        batch = torch.from_numpy(sample.image)[None]
        found = store.classifier.gradients(batch, torch.tensor([target]), at=at).gradients[0]
        rows.append((found.sum(dim=(1, 2)) if pooling == "mean" else found.flatten()).numpy())
    return np.stack(rows).astype(np.float64)


def _result() -> TCAVResult:
    """Learnt, and neither present nor absent."""
    return tcav_result(
        tcav=QUICK, concept="stripes", target=0, alignment=0.2, p=0.06, p_corrected=0.06
    )


def _same(one: TCAVResult, other: TCAVResult) -> bool:
    np.testing.assert_array_equal(one.sensitivities, other.sensitivities)
    blank = np.zeros(0)
    return repr(replace(one, sensitivities=blank, seconds=0, passes=0)) == repr(
        replace(other, sensitivities=blank, seconds=0, passes=0)
    )
