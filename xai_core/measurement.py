"""What is measured, by what, and what it took: the nouns that an evaluation speaks in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from xai_core.arrays import Float64
from xai_core.explainers import Explainer
from xai_core.metrics import ConfiguredMetric
from xai_core.parameters import as_dict, identity
from xai_core.postprocess import PostProcess
from xai_core.statistics import defined_cluster_means, exact_mean


@dataclass(frozen=True)
class Method:
    """An explainer with its post-processing under the name that a gate uses.

    A raw map and a smoothed one are different explanations, so post-processing is part of a
    method's identity.
    """

    name: str
    explainer: Explainer
    postprocess: tuple[PostProcess, ...] = ()

    @property
    def identity(self) -> str:
        """The text that names explainer, parameters and post-processing; not the name."""
        steps = [identity(self.explainer.kind, self.explainer)]
        steps += [identity(step.name, step) for step in self.postprocess]
        return " | ".join(steps)

    @property
    def parameters(self) -> dict[str, Any]:
        """The explainer's parameters as builtin types."""
        return as_dict(self.explainer)


@dataclass(frozen=True)
class Measurement:
    """One metric of one method on every image of a set.

    Attributes:
        metric: what was measured.
        method: name of the explainer or null map.
        made_by: the explainer; None for a null map, and for values measured elsewhere.
        names: of the images.
        values: float64 ``[N]``, NaN exactly where ``undefined`` has a reason.
        undefined: index of an image -> why the metric has no value there.
        groups: name of the photograph that each image is of, ``N``; None where each is of its own.
    """

    metric: ConfiguredMetric
    method: str
    names: tuple[str, ...]
    values: Float64 = field(repr=False)
    undefined: dict[int, str] = field(default_factory=dict)
    made_by: Method | None = None
    groups: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def defined(self) -> Float64:
        """The values that exist."""
        return self.values[~np.isnan(self.values)]

    @property
    def units(self) -> Float64:
        """The values that statistics are about: of each group the mean of those that exist."""
        found = self.of_units(self.values)
        return found[~np.isnan(found)]

    def of_units(self, values: Float64) -> Float64:
        """Return one value for each group; `values` themselves where there are no groups.

        Args:
            values: of the images, float64 ``[N]``, NaN where one does not exist; a group has none
                where no image of it does.
        """
        return defined_cluster_means(values, self.groups)

    @property
    def in_groups(self) -> bool:
        """Whether two images are of one photograph."""
        return self.groups is not None and len(set(self.groups)) < len(self.groups)

    @property
    def mean(self) -> float:
        """Mean of the units; NaN if no image has a value."""
        return exact_mean(self.units) if len(self.defined) else float("nan")


Stage = Literal["classify", "explain", "measure"]


@dataclass
class Cost:
    """What a part of an evaluation took.

    Attributes:
        forwards: images scored without gradients.
        gradients: images whose gradient was taken.
        seconds: of wall time.
        looked_up: results of single images that were looked for in the cache.
        found: those of them that were there, and so took no pass.
    """

    forwards: int = 0
    gradients: int = 0
    seconds: float = 0.0
    looked_up: int = 0
    found: int = 0
