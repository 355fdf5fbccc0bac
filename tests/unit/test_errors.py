"""Errors: one root, and messages that say what to do."""

from __future__ import annotations

import inspect

import pytest

from xai_core import errors
from xai_core.errors import (
    ClassifierError,
    LayerError,
    MissingExtraError,
    UndefinedMeasurementError,
    WeightsError,
    XaiError,
    did_you_mean,
)

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_stands_under_one_root(kind: type[Exception]) -> None:
    assert issubclass(kind, XaiError)
    assert kind.__name__.endswith("Error")


def test_weights_and_layers_are_problems_of_the_classifier() -> None:
    assert issubclass(WeightsError, ClassifierError)
    assert issubclass(LayerError, ClassifierError)


def test_a_missing_extra_says_what_to_install() -> None:
    message = str(MissingExtraError("a model of timm", package="timm", extra="timm"))
    assert message == (
        "a model of timm needs the package 'timm', which is not installed: "
        "pip install 'pytest-xai[timm]'"
    )


def test_an_undefined_measurement_lists_its_images_in_order() -> None:
    reasons = {4: "the mask is empty", 1: "the heatmap is zero everywhere"}
    error = UndefinedMeasurementError(reasons)
    assert error.reasons == reasons
    assert str(error) == (
        "undefined for 2 image(s): image 1: the heatmap is zero everywhere; "
        "image 4: the mask is empty"
    )


def test_near_names_come_first_and_all_names_follow() -> None:
    known = ["gradcam", "occlusion", "lime"]
    assert did_you_mean("gradcan", known) == (
        "did you mean 'gradcam'? Known: gradcam, lime, occlusion"
    )
    assert did_you_mean("xyz", known) == "known: gradcam, lime, occlusion"


def test_a_long_list_of_names_is_cut() -> None:
    message = did_you_mean("xyz", [f"layer{number:03}" for number in range(100)])
    assert message.endswith("layer029, ...")
