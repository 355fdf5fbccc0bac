"""What a second run of the same gates costs beside the first, with a cache on disk."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from references import middle

from pytest_xai.thresholds import read_thresholds
from xai_core.cache import DiskCache
from xai_core.classifier import load_classifier
from xai_core.evaluation import Evaluation
from xai_core.gate import judge
from xai_core.imageset import load_imageset

_THRESHOLDS = Path(__file__).parents[2] / "xai_core" / "demo" / "demo.toml"
ROUNDS = 3


def test_the_demos_gates_take_less_than_a_tenth_of_the_time_again(benchmark, tmp_path):
    gates = read_thresholds(_THRESHOLDS, shown="demo.toml", seed=0).gates

    def run(folder: Path | None) -> tuple[float, list[str], int]:
        """Judge all gates from the start: model, images, cache; only imports are done."""
        started = time.perf_counter()
        classifier = load_classifier("demo")
        images = load_imageset("demo", transform="resize", size=classifier.size)
        cache = None if folder is None else DiskCache(folder)
        evaluation = Evaluation(classifier, images, cache=cache)
        lines = [
            judge(evaluation, gate.method, gate.metric, gate.conditions).headline()
            for gate in gates
        ]
        return time.perf_counter() - started, lines, classifier.passes.total

    plain, cold = run(None), run(tmp_path)
    warm = [run(tmp_path) for _ in range(ROUNDS)]
    for _, lines, _ in (cold, *warm):
        assert lines == plain[1]
    assert cold[2] == plain[2] > 0 == max(passes for _, _, passes in warm)
    ratios = [seconds / cold[0] for seconds, _, _ in warm]
    benchmark.extra_info["warm / cold"] = ratios
    benchmark.extra_info["cold / without a cache"] = cold[0] / plain[0]
    benchmark.pedantic(lambda: None, rounds=1)
    print(
        f"\nwarm / cold: {middle(ratios):.3f} of {np.round(ratios, 3)} ({cold[0]:.1f} s cold), "
        f"cold / without a cache: {cold[0] / plain[0]:.2f}"
    )
    assert middle(ratios) < 0.1
