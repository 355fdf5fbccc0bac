"""Peak memory as a ratio of two processes in the same run."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import resource, sys
import numpy as np
from xai_core import IntegratedGradients, load_classifier
classifier = load_classifier("resnet50", weights="random")
image = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
IntegratedGradients(steps=int(sys.argv[1])).explain(classifier, image, np.array([0]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _peak(steps: int) -> int:
    command = [sys.executable, "-c", _SCRIPT, str(steps)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_ten_times_the_steps_take_no_more_memory(benchmark):
    few, many = _peak(50), _peak(500)
    benchmark.extra_info["500 steps / 50 steps"] = many / few
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\npeak of 50 steps {few / 1024:.0f} MiB, of 500 steps {many / 1024:.0f} MiB")
    assert many / few < 1.05
