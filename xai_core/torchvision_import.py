"""The one place where torchvision is imported, and where code of users that imports it is run.

torchvision's wheel looks for its compiled operators beside torch's. Where the two builds do not
match (for example a CPU build of torch from another index), they are not found and the import
stops with ``operator torchvision::nms does not exist``, although no classification model and no
transform uses them. Declaring the schemas of the two operators that it asks for is enough for
all of those to work; a detection model would still stop, at its first call of ``nms``.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch.library import Library

_MISSING_OPERATOR = re.compile(r"operator torchvision::\w+ does not exist")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# torch forgets what a Library declared as soon as the object is collected.
_declared: list[Library] = []

Result = TypeVar("Result")


def import_torchvision() -> ModuleType:
    """Return torchvision, imported even where its compiled operators are missing.

    The operators' schemas are declared only when the import fails because they are missing; a
    torchvision that imports is left as it is. A failed import leaves no half-imported module
    behind. May be called any number of times.

    Raises:
        Exception: whatever else importing torchvision raises, unchanged.
    """
    return with_torchvision(_import_whole)


def with_torchvision(call: Callable[[], Result]) -> Result:
    """Return ``call()``, code of a user's that may import torchvision in the ordinary way.

    Where it stops because torchvision's operators are missing, their schemas are declared and it
    is called once more.

    Raises:
        Exception: whatever else the call raises, unchanged.
    """
    try:
        return call()
    except RuntimeError as error:
        if _MISSING_OPERATOR.search(str(error)) is None:
            raise
    _forget_half_imported()
    _declare_missing_operators()
    return call()


def _import_whole() -> ModuleType:
    """Import torchvision; when that fails, drop the submodules that it left behind."""
    try:
        return importlib.import_module("torchvision")
    except BaseException:
        _forget_half_imported()
        raise


def _forget_half_imported() -> None:
    """Drop the submodules of a torchvision that is not there, since its import failed."""
    if "torchvision" in sys.modules:
        return
    for name in list(sys.modules):
        if name.startswith("torchvision."):
            del sys.modules[name]


def _declare_missing_operators() -> None:
    import torch

    # A fragment, unlike a definition, lives beside whatever else declares operators there.
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(operator + _SCHEMA)  # type: ignore[no-untyped-call]
    _declared.append(library)
