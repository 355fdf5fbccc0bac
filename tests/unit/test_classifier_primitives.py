"""The two primitives of the classifier, held against plain PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import Classifier, TorchClassifier

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SIZE = (16, 12)
IMAGES = torch.rand(7, 3, *SIZE, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 1, 2, 3, 0, 1, 2])


def small_net() -> nn.Sequential:
    """A network whose batch norm does something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 6, 3, stride=2, padding=1),
                bn=nn.BatchNorm2d(6),
                relu=nn.ReLU(inplace=True),
                last=nn.Conv2d(6, 5, 3, padding=1),
                last_relu=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                linear=nn.Linear(5, 4),
            )
        )
        net.bn.running_mean.normal_()
        net.bn.running_var.uniform_(0.5, 2)
        nn.init.uniform_(net.bn.weight, 0.5, 2)
        nn.init.normal_(net.bn.bias)
    return net.eval()


def with_module(after: str, name: str, module: nn.Module) -> nn.Sequential:
    """Return the network with one more module after the one called ``after``."""
    children = OrderedDict()
    for known, child in small_net().named_children():
        children[known] = child
        if known == after:
            children[name] = module
    return nn.Sequential(children).eval()


def classifier_of(module: nn.Module, **options: Any) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=SIZE, mean=MEAN, std=STD, **options)


def normalised(images: Tensor) -> Tensor:
    channels = [(images[:, c] - MEAN[c]) / STD[c] for c in range(3)]
    return torch.stack(channels, dim=1)


class Seen:
    """What a module saw; shared by the module and every copy of it."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.requires_grad: list[bool] = []

    def __deepcopy__(self, memo: dict[int, object]) -> Seen:
        return self

    def forget(self) -> None:
        self.batches.clear()
        self.requires_grad.clear()


class Watch(nn.Module):
    """Passes its input on, and notes it."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        self.seen.batches.append(int(x.shape[0]))
        self.seen.requires_grad.append(x.requires_grad)
        return x


class Mine(torch.autograd.Function):
    """An identity that cannot be walked backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("the backward pass went below the layer")


class Minefield(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Mine.apply(x)


def test_a_torch_classifier_satisfies_the_protocol() -> None:
    assert isinstance(classifier_of(small_net()), Classifier)


def test_scores_are_the_softmax_of_the_module_on_normalised_images() -> None:
    net = small_net()
    with torch.no_grad():
        expected = torch.softmax(net(normalised(IMAGES)), dim=1)
    torch.testing.assert_close(classifier_of(net).scores(IMAGES), expected, rtol=1e-4, atol=1e-6)


def test_logits_are_those_of_the_module_on_normalised_images() -> None:
    net = small_net()
    with torch.no_grad():
        expected = net(normalised(IMAGES))
    torch.testing.assert_close(classifier_of(net).logits(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_without_normalisation_the_module_sees_rgb() -> None:
    net = small_net()
    with torch.no_grad():
        expected = net(IMAGES)
    classifier = TorchClassifier(net, name="small", size=SIZE)
    assert classifier.mean == (0.0, 0.0, 0.0)
    torch.testing.assert_close(classifier.logits(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_a_half_precision_module_is_run_in_float32() -> None:
    net = small_net().half()
    with torch.no_grad():
        expected = torch.softmax(small_net().half().float()(normalised(IMAGES)), dim=1)
    torch.testing.assert_close(classifier_of(net).scores(IMAGES), expected, rtol=1e-4, atol=1e-6)
    assert next(net.parameters()).dtype == torch.float16


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_the_batch_size_does_not_change_values(batch_size: int) -> None:
    whole = classifier_of(small_net(), batch_size=7)
    split = classifier_of(small_net(), batch_size=batch_size)
    torch.testing.assert_close(split.scores(IMAGES), whole.scores(IMAGES))
    for at in (None, "last_relu"):
        parts, expected = (c.gradients(IMAGES, TARGETS, at) for c in (split, whole))
        for part, value in zip(parts, expected, strict=True):
            torch.testing.assert_close(part, value, rtol=1e-4, atol=1e-6)


def test_no_batch_is_larger_than_the_batch_size() -> None:
    seen = Seen()
    classifier = classifier_of(nn.Sequential(Watch(seen), small_net()), batch_size=3)
    seen.forget()
    classifier.scores(IMAGES)
    classifier.scores(iter([IMAGES, IMAGES[:2]]))
    classifier.gradients(IMAGES, TARGETS)
    classifier.gradients(IMAGES, TARGETS, "1.last_relu")
    assert seen.batches == [3, 3, 1, 3, 3, 1, 2, 3, 3, 1, 3, 3, 1]


def test_an_iterable_of_batches_gives_the_same_scores_as_one_tensor() -> None:
    classifier = classifier_of(small_net())
    streamed = classifier.scores(IMAGES[i : i + 2] for i in range(0, 7, 2))
    torch.testing.assert_close(streamed, classifier.scores(IMAGES))


def test_scores_take_the_next_batch_only_after_the_last_one_ran() -> None:
    seen = Seen()
    classifier = classifier_of(nn.Sequential(Watch(seen), small_net()))
    seen.forget()

    def batches() -> Iterator[Tensor]:
        for made in range(4):
            assert len(seen.batches) == made
            yield IMAGES[:2]

    assert classifier.scores(batches()).shape == (8, 4)


def test_gradients_of_an_iterable_are_an_iterator_that_takes_one_batch_at_a_time() -> None:
    taken = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in (0, 3, 6):
            taken.append(start)
            yield IMAGES[start : start + 3], TARGETS[start : start + 3]

    classifier = classifier_of(small_net())
    results = classifier.gradients(batches())
    assert taken == []
    first = next(results)
    assert taken == [0]
    parts = [first, *results]
    whole = classifier.gradients(IMAGES, TARGETS)
    for position in range(3):
        joined = torch.cat([part[position] for part in parts])
        torch.testing.assert_close(joined, whole[position], rtol=1e-4, atol=1e-6)


def test_no_images_give_no_scores() -> None:
    assert classifier_of(small_net()).scores(IMAGES[:0]).shape == (0, 4)
    assert classifier_of(small_net()).scores([]).shape == (0, 4)


def test_larger_images_come_in_smaller_batches() -> None:
    classifier = classifier_of(small_net())
    assert classifier.batch_size(224, 224) == 8
    assert classifier.batch_size(448, 448) == 2
    assert classifier.batch_size(4000, 4000) == 1
    assert classifier.batch_size(8, 8) == 256


def test_gradients_at_the_image_equal_autograd_by_hand() -> None:
    net = small_net()
    images = IMAGES.clone().requires_grad_()
    logits = net(normalised(images))
    chosen = torch.stack([logits[i, t] for i, t in enumerate(TARGETS.tolist())])
    (expected,) = torch.autograd.grad(chosen.sum(), images)
    result = classifier_of(net).gradients(IMAGES, TARGETS)
    torch.testing.assert_close(result.logits, chosen.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.gradients, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(result.activations, IMAGES)


@pytest.mark.parametrize("at", ["conv", "bn", "relu", "last", "last_relu"])
def test_gradients_at_a_layer_equal_autograd_with_a_plain_hook(at: str) -> None:
    net = small_net()
    net.relu = nn.ReLU()  # not in place, so that the hook's tensor stays what it was
    kept = []
    hook = net.get_submodule(at).register_forward_hook(lambda *call: kept.append(call[-1]))
    logits = net(normalised(IMAGES))
    hook.remove()
    chosen = logits[torch.arange(7), TARGETS]
    (expected,) = torch.autograd.grad(chosen.sum(), kept[0])
    result = classifier_of(small_net()).gradients(IMAGES, TARGETS, at)
    torch.testing.assert_close(result.logits, chosen.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.activations, kept[0].detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.gradients, expected, rtol=1e-4, atol=1e-6)


def test_the_backward_pass_stops_at_the_layer() -> None:
    classifier = classifier_of(with_module("bn", "mines", Minefield()))
    with pytest.raises(RuntimeError, match="went below the layer"):
        classifier.gradients(IMAGES, TARGETS)
    assert classifier.gradients(IMAGES, TARGETS, "relu").gradients.any()


def test_below_the_layer_nothing_is_recorded() -> None:
    for place, recorded in (("relu", False), ("last", True)):
        seen = Seen()
        classifier = classifier_of(with_module(place, "watch", Watch(seen)))
        seen.forget()
        classifier.gradients(IMAGES, TARGETS, "last")
        assert seen.requires_grad == [recorded]


def test_a_layer_changed_in_place_afterwards_gives_what_the_layer_gave() -> None:
    net = small_net()  # its relu works in place on the output of bn
    with torch.no_grad():
        expected = net[:2](normalised(IMAGES))
    assert (expected < 0).any()
    result = classifier_of(net).gradients(IMAGES, TARGETS, "bn")
    torch.testing.assert_close(result.activations, expected, rtol=1e-4, atol=1e-5)


def test_gradients_work_where_autograd_is_switched_off() -> None:
    classifier = classifier_of(small_net())
    expected = classifier.gradients(IMAGES, TARGETS)
    with torch.no_grad():
        at_image = classifier.gradients(IMAGES, TARGETS)
        assert classifier.gradients(IMAGES, TARGETS, "last_relu").gradients.any()
    torch.testing.assert_close(at_image.gradients, expected.gradients)


def test_passes_counts_every_image_that_runs_through_the_model() -> None:
    classifier = classifier_of(small_net(), batch_size=2)
    classifier.scores(IMAGES)
    classifier.logits([IMAGES[:3]])
    classifier.gradients(IMAGES, TARGETS)
    classifier.gradients(IMAGES[:1], TARGETS[:1], "conv")
    assert (classifier.passes.forwards, classifier.passes.gradients) == (10, 8)


def test_the_private_module_maps_rgb_to_logits_and_is_a_fresh_copy() -> None:
    classifier = classifier_of(small_net())
    before = classifier.logits(IMAGES)
    private = classifier.private_module()
    with torch.no_grad():
        torch.testing.assert_close(private(IMAGES), before, rtol=1e-4, atol=1e-5)
    for parameter in private.parameters():
        parameter.data.zero_()
    assert torch.equal(classifier.logits(IMAGES), before)


def test_scores_can_be_used_in_autograd_afterwards() -> None:
    scores = classifier_of(small_net()).scores(IMAGES)
    weight = torch.ones(4, requires_grad=True)
    (scores * weight).sum().backward()
    torch.testing.assert_close(weight.grad, scores.sum(dim=0))


def test_the_fingerprint_follows_weights_buffers_and_normalisation() -> None:
    fingerprint = classifier_of(small_net()).fingerprint
    assert classifier_of(small_net(), batch_size=2).fingerprint == fingerprint
    other_weight, other_buffer = small_net(), small_net()
    with torch.no_grad():
        other_weight.linear.bias[0] += 1e-3
        other_buffer.bn.running_mean[0] += 1e-3
    bare = TorchClassifier(small_net(), name="small", size=SIZE)
    changed = {
        classifier_of(other_weight).fingerprint,
        classifier_of(other_buffer).fingerprint,
        bare.fingerprint,
    }
    assert len(changed | {fingerprint}) == 4
