"""How many threads a worker may use, that all of them together do not want more processors."""

from __future__ import annotations

import os

import pytest

_SET_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def share_threads(config: pytest.Config) -> None:
    """Give a worker of pytest-xdist its share of the processors, unless the user set threads."""
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers == 1 or any(os.environ.get(name) for name in _SET_BY_USER):
        return
    import torch

    share = max(1, processors() // workers)
    if torch.get_num_threads() > share:  # fewer are what a conftest.py asked for
        torch.set_num_threads(share)


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "process_cpu_count"):  # since Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
