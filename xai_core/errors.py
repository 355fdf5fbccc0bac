"""Every error that the library raises on purpose, under one root.

A message says three things: what was given, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class XaiError(Exception):
    """Root of the library's own errors: the user's input is wrong, not the library."""


class ClassifierError(XaiError):
    """A classifier cannot be built or used: unknown name, wrong shape of its output."""


class WeightsError(ClassifierError):
    """A weights file cannot be read, is not safe to read, or does not fit the model."""


class LayerError(ClassifierError):
    """A layer does not exist, has no space, or gets no gradient."""


class ImageSetError(XaiError):
    """An image, a mask or a label on disk is missing, broken or inconsistent."""


class ConceptError(XaiError):
    """Concept images are missing, too few, or cannot be asked of this classifier."""


class CacheError(XaiError):
    """The folder of a cache cannot be made, read or written to."""


class ParameterError(XaiError):
    """An explainer, metric or post-processing step got a parameter it cannot take."""


class ShapeError(XaiError):
    """An array has the wrong shape, type or range."""


class MissingExtraError(XaiError):
    """A feature needs an optional package that is not installed."""

    def __init__(self, feature: str, *, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package {package!r}, which is not installed: "
            f"pip install 'pytest-xai[{extra}]'"
        )


class UndefinedMeasurementError(XaiError):
    """A metric has no value for some images: constant map, empty mask, zero score.

    Attributes:
        reasons: index of the image in the batch -> why it has no value.
        values: what the other images' values are, one for each image of the batch (of any value
            where there is a reason); None where they were not measured yet.
    """

    def __init__(
        self, reasons: Mapping[int, str], values: npt.NDArray[np.float64] | None = None
    ) -> None:
        self.reasons = dict(reasons)
        self.values = values
        listed = "; ".join(f"image {index}: {why}" for index, why in sorted(self.reasons.items()))
        super().__init__(f"undefined for {len(self.reasons)} image(s): {listed}")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a closing phrase that names the nearest known names, or all of them if few.

    >>> did_you_mean("gradcan", ["gradcam", "integrated_gradients"])
    "did you mean 'gradcam'? Known: gradcam, integrated_gradients"
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.6)
    listed = ", ".join(names) if len(names) <= 30 else ", ".join(names[:30]) + ", ..."
    if near:
        nearest = " or ".join(repr(name) for name in near)
        return f"did you mean {nearest}? Known: {listed}"
    return f"known: {listed}"
