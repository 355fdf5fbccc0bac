"""Which code a result rests on: a digest that changes whenever that code may compute another value.

Of this package every source file counts, and the versions of the libraries that compute for it. Of
a user's own module (an explainer, a metric, a network) its source file counts, with those of the
user's modules that it imports, and theirs; of installed packages the version. What code reads from
other files, or builds at run time, is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from xai_core.errors import XaiError
from xai_core.loaded import LOADED

_PACKAGE = "xai_core"
_LIBRARIES = (
    "captum",
    "numpy",
    "pillow",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "torchvision",
)
_INSTALLED = {"site-packages", "dist-packages"}


class UnidentifiedError(XaiError):
    """What a result rests on cannot be told from what it may be in another run."""


class Code:
    """Digests of the code behind results, as it was loaded.

    A file that was changed after it was loaded says nothing of what runs, so whatever rests on it
    is unidentified until the next run.

    Args:
        opened: time before which the user's files must have been written, in seconds since 1970.
    """

    def __init__(self, *, opened: float) -> None:
        self._opened = opened
        self._known: dict[frozenset[str], str] = {}

    def own(self) -> str:
        """Return the digest of this package and the versions of the libraries under it.

        Raises:
            UnidentifiedError: a file of the package was changed while it was loaded.
        """
        if _OWN is None:
            msg = "a source file of xai_core was changed while it was loaded"
            raise UnidentifiedError(msg)
        return _OWN

    def behind(self, *things: object) -> str:
        """Return a digest of the code behind classes and functions, outside this package.

        Raises:
            UnidentifiedError: there is no source file to tell it by, or it was changed.
        """
        kinds = [
            kind
            for thing in things
            for kind in (inspect.getmro(thing) if isinstance(thing, type) else (_bare(thing),))
        ]
        names = frozenset(getattr(kind, "__module__", None) or "builtins" for kind in kinds)
        if names not in self._known:
            found: dict[str, str] = {}
            for name in sorted(names):
                self._follow(name, found, required=True)
            self._known[names] = hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()
        return self._known[names]

    def _follow(self, name: str, found: dict[str, str], *, required: bool) -> None:
        """Add the digest of a module, and of what it imports, to ``found``."""
        top = name.partition(".")[0]
        if name in found or top == _PACKAGE or top in sys.stdlib_module_names - {"__main__"}:
            return
        path = _source_of(name)
        if path is None and required:  # compiled into a package, as many of torch's functions are
            path = _source_of(top)
        if path is None:
            if required:
                msg = f"{name} has no source file"
                raise UnidentifiedError(msg)
            return
        if _INSTALLED & set(path.parts):
            found[name] = _version_of(top) or _digest_of(path)
            return
        if path.stat().st_mtime > self._opened:
            msg = f"{path} was changed after it was loaded"
            raise UnidentifiedError(msg)
        found[name] = _digest_of(path)
        for imported in _imports_of(name, path):
            self._follow(imported, found, required=False)


def _bare(thing: object) -> object:
    """Return a function without its decorators."""
    return inspect.unwrap(thing) if callable(thing) else thing


def _source_of(name: str) -> Path | None:
    """Return the file of a module, None where there is no such module or it has no file."""
    module = sys.modules.get(name)
    spec = _spec_of(name) if module is None else None
    file = getattr(module, "__file__", None) or (spec.origin if spec else None)
    path = Path(file) if file else None
    return path if path is not None and path.is_file() else None


def _spec_of(name: str) -> ModuleSpec | None:
    """Find a module as an import would, but import nothing: neither it nor its package."""
    loaded: ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    package, _, _ = name.rpartition(".")
    if not package:
        return PathFinder.find_spec(name)
    above = _spec_of(package)
    places = above.submodule_search_locations if above else None
    return PathFinder.find_spec(name, places) if places else None


def _imports_of(name: str, path: Path) -> Iterator[str]:
    """Yield what may be modules among all that a source file imports, within functions too."""
    if path.suffix != ".py":
        return
    module = sys.modules.get(name)
    package = _package_of(name, module, path)
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                try:
                    base = importlib.util.resolve_name("." * node.level + base, package)
                except ImportError:
                    continue
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _package_of(name: str, module: ModuleType | None, path: Path) -> str:
    known = getattr(module, "__package__", None)
    if known is not None:
        return str(known)
    return name if path.stem == "__init__" else name.rpartition(".")[0]


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _version_of(name: str) -> str:
    """Return the version of an installed package; empty where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", ""))


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _own_code() -> str | None:
    """Return the digest of this package; None if a file may not be what was loaded."""
    package = Path(__file__).parents[1]
    hasher = hashlib.sha256(_PACKAGE.encode())
    for path in sorted(package.rglob("*.py")):
        if path.stat().st_mtime > LOADED:
            return None
        hasher.update(f"|{path.relative_to(package).as_posix()} {_digest_of(path)}".encode())
    hasher.update(repr([(name, _version_of(name)) for name in _LIBRARIES]).encode())
    return hasher.hexdigest()


_OWN = _own_code()  # at once, before a file can change
