"""What passes and what fails of a test's verdict, score and effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tcav_results import tcav_result

from pytest_xai.concept_gate import Bounds, ConceptJudgement
from xai_core.concepts.tcav import TCAV
from xai_core.statistics import Interval

ABSENT = tcav_result(
    tcav=TCAV(),
    concept="mark",
    model="m",
    target=0,
    names=("a", "b", "c", "d", "e", "f"),
    concept_images=50,
    counterexamples=200,
    score=0.6,
    score_interval=Interval(0.4, 0.7),
    magnitude_score=0.6,
    sensitivities=np.array([0.1, -0.9, 0.3, 0.0, -0.2, 0.8]),
    alignment=0.02,
    null_alignments=(0.01, 0.04),
    detectable=0.1,
    p=0.4,
    p_corrected=0.8,
    tests=2,
    logit_change=0.1,
    effect=0.05,
    effect_interval=Interval(0.01, 0.09),
)
UNDECIDED = replace(ABSENT, effect_interval=Interval(-0.07, 0.17))
NOT_LEARNT = replace(ABSENT, accuracy=0.5, accuracy_interval=Interval(0.4, 0.6))


@pytest.mark.parametrize(
    ("bounds", "passes", "strict", "outcome"),
    [
        (Bounds(above=0.3), True, True, "pass"),
        (Bounds(above=0.4), True, True, "pass"),  # the end of the interval is enough
        (Bounds(above=0.5), True, False, "inconclusive"),
        (Bounds(above=0.6), True, False, "inconclusive"),
        (Bounds(above=0.65), False, False, "inconclusive"),
        (Bounds(above=0.75), False, False, "fail"),
        (Bounds(below=0.75), True, True, "pass"),
        (Bounds(below=0.65), True, False, "inconclusive"),
        (Bounds(below=0.5), False, False, "inconclusive"),
        (Bounds(below=0.3), False, False, "fail"),
        (Bounds(above=0.3, below=0.8), True, True, "pass"),
        (Bounds(above=0.3, below=0.65), True, False, "inconclusive"),
        (Bounds(above=0.5, below=0.55), False, False, "inconclusive"),
        (Bounds(above=0.75, below=0.8), False, False, "fail"),
    ],
)
@pytest.mark.parametrize("condition", ["tcav", "effect"])
def test_a_threshold_holds_for_the_value_and_strictly_for_its_interval(
    condition, bounds, passes, strict, outcome
) -> None:
    result = replace(ABSENT, effect=0.6, effect_interval=Interval(0.4, 0.7))
    other = {"tcav": "effect", "effect": "score"}[condition]
    result = replace(result, **{other: 0.0, f"{other}_interval": Interval(0.0, 0.0)})
    found = ConceptJudgement(result, condition, bounds)
    assert found.passes() is passes
    assert found.passes(strict=True) is strict
    assert found.outcome == outcome


def test_the_first_line_shows_the_side_that_is_missed() -> None:
    score = ConceptJudgement(ABSENT, "tcav", Bounds(above=0.75))
    assert score.decided_by() == "score 0.600 < 0.750 (95% CI 0.400..0.700, n=6)"
    effect = ConceptJudgement(ABSENT, "effect", Bounds(above=0.0, below=0.04))
    assert effect.decided_by() == "effect 0.050 > 0.040 (95% CI 0.010..0.090, n=6)"
    held = ConceptJudgement(ABSENT, "effect", Bounds(above=0.02, below=0.2))
    assert (
        held.decided_by() == "effect 0.050 >= 0.020 and 0.050 <= 0.200 (95% CI 0.010..0.090, n=6)"
    )
    strictly = held.decided_by(strict=True)
    assert strictly == "effect 0.050 >= 0.020 (95% CI 0.010..0.090, n=6): not proven"


@pytest.mark.parametrize(
    ("result", "accepted", "passes"),
    [
        (ABSENT, ("absent",), True),
        (ABSENT, ("present", "opposed"), False),
        (UNDECIDED, ("absent",), False),
        (UNDECIDED, ("absent", "undecided"), True),
        (NOT_LEARNT, ("absent",), False),
        (NOT_LEARNT, ("absent", "not learnt"), True),
        (replace(ABSENT, p_corrected=0.001), ("present",), True),
        (replace(ABSENT, p_corrected=0.001, alignment=-0.4), ("opposed",), True),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_verdict_passes_where_it_is_accepted(result, accepted, passes, strict) -> None:
    assert ConceptJudgement(result, "verdict", accepted).passes(strict=strict) is passes


@pytest.mark.parametrize("bounds", [Bounds(above=0.0), Bounds(below=1.0)])
def test_a_score_of_what_is_not_learnt_passes_nothing(bounds) -> None:
    found = ConceptJudgement(NOT_LEARNT, "tcav", bounds)
    assert not found.passes()
    assert found.outcome == "fail"
    assert found.decided_by() == f"not learnt, wanted score {bounds}"


def test_an_undecided_verdict_says_how_many_images_would_settle_it() -> None:
    counts, is_none = ConceptJudgement(UNDECIDED, "verdict", ("absent",)).advice()
    assert "the alignment is 0.010 from that of random sets, which show 0.100" in counts
    # Half the interval is 0.12, and 0.05 is left to the margin: 6 x (0.12 / 0.05)^2 = 34.56.
    assert "it takes about 35 images of the class, which has 6" in is_none


def test_an_effect_outside_the_margin_is_not_settled_by_images() -> None:
    outside = replace(UNDECIDED, effect=-0.2, effect_interval=Interval(-0.3, -0.1))
    assert outside.verdict == "undecided"
    _, is_none = ConceptJudgement(outside, "verdict", ("absent",)).advice()
    assert "-0.20, lies outside +-0.1, which no number of images changes" in is_none
    assert ConceptJudgement(ABSENT, "verdict", ("present",)).advice() == []


def test_one_image_has_no_number_that_would_settle_it() -> None:
    one = replace(UNDECIDED, names=("a",), sensitivities=np.array([0.1]))
    _, is_none = ConceptJudgement(one, "verdict", ("absent",)).advice()
    assert "it takes more images of the class, which has 1" in is_none


def test_the_telling_images_are_those_of_the_largest_sensitivity_of_either_sign() -> None:
    found = ConceptJudgement(ABSENT, "verdict", ("absent",)).telling_images()
    assert found == [("b", -0.9), ("f", 0.8), ("c", 0.3), ("e", -0.2), ("a", 0.1)]


@pytest.mark.parametrize(
    ("result", "meaning"),
    [
        (ABSENT, "absent: the concept does no more for the class than random sets of images do"),
        (UNDECIDED, "undecided: neither is proven"),
        (NOT_LEARNT, "not learnt: the layer does not tell the concept from its counterexamples"),
        (replace(ABSENT, p_corrected=0.001), "present: the class's logit rises"),
        (replace(ABSENT, p_corrected=0.001, alignment=-0.4), "opposed: the class's logit falls"),
    ],
)
def test_each_verdict_has_a_meaning(result, meaning) -> None:
    assert ConceptJudgement(result, "verdict", ("absent",)).meaning().startswith(meaning)
