"""What intervals and comparisons cover, by simulation: the small version of examples/power."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_core.statistics import compare_with_earlier, mean_interval, resampling

EXAMPLE = Path(__file__).parents[2] / "examples" / "power"
REPLICATES = 400

VALUES: dict[str, tuple[Callable[[Any, int], Any], float]] = {
    "beta": (lambda g, n: g.beta(2, 5, n), 2 / 7),
    "turned beta": (lambda g, n: g.beta(8, 2, n), 0.8),
    "skewed": (lambda g, n: g.beta(0.3, 3, n), 0.3 / 3.3),
    "with zeros": (lambda g, n: g.beta(5, 3, n) * (g.random(n) > 0.3), 0.4375),
    "hits": (lambda g, n: (g.random(n) < 0.9) * 1.0, 0.9),
    "constant": (lambda g, n: np.full(n, 0.3), 0.3),
}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 999)


def misses(name: str, n: int, **options: Any) -> tuple[float, float]:
    """How often the lower and the upper end leave the true mean out."""
    draw, mean = VALUES[name]
    rng = np.random.default_rng([n, len(name)])
    found = [
        mean_interval(draw(rng, n), bounds=(0.0, 1.0), seed=seed, **options)
        for seed in range(REPLICATES)
    ]
    low = float(np.mean([interval.low > mean for interval in found]))
    return low, float(np.mean([interval.high < mean for interval in found]))


# At most so often an end may miss, nominally .025: three standard errors of 400 draws are .023.
@pytest.mark.parametrize(
    ("name", "n", "most"),
    [
        ("beta", 5, 0.12),
        ("beta", 20, 0.06),
        ("beta", 100, 0.05),
        ("beta", 200, 0.05),
        ("turned beta", 10, 0.085),
        ("turned beta", 50, 0.06),
        ("skewed", 20, 0.09),
        ("skewed", 100, 0.06),
        ("with zeros", 10, 0.05),
        ("with zeros", 100, 0.055),
        ("hits", 5, 0.048),
        ("hits", 20, 0.048),
        ("hits", 100, 0.07),
        ("hits", 500, 0.06),
        ("constant", 5, 0.0),
        ("constant", 500, 0.0),
    ],
)
def test_neither_end_of_the_default_misses_much_more_often_than_it_says(
    name: str, n: int, most: float
) -> None:
    assert max(misses(name, n)) <= most


@pytest.mark.parametrize("name", ["beta", "turned beta", "with zeros"])
def test_at_five_images_the_default_covers_more_than_the_plain_bootstrap(name: str) -> None:
    plain = 1 - sum(misses(name, 5, method="percentile", expand=False))
    bca = 1 - sum(misses(name, 5, expand=False))
    default = 1 - sum(misses(name, 5))
    assert default > max(plain, bca) + 0.03
    assert default > 0.86


def test_skewed_values_need_the_correction_for_skewness() -> None:
    plain, corrected = (misses("skewed", 50, method=m) for m in ("percentile", "bca"))
    assert corrected[1] < plain[1]
    assert abs(corrected[0] - corrected[1]) < abs(plain[0] - plain[1])


def test_three_seeds_taken_as_three_images_are_too_sure() -> None:
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(15), 3)
    blind = clustered = 0
    for seed in range(REPLICATES):
        values = rng.beta(2, 5, 15)[images] + rng.normal(0, 0.03, 45)
        for clusters in (None, images.tolist()):
            found = mean_interval(values, clusters=clusters, seed=seed)
            covers = found.low <= 2 / 7 <= found.high
            if clusters is None:
                blind += covers
            else:
                clustered += covers
    assert blind / REPLICATES < 0.85
    assert clustered / REPLICATES > 0.92


@pytest.mark.parametrize("n", [10, 40])
@pytest.mark.parametrize("kind", ["normal", "hits"])
def test_a_loss_of_exactly_the_margin_is_seldom_called_proven(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    outcomes = []
    for seed in range(REPLICATES):
        if kind == "normal":
            earlier = rng.beta(5, 5, n)
            values = earlier + rng.normal(-0.05, 0.1, n)
        else:
            earlier = (rng.random(n) < 0.9) * 1.0
            values = np.where(earlier, rng.random(n) < 0.92, rng.random(n) < 0.22) * 1.0
        found = compare_with_earlier(
            values, earlier, margin=0.05, better="higher", bounds=(0.0, 1.0), seed=seed
        )
        outcomes.append(found.outcome)
    for wrong in ("pass", "fail"):
        assert outcomes.count(wrong) / REPLICATES <= 0.055


def test_the_script_prints_a_table_for_each_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.delitem(sys.modules, "coverage", raising=False)
    script = importlib.import_module("coverage")
    monkeypatch.delitem(sys.modules, "coverage")
    monkeypatch.setattr(script, "SIZES", (5, 10))
    assert script.main(["--replicates", "2"]) == 0
    printed = capsys.readouterr().out
    for question in script.QUESTIONS:
        assert f"\n{question}: " in printed
    assert re.search(r"\| 10 +\| Wilson +\| 0\.838 +\| 0\.954", printed)
    assert script.main(["--replicates", "2", "--only", "clusters"]) == 0
    assert "Wilson" not in capsys.readouterr().out
