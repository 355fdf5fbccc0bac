"""The condition of a gate that holds it against an earlier run."""

from __future__ import annotations

from xai_core.gate.findings import Finding
from xai_core.statistics import Comparison, Outcome


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
