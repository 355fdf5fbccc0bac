"""Where the threshold file of a model is."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_xai.settings import Settings

DEMO_MODELS = ("demo", "demo-shortcut")
_PACKAGED = Path(__file__).parents[1] / "xai_core" / "demo" / "demo.toml"


def threshold_stem(model: str) -> str:
    """Return the name of a model's threshold file without its ending.

    >>> threshold_stem("package.models:build"), threshold_stem("timm:resnet18.a1_in1k")
    ('build', 'resnet18.a1_in1k')
    """
    return re.sub(r"[^\w.-]+", "_", model.rpartition(":")[2])


def expected_file(model: str, settings: Settings) -> Path:
    """Return where the threshold file of ``model`` is looked for first.

    Relative to where pytest was started if ``--xai-thresholds`` says so, else to the project's
    root.
    """
    place = Path((settings.thresholds or (settings.ini_thresholds,))[0])
    return place if place.suffix == ".toml" else place / f"{threshold_stem(model)}.toml"


def threshold_file_of(model: str, settings: Settings, root: Path) -> Path | None:
    """Return the threshold file of ``model``, None if there is none.

    ``--xai-thresholds`` comes first, then the folder of the ini ``xai_thresholds``, then, for the
    demo, the one that travels in the package.
    """
    places = [Path(place) for place in settings.thresholds] or [root / settings.ini_thresholds]
    stem = threshold_stem(model)
    named = [place / f"{stem}.toml" if place.is_dir() else place for place in places]
    exact = [path for path in named if path.is_file() and path.stem == stem]
    given = [path for path in named if path.is_file() and path in places]
    found = next(iter(exact or given), None)
    if found is None and model in DEMO_MODELS and not settings.thresholds:
        return _PACKAGED
    return found
