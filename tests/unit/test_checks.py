"""Every check finds the explainer that breaks its property, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from pytest_xai.strategies import images, linear_classifiers, small_cnns
from xai_core.arrays import Float32, Float64, Int64
from xai_core.checks import (
    CHECKS,
    CheckFailedError,
    LinearNetwork,
    RefusedError,
    SmallCNN,
    check_batch_independence,
    check_completeness,
    check_contract,
    check_determinism,
    check_dummy,
    check_flip_equivariance,
    check_implementation_invariance,
    check_input_invariance,
    check_linearity,
    check_no_trace,
    example_heatmaps,
    example_images,
    example_masks,
    run_checks,
)
from xai_core.errors import LayerError
from xai_core.explainers import CentreMap, Explanation, GradCAM, IntegratedGradients
from xai_core.explainers.explanation import Promise

drawn = settings(parent=settings.get_profile("ci"), max_examples=12)


@dataclass(frozen=True)
class Gradient:
    """The plain gradient: what the broken explainers below do otherwise, they do on top of it."""

    kind: ClassVar[str] = "gradient"
    needs: ClassVar[Any] = "gradients"
    source: ClassVar[str] = "this test"
    promises: ClassVar[frozenset[Promise]] = frozenset()

    def gradients(self, classifier: Any, images: Float32, targets: Int64) -> Float32:
        found = classifier.gradients(torch.from_numpy(images), torch.from_numpy(targets))
        return found.gradients.contiguous().numpy()

    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        return Explanation(self.gradients(classifier, images, targets).sum(axis=1))


@dataclass
class Mutable:
    kind = "mutable"
    needs = "scores"
    source = "x"
    promises = frozenset()


class PromisesTheMoon(Gradient):
    promises = frozenset({"moon"})  # type: ignore[assignment]


class NeedsLuck(Gradient):
    needs = "luck"


class DoublePrecision(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        maps = self.gradients(classifier, images, targets).sum(axis=1)
        return Explanation(maps.astype(np.float64))  # type: ignore[arg-type]


class Transposed(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        return Explanation(self.gradients(classifier, images, targets).sum(axis=1).swapaxes(1, 2))


class NotFinite(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        maps = self.gradients(classifier, images, targets).sum(axis=1)
        maps[-1, 3, 4] = np.nan
        return Explanation(maps)


class GreyAttributions(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        maps = self.gradients(classifier, images, targets).sum(axis=1)
        return Explanation(maps, maps[:, None])


class BareArray(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Any:
        return self.gradients(classifier, images, targets).sum(axis=1)


class Crashing(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        raise ValueError("no such luck")


class NumPyNoise(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        maps = self.gradients(classifier, images, targets).sum(axis=1)
        return Explanation(maps + np.random.normal(size=maps.shape).astype(np.float32))


class TorchNoise(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        maps = self.gradients(classifier, images, targets).sum(axis=1)
        return Explanation(maps + torch.randn(maps.shape).numpy())


class ScaledByTheBatch(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        maps = self.gradients(classifier, images, targets).sum(axis=1)
        return Explanation(maps / maps.max())


class ByPlace(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        noise = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
        noisy = np.clip(images + 0.2 * noise, 0, 1)
        return Explanation(self.gradients(classifier, noisy, targets).sum(axis=1))


class WritesIntoImages(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        images *= 0.5
        return super().explain(classifier, images, targets)


class Reseeds(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        torch.manual_seed(0)
        return super().explain(classifier, images, targets)


class LeavesAHook(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        next(classifier._fast.children()).register_forward_hook(lambda *_: None)
        return super().explain(classifier, images, targets)


class LeavesAWeight(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        found = super().explain(classifier, images, targets)
        next(classifier._fast.parameters()).data[0] += 1e-6
        return found


class LeavesTraining(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        found = super().explain(classifier, images, targets)
        classifier._plain.train()
        return found


class AllAtOnce(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        leaf = torch.from_numpy(images).requires_grad_()
        logits = classifier.private_module()(leaf)
        classifier.passes.count(gradients=len(images))
        chosen = logits[torch.arange(len(images)), torch.from_numpy(targets)]
        (gradients,) = torch.autograd.grad(chosen.sum(), leaf)
        return Explanation(gradients.sum(dim=1).numpy())


class Uncounted(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        classifier.private_module()(torch.from_numpy(images[:1]))
        return super().explain(classifier, images, targets)


class TwiceTheSum(IntegratedGradients):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        found = super().explain(classifier, images, targets)
        assert found.attributions is not None
        return Explanation(found.heatmaps, found.attributions * 2)


class Lifted(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        return Explanation(super().explain(classifier, images, targets).heatmaps + 1)


class Absolute(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        return Explanation(np.abs(super().explain(classifier, images, targets).heatmaps))


class LeansRight(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        ramp = np.linspace(1, 2, images.shape[-1], dtype=np.float32)
        return Explanation(super().explain(classifier, images, targets).heatmaps * ramp)


class FirstChannel(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        maps = super().explain(classifier, images, targets).heatmaps
        convs = [m for m in classifier._plain.modules() if isinstance(m, torch.nn.Conv2d)]
        return Explanation(maps + float(convs[0].weight[0].sum()))


class TimesInput(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        return Explanation((self.gradients(classifier, images, targets) * images).sum(axis=1))


class SameClass(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        return super().explain(classifier, images, np.zeros_like(targets))


class Fussy(Gradient):
    def explain(self, classifier: Any, images: Float32, targets: Int64) -> Explanation:
        raise LayerError("not this one")


BREAKERS: list[tuple[str, Any, str]] = [
    ("declaration", Mutable(), "frozen dataclass"),
    ("declaration", PromisesTheMoon(), "moon"),
    ("declaration", NeedsLuck(), "expected one of nothing, scores"),
    ("contract", DoublePrecision(), "heatmaps are float64 .3, 24, 32.; expected float32"),
    ("contract", Transposed(), r"float32 \(3, 32, 24\); expected float32 \(3, 24, 32\)"),
    ("contract", NotFinite(), "1 of 2304 values of the heatmaps are not finite"),
    ("contract", GreyAttributions(), r"attributions are float32 \(3, 1, 24, 32\)"),
    ("contract", BareArray(), "returned a ndarray; expected an Explanation"),
    ("contract", Crashing(), "raised ValueError .*no such luck"),
    ("contract", Fussy(), "refuses SmallCNN.*not this one.*refuses TinyTransformer"),
    ("determinism", NumPyNoise(), "two runs on the same images differ"),
    ("determinism", TorchNoise(), "two runs on the same images differ"),
    ("batch_independence", ScaledByTheBatch(), "alone and among others differ"),
    ("batch_independence", ByPlace(), "differ by"),
    ("no_trace", WritesIntoImages(), "changed the images;"),
    ("no_trace", Reseeds(), "changed torch's global generator;"),
    ("no_trace", LeavesAHook(), "the classifier's _fast: hooks"),
    ("no_trace", LeavesAWeight(), "the classifier's _fast: parameters"),
    ("no_trace", LeavesTraining(), "the classifier's _plain: training flags"),
    ("memory_bound", AllAtOnce(), "a batch of 3 images reached the network"),
    ("counted_passes", Uncounted(), "4 images went through the network and 3 were counted"),
    ("completeness", TwiceTheSum(), r"9\d\.\d% away; expected at most 5%"),
    ("completeness", Gradient(), "there is nothing to sum"),
    ("sensitivity", Gradient(), "the pixel that alone decides gets 0"),
    ("dummy", Lifted(), "pixels that the network ignores get"),
    ("linearity", Absolute(), "the map of a sum of networks"),
    ("symmetry", LeansRight(), "two blocks that the network cannot tell apart"),
    ("flip_equivariance", LeansRight(), "the map of the mirror image"),
    ("shift_equivariance", LeansRight(), "the map of the moved image"),
    ("implementation_invariance", FirstChannel(), "its channels in another order"),
    ("input_invariance", TimesInput(), "a constant that the first bias takes off"),
    ("target_sensitivity", SameClass(), "maps of two classes have a distance of 0"),
    ("randomised_weights", CentreMap(), "two networks of different weights have a distance of 0"),
]


@pytest.mark.parametrize(
    ("name", "breaker", "message"),
    [pytest.param(*row, id=f"{row[0]}-{type(row[1]).__name__}") for row in BREAKERS],
)
def test_a_check_finds_the_explainer_that_breaks_its_property(
    name: str, breaker: Any, message: str
) -> None:
    with pytest.raises(CheckFailedError, match=message) as caught:
        CHECKS[name].run(breaker)
    assert str(caught.value).startswith(f"{name} of {breaker.kind}: ")


def test_every_check_has_an_explainer_that_breaks_it() -> None:
    assert {name for name, _, _ in BREAKERS} == set(CHECKS)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_a_check_lets_an_explainer_that_has_its_property_pass(name: str) -> None:
    without = {"completeness": IntegratedGradients(), "sensitivity": IntegratedGradients()}
    CHECKS[name].run(without.get(name, Gradient()))


def test_every_promise_has_a_check_and_every_other_check_is_of_the_contract() -> None:
    promised = {name for name, check in CHECKS.items() if not check.is_contract}
    assert promised == set(Promise.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("breaker", [NumPyNoise(), TimesInput()], ids=["numpy", "input"])
def test_the_script_of_a_failure_repeats_it(breaker: Any) -> None:
    network, given = SmallCNN(width=2, seed=3), example_images(2, 16, 16, "noise", seed=4)
    check = check_determinism if isinstance(breaker, NumPyNoise) else check_input_invariance
    with pytest.raises(CheckFailedError) as caught:
        check(breaker, network, given)  # type: ignore[arg-type]
    message, _, script = str(caught.value).partition("\nTo see it again:\n")
    lines = [line.strip() for line in script.splitlines()]
    assert len(lines) == 3
    assert lines[0] == f"from {__name__} import {type(breaker).__name__}"
    assert "example_images(2, 16, 16, 'noise', seed=4)" in lines[2]
    with pytest.raises(CheckFailedError) as repeated:
        exec("\n".join(lines), {})
    assert str(repeated.value).partition(" by ")[0] == message.partition(" by ")[0]


def test_all_checks_are_run_and_none_is_left_out() -> None:
    results = run_checks(Gradient())
    assert [result.check for result in results] == list(CHECKS)
    assert not any(result.failed for result in results)
    by_name = {result.check: result for result in results}
    assert (by_name["contract"].duty, by_name["contract"].outcome) == ("contract", "holds")
    sensitivity = by_name["sensitivity"]
    assert (sensitivity.duty, sensitivity.outcome) == ("not promised", "does not hold")
    assert "gets 0" in sensitivity.detail
    assert str(by_name["dummy"]) == "gradient() dummy: not promised, holds"


def test_a_broken_promise_fails_and_a_refusal_of_what_is_not_promised_does_not() -> None:
    class Promising(Gradient):
        promises = frozenset({"sensitivity"})

    failed = [result.check for result in run_checks(Promising()) if result.failed]
    assert failed == ["sensitivity"]
    outcomes = {result.check: result for result in run_checks(Fussy())}
    assert outcomes["dummy"].outcome == "does not apply"
    assert not outcomes["dummy"].failed
    assert outcomes["contract"].failed


def test_a_refusal_is_told_from_a_failure() -> None:
    with pytest.raises(RefusedError):
        check_contract(Fussy())


@drawn
@given(network=small_cnns(), images=images())
def test_grad_cam_keeps_the_contract_on_any_small_network(
    network: SmallCNN, images: Float32
) -> None:
    for check in (check_contract, check_determinism, check_batch_independence, check_no_trace):
        check(GradCAM(), network, images)


@drawn
@given(network=small_cnns(), images=images())
def test_the_gradient_keeps_what_gradients_have_on_any_small_network(
    network: SmallCNN, images: Float32
) -> None:
    check_dummy(Gradient(), network, images)
    check_flip_equivariance(Gradient(), network, images)
    check_implementation_invariance(Gradient(), network, images)
    check_input_invariance(Gradient(), network, images)


@drawn
@given(network=linear_classifiers(), images=images())
def test_integrated_gradients_are_complete_on_any_linear_network(
    network: LinearNetwork, images: Float32
) -> None:
    check_completeness(IntegratedGradients(steps=2), network, images)


@drawn
@given(network=linear_classifiers(), images=images())
def test_the_gradient_of_a_linear_network_is_its_weights(
    network: LinearNetwork, images: Float32
) -> None:
    targets = np.zeros(len(images), dtype=np.int64)
    found = Gradient().gradients(network.classifier(), np.array(images), targets)
    expected = np.broadcast_to(network.weights()[0].numpy(), images.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_twins_compute_the_same_function_and_networks_of_another_seed_do_not() -> None:
    network = SmallCNN()
    given = torch.from_numpy(np.array(example_images(3, 24, 32)))
    logits = network.classifier().logits(given)
    for twin in network.twins().values():
        torch.testing.assert_close(twin.classifier().logits(given), logits, rtol=1e-4, atol=1e-4)
    brighter = SmallCNN(absorbed=0.25).classifier().logits(given + 0.25)
    torch.testing.assert_close(brighter, logits, rtol=1e-4, atol=1e-4)
    other = SmallCNN(seed=1).classifier().logits(given)
    assert float((other - logits).abs().max()) > 0.5


def test_linearity_is_judged_on_a_sum_of_networks() -> None:
    check_linearity(Gradient())


@pytest.mark.parametrize(
    "made",
    [
        example_images(2, 8, 10, "object", seed=1),
        example_masks(2, 8, 10, "ellipse", seed=1),
        example_heatmaps(2, 8, 10, "signed", seed=1),
    ],
    ids=["images", "masks", "heatmaps"],
)
def test_an_example_prints_as_the_call_that_makes_it(made: Float64) -> None:
    namespace = {f.__name__: f for f in (example_images, example_masks, example_heatmaps)}
    assert np.array_equal(eval(repr(made), namespace), made)
    assert "example" not in repr(made * 1)
    assert "example" not in repr(made[:1])
