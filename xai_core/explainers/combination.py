"""Two explainers made one: where both, either or on average they see relevance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from xai_core.arrays import Float32, Int64
from xai_core.errors import ParameterError
from xai_core.explainers.explanation import Explainer, Explanation, Needs, Promise
from xai_core.parameters import identity

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

How = Literal["product", "geometric", "mean", "max", "min"]


@dataclass(frozen=True)
class Combination:
    """Two explainers as one.

    Each heatmap is scaled to [0, 1] by itself before: negative relevance becomes 0 and the rest is
    divided by the image's maximum, so 0 stays 0 and both have the same say. A map without
    positive relevance stays 0 everywhere.

    Args:
        a: one explainer, ``"gradcam"`` or ``"integrated_gradients(steps=20)"``.
        b: the other one.
        how: ``product``, ``geometric`` (its square root), ``min``: relevance in both;
            ``mean``, ``max``: in either.
    """

    kind: ClassVar[str] = "combine"
    needs: ClassVar[Needs] = "module"
    source: ClassVar[str] = "combination"
    promises: ClassVar[frozenset[Promise]] = frozenset()

    a: str = "gradcam"
    b: str = "integrated_gradients"
    how: How = "product"

    def __post_init__(self) -> None:
        from xai_core.explainers.registry import parse_explainer

        parse_explainer(self.a)
        parse_explainer(self.b)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        from xai_core.explainers.registry import parse_explainer

        a, b = (
            _scaled(parse_explainer(text).explain(classifier, images, targets).heatmaps)
            for text in (self.a, self.b)
        )
        if self.how == "product":
            together = a * b
        elif self.how == "geometric":
            together = np.sqrt(a * b)
        elif self.how == "mean":
            together = (a + b) / 2
        else:
            together = np.maximum(a, b) if self.how == "max" else np.minimum(a, b)
        return Explanation(together)


def combine(a: Explainer | str, b: Explainer | str, how: How = "product") -> Combination:
    """Return an explainer that combines two others; see `Combination`.

    Args:
        a: an explainer, or the text that names it.
        b: the other one.
        how: ``product``, ``geometric``, ``mean``, ``max`` or ``min`` of the scaled heatmaps.

    Raises:
        ParameterError: a text names no explainer, or an explainer has no name to find it by.

    >>> combine("gradcam", "occlusion", how="mean").kind
    'combine'
    """
    return Combination(a=_text(a), b=_text(b), how=how)


def _text(explainer: Explainer | str) -> str:
    """Return the text that names an explainer with all its parameters."""
    from xai_core.explainers.registry import EXPLAINERS, parse_explainer

    if isinstance(explainer, str):
        return explainer
    cls = type(explainer)
    known = EXPLAINERS.get(explainer.kind) is cls
    text = identity(explainer.kind if known else f"{cls.__module__}:{cls.__qualname__}", explainer)
    if parse_explainer(text) != explainer:
        msg = (
            f"{text} does not come back from its text the same, which a combination must; "
            "give parameters that are numbers, texts or tuples of them"
        )
        raise ParameterError(msg)
    return text


def _scaled(heatmaps: Float32) -> Float32:
    """Return heatmaps ``[N, H, W]`` without their negative part, each with the maximum 1."""
    positive = np.maximum(heatmaps, 0)
    highest = positive.max(axis=(1, 2), keepdims=True)
    scaled: Float32 = np.divide(positive, highest, out=np.zeros_like(positive), where=highest > 0)
    return scaled
