"""When this process loaded the package: what was written to its files later is not what runs."""

from __future__ import annotations

import time

LOADED = time.time()
"""Seconds since 1970."""
