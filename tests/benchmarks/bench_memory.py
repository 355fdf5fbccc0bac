"""The memory of Integrated Gradients does not grow with the steps."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

FEW, MANY, GROWTH = 50, 500, 0.05

# A process of its own, because a peak never falls again. The first explanation warms everything.
PEAK = """
import resource
import sys

import numpy as np

from xai_core.classifier import load_classifier
from xai_core.explainers import IntegratedGradients

classifier = load_classifier("resnet50", weights="random")
images = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
IntegratedGradients(steps=int(sys.argv[1])).explain(classifier, images, np.array([3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_megabytes(steps: int) -> float:
    command = [sys.executable, "-c", PEAK, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    scale = 1024 if sys.platform != "darwin" else 1024**2  # kilobytes, but bytes on macOS
    return int(done.stdout) / scale


def test_ten_times_the_steps_take_no_more_memory(benchmark: Any) -> None:
    peaks: dict[int, float] = {}

    def measure() -> None:
        peaks.update({steps: peak_megabytes(steps) for steps in (FEW, MANY)})

    benchmark.pedantic(measure, rounds=1)
    growth = peaks[MANY] / peaks[FEW] - 1
    benchmark.extra_info |= {
        "peak_megabytes": {str(steps): round(peak) for steps, peak in peaks.items()},
        "growth": round(growth, 4),
    }
    print(benchmark.extra_info)
    assert growth < GROWTH
