"""The properties that an explainer may promise; `Promise` names them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from xai_core.arrays import Float32, Float64, Int64
from xai_core.checks.contract import carried, gap, inputs, largest_gap
from xai_core.checks.examples import example_images
from xai_core.checks.networks import (
    Network,
    OnePixelNetwork,
    SmallCNN,
    SumNetwork,
    SymmetricNetwork,
    TinyTransformer,
)
from xai_core.checks.running import declare, expect, explain
from xai_core.explainers import Complete, Explainer, Explanation

SAME_FUNCTION = 1e-3
"""Largest difference between maps that must be equal, in parts of the map's largest value."""

NOTHING = 1e-5
"""Largest relevance of an input that must get none, in parts of the map's largest value."""

COMPLETE = 0.05
"""Largest mean of |sum of attributions - (f(x) - f(x'))| / |f(x) - f(x')|."""

DIFFERENT = 0.01
"""Smallest distance between maps that must differ; see `_distances`."""


@declare()
def check_completeness(
    explainer: Explainer, network: Network | None = None, images: Float32 | None = None
) -> None:
    """Attributions sum to f(x) - f(x'), within 5 % [Sundararajan 2017]."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        classifier = network.classifier()
        explanation = explain(explainer, classifier, given, targets)
        expect(
            explanation.attributions is not None and isinstance(explainer, Complete),
            "there is nothing to sum: expected attributions, and a method "
            "`differences(classifier, images, targets)` that returns f(x) - f(x')",
        )
        attributions = cast(Float32, explanation.attributions)
        differences = cast(Complete, explainer).differences(classifier, given, targets)
        sums = attributions.sum(axis=(1, 2, 3), dtype=np.float64)
        error = float(np.mean(np.abs(sums - differences) / np.maximum(np.abs(differences), 1e-2)))
        expect(
            error <= COMPLETE,
            f"attributions sum to {_listed(sums)} and f(x) - f(x') is {_listed(differences)}, "
            f"{error:.1%} away; expected at most {COMPLETE:.0%}",
        )

    carried(network, run)


@declare()
def check_sensitivity(explainer: Explainer, network: OnePixelNetwork | None = None) -> None:
    """A pixel that alone decides the output gets relevance [Sundararajan 2017, sensitivity (a)].

    The output is flat where the image lies, so that a plain gradient sees nothing.
    """
    network = network or OnePixelNetwork()
    image = np.zeros((1, 3, *network.size), dtype=np.float32)
    image[0, :, network.row, network.column] = 0.9
    explanation = explain(explainer, network.classifier(), image, np.array([0]))
    heatmap = np.abs(explanation.heatmaps[0])
    found, largest = float(heatmap[network.row, network.column]), float(heatmap.max())
    expect(
        found > 1e-3 * largest > 0,
        f"the pixel that alone decides gets {found:.2g}, the map's largest value is {largest:.2g}; "
        "expected more than a thousandth of it",
    )


@declare()
def check_dummy(
    explainer: Explainer, network: SmallCNN | None = None, images: Float32 | None = None
) -> None:
    """Pixels that the network ignores get no relevance."""
    network = replace(network or SmallCNN(), blind=True)
    given, targets = inputs(network, images)
    explanation = explain(explainer, network.classifier(), given, targets)
    ignored = np.abs(explanation.heatmaps[..., given.shape[-1] // 2 :]).max()
    share = float(ignored / max(np.abs(explanation.heatmaps).max(), np.finfo(np.float32).tiny))
    expect(
        share <= NOTHING,
        f"pixels that the network ignores get {share:.2g} of the largest relevance; expected at "
        f"most {NOTHING:g}",
    )


@declare()
def check_linearity(
    explainer: Explainer, network: SumNetwork | None = None, images: Float32 | None = None
) -> None:
    """The map of a weighted sum of two networks is the weighted sum of their maps.

    Of the attributions where there are some, else of the heatmaps.
    """
    network = network or SumNetwork((SmallCNN(), SmallCNN(seed=1)), (2.0, -0.5))
    given, targets = inputs(network, images)
    of_sum, *of_terms = (
        _signed(explain(explainer, one.classifier(), given, targets))
        for one in (network, *network.terms)
    )
    expected = sum(
        factor * one.astype(np.float64)
        for factor, one in zip(network.factors, of_terms, strict=True)
    )
    found = gap(of_sum, np.asarray(expected, dtype=np.float32))
    expect(
        found <= SAME_FUNCTION,
        f"the map of a sum of networks is {found:.2g} of its largest value away from the sum of "
        f"their maps; expected at most {SAME_FUNCTION:g}",
    )


@declare()
def check_symmetry(explainer: Explainer, network: SymmetricNetwork | None = None) -> None:
    """Two blocks that are equal, and that the network treats as equals, get equal relevance."""
    network = network or SymmetricNetwork()
    given, targets = inputs(network)
    one, other = network.blocks
    given[:, :, other, other] = given[:, :, one, one]
    maps = explain(explainer, network.classifier(), given, targets).heatmaps
    first, second = maps.copy(), maps.copy()
    first[:, other, other] = maps[:, one, one]
    second[:, one, one] = maps[:, other, other]
    found = gap(first, second)
    expect(
        found <= SAME_FUNCTION,
        f"two blocks that the network cannot tell apart get relevance that differs by {found:.2g} "
        f"of the largest value; expected at most {SAME_FUNCTION:g}",
    )


@declare()
def check_flip_equivariance(
    explainer: Explainer, network: SmallCNN | None = None, images: Float32 | None = None
) -> None:
    """The map of the mirror image is the mirror image of the map.

    On a convolutional network whose every kernel is its own mirror image.
    """
    network = replace(network or SmallCNN(), mirrored=True)
    given, targets = inputs(network, images)
    mirrored = np.ascontiguousarray(given[..., ::-1])
    classifier = network.classifier()
    maps = explain(explainer, classifier, given, targets).heatmaps
    of_mirrored = explain(explainer, classifier, mirrored, targets).heatmaps
    found = gap(maps, np.ascontiguousarray(of_mirrored[..., ::-1]))
    expect(
        found <= SAME_FUNCTION,
        f"the map of the mirror image is {found:.2g} of the largest value away from the mirror "
        f"image of the map; expected at most {SAME_FUNCTION:g}",
    )


@declare()
def check_shift_equivariance(
    explainer: Explainer, network: SmallCNN | None = None, images: Float32 | None = None
) -> None:
    """The map moves with an object on black that moves by 4 pixels down and to the right.

    On a convolutional network that wraps around at the borders and pools by 2.
    """
    network = network or SmallCNN()
    if images is None:
        images = example_images(3, *network.size, "object")
    given, targets = inputs(network, images)
    moved = np.roll(given, (4, 4), axis=(2, 3))
    classifier = network.classifier()
    maps = explain(explainer, classifier, given, targets).heatmaps
    of_moved = explain(explainer, classifier, moved, targets).heatmaps
    found = gap(np.roll(maps, (4, 4), axis=(1, 2)), of_moved)
    expect(
        found <= SAME_FUNCTION,
        f"the map of the moved image is {found:.2g} of the largest value away from the moved map; "
        f"expected at most {SAME_FUNCTION:g}",
    )


@declare()
def check_implementation_invariance(
    explainer: Explainer,
    network: SmallCNN | TinyTransformer | None = None,
    images: Float32 | None = None,
) -> None:
    """Networks of one function get one map: batch norm folded or not, channels reordered."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        found = explain(explainer, network.classifier(), given, targets)
        for what, twin in cast("SmallCNN | TinyTransformer", network).twins().items():
            other = explain(explainer, twin.classifier(), given, targets)
            away = largest_gap(found, other)
            expect(
                away <= SAME_FUNCTION,
                f"the same network with {what} gets a map that is {away:.2g} of the largest value "
                f"away; expected at most {SAME_FUNCTION:g}",
            )

    carried(network, run)


@declare()
def check_input_invariance(
    explainer: Explainer, network: SmallCNN | None = None, images: Float32 | None = None
) -> None:
    """A brighter image whose brightness the first bias takes off gets the same map.

    [Kindermans 2017]; methods with a reference image are known to fail.
    """
    network = network or SmallCNN()
    given, targets = inputs(network, images)
    darker = given * np.float32(0.6)
    brighter = darker + np.float32(0.3)
    absorbing = replace(network, absorbed=0.3)
    maps = explain(explainer, network.classifier(), darker, targets)
    of_brighter = explain(explainer, absorbing.classifier(), brighter, targets)
    found = largest_gap(maps, of_brighter)
    expect(
        found <= SAME_FUNCTION,
        f"a constant that the first bias takes off changes the map by {found:.2g} of its largest "
        f"value; expected at most {SAME_FUNCTION:g} (known to fail where a method removes or "
        "compares with a fixed colour, or draws from the image's pixels)",
    )


@declare()
def check_target_sensitivity(
    explainer: Explainer, network: Network | None = None, images: Float32 | None = None
) -> None:
    """Another class gets another map."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        classifier = network.classifier()
        others = (targets + 1) % network.classes
        _expect_different(
            explain(explainer, classifier, given, targets),
            explain(explainer, classifier, given, others),
            "of two classes",
        )

    carried(network, run)


@declare()
def check_randomised_weights(
    explainer: Explainer,
    network: SmallCNN | TinyTransformer | None = None,
    images: Float32 | None = None,
) -> None:
    """The map changes when the network's weights do [Adebayo 2018]."""

    def run(network: Network) -> None:
        given, targets = inputs(network, images)
        seeded = cast("SmallCNN | TinyTransformer", network)
        other = replace(seeded, seed=seeded.seed + 1)
        _expect_different(
            explain(explainer, network.classifier(), given, targets),
            explain(explainer, other.classifier(), given, targets),
            "of two networks of different weights",
        )

    carried(network, run)


def _expect_different(one: Explanation, other: Explanation, which: str) -> None:
    distance = float(np.median(_distances(one.heatmaps, other.heatmaps)))
    expect(
        distance >= DIFFERENT,
        f"maps {which} have a distance of {distance:.2g} (0: equal, 2: opposite); expected at "
        f"least {DIFFERENT:g}",
    )


def _distances(one: Float32, other: Float32) -> Float64:
    """Return the distance of each two maps, both centred and scaled to length 1."""

    def standardised(maps: Float32) -> Float64:
        flat = maps.reshape(len(maps), -1).astype(np.float64)
        flat -= flat.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(flat, axis=1, keepdims=True)
        scaled: Float64 = np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 0)
        return scaled

    distances: Float64 = np.linalg.norm(standardised(one) - standardised(other), axis=1)
    return distances


def _signed(explanation: Explanation) -> Float32:
    attributions = explanation.attributions
    return explanation.heatmaps if attributions is None else attributions


def _listed(values: Float64 | Int64) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
