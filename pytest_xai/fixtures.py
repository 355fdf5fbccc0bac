"""Fixtures for tests in Python: the model, its images, and its explanations.

Loaded in every pytest run, so it imports pytest and the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xai_core.classifier import Classifier
    from xai_core.concepts.result import TCAVResult
    from xai_core.evaluation import Explained
    from xai_core.explainers import Explainer
    from xai_core.imageset import ImageSet


@pytest.fixture(scope="session")
def xai_model(request: pytest.FixtureRequest) -> Classifier:
    """The classifier under test; a test runs once for every ``--xai-model``.

    ::

        def test_knows_its_classes(xai_model):
            assert xai_model.num_classes == 1000
    """
    from pytest_xai.session import session_of

    name = getattr(request, "param", None)
    if name is None:
        pytest.fail(
            "the fixture xai_model needs a model: run pytest with --xai-model NAME, or set "
            "`xai_models` in the ini file",
            pytrace=False,
        )
    session = session_of(request.config)
    with _message_alone():
        return session.classifier(name, session.thresholds_of(name))


@pytest.fixture(scope="session")
def xai_explainer(request: pytest.FixtureRequest) -> Explainer:
    """The explainer under test; a test runs once for every ``--xai-explainer``.

    ::

        def test_finds_the_object(xai_explain, xai_explainer):
            assert_pointing_game_above(xai_explain(xai_explainer), 0.8)
    """
    from pytest_xai.session import session_of

    text = getattr(request, "param", None)
    if text is None:
        pytest.fail(
            "the fixture xai_explainer needs an explainer: run pytest with --xai-explainer NAME, "
            "or set `xai_explainers` in the ini file; pytest --xai-explainers lists them",
            pytrace=False,
        )
    with _message_alone():
        return session_of(request.config).explainer(text)


@pytest.fixture(scope="session")
def xai_data(xai_model: Classifier, request: pytest.FixtureRequest) -> str | None:
    """The name of the image set in use; a test runs once for every ``--xai-data``.

    None where nothing names images. ``xai_images`` and ``xai_explain`` are of this set::

        def test_finds_the_object(xai_explain, xai_data):
            assert_iou_above(xai_explain("gradcam"), 0.3 if xai_data == "sketches" else 0.45)
    """
    from pytest_xai.session import session_of

    session = session_of(request.config)
    with _message_alone():
        sources = session.sources.image_sources(
            xai_model.name, session.thresholds_of(xai_model.name)
        )
    return getattr(request, "param", sources[0].name if sources else None)


@pytest.fixture(scope="session")
def xai_images(
    xai_model: Classifier, xai_data: str | None, request: pytest.FixtureRequest
) -> ImageSet:
    """The images that ``--xai-data``, the model's threshold file or the ini name.

    ::

        def test_has_masks(xai_images):
            assert xai_images.has_masks
    """
    from pytest_xai.session import session_of

    session = session_of(request.config)
    with _message_alone():
        return session.images(xai_model.name, session.thresholds_of(xai_model.name), xai_data)


@pytest.fixture(scope="session")
def xai_explain(
    xai_model: Classifier, xai_data: str | None, request: pytest.FixtureRequest
) -> Callable[..., Explained]:
    """Explain the images: ``xai_explain("gradcam")``; computed once however many tests ask.

    The name is one of the threshold file's explainers, or an explainer with its parameters; an
    explainer object is taken as well::

        def test_looks_at_the_object(xai_explain):
            assert_iou_above(xai_explain("gradcam"), 0.45)
            assert_complete(xai_explain("integrated_gradients", steps=20), tolerance=0.05)
    """
    from pytest_xai.session import session_of
    from xai_core.errors import XaiError

    session = session_of(request.config)
    name = xai_model.name

    def explain(
        explainer: str | Explainer, *, postprocess: Sequence[str] = (), **parameters: object
    ) -> Explained:
        __tracebackhide__ = True
        try:
            return session.explained(name, explainer, postprocess, parameters, xai_data)
        except XaiError as error:
            raise error.with_traceback(None) from None  # the test's own line says where

    return explain


@pytest.fixture(scope="session")
def xai_tcav(
    xai_model: Classifier, xai_data: str | None, request: pytest.FixtureRequest
) -> Callable[..., TCAVResult]:
    """Test a concept: ``xai_tcav("striped", class_="zebra")``; once however many tests ask.

    The concept is a folder of ``--xai-concepts`` (or of the threshold file, or the ini), or one
    that a table ``[concepts.NAME]`` gives a folder of its own; the class a name or an index; what
    else is given are fields of `xai_core.concepts.tcav.TCAV`. The p-value is that of one test: who
    asks for several corrects them with `xai_core.concepts.tcav.corrected`::

        def test_ignores_the_ruler(xai_tcav):
            found = xai_tcav("ruler", class_="malignant", layer="layer4")
            assert found.verdict == "absent", found.headline()
    """
    from pytest_xai.session import session_of
    from xai_core.errors import XaiError

    session = session_of(request.config)
    name = xai_model.name

    def test(
        concept: str, *, class_: str | int, against: str = "random", **parameters: object
    ) -> TCAVResult:
        __tracebackhide__ = True
        try:
            return session.tcav(name, concept, class_, against, parameters, xai_data)
        except XaiError as error:
            raise error.with_traceback(None) from None  # the test's own line says where

    return test


@contextmanager
def _message_alone() -> Iterator[None]:
    """Show the library's own errors without a traceback: they are complete as they are."""
    from xai_core.errors import XaiError

    try:
        yield
    except XaiError as error:
        pytest.fail(str(error), pytrace=False)
