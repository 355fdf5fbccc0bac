"""The examples on concepts, end to end on the demo, against direct calls."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from xai_core import load_classifier, load_imageset
from xai_core.concepts import TCAV, FeatureStore, corrected, load_concepts

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = ["--runs", "4", "--null-sets", "12"]


@pytest.fixture
def example(monkeypatch):
    def find(folder, name):
        monkeypatch.syspath_prepend(str(EXAMPLES / folder))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return find


@pytest.fixture(scope="module")
def demo():
    classifier = load_classifier("demo")
    images = load_imageset("demo", size=classifier.size)
    return FeatureStore(classifier), images, load_concepts("demo", size=classifier.size)


def test_verdicts_are_those_of_direct_calls_as_one_family(example, demo, tmp_path, capsys):
    store, images, library = demo
    command = ["--labels", "striped_disc", "--ask", "striped", "dotted", "--layers", "body", *QUICK]
    verdicts = example("concepts", "verdicts")
    written = tmp_path / "found.json"
    assert verdicts.main([*command, "--json", str(written), "--cav", "pattern"]) == 0
    found = json.loads(written.read_text())
    tcav = TCAV(layer="body", cav="pattern", runs=4, null_sets=12)
    expected = corrected(
        [
            tcav.test(store, library.concept(name), library.random, images.of_label(0), 0)
            for name in ("striped", "dotted")
        ]
    )
    assert [one["p_corrected"] for one in found] == [one.p_corrected for one in expected]
    assert [one["verdict"] for one in found] == [one.verdict for one in expected]
    assert found[0]["sensitivities"] == expected[0].sensitivities.tolist()
    printed = capsys.readouterr().out
    assert "4 counterparts of 50, none sharing an image" in printed
    assert f"{expected[0].score:.2f}" in printed


def test_verdicts_draws_the_maps_and_tests_pairs(example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    command = ["--labels", "striped_disc", "--ask", "striped", "--layers", "body", *QUICK]
    options = ["--maps", "striped", "--pairs", "striped+dotted", "--out", str(tmp_path)]
    assert example("concepts", "verdicts").main([*command, *options]) == 0
    with Image.open(tmp_path / "striped-striped_disc-body.png") as drawn:
        assert drawn.width > 800
    assert "beyond the sum" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "stripes"], "demo: no class 'stripes'"),
        (["--labels", "striped_disc", "--ask", "spots"], "demo: no concept 'spots'"),
        (["--labels", "striped_disc", "--pairs", "striped"], "--pairs striped: expected two"),
    ],
)
def test_verdicts_says_in_one_line_what_cannot_be(example, capsys, options, message):
    ask = [] if "--ask" in options else ["--ask", "striped"]
    assert example("concepts", "verdicts").main([*options, *ask, *QUICK]) == 2
    assert message in capsys.readouterr().err


def test_type_one_counts_random_sets_that_pass_for_a_concept(example, capsys):
    options = ["--replicates", "5", "--runs", "3", "--null-sets", "10", "--set-size", "20"]
    script = example("concepts", "type_one")
    given = script._arguments(
        ["--layers", "body", "--cav", "pattern", "--pool", "60", "--level", "0.999", *options]
    )
    (row,) = script.run(given)
    assert (row.replicates, row.significant) == (5, 1.0)  # at a level of .999
    assert row.reported <= row.significant
    assert script.main(["--random", "nowhere"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_the_studys_tcav_rows_are_direct_calls_with_each_variant(example, demo):
    store, images, library = demo
    rows = example("paper", "study_concepts")
    lines = rows.concept_lines(
        [store], [images], [library], labels=[], concepts=["striped"], layer="body", steps=2
    )
    assert [line.variant for line in lines] == ["activations", "gradcam", "integrated_gradients"]
    assert {line.label for line in lines} == {"striped_disc"}  # the first of the commonest
    expected = corrected(
        [
            TCAV(layer="body", features=line.variant, steps=2).test(
                store, library.concept("striped"), library.random, images.of_label(0), 0
            )
            for line in lines
        ]
    )
    assert [line.results[0].p_corrected for line in lines] == [one.p_corrected for one in expected]
    listed = rows.concept_json(lines)
    assert [one["score"] for one in listed] == [one.score for one in expected]
    assert rows.concept_markdown(lines, ["Demo"]).count("\n") == 5
