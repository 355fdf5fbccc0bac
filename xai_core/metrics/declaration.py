"""What a metric is: one declaration that every list, gate, assertion and report reads.

A metric is a pure function of arrays that returns one float64 per image. Its positional
parameters are what it *needs*; their names come from a fixed vocabulary. Its keyword-only
parameters are its *settings*, with defaults that make up its pinned protocol:

>>> from xai_core.metrics import METRICS
>>> METRICS["iou"].needs, METRICS["iou"].better, METRICS["iou"].configure({}).protocol
(('heatmaps', 'masks'), 'higher', 'iou@v1')

The vocabulary of needs: ``classifier``, ``images``, ``targets``, ``heatmaps``, ``masks``,
``background`` (the classes annotated there), ``attributions``, ``native_heatmaps`` (before they
were enlarged and post-processed), ``differences`` (f(x) - f(x') of a path method), ``explain``
(images and targets to heatmaps), ``heatmaps_of`` (another explainer's text to its heatmaps of the
same images), ``concept_maps_of`` (a concept's name and a layer's to its maps of the same images),
``explained_by`` (see `ExplainedBy`), ``whole_set`` (see `WholeSet`) and the name of any other
metric (its values).
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol

import msgspec
import numpy as np

from xai_core.arrays import (
    ArrayLike,
    Float32,
    Float64,
    Int64,
    as_attributions,
    as_heatmaps,
    as_images,
    as_masks,
    as_numpy,
    as_targets,
)
from xai_core.errors import ParameterError, ShapeError, UndefinedMeasurementError, did_you_mean
from xai_core.imageset.background import as_background

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

P = ParamSpec("P")
Better = Literal["higher", "lower"]

NOT_ARRAYS = (
    "classifier",
    "explain",
    "heatmaps_of",
    "concept_maps_of",
    "explained_by",
    "whole_set",
)
"""The needs that are no arrays of one value or map for each image."""


class ExplainedBy(Protocol):
    """The heatmaps of the images that are measured as another classifier is explained.

    A metric with this need gets all images of a set at once, because another classifier is made
    once for all; it should not need the images themselves.
    """

    def __call__(
        self, classifier: Classifier, change: Callable[[Float32], Float32] | None = None, /
    ) -> Float32:
        """Return heatmaps ``[N, H, W]`` of the images, after ``change`` of each batch of them."""
        ...


@dataclass(frozen=True)
class WholeSet:
    """What is known of all images of a set, for values that depend on the other images.

    A metric with this need gets all images that it is measured on at once; none of them depends
    on which others those are.

    Attributes:
        heatmaps: of all images of the set, float32 ``[M, H, W]``.
        predictions: the class that the classifier gives each of them, int64 ``[M]``.
        rows: the places of the images that are measured among them, int64 ``[N]``.

    Raises:
        ShapeError: heatmaps, classes and rows that do not fit each other.
    """

    heatmaps: Float32 = field(repr=False)
    predictions: Int64 = field(repr=False)
    rows: Int64

    def __post_init__(self) -> None:
        heatmaps = as_heatmaps(self.heatmaps, name="whole_set's heatmaps")
        count = len(heatmaps)
        predictions = as_targets(self.predictions, count, name="whole_set's predictions")
        rows = as_targets(self.rows, 1, name="whole_set's rows")
        if len(predictions) != count or not np.isin(rows, np.arange(count)).all():
            msg = (
                f"whole_set: expected one predicted class for each of {count} heatmaps, and rows "
                f"from 0 to {count - 1}, got {len(predictions)} classes and rows "
                f"{rows[:8].tolist()}"
            )
            raise ShapeError(msg)
        for name, array in (("heatmaps", heatmaps), ("predictions", predictions), ("rows", rows)):
            object.__setattr__(self, name, array)


METRICS: dict[str, Metric] = {}
"""Every declared metric by name."""


@dataclass(frozen=True)
class Metric:
    """One declared metric.

    Attributes:
        name: the field's name, as in threshold files.
        version: the part of the protocol string after the ``@``; a changed definition is a
            new version.
        better: which direction is better.
        range: smallest and largest possible value (``inf`` where there is none).
        scale: of a metric without finite bounds, the smallest size in which changes are told: 1 of
            an error that is relative to something else.
        unit: ``""`` for a share or index, else ``"%"``, ``"nats"``, ...
        source: the paper that defines it.
        assertion: the stem of its assertions, ``assert_<assertion>_above``.
        function: the public function.
        needs: names of its positional parameters.
        settings: keyword parameter -> (type, default); ``Annotated`` with ``msgspec.Meta``
            bounds the values, and its description names them in the error message.
    """

    name: str
    version: str
    better: Better
    range: tuple[float, float]
    unit: str
    source: str
    assertion: str
    function: Callable[..., Float64] = field(repr=False)
    needs: tuple[str, ...]
    settings: Mapping[str, tuple[Any, Any]] = field(repr=False)
    scale: float = 0.01

    @property
    def perfect(self) -> float:
        """The best possible value."""
        return self.range[1] if self.better == "higher" else self.range[0]

    @property
    def summary(self) -> str:
        """The first sentence of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0].replace("\n", " ")

    def configure(self, settings: Mapping[str, object]) -> ConfiguredMetric:
        """Return this metric with ``settings``, names and types checked.

        Raises:
            ParameterError: an unknown setting, or a value of the wrong type or range.
        """
        checked = self.checked(settings)
        complete = {key: checked.get(key, default) for key, (_, default) in self.settings.items()}
        return ConfiguredMetric(self, tuple(complete.items()))

    def checked(self, settings: Mapping[str, object]) -> dict[str, Any]:
        """Return ``settings`` as builtin types, after a check of their names, types and ranges.

        Raises:
            ParameterError: an unknown setting, or a value of the wrong type or range.
        """
        checked: dict[str, Any] = {}
        for key, value in settings.items():
            if key not in self.settings:
                known = did_you_mean(key, self.settings) if self.settings else "it has none"
                msg = f"metric {self.name!r} has no setting {key!r}: {known}"
                raise ParameterError(msg)
            kind = self.settings[key][0]
            plain = value.item() if isinstance(value, np.generic) else value
            try:
                checked[key] = msgspec.convert(plain, kind, strict=True)
            except msgspec.ValidationError as error:
                described = [meta.description for meta in getattr(kind, "__metadata__", ())]
                expected = f"expected {described[0]}" if any(described) else str(error)
                msg = f"metric {self.name!r}, setting {key!r}: {expected}, got {value!r}"
                raise ParameterError(msg) from None
        return checked


@dataclass(frozen=True)
class ConfiguredMetric:
    """A metric with all its settings: what a gate measures, and a key for what was measured."""

    metric: Metric
    settings: tuple[tuple[str, Any], ...]

    @property
    def protocol(self) -> str:
        """``name@version``, with every setting that is not the protocol's default.

        The seed is not part of a protocol: it does not change what is measured.
        """
        changed = [
            f"{key}={value}"
            for key, value in self.settings
            if key != "seed" and value != self.metric.settings[key][1]
        ]
        return f"{self.metric.name}@{self.metric.version}" + (
            f"({', '.join(changed)})" if changed else ""
        )

    def __hash__(self) -> int:
        return hash((self.metric.name, self.settings))

    def part(self, name: str, *, seed: int = 0) -> ConfiguredMetric:
        """Return another metric that this one is made of, as a gate on it would have it.

        Args:
            name: one of this metric's needs.
            seed: the run's, for a part that has one where this metric sets none.

        Returns:
            the part with those of this metric's settings that it has too.
        """
        part, own = METRICS[name], dict(self.settings)
        settings = {key: own[key] for key in part.settings if key in own}
        if "seed" in part.settings:
            settings.setdefault("seed", seed)
        return part.configure(settings)

    def __call__(self, **needs: object) -> Float64:
        """Measure; ``needs`` are the metric's positional parameters by name."""
        return self.metric.function(**needs, **dict(self.settings))


def metric(
    *,
    version: str = "v1",
    better: Better,
    range: tuple[float, float],  # noqa: A002 - the word of the field
    scale: float = 0.01,
    unit: str = "",
    source: str,
    assertion: str | None = None,
) -> Callable[[Callable[P, Float64]], Callable[P, Float64]]:
    """Declare the decorated function as a metric under its own name.

    The function then gets checked arrays only: float32 images and maps, bool masks, all of one
    batch and one size; a single image is a batch of one. It never sees a map that is constant
    or not finite, nor a mask that is empty, nor one that covers the whole image, on which every
    map lies: those are `UndefinedMeasurementError` before it runs.
    """

    def declare(function: Callable[P, Float64]) -> Callable[P, Float64]:
        signature = inspect.signature(function)
        needs = tuple(
            name
            for name, parameter in signature.parameters.items()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        )
        defaults = {
            name: parameter.default
            for name, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        # Of the settings alone: the needs are annotated with types that may be imported late.
        annotated = types.SimpleNamespace(
            __annotations__={name: function.__annotations__[name] for name in defaults}
        )
        hints = typing.get_type_hints(annotated, function.__globals__, include_extras=True)
        settings = {name: (hints[name], default) for name, default in defaults.items()}

        @functools.wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> Float64:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = {name: bound.arguments[name] for name in settings}
            bound.arguments.update(declared.checked(given))
            prepare(bound.arguments, needs)
            return function(*bound.args, **bound.kwargs)

        name = function.__name__
        declared = METRICS[name] = Metric(
            name=name,
            version=version,
            better=better,
            range=range,
            unit=unit,
            source=source,
            assertion=assertion or name,
            function=measured,
            needs=needs,
            settings=settings,
            scale=scale,
        )
        return measured

    return declare


def prepare(arguments: dict[str, Any], needs: tuple[str, ...]) -> None:
    """Bring the arrays among ``arguments`` to their checked form, in place.

    Raises:
        ShapeError: an array has the wrong shape, or they differ in number or size.
        UndefinedMeasurementError: a constant or non-finite map, a mask that is empty or full.
    """
    converters: dict[str, Callable[..., Any]] = {
        "images": as_images,
        "heatmaps": as_heatmaps,
        "masks": as_masks,
        "background": as_background,
        "attributions": as_attributions,
    }
    sizes: dict[str, tuple[int, tuple[int, ...]]] = {}
    for name, convert in converters.items():
        if name in needs:
            array = arguments[name] = _converted(convert, name, arguments[name])
            sizes[name] = (len(array), array.shape[-2:])
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {n} of {h} x {w}" for name, (n, (h, w)) in sizes.items())
        msg = f"arrays differ in number or size: {listed}; give them for the same images and size"
        raise ShapeError(msg)
    count = next(iter(sizes.values()))[0] if sizes else None
    if "targets" in needs:
        array = as_numpy(arguments["targets"])
        arguments["targets"] = as_targets(array, count if count is not None else array.size)
        count = count if count is not None else len(arguments["targets"])
    for name in needs:
        if name == "targets" or name in NOT_ARRAYS or name in converters:
            continue
        if name == "native_heatmaps":
            arguments[name] = _converted(as_heatmaps, name, arguments[name])
            count = count if count is not None else len(arguments[name])
            if len(arguments[name]) != count:
                msg = f"{name}: expected {count}, one for each image, got {len(arguments[name])}"
                raise ShapeError(msg)
            continue
        array = np.atleast_1d(as_numpy(arguments[name]).astype(np.float64))
        arguments[name] = array
        count = count if count is not None else len(array)
        if array.shape != (count,):
            msg = f"{name}: expected one value for each of {count} images, got {array.shape}"
            raise ShapeError(msg)
    if "targets" in needs and len(arguments["targets"]) != count:
        msg = f"targets: expected {count}, one for each image, got {len(arguments['targets'])}"
        raise ShapeError(msg)
    reasons: dict[int, str] = {}
    if "attributions" in needs:
        reasons |= _not_finite(arguments["attributions"], "attributions")
    if "heatmaps" in needs:
        reasons |= unusable_heatmaps(arguments["heatmaps"])
    if "native_heatmaps" in needs:
        reasons |= unusable_heatmaps(arguments["native_heatmaps"])
    if "masks" in needs:
        for index in np.flatnonzero(~arguments["masks"].any(axis=(1, 2))):
            reasons[int(index)] = "the mask is empty"
        for index in np.flatnonzero(arguments["masks"].all(axis=(1, 2))):
            reasons[int(index)] = "the mask covers the whole image, so any heatmap lies on it"
    if reasons:
        raise UndefinedMeasurementError(reasons)


def _converted(convert: Callable[..., Any], name: str, values: ArrayLike) -> Any:
    try:
        return convert(values, name=name)
    except ValueError:
        msg = f"{name}: arrays of different sizes in one batch; resize all of them alike"
        raise ShapeError(msg) from None


def _not_finite(arrays: Float32, name: str) -> dict[int, str]:
    bad = (~np.isfinite(arrays)).reshape(len(arrays), -1).sum(axis=1)
    return {int(i): f"the {name} have {bad[i]} values not finite" for i in np.flatnonzero(bad)}


def unusable_heatmaps(heatmaps: Float32, *, named: str | None = None) -> dict[int, str]:
    """Return index -> reason for every map that is constant or has values not finite.

    Args:
        heatmaps: ``[N, H, W]``.
        named: what the reasons call a map that is no heatmap.
    """
    pixels = "heatmap's pixels" if named is None else f"pixels of the {named}"
    reasons = _not_finite(heatmaps, pixels)
    flat = heatmaps.reshape(len(heatmaps), -1)
    for index in np.flatnonzero(flat.max(axis=1) == flat.min(axis=1)):
        value = float(flat[index, 0])
        why = "zero everywhere" if value == 0 else f"constant ({value:.3g})"
        reasons.setdefault(int(index), f"the {named or 'heatmap'} is {why}")
    return reasons
