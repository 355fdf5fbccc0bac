"""Every property of every explainer as a test of its own."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from xai_core.checks import CHECKS, Check, CheckFailedError, RefusedError
from xai_core.explainers import Explainer


@dataclass(frozen=True)
class ExplainerCheck:
    """One check as a test runs it: ``check(explainer)``."""

    check: Check

    def __call__(self, explainer: Explainer) -> None:
        """Run the check; where the explainer does not promise the property, never fail.

        Raises:
            CheckFailedError: the explainer lacks a property that it must have.
        """
        __tracebackhide__ = True
        try:
            self.check.run(explainer)
        except CheckFailedError as error:
            if self.check.duty(explainer) != "not promised":
                raise error.with_traceback(None) from error.__cause__
            outcome = "does not apply" if isinstance(error, RefusedError) else "does not hold"
            first_line = str(error).partition("\n")[0]
            pytest.xfail(f"not promised, {outcome}: {first_line}")


def parametrize_with_checks(explainers: Sequence[Explainer]) -> pytest.MarkDecorator:
    """Run a test once for every explainer and every check of `xai_core.checks`.

    ::

        @parametrize_with_checks([GradCAM(), MyExplainer(samples=20)])
        def test_keeps_its_promises(explainer, check):
            check(explainer)

    The ids are short, ``gradcam-batch_independence``, for ``-k`` and ``::``. A property that the
    explainer must have, or promises, passes or fails. One that it does not promise is run as
    well and never fails: it is reported as xpassed where it holds, and as xfailed, with what was
    measured, where it does not (``pytest -rxX`` lists both).
    """
    kinds = Counter(explainer.kind for explainer in explainers)
    parameters = [
        pytest.param(
            explainer,
            ExplainerCheck(check),
            id=f"{_name(explainer, kinds[explainer.kind] > 1)}-{check.name}",
            marks=_marks(check, explainer),
        )
        for explainer in explainers
        for check in CHECKS.values()
    ]
    return pytest.mark.parametrize(("explainer", "check"), parameters)


def _marks(check: Check, explainer: Explainer) -> tuple[pytest.MarkDecorator, ...]:
    if check.duty(explainer) != "not promised":
        return ()
    # Strictness is said, because the ini file may set it for all; an error that is no finding of
    # the check fails as anywhere else.
    return (
        pytest.mark.xfail(
            strict=False, reason="not promised, yet it holds", raises=CheckFailedError
        ),
    )


def _name(explainer: Explainer, has_namesakes: bool) -> str:
    """Return the kind, and what tells the explainer from others of its kind in the list."""
    if not has_namesakes or not dataclasses.is_dataclass(explainer):
        return explainer.kind
    changed = [
        f"{field.name}={getattr(explainer, field.name)!r}"
        for field in dataclasses.fields(explainer)
        if getattr(explainer, field.name) != field.default
    ]
    return f"{explainer.kind}({', '.join(changed)})" if changed else explainer.kind
