"""What the plugin costs every pytest run of an environment that does not use it."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median


def test_the_unused_plugin_adds_less_than_30_ms(benchmark, tmp_path):
    (tmp_path / "test_trivial.py").write_text("def test_trivial():\n    pass\n")

    def seconds(*options: str) -> float:
        started = time.perf_counter()
        others = ["-p", "no:hypothesispytest", "-p", "no:benchmark", "-p", "no:xdist"]
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *others, *options]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        return time.perf_counter() - started

    seconds(), seconds("-p", "no:xai")  # warm-up
    pairs = [(seconds(), seconds("-p", "no:xai")) for _ in range(21)]
    added = median(one - other for one, other in pairs)
    benchmark.extra_info["added seconds"] = added
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\nthe plugin adds {added * 1000:.1f} ms to {median(b for _, b in pairs) * 1000:.0f} ms")
    assert added < 0.030
