"""Results of earlier runs on disk: what is kept, where, and under which keys.

PYTEST_DONT_REWRITE
"""

from xai_core.cache.store import DEFAULT_LIMIT, DiskCache

__all__ = ["DEFAULT_LIMIT", "DiskCache"]
