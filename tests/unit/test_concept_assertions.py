"""Assertions on concepts: what passes, what fails, and what the message says."""

from __future__ import annotations

import numpy as np
import pytest
from tcav_results import tcav_result

from pytest_xai import (
    assert_concept_absent,
    assert_concept_aligned,
    assert_concept_present,
    assert_tcav_above,
    assert_tcav_below,
)
from pytest_xai.assertions import ExplanationError, assertion_names
from xai_core.errors import ParameterError
from xai_core.statistics import Interval

ABSENT = {"p": 0.5, "p_corrected": 0.5, "effect": 0.0, "effect_interval": Interval(-0.05, 0.05)}
UNLEARNT = {"accuracy": 0.5, "accuracy_interval": Interval(0.4, 0.6)}


def test_a_present_concept_is_present_and_not_absent():
    assert assert_concept_present(tcav_result()).verdict == "present"
    with pytest.raises(ExplanationError) as caught:
        assert_concept_absent(tcav_result())
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("concept ruler [3, body] net: present, wanted absent: score 0.90")
    text = "\n".join(rest)
    assert "the class's logit rises along the concept" in text
    assert text.index("two.png") < text.index("one.png")  # the larger sensitivity first
    assert "60 images of the concept, 240 of random, 2 of the class" in text
    assert "run just this test again" not in text


def test_an_absent_concept_is_absent_and_not_present():
    assert assert_concept_absent(tcav_result(**ABSENT)).verdict == "absent"
    with pytest.raises(ExplanationError, match="absent, wanted present"):
        assert_concept_present(tcav_result(**ABSENT))


def test_what_is_undecided_or_opposed_is_not_absent():
    undecided = tcav_result(p_corrected=0.5)
    with pytest.raises(ExplanationError, match="undecided, wanted absent"):
        assert_concept_absent(undecided)
    with pytest.raises(ExplanationError, match="opposed, wanted absent"):
        assert_concept_absent(tcav_result(alignment=-0.3))


def test_what_is_not_learnt_passes_for_absent_only_where_that_is_said():
    with pytest.raises(ExplanationError, match="not learnt, wanted absent"):
        assert_concept_absent(tcav_result(**UNLEARNT))
    assert (
        assert_concept_absent(tcav_result(**UNLEARNT), or_not_learnt=True).verdict == "not learnt"
    )


def test_several_are_one_family():
    """p = .03 is present alone, and not as the larger of two: 2 x .03 and 1 x .04."""
    assert_concept_present([tcav_result(), tcav_result(p=0.01)])
    with pytest.raises(ExplanationError, match=r"p = 0.06 \(2 tests, Holm\)"):
        assert_concept_present([tcav_result(), tcav_result(p=0.04)])


def test_scores_are_held_against_thresholds_and_strictly_by_their_interval():
    assert assert_tcav_above(tcav_result(), 0.9).score == 0.9
    assert_tcav_below(tcav_result(), 0.9)
    with pytest.raises(ExplanationError, match=r"score 0\.900 < 0\.950"):
        assert_tcav_above(tcav_result(), 0.95)
    with pytest.raises(ExplanationError, match=r"score 0\.900 > 0\.850"):
        assert_tcav_below(tcav_result(), 0.85)
    assert_tcav_above(tcav_result(), 0.7, strict=True)
    with pytest.raises(ExplanationError, match="not proven"):
        assert_tcav_above(tcav_result(), 0.8, strict=True)


def test_a_score_along_nothing_learnt_fails_either_way():
    for check in (assert_tcav_above, assert_tcav_below):
        with pytest.raises(ExplanationError, match="not learnt"):
            check(tcav_result(**UNLEARNT), 0.9)


def test_anything_else_is_refused():
    with pytest.raises(ParameterError, match="expected what the fixture xai_tcav gives"):
        assert_tcav_above([0.9], 0.5)
    with pytest.raises(ParameterError, match="got nothing"):
        assert_concept_present([])


def test_a_map_on_the_concept_is_aligned_with_it():
    concept = np.zeros((2, 8, 8), dtype=np.float32)
    concept[:, 2:5, 2:5] = 1
    inside, outside = concept + 0.01, np.roll(concept, 3, axis=2) + 0.01
    for by in ("energy", "iou", "correlation"):
        assert_concept_aligned(inside, 0.7, concept_maps=concept, by=by)
        with pytest.raises(ExplanationError, match=f"concept_{by}"):
            assert_concept_aligned(outside, 0.7, concept_maps=concept, by=by)
    with pytest.raises(ParameterError, match="did you mean 'energy'"):
        assert_concept_aligned(inside, 0.7, concept_maps=concept, by="energie")


def test_they_are_listed():
    names = {"assert_tcav_above", "assert_tcav_below", "assert_neighbours_agree_above"}
    names |= {f"assert_concept_{what}" for what in ("present", "absent", "aligned")}
    assert names < set(assertion_names())
    assert len(set(assertion_names())) == len(assertion_names())
