"""The first gates of a model's threshold file: what it holds before and after they are measured."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_xai.image_sources import ImageSource
from pytest_xai.settings import Settings
from pytest_xai.thresholds import NO_GATES_YET
from pytest_xai.toml_source import digest_of
from pytest_xai.updates.writing import replace_text

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
    # A few images where f(x) - f(baseline) is next to nothing would rule its mean.
    ("ig", "completeness"): "below = 0.25, mostly = 0.75",
}
"""Few gates that carry evidence (README.md, "Why null maps"), and what they ask from the start."""

GateKey = tuple[str, str]
_NOTHING: Mapping[GateKey, str] = {}
_RATE = "# On another draw of images, all else equal, each is missed about once in a hundred times."


@dataclass(frozen=True)
class StartingFile:
    """A threshold file in the making.

    Attributes:
        path: where it is.
        shown: how messages call it.
        model: that it is for.
        data: the lines of its table ``[data]``; none where it has that table.
        before: what stands in it and stays, as its user wrote it; None where there is no file.
    """

    path: Path
    shown: str
    model: str
    data: str
    before: str | None = None

    @classmethod
    def of(
        cls, path: Path, shown: str, model: str, settings: Settings, root: Path
    ) -> StartingFile | None:
        """Return the file for ``model`` on the images that the command line gives.

        Args:
            path: where it is, or is to be.
            shown: how messages call it.
            model: as ``--xai-model`` names it.
            settings: of the run.
            root: the folder that paths in threshold files are relative to.

        Returns:
            None where a file is there that says more than which model and which images.
        """
        data = _data_table(settings, root)
        if not path.exists():
            return cls(path, shown, model, data)
        try:
            before = path.read_bytes().decode("utf-8")
            tables = tomllib.loads(before)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):  # told as the file is read
            return None
        if not NO_GATES_YET.issuperset(tables):
            return None
        return cls(path, shown, model, "" if "data" in tables else data, before)

    @property
    def names_images(self) -> bool:
        """Whether it says which images, so that no command line need say it."""
        table = tomllib.loads(self.text()).get("data", {})
        return "path" in table or "paths" in table

    @property
    def describes_model(self) -> bool:
        """Whether its user wrote a table ``[model]``."""
        return "model" in tomllib.loads(self.before or "")

    def create(self) -> None:
        """Write it with gates that have no threshold yet, so that they can be collected.

        Raises:
            OSError: it cannot be written to, or is there since.
            ThresholdFileError: it was changed since.
        """
        if self.before is not None:
            self._replace(self.before, self.text())
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("x", encoding="utf-8") as file:
            file.write(self.text())

    def finish(self, kept: Collection[GateKey], numbers: Mapping[GateKey, str]) -> str:
        """Put in what was measured, and return what the file then is; see `text`.

        Raises:
            ThresholdFileError: the file was changed since it was begun.
            OSError: the disk is full, or the like.
        """
        text = self.text(kept, numbers)
        self._replace(self.text(), text)
        return text

    def discard(self) -> None:
        """Make it what it was if nothing was put into it."""
        if not self.path.is_file() or self.path.read_bytes() != self.text().encode():
            return
        if self.before is None:
            self.path.unlink()
        else:
            self._replace(self.text(), self.before)

    def _replace(self, old: str, new: str) -> None:
        replace_text(self.path, new, digest=digest_of(old.encode("utf-8")), shown=self.shown)

    def text(
        self,
        kept: Collection[GateKey] | None = None,
        numbers: Mapping[GateKey, str] = _NOTHING,
    ) -> str:
        """Return what it says.

        Args:
            kept: explainer and name of the gates that it has; None for all.
            numbers: the same -> what was measured, as it is to stand there.
        """
        kept = _GATES if kept is None else kept
        about = "Measured" if self.before else f"Thresholds of {self.model}, measured"
        parts = [f"# {about} by `pytest --xai-update`: review and commit.\n{_RATE}\n"]
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
        added = "\n".join(parts)
        if not self.before:
            return added
        ending = "\r\n" if "\r\n" in self.before else "\n"
        return f"{self.before.rstrip()}\n\n{added}".replace("\r\n", "\n").replace("\n", ending)


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
