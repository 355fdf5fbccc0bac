"""The properties that every explainer must have, whatever it promises."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, get_args

import numpy as np
import torch
from torch import nn

from xai_core.arrays import Float32, Int64
from xai_core.checks.examples import example_images
from xai_core.checks.networks import Network, SmallCNN, TinyTransformer
from xai_core.checks.running import RefusedError, declare, expect, explain
from xai_core.classifier import Classifier, TorchClassifier
from xai_core.explainers import Explainer, Explanation
from xai_core.explainers.explanation import Needs, Promise

T = TypeVar("T")

SAME_RUN = 1e-5
"""Largest difference between two runs, in parts of the map's largest value."""

SAME_IMAGE = 1e-4
"""The same between two batches, whose sums a back end may round in another order."""


@declare(contract=True)
def check_declaration(explainer: Explainer) -> None:
    """The explainer is a frozen dataclass that says its kind, its needs, paper and promises."""
    cls = type(explainer)
    frozen = dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen
    expect(bool(frozen), f"{cls.__name__} must be a frozen dataclass: @dataclass(frozen=True)")
    for name in ("kind", "source"):
        value = getattr(explainer, name, None)
        expect(isinstance(value, str) and value != "", f"`{name}` is {value!r}; expected a text")
    needs, known = getattr(explainer, "needs", None), get_args(Needs)
    expect(needs in known, f"`needs` is {needs!r}; expected one of {', '.join(known)}")
    promises = getattr(explainer, "promises", None)
    expect(
        isinstance(promises, frozenset),
        f"`promises` is {promises!r}; expected a frozenset of names",
    )
    unknown = sorted(set(promises or ()) - set(get_args(Promise)))
    listed = ", ".join(sorted(get_args(Promise)))
    expect(not unknown, f"it promises {unknown}, which no check tests; known: {listed}")


@declare(contract=True)
def check_contract(
    explainer: Explainer, network: Network | None = None, images: Float32 | None = None
) -> None:
    """Heatmaps are finite float32 ``[N, H, W]``; so are attributions ``[N, 3, H, W]`` and native
    maps ``[N, h, w]``, if there are any."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        explanation = explain(explainer, network.classifier(), given, targets)
        count, channels, height, width = given.shape
        _expect_array("heatmaps", explanation.heatmaps, (count, height, width))
        if explanation.attributions is not None:
            _expect_array(
                "attributions", explanation.attributions, (count, channels, height, width)
            )
        if explanation.native is not None:
            _expect_array("native maps", explanation.native, (count, *explanation.native.shape[1:]))
            expect(
                explanation.native.ndim == 3,
                f"native maps have the shape {explanation.native.shape}; expected [N, h, w]",
            )

    carried(network, run)


@declare(contract=True)
def check_determinism(
    explainer: Explainer, network: Network | None = None, images: Float32 | None = None
) -> None:
    """The same images get the same maps again, whatever random numbers were drawn meanwhile."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        first = explain(explainer, network.classifier(), given, targets)
        with _other_random_state():
            second = explain(explainer, network.classifier(), given, targets)
        gap = largest_gap(first, second)
        expect(
            gap <= SAME_RUN,
            f"two runs on the same images differ by {gap:.2g} of the largest value; expected at "
            f"most {SAME_RUN:g}: draw random numbers from xai_core.seeding.generator_for",
        )

    carried(network, run)


@declare(contract=True)
def check_batch_independence(
    explainer: Explainer, network: Network | None = None, images: Float32 | None = None
) -> None:
    """An image gets the same map alone, among others, in another order, in smaller batches."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        together = explain(explainer, network.classifier(), given, targets)
        order = np.arange(len(given))[::-1]
        alone = [
            explain(explainer, network.classifier(), given[[i]], targets[[i]])
            for i in range(len(given))
        ]
        backwards = explain(
            explainer, network.classifier(batch_size=2), given[order], targets[order]
        )
        for where, gap in (
            ("alone and among others", largest_gap(together, _joined(alone))),
            ("in another order and batches of two", largest_gap(together, rows(backwards, order))),
        ):
            expect(
                gap <= SAME_IMAGE,
                f"maps of the same images {where} differ by {gap:.2g} of the largest value; "
                f"expected at most {SAME_IMAGE:g}",
            )

    carried(network, run)


@declare(contract=True)
def check_no_trace(
    explainer: Explainer, network: Network | None = None, images: Float32 | None = None
) -> None:
    """The user's module, the classifier, the inputs and all global state stay as they were."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        module = network.module().train()
        made = network.classifier()
        module(torch.from_numpy(given.copy())).sum().backward()
        next(module.parameters()).requires_grad_(False)
        hook = module.register_forward_hook(lambda *_: None)
        classifier = TorchClassifier(
            module, name=made.name, size=made.size, mean=made.mean, std=made.std
        )
        mine_images, mine_targets = given.copy(), targets.copy()
        before = _state(module, classifier, mine_images, mine_targets)
        explain(explainer, classifier, mine_images, mine_targets)
        after = _state(module, classifier, mine_images, mine_targets)
        hook.remove()
        changed = [name for name, value in before.items() if not _equal(value, after[name])]
        expect(not changed, f"it left a trace: changed {', '.join(changed)}; expected none changed")

    carried(network, run)


@declare(contract=True)
def check_memory_bound(
    explainer: Explainer, network: Network | None = None, images: Float32 | None = None
) -> None:
    """No batch that reaches the network is larger than the classifier's batch size."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        watched, seen = _watched(network, batch_size=2)
        explain(explainer, watched, given, targets)
        largest = max(seen, default=0)
        expect(
            largest <= 2,
            f"a batch of {largest} images reached the network, whose batch size is 2; ask for "
            "scores and gradients through the classifier",
        )

    carried(network, run)


@declare(contract=True)
def check_counted_passes(
    explainer: Explainer, network: Network | None = None, images: Float32 | None = None
) -> None:
    """The classifier's counter says how many images went through it, exactly."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        watched, seen = _watched(network)
        # Whatever is looked up once, with a forward pass of its own, is no part of an explanation.
        explain(explainer, watched, given, targets)
        seen.clear()
        before = watched.passes.total
        explain(explainer, watched, given, targets)
        counted = watched.passes.total - before
        expect(
            counted == sum(seen),
            f"{sum(seen)} images went through the network and {counted} were counted; count in "
            "classifier.passes what runs through a private module",
        )

    carried(network, run)


def carried(network: Network | None, run: Callable[[Network], T]) -> T:
    """Run a check on ``network``; without one, on the first that the explainer does not refuse.

    Raises:
        RefusedError: it refuses all.
    """
    if network is not None:
        return run(network)
    refusals = []
    for candidate in (SmallCNN(), TinyTransformer()):
        try:
            return run(candidate)
        except RefusedError as error:
            refusals.append(str(error))
    msg = "; ".join(refusals)
    raise RefusedError(msg)


def inputs(network: Network, images: Float32 | None = None) -> tuple[Float32, Int64]:
    """Return the images, or examples of the network's size, and a target for each."""
    given = np.asarray(example_images(3, *network.size) if images is None else images)
    return given, (np.arange(len(given)) % network.classes).astype(np.int64)


def largest_gap(one: Explanation, other: Explanation) -> float:
    """Return the largest difference of any image's map, in parts of its largest value."""
    gaps = [gap(one.heatmaps, other.heatmaps)]
    if one.attributions is not None and other.attributions is not None:
        gaps.append(gap(one.attributions, other.attributions))
    return max(gaps)


def gap(one: Float32, other: Float32) -> float:
    """Return the largest difference of any two maps, in parts of the first's largest value."""
    if one.shape != other.shape:
        return float("inf")
    axes = tuple(range(1, one.ndim))
    differences = np.abs(one.astype(np.float64) - other).max(axis=axes)
    scales = np.maximum(np.abs(one).max(axis=axes), np.abs(other).max(axis=axes))
    with np.errstate(invalid="ignore"):
        relative = np.where(differences == 0, 0.0, differences / scales)
    return float(np.nan_to_num(relative, nan=np.inf).max(initial=0.0))


def rows(explanation: Explanation, order: Int64) -> Explanation:
    """Return the explanation of some of its images, in that order."""
    attributions = explanation.attributions
    return Explanation(
        explanation.heatmaps[order], None if attributions is None else attributions[order]
    )


def _joined(explanations: list[Explanation]) -> Explanation:
    attributions = [one.attributions for one in explanations if one.attributions is not None]
    return Explanation(
        np.concatenate([one.heatmaps for one in explanations]),
        np.concatenate(attributions) if attributions else None,
    )


def _expect_array(name: str, array: Float32, shape: tuple[int, ...]) -> None:
    expect(
        array.shape == shape and array.dtype == np.float32,
        f"{name} are {array.dtype} {array.shape}; expected float32 {shape}",
    )
    bad = int((~np.isfinite(array)).sum())
    expect(bad == 0, f"{bad} of {array.size} values of the {name} are not finite")


@contextmanager
def _other_random_state() -> Iterator[None]:
    """Put every global random generator elsewhere, and back at the end."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(12345)
    np.random.seed(12345)
    torch.manual_seed(12345)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


def _watched(network: Network, batch_size: int | None = None) -> tuple[TorchClassifier, list[int]]:
    """Return a classifier, and a list that gets the size of every batch from now on."""
    plain = network.classifier()
    module, seen = network.module(), list[int]()
    # A pass that resumes at an inner layer is seen as well: it ends in the last layer. The
    # classifier copies the module; a function in a hook is not copied, so it notes here.
    *_, last = module.modules()
    last.register_forward_pre_hook(lambda _module, args: seen.append(len(args[0])))
    classifier = TorchClassifier(
        module,
        name=plain.name,
        size=plain.size,
        mean=plain.mean,
        std=plain.std,
        batch_size=batch_size,
    )
    seen.clear()  # what was run to make the classifier
    return classifier, seen


def _state(
    module: nn.Module, classifier: Classifier, images: Float32, targets: Int64
) -> dict[str, object]:
    """Return copies of everything that a careless explainer changes, by what it is."""
    state: dict[str, object] = {
        "the images": images.copy(),
        "the targets": targets.copy(),
        "random's generator": random.getstate(),
        "NumPy's global generator": [np.asarray(part) for part in tuple(np.random.get_state())[1:]],
        "torch's global generator": torch.get_rng_state(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default type": torch.get_default_dtype(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
    }
    inside = {name: value for name, value in vars(classifier).items() if _is_module(value)}
    for owner, part in {"the user's module": module, **inside}.items():
        whose = owner if part is module else f"the classifier's {owner}"
        for what, value in _module_state(part).items():
            state[f"{whose}: {what}"] = value
    return state


def _is_module(value: object) -> bool:
    return isinstance(value, nn.Module)


def _module_state(module: nn.Module) -> dict[str, object]:
    children = list(module.modules())
    hooks = [name for name in vars(module) if name.endswith("hooks")]
    return {
        "layers": [(id(child), type(child)) for child in children],
        "training flags": [child.training for child in children],
        "hooks": [[len(getattr(child, name)) for name in hooks] for child in children],
        "requires_grad": [parameter.requires_grad for parameter in module.parameters()],
        "gradients": [copy.deepcopy(parameter.grad) for parameter in module.parameters()],
        "parameters": [parameter.detach().clone() for parameter in module.parameters()],
        "buffers": [buffer.clone() for buffer in module.buffers()],
    }


def _equal(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return one == other
