"""What NumPy 2.4 has no more and Quantus 0.6 asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.fixture
def trapz(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Give NumPy 2.4 back the function that Quantus integrates with; keep what it integrated."""
    curves: list[np.ndarray] = []

    def integrate(y: np.ndarray, dx: float = 1.0, axis: int = -1) -> Any:
        curves.append(np.asarray(y))
        return np.trapezoid(y, dx=dx, axis=axis)

    monkeypatch.setattr(np, "trapz", integrate, raising=False)
    return curves
