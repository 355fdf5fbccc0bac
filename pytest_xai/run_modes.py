"""Which options of a run exclude each other.

Loaded in every pytest run, so it imports pytest and the standard library only.
"""

from __future__ import annotations

import pytest

from pytest_xai.settings import Settings


def require_compatible(settings: Settings) -> None:
    """Raise a usage error if a run asks for what cannot be had together."""
    if settings.allow_loosen and settings.update is None:
        msg = "--xai-allow-loosen says what --xai-update may write; give that too"
        raise pytest.UsageError(msg)
    if settings.update and settings.advisory:
        msg = (
            "--xai-update and --xai-advisory exclude each other: a new threshold fails the run "
            "until it is reviewed"
        )
        raise pytest.UsageError(msg)
    for option in ("update", "calibrate", "save", "compare"):
        if settings.sequential and getattr(settings, option):
            msg = (
                f"--xai-sequential and --xai-{option} exclude each other: what it shows or writes "
                "needs every image measured"
            )
            raise pytest.UsageError(msg)
    if settings.calibrate is None:
        return
    for option, asked, why in (
        ("update", settings.update, "it proposes thresholds, and writes none"),
        ("save", settings.save is not None, "it measures one model several times"),
        ("compare", settings.compare is not None, "it holds no gate"),
        ("strict", settings.strict, "it measures gates as they decide by their value"),
    ):
        if asked:
            msg = f"--xai-calibrate and --xai-{option} exclude each other: {why}"
            raise pytest.UsageError(msg)
