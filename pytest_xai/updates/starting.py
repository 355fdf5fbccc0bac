"""The threshold file of a model that has none: what it holds before and after it is measured."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_xai.image_sources import ImageSource
from pytest_xai.settings import Settings

_EXPLAINERS = {
    "gradcam": "",
    "ig": 'kind = "integrated_gradients"\nsteps = 50\n',
}
_GATES = {
    ("gradcam", "energy_pointing_game"): 'beats = "centre"',
    ("gradcam", "iou"): "",
    ("gradcam", "faithfulness_gap"): "",
    ("gradcam", "stability"): "",
    ("gradcam", "sparseness"): "",
    ("ig", "completeness"): "",
}
"""Few gates that carry evidence: README.md, "Why null maps"."""

GateKey = tuple[str, str]
_NOTHING: Mapping[GateKey, str] = {}


@dataclass(frozen=True)
class StartingFile:
    """A threshold file in the making.

    Attributes:
        path: where it is.
        model: that it is for.
        data: the lines of its table ``[data]``.
    """

    path: Path
    model: str
    data: str

    @classmethod
    def of(cls, path: Path, model: str, settings: Settings, root: Path) -> StartingFile:
        """Return the file for ``model`` on the images that the command line gives.

        Args:
            path: where it is to be.
            model: as ``--xai-model`` names it.
            settings: of the run.
            root: the folder that paths in threshold files are relative to.
        """
        return cls(path, model, _data_table(settings, root))

    def create(self) -> None:
        """Write it with gates that have no threshold yet, so that they can be collected.

        Raises:
            OSError: it is there already, or its folder cannot be written to.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("x", encoding="utf-8") as file:
            file.write(self.text())

    def discard(self) -> None:
        """Remove it if nothing was put into it."""
        if self.path.is_file() and self.path.read_bytes() == self.text().encode():
            self.path.unlink()

    def text(
        self, kept: Collection[GateKey] = tuple(_GATES), numbers: Mapping[GateKey, str] = _NOTHING
    ) -> str:
        """Return what it says.

        Args:
            kept: explainer and name of the gates that it has.
            numbers: the same -> what was measured, as it is to stand there.
        """
        parts = [
            f"# Thresholds of {self.model}, measured by `pytest --xai-update`: review and commit.\n"
            "# On another draw of images, all else equal, each is missed about once in a hundred "
            "times.\n"
        ]
        if self.data:
            parts.append(f"[data]\n{self.data}")
        explainers = [name for name in _EXPLAINERS if any(name == gate[0] for gate in kept)]
        parts += [f"[explainers.{name}]\n{_EXPLAINERS[name]}" for name in explainers]
        for name in explainers:
            lines = [f"[gates.{name}]"]
            for gate, demand in _GATES.items():
                if gate in kept and gate[0] == name:
                    inside = ", ".join(filter(None, (numbers.get(gate, ""), demand)))
                    lines.append(f"{gate[1]} = {f'{{ {inside} }}' if inside else '{}'}")
            parts.append("\n".join(lines) + "\n")
        return "\n".join(parts)


def _data_table(settings: Settings, root: Path) -> str:
    lines = []
    sources = settings.data
    if len(sources) == 1 and sources[0] == ImageSource.of(sources[0].path):
        lines.append(f"path = {_quoted(_under_root(sources[0].path, root))}")
    elif sources:
        paths = ", ".join(
            f"{_quoted(source.name)} = {_quoted(_under_root(source.path, root))}"
            for source in sources
        )
        lines.append(f"paths = {{ {paths} }}")
    if settings.limit is not None:
        lines.append(f"limit = {settings.limit}")
    return "".join(f"{line}\n" for line in lines)


def _quoted(text: str) -> str:
    import tomlkit

    return tomlkit.item(text).as_string()


def _under_root(path: str, root: Path) -> str:
    """Return a path relative to the root where it lies there; other texts as they are."""
    if not Path(path).exists():
        return path
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - no symlinks
    under = absolute.relative_to(root) if absolute.is_relative_to(root) else absolute
    return under.as_posix()
