"""The study's picture: a row for each change, a column for each gate, how often it fails."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from detection import ANOTHER_SEED, Study
from PIL import Image

from xai_core.errors import MissingExtraError


def plot(study: Study, path: Path) -> None:
    """Write the shares as a picture; dark: the gate always fails.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MissingExtraError("the plot", package="matplotlib", extra="examples") from None
    rows = [*study.harmful, ANOTHER_SEED, *study.harmless]
    shares = shares_of(study, rows)
    figure = Figure(figsize=(0.26 * len(study.candidates) + 3.6, 0.2 * len(rows) + 2.4))
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    names = [*(gate.name for gate in study.candidates), "any gate"]
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=90)
    axes.xaxis.tick_top()
    axes.axhline(len(study.harmful) - 0.5, color="black", linewidth=1)
    axes.axvline(len(study.candidates) - 0.5, color="black", linewidth=1)
    axes.text(len(names) - 0.3, len(rows) - 0.7, "harmless", rotation=270, va="bottom", fontsize=7)
    for row, column in np.argwhere(shares > 0):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{share:.2f}".lstrip("0") if share < 1 else "1",
            ha="center",
            va="center",
            fontsize=4.5,
            color="white" if share > 0.55 else "black",
        )
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=100, bbox_inches="tight")
    buffer.seek(0)
    # Few colours: a tenth of the bytes.
    with Image.open(buffer) as drawn:
        drawn.convert("RGB").quantize(48).save(path, optimize=True)


def shares_of(study: Study, rows: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return for each change the share of networks on which each gate, and any gate, fails."""
    shares = np.zeros((len(rows), len(study.candidates) + 1))
    for row, condition in enumerate(rows):
        caught = [study.caught_by(pair) for pair in study.pairs([condition])]
        for column, gate in enumerate(study.candidates):
            shares[row, column] = np.mean([gate.name in names for names in caught])
        shares[row, -1] = np.mean([bool(names) for names in caught])
    return shares
