"""What the plugin adds to the start of a pytest run that does not ask for it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

PAIRS, ADDED_SECONDS = 21, 0.030


def test_the_plugin_adds_less_than_thirty_milliseconds(tmp_path: Path, benchmark: Any) -> None:
    (tmp_path / "test_trivial.py").write_text("def test_nothing():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    without: list[float] = []

    def collect(*options: str) -> None:
        subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, check=True)

    def run_without() -> None:
        start = time.perf_counter()
        collect("-p", "no:xai")
        without.append(time.perf_counter() - start)

    run_without()  # byte code is compiled and files are cached before the clock counts
    collect()
    without.clear()
    benchmark.pedantic(collect, setup=run_without, rounds=PAIRS)
    pairs = zip(benchmark.stats.stats.data, without, strict=True)
    added = [with_plugin - bare for with_plugin, bare in pairs]
    benchmark.extra_info |= {
        "median_added_milliseconds": round(median(added) * 1000, 1),
        "median_bare_milliseconds": round(median(without) * 1000, 1),
    }
    print(benchmark.extra_info)
    assert median(added) < ADDED_SECONDS
