"""The results of one classifier in a cache: found, read, written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from xai_core.cache.code import UnidentifiedError
from xai_core.cache.entries import Form
from xai_core.cache.keys import Keys
from xai_core.cache.store import DiskCache
from xai_core.classifier import Classifier

T = TypeVar("T")

_LOG = logging.getLogger("xai_core")


class KeptResults:
    """What a cache holds of one classifier.

    Args:
        cache: where.
        classifier: whose results.
    """

    def __init__(self, cache: DiskCache, classifier: Classifier) -> None:
        self._cache = cache
        self._keys = Keys(classifier, cache.code)
        self._told: set[str] = set()

    def keys(self, make: Callable[[Keys], list[bytes]]) -> list[bytes]:
        """Return the keys that ``make`` gives; none where it cannot be told what results rest on.

        Which is then logged, once.
        """
        try:
            return make(self._keys)
        except UnidentifiedError as error:
            if str(error) not in self._told:
                self._told.add(str(error))
                _LOG.warning("cache %s: results not kept: %s", self._cache.folder, error)
            return []

    def find(self, keys: Sequence[bytes], form: Form[T]) -> dict[int, T]:
        """Return place among ``keys`` -> result, for those that are there and can be read."""
        found: dict[bytes, T] = {}
        broken = []
        for key, payload in self._cache.find(keys):
            try:
                found[key] = form.decode(payload)
            except ValueError as error:
                broken.append((key, str(error)))
        if broken:
            self._cache.discard([key for key, _ in broken], broken[0][1])
        return {place: found[key] for place, key in enumerate(keys) if key in found}

    def keep(self, results: Mapping[bytes, T], form: Form[T]) -> None:
        """Store results under their keys, those that have a form as bytes."""
        encoded = {key: form.encode(result) for key, result in results.items()}
        self._cache.keep({key: payload for key, payload in encoded.items() if payload is not None})
