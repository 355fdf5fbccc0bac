"""The house as designed: who may import whom, what a module may be called, what is documented."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("xai_core", "pytest_xai")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
DUMPING_GROUNDS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "tools"}

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def modules_after(statements: str) -> set[str]:
    """The names of the modules that a fresh interpreter holds after these statements."""
    code = f"{statements}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Documented]]:
    """Every public function, class, and method, but not overloads and property setters."""
    for node in body:
        if not isinstance(node, Documented) or node.name.startswith("_"):
            continue
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        if decorators & {"overload", f"{node.name}.setter"}:
            continue
        yield f"{prefix}{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from public(node.body, f"{prefix}{node.name}.")


def only_declares_an_attribute(node: Documented) -> bool:
    """Whether it is a property of a protocol, which the class's own docstring describes."""
    if isinstance(node, ast.ClassDef):
        return False
    is_property = any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
    return is_property and ast.unparse(node.body[-1]) == "..."


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_library_never_imports_pytest() -> None:
    loaded = modules_after(
        "import importlib, pkgutil, xai_core\n"
        "for found in pkgutil.walk_packages(xai_core.__path__, 'xai_core.'):\n"
        "    importlib.import_module(found.name)"
    )
    assert "xai_core.explainers.cam" in loaded
    assert not roots(loaded) & {"pytest", "_pytest", "pytest_xai"}


def test_importing_the_library_alone_imports_nothing_heavy() -> None:
    loaded = roots(modules_after("import xai_core; assert 'load_classifier' in xai_core.__all__"))
    assert not loaded & {"torch", "torchvision", "numpy", "scipy", "skimage", "PIL", "msgspec"}


def test_every_name_that_the_library_offers_can_be_imported() -> None:
    import xai_core

    assert sorted(xai_core.__all__, key=str.lower) == sorted(set(xai_core.__all__), key=str.lower)
    for name in xai_core.__all__:
        assert getattr(xai_core, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'load_clasifier'"):
        _ = xai_core.load_clasifier


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_answers_one_question_and_says_which(path: Path) -> None:
    assert not {part.lower() for part in path.relative_to(ROOT).with_suffix("").parts} & (
        DUMPING_GROUNDS
    )
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module has no docstring"
    bare = [
        name
        for name, node in public(tree.body)
        if not ast.get_docstring(node) and not only_declares_an_attribute(node)
    ]
    assert not bare, f"without a docstring: {', '.join(bare)}"


def test_pytest_is_told_not_to_rewrite_the_librarys_packages() -> None:
    for path in (ROOT / "xai_core").rglob("__init__.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert "PYTEST_DONT_REWRITE" in (docstring or ""), path
