"""Under which key a result of one image is kept: the SHA-256 of all that it depends on.

That is the image with its mask and background, the target, the classifier's weights, normalisation,
layers and code, the type of its device, the explainer with its parameters and post-processing or
the null map, the metric's protocol, settings and seed, and the code of this package with the
versions of the libraries under it. Names have no part in it: neither the model's, nor an image's,
nor a method's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch

from xai_core.cache.code import Code
from xai_core.cache.network import network_digest
from xai_core.classifier import Classifier
from xai_core.explainers import Explainer
from xai_core.metrics import METRICS, ConfiguredMetric, Metric
from xai_core.parameters import as_dict

KEPT_NEEDS = frozenset(
    {
        "attributions",
        "background",
        "classifier",
        "differences",
        "explain",
        "heatmaps",
        "images",
        "masks",
        "native_heatmaps",
        "targets",
    }
)
"""The needs that the image, its target, the classifier and the explainer settle.

The others bring something else into a value: all images of the set (``whole_set``), classifiers
that are made anew or loaded (``explained_by``), example images of concepts (``concept_maps_of``),
another explainer (``heatmaps_of``, whose maps are themselves kept).
"""


def is_kept(metric: Metric) -> bool:
    """Return whether a metric's value depends on the image alone, so that it may be kept.

    >>> is_kept(METRICS["deletion"]), is_kept(METRICS["sufficiency"])
    (True, False)
    """
    return all(
        is_kept(METRICS[need]) if need in METRICS else need in KEPT_NEEDS for need in metric.needs
    )


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a metric is measured on.

    Attributes:
        identity: of the explainer with its parameters and post-processing; empty for a null map
            that none has part in.
        parts: explainer and post-processing.
        null: name of the null map; empty for the explainer's own.
    """

    identity: str
    parts: tuple[object, ...]
    null: str = ""


class Keys:
    """The keys of one classifier's results.

    Args:
        classifier: whose.
        code: tells which code they rest on.
    """

    def __init__(self, classifier: Classifier, code: Code) -> None:
        self._classifier = classifier
        self._code = code

    def probabilities(self, digests: Sequence[str]) -> list[bytes]:
        """Return the keys of class probabilities.

        Args:
            digests: of the images.

        Raises:
            UnidentifiedError: it cannot be told which code they rest on; so elsewhere here.
        """
        return self._of(("probabilities",), digests, [None] * len(digests))

    def explanations(
        self, identity: str, explainer: Explainer, digests: Sequence[str], targets: Sequence[int]
    ) -> list[bytes]:
        """Return the keys of an explainer's maps before post-processing."""
        part = ("explanation", identity, self._behind([explainer]))
        return self._of(part, digests, targets)

    def values(
        self,
        metric: ConfiguredMetric,
        subject: Subject,
        seed: int,
        digests: Sequence[str],
        targets: Sequence[int],
    ) -> list[bytes]:
        """Return the keys of a metric's values; ``seed`` is the run's."""
        functions = [needed.function for needed in _with_parts(metric.metric)]
        settings = [(key, repr(value)) for key, value in metric.settings]
        part = (
            *("value", metric.protocol, settings, seed, self._code.behind(*functions)),
            *(subject.null, subject.identity, self._behind(subject.parts)),
        )
        return self._of(part, digests, targets)

    def _of(
        self, part: tuple[object, ...], digests: Sequence[str], targets: Sequence[int | None]
    ) -> list[bytes]:
        start = hashlib.sha256(repr((self._surroundings, part)).encode())
        keys = []
        for digest, target in zip(digests, targets, strict=True):
            hasher = start.copy()
            hasher.update(f"|{digest}|{target}".encode())
            keys.append(hasher.digest())
        return keys

    @cached_property
    def _surroundings(self) -> tuple[str, ...]:
        """What all results of the classifier depend on."""
        device, _, _ = self._classifier.device.partition(":")
        return (
            self._code.own(),
            self._classifier.fingerprint,
            network_digest(self._classifier, self._code),
            device,
            torch.get_float32_matmul_precision(),
        )

    def _behind(self, parts: Sequence[object]) -> list[tuple[str, str]]:
        """Name the classes of an explainer and its post-processing, with the code behind them.

        Explainers that it names among its parameters have a part in it too.
        """
        classes = [type(part) for part in parts]
        classes += [named for part in parts for named in _named_in(as_dict(part))]
        return [(f"{cls.__module__}.{cls.__qualname__}", self._code.behind(cls)) for cls in classes]


def _with_parts(metric: Metric) -> Iterator[Metric]:
    yield metric
    for need in metric.needs:
        if need in METRICS:
            yield from _with_parts(METRICS[need])


def _named_in(value: object) -> Iterator[type]:
    """Yield the classes that texts like ``"package.module:Class(power=2)"`` name."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _named_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _named_in(inner)
    elif isinstance(value, str):
        for module, name in re.findall(r"([\w.]+):(\w+)", value):
            named = getattr(sys.modules.get(module), name, None)
            if isinstance(named, type):
                yield named
