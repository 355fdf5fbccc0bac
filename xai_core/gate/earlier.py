"""The condition of a gate that holds it against an earlier run."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from xai_core.arrays import Float64
from xai_core.gate.conditions import Conditions
from xai_core.gate.findings import Finding, meets
from xai_core.metrics import Metric
from xai_core.statistics import Comparison, Outcome, cluster_means, compare_with_earlier


def compare_gate(
    values: Float64,
    earlier: Float64,
    metric: Metric,
    conditions: Conditions,
    *,
    margin: float,
    groups: Sequence[Hashable] | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Comparison:
    """Hold what a gate measured against an earlier run, on the images of both.

    What is compared is what the gate's threshold is about: the means, or, where it is about each
    image, the shares of images on the right side of it.

    Args:
        values: of this run, float64 ``[n]``, all finite.
        earlier: of the earlier one, float64 ``[n]``, of the same images.
        metric: of which.
        conditions: of the gate.
        margin: the loss that does not matter, in the metric's unit or as a share of the images.
        groups: which photograph each image is of, where images have several.
        names: of the images, for messages.
        seed: of the resampling.

    Raises:
        ParameterError: see `compare_with_earlier`.
    """
    better, bounds = metric.better, metric.range
    if conditions.of_each_image:
        if groups is not None:
            values, earlier = cluster_means(values, groups), cluster_means(earlier, groups)
            groups = names = None
        values, earlier = (
            np.where(np.isnan(one), np.nan, meets(one, conditions)) for one in (values, earlier)
        )
        better, bounds = "higher", (0.0, 1.0)
    return compare_with_earlier(
        values,
        earlier,
        margin=margin,
        better=better,
        confidence=conditions.confidence,
        bounds=bounds,
        clusters=groups,
        names=names,
        seed=seed,
    )


def loss_finding(comparison: Comparison, *, earlier: str, loss_is_proven: bool) -> Finding:
    """Return a comparison with an earlier run as one more condition of a gate.

    It holds unless a loss of more than the margin is proven: a model that is drawn or trained anew
    is a little worse half of the time. That proof is one of many in a run, so it is corrected for
    their number, and ``loss_is_proven`` says what came of it. The proof of "pass" needs no
    correction: all gates must pass, and the chance that all of them do wrongly is no larger than
    that of one (an intersection-union test [Berger 1982]).

    Args:
        comparison: what the paired images say.
        earlier: how the earlier run is called.
        loss_is_proven: whether more than the margin is lost, after the correction.
    """
    outcome: Outcome = "inconclusive"
    if loss_is_proven:
        outcome = "fail"
    elif comparison.outcome == "pass":
        outcome = "pass"
    return Finding(
        value=comparison.difference,
        threshold=-comparison.margin,
        above=True,
        interval=comparison.interval,
        outcome=outcome,
        holds=not loss_is_proven,
        text=f"{comparison.difference:+.3f} against {earlier}, margin {comparison.margin:.3f}",
        settled_by=comparison.settled_by,
        images=comparison.images,
    )
