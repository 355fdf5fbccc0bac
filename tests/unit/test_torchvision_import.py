"""Each fact is seen in a fresh interpreter, because an import happens once in a process."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FAKE_TORCHVISION = """
import sys
import torch
import torchvision.leftover
{failure}
"""


def run(code: str, *, path: Path | None = None) -> str:
    """Run the code in a fresh interpreter and return what it prints."""
    before = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    code = before + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fake(folder: Path, failure: str) -> Path:
    """Write a package called torchvision whose import runs ``failure``."""
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(FAKE_TORCHVISION.format(failure=failure))
    (package / "leftover.py").write_text("")
    return folder


def test_models_and_transforms_work_after_the_import() -> None:
    printed = run("""
        from xai_core.torchvision_import import import_torchvision
        torchvision = import_torchvision()
        import torch
        from torchvision.transforms import v2
        image = v2.Resize(32)(torch.rand(1, 3, 64, 64))
        print(tuple(torchvision.models.squeezenet1_1(num_classes=5)(image).shape))
    """)
    assert printed == "(1, 5)"


def test_a_second_call_gives_the_same_module() -> None:
    printed = run("""
        import sys
        from xai_core.torchvision_import import import_torchvision
        print(import_torchvision() is import_torchvision() is sys.modules["torchvision"])
    """)
    assert printed == "True"


def test_it_works_after_an_import_that_failed_before() -> None:
    printed = run("""
        try:
            import torchvision
        except RuntimeError:
            pass
        from xai_core.torchvision_import import import_torchvision
        print(import_torchvision().models.resnet18.__name__)
    """)
    assert printed == "resnet18"


def test_operators_that_are_missing_are_declared_and_the_import_tried_again(tmp_path: Path) -> None:
    fails = """
if not hasattr(torch.ops.torchvision, "nms") or not hasattr(torch.ops.torchvision, "qnms"):
    raise RuntimeError("operator torchvision::nms does not exist")
"""
    printed = run(
        """
        import gc
        from xai_core.torchvision_import import import_torchvision
        torchvision = import_torchvision()
        gc.collect()
        import torch
        print(hasattr(torch.ops.torchvision, "nms"), torchvision.__name__)
        """,
        path=fake(tmp_path, fails),
    )
    assert printed == "True torchvision"


def test_a_torchvision_that_imports_gets_no_operators(tmp_path: Path) -> None:
    printed = run(
        """
        from xai_core.torchvision_import import import_torchvision
        import_torchvision()
        import torch
        print(hasattr(torch.ops.torchvision, "nms"))
        """,
        path=fake(tmp_path, ""),
    )
    assert printed == "False"


@pytest.mark.parametrize(
    "failure",
    ["raise RuntimeError('CUDA versions differ')", "raise ImportError('no operator there')"],
)
def test_any_other_failure_comes_through_unchanged(tmp_path: Path, failure: str) -> None:
    printed = run(
        """
        import sys
        from xai_core.torchvision_import import import_torchvision
        try:
            import_torchvision()
        except (RuntimeError, ImportError) as error:
            import torch
            print(f"raise {error!r}")
            print(hasattr(torch.ops.torchvision, "nms"))
            print([name for name in sys.modules if name.startswith("torchvision")])
        """,
        path=fake(tmp_path, failure),
    )
    assert printed.splitlines() == [failure, "False", "[]"]


def test_an_import_that_fails_twice_raises_and_leaves_no_module_behind(tmp_path: Path) -> None:
    printed = run(
        """
        import sys
        from xai_core.torchvision_import import import_torchvision
        for attempt in range(2):
            try:
                import_torchvision()
            except RuntimeError as error:
                print(error, [name for name in sys.modules if name.startswith("torchvision")])
        """,
        path=fake(tmp_path, "raise RuntimeError('operator torchvision::other does not exist')"),
    )
    assert printed.splitlines() == ["operator torchvision::other does not exist []"] * 2


@pytest.mark.parametrize(
    "code",
    ["import torchvision\ndef made():\n", "def made():\n    import torchvision\n"],
    ids=["as it is imported", "as it is called"],
)
@pytest.mark.parametrize(
    ("returned", "used"),
    [
        (
            "torchvision.models.squeezenet1_1(num_classes=5)",
            "from xai_core.classifier.factory import call_factory\n"
            "print(type(call_factory('user:made', 0)).__name__)",
        ),
        (
            "(yield 'one', torchvision.transforms.Resize(8)(torch.rand(3, 9, 9)).numpy(), None, 0)",
            "from xai_core.imageset import load_imageset\n"
            "print(len(load_imageset('user:made', size=(8, 8))))",
        ),
    ],
    ids=["model", "images"],
)
def test_code_of_users_may_import_torchvision(
    code: str, returned: str, used: str, tmp_path: Path
) -> None:
    (tmp_path / "user.py").write_text(f"import torch\n{code}    return {returned}\n")
    assert run(used, path=tmp_path) in {"SqueezeNet", "1"}


def test_code_of_users_is_called_once_where_it_fails_otherwise() -> None:
    printed = run("""
        from xai_core.torchvision_import import with_torchvision
        def fails():
            print("called")
            raise RuntimeError("something else")
        try:
            with_torchvision(fails)
        except RuntimeError as error:
            print(error)
    """)
    assert printed == "called\nsomething else"
