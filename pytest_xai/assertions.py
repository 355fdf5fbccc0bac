"""Assertions on explanations: one pair for every declared metric.

``assert_<metric>_above`` and ``assert_<metric>_below`` are made from the metrics' declarations,
so each metric has its assertions, with the same needs, settings and messages as its gates.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from pytest_xai.concept_assertions import (
    assert_concept_absent,
    assert_concept_present,
    assert_neighbours_agree_above,
    assert_tcav_above,
    assert_tcav_below,
)
from pytest_xai.failures import ExplanationError
from pytest_xai.gate_items import failure_text
from pytest_xai.predicted_masks import masks_behind
from pytest_xai.report.rows import masks_note
from xai_core.arrays import Int64, as_numpy
from xai_core.errors import ParameterError, ShapeError, XaiError, did_you_mean
from xai_core.evaluation import Explained, Measurement, measure_rows
from xai_core.gate import Conditions, Judgement, judge, judge_values
from xai_core.imageset.background import as_background
from xai_core.metrics import METRICS, ConfiguredMetric, Metric, WholeSet
from xai_core.metrics.declaration import NOT_ARRAYS
from xai_core.parameters import from_table

_DIMENSIONS_OF_ONE = {
    **dict.fromkeys(("images", "attributions"), 3),
    **dict.fromkeys(("heatmaps", "native_heatmaps", "masks"), 2),
}
_OPTIONS = (
    "mostly",
    "max_failures",
    "per_class",
    "beats",
    "skill_above",
    "undefined",
    "confidence",
)

_GROUPS = "image_groups"
"""Which photograph each image is of; a metric may have `groups` of pixels among its settings."""

_GIVEN_AS = {"whole_set": ["heatmaps", "predictions"], "concept_maps_of": ["concept_maps"]}
"""What stands for a need where plain arrays are measured, which then are the set."""


class UnknownAssertionError(ImportError):
    """No metric has such an assertion.

    An ImportError, because ``from pytest_xai import ...`` would put its own text, without the
    nearest name, in the place of an AttributeError's.
    """

    def __init__(self, name: str) -> None:
        stem = name.removeprefix("assert_").rpartition("_")[0]
        near = did_you_mean(name, assertion_names()).partition(" Known:")[0]
        hint = "" if near.startswith("known") else f": {near}"
        if stem in [metric.assertion for metric in METRICS.values()]:
            hint = f": it ends in `_above` or `_below`{hint.replace(':', ';', 1)}"
        super().__init__(f"pytest_xai has no {name!r}{hint}", name="pytest_xai")


def assert_complete(explained: Any, tolerance: float = 0.05, **keywords: Any) -> Judgement:
    """Assert that the attributions sum to f(x) - f(x'), up to a relative ``tolerance``.

    Args:
        explained: what the fixture ``xai_explain`` gives, or signed attributions
            ``[N, C, H, W]`` with ``differences=``, f(x) - f(x') for each image.
        tolerance: largest mean of the relative error.
        keywords: as for any other assertion.
    """
    __tracebackhide__ = True
    return _check(METRICS["completeness"], explained, tolerance, above=False, keywords=keywords)


def assert_concept_aligned(
    explained: Any,
    threshold: float,
    *,
    concept: str = "",
    layer: str = "",
    by: Literal["energy", "iou", "correlation"] = "energy",
    **keywords: Any,
) -> Judgement:
    """Assert that heatmaps lie where a concept is: that the zebra's map looks at the stripes.

    Args:
        explained: what the fixture ``xai_explain`` gives, or heatmaps ``[N, H, W]`` with
            ``concept_maps=``, the concept's maps of the same shape.
        threshold: at least this much on average.
        concept: its name in ``--xai-concepts``.
        layer: that the concept's map is taken at; ``""`` = the model's default.
        by: ``energy``, the share of positive relevance inside the concept's region; ``iou`` of
            both regions; ``correlation`` of ranks.
        keywords: as for any other assertion, such as ``beats="centre"``.

    Returns:
        the judgement: value, interval, measurement of every image.

    Raises:
        ExplanationError: the demand is not met.
    """
    __tracebackhide__ = True
    metric = METRICS.get(f"concept_{by}")
    if metric is None:
        msg = f"`by`: got {by!r}; {did_you_mean(by, ('energy', 'iou', 'correlation'))}"
        raise ParameterError(msg)
    # Plain arrays bring the maps of their concept, whatever it is called.
    keywords |= {"concept": concept or "concept", "layer": layer}
    if isinstance(explained, Explained) and not concept:
        raise ParameterError("which concept? give `concept`, its name in --xai-concepts")
    return _check(metric, explained, threshold, above=True, keywords=keywords)


def assertion(name: str) -> Callable[..., Judgement]:
    """Return the assertion called ``name``, e.g. ``assert_iou_above``.

    Raises:
        UnknownAssertionError: no metric has such an assertion.
    """
    stem, _, direction = name.removeprefix("assert_").rpartition("_")
    metric = next((metric for metric in METRICS.values() if metric.assertion == stem), None)
    if metric is None or direction not in ("above", "below"):
        raise UnknownAssertionError(name)
    return _make(name, metric, above=direction == "above")


_NAMED = (
    assert_complete,
    assert_concept_absent,
    assert_concept_aligned,
    assert_concept_present,
    assert_neighbours_agree_above,
    assert_tcav_above,
    assert_tcav_below,
)


def assertion_names() -> list[str]:
    """Return the names of all assertions."""
    stems = [metric.assertion for metric in METRICS.values()]
    own = [named.__name__ for named in _NAMED]
    return [*own, *(f"assert_{s}_{d}" for s in stems for d in ("above", "below"))]


def _make(name: str, metric: Metric, *, above: bool) -> Callable[..., Judgement]:
    def check(explained: Any, threshold: float, **keywords: Any) -> Judgement:
        __tracebackhide__ = True
        return _check(metric, explained, threshold, above=above, keywords=keywords)

    side = "at least" if above else "at most"
    given, *needed = _all_needs(metric)
    needs = ", ".join(f"``{need}=``" for need in needed) or "nothing else"
    settings = ", ".join(f"``{key}={value!r}``" for key, (_, value) in metric.settings.items())
    check.__name__ = check.__qualname__ = name
    check.__doc__ = f"""Assert that the images' mean ``{metric.name}`` is {side} ``threshold``.

    {metric.summary}

    Args:
        explained: what the fixture ``xai_explain`` gives; or ``{given}`` as an array or
            tensor, and then {needs} as keywords.
        threshold: in the metric's unit ({metric.unit or "none"}).
        keywords: the metric's settings ({settings or "it has none"}); ``mostly=0.9`` (so many of
            the images must each be on the right side) or ``max_failures=3`` (so many may each be
            on the wrong one), ``undefined=0`` (how many images may have no value),
            ``confidence=0.95``, ``strict=False`` (pass only what is proven); for arrays,
            ``image_groups=`` (which photograph each image is of, where several are of one); and for
            what ``xai_explain`` gives, ``per_class=True`` (the mean of every class),
            ``beats="centre"`` and ``skill_above=0.1``.

    Returns:
        the judgement: value, interval, measurement of every image.

    Raises:
        ExplanationError: the demand is not met.
    """
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("explained", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        inspect.Parameter("threshold", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=float),
        *(inspect.Parameter(need, keyword, default=None) for need in needed),
        *(
            inspect.Parameter(key, keyword, default=value, annotation=kind)
            for key, (kind, value) in metric.settings.items()
        ),
        *(inspect.Parameter(key, keyword, default=None) for key in (*_OPTIONS, _GROUPS, "strict")),
    ]
    check.__signature__ = inspect.Signature(parameters, return_annotation=Judgement)  # type: ignore[attr-defined]
    return check


def _check(
    metric: Metric, explained: Any, threshold: float, *, above: bool, keywords: dict[str, Any]
) -> Judgement:
    __tracebackhide__ = True
    strict = bool(keywords.get("strict"))
    try:
        judgement = _judge(metric, explained, threshold, above=above, keywords=keywords)
    except XaiError as error:
        raise error.with_traceback(None) from None  # the test's own line says where
    if not judgement.passes(strict=strict):
        images = explained.evaluation.images if isinstance(explained, Explained) else None
        masks = masks_behind(metric, images) if images else None
        notes = (masks_note(masks),) if masks else ()
        raise ExplanationError(failure_text(judgement, strict=strict, again=None, notes=notes))
    return judgement


def _judge(
    metric: Metric, explained: Any, threshold: float, *, above: bool, keywords: dict[str, Any]
) -> Judgement:
    given = {key: value for key, value in keywords.items() if value is not None}
    known = {"settings": [*metric.settings], "arrays": _all_needs(metric)[1:]}
    for key in given:
        names = [*known["settings"], *known["arrays"], *_OPTIONS, _GROUPS, "strict"]
        if key not in names:
            msg = f"an assertion on {metric.name} takes no {key!r}: {did_you_mean(key, names)}"
            raise ParameterError(msg)
    options = {key: given[key] for key in _OPTIONS if key in given}
    if isinstance(options.get("beats"), str):
        options["beats"] = [options["beats"]]
    options["above" if above else "below"] = _plain(threshold)
    conditions = from_table(Conditions, options, what=f"assertion on {metric.name}")
    settings = {key: given[key] for key in known["settings"] if key in given}
    if "seed" in metric.settings and isinstance(explained, Explained):
        settings.setdefault("seed", explained.evaluation.seed)  # as a gate has it
    configured = metric.configure(settings)
    arrays = {key: given[key] for key in known["arrays"] if key in given}
    if isinstance(explained, Explained):
        own = [*arrays, *([_GROUPS] if _GROUPS in given else [])]
        if own:
            msg = f"what xai_explain gives brings its own {' and '.join(own)}; leave them out"
            raise ParameterError(msg)
        return judge(explained.evaluation, explained.method, configured, conditions)
    if conditions.beats or conditions.skill_above is not None:
        msg = "`beats` and `skill_above` need what the fixture xai_explain gives, not arrays"
        raise ParameterError(msg)
    if conditions.per_class:
        msg = "`per_class` needs what the fixture xai_explain gives: arrays have no classes"
        raise ParameterError(msg)
    measurement = _measure_arrays(configured, explained, arrays)
    if _GROUPS in given:
        groups = _groups(given[_GROUPS], len(measurement.names))
        measurement = replace(measurement, groups=groups)
    return judge_values(measurement, conditions, model="", nulls={})


def _groups(groups: Any, images: int) -> tuple[str, ...]:
    """Return the name of the photograph that each image is of."""
    listed = groups.tolist() if hasattr(groups, "tolist") else groups
    if isinstance(listed, str) or not isinstance(listed, Sequence) or len(listed) != images:
        given = len(listed) if isinstance(listed, Sequence) else type(groups).__name__
        msg = f"{_GROUPS}: expected {images} names or numbers, one for each image, got {given}"
        raise ShapeError(msg)
    for index, group in enumerate(listed):
        if not isinstance(group, str | int) or group == "":
            msg = (
                f"{_GROUPS}: image {index} is of {group!r}; give the name or number of its "
                "photograph"
            )
            raise ParameterError(msg)
    return tuple(str(group) for group in listed)


def _plain(number: Any) -> Any:
    """Return a NumPy scalar or a tensor of one value as Python's own number."""
    return number.item() if hasattr(number, "item") else number


def _all_needs(metric: Metric) -> list[str]:
    """Return what a metric needs, and those that it is made of; what is explained first."""
    needs: list[str] = []
    for need in metric.needs:
        needs += _all_needs(METRICS[need]) if need in METRICS else _GIVEN_AS.get(need, [need])
    return sorted(dict.fromkeys(needs), key=lambda need: need not in ("heatmaps", "attributions"))


def _measure_arrays(
    configured: ConfiguredMetric, explained: Any, given: dict[str, Any]
) -> Measurement:
    metric = configured.metric
    needs = _all_needs(metric)
    first = needs[0]
    inputs = {first: explained, **given}
    missing = [need for need in needs if need not in inputs]
    if missing:
        listed = ", ".join(f"{need}=" for need in missing)
        msg = f"{metric.name} of plain {first} also needs {listed}"
        raise ParameterError(msg)
    batched = {key: _batched(key, value) for key, value in inputs.items()}
    count = len(batched[first])
    for key, value in batched.items():
        if key not in NOT_ARRAYS and np.ndim(value) and len(value) != count:
            msg = f"{key}: expected {count}, one for each of the {first}, got {len(value)}"
            raise ShapeError(msg)

    def rows_of(rows: Int64) -> dict[str, Any]:
        return {
            key: value if key in NOT_ARRAYS or np.ndim(value) == 0 else value[rows]
            for key, value in batched.items()
        }

    def all_inputs(rows: Int64) -> dict[str, Any]:
        plain = rows_of(rows)
        if "whole_set" in metric.needs:
            plain["whole_set"] = WholeSet(batched["heatmaps"], batched["predictions"], rows)
        if "concept_maps_of" in metric.needs:
            plain["concept_maps_of"] = lambda *_: plain["concept_maps"]
        return {
            need: configured.part(need)(**{k: plain[k] for k in METRICS[need].needs})
            if need in METRICS
            else plain[need]
            for need in metric.needs
        }

    values, undefined = measure_rows(configured, all_inputs, np.arange(count))
    names = tuple(f"image {index}" for index in range(count))
    return Measurement(configured, first, names, values, undefined)


def _batched(name: str, value: Any) -> Any:
    """Return an array with a first axis of images, whatever it was; other things as they are."""
    if name in NOT_ARRAYS:
        return value
    if name == "background":
        return as_background(value)
    array = as_numpy(value)
    single = {"images": 3, "attributions": 3}.get(
        name, 2 if name.endswith(("maps", "masks")) else -1
    )
    return array[None] if array.ndim == single else array
