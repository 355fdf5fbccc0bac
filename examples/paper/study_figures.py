"""The study's pictures: overlay, heatmap and binarised map of one image, model by model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xai_core.arrays import Bool, Float32
from xai_core.errors import MissingExtraError
from xai_core.metrics import binarize
from xai_core.postprocess import MinMax

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEAT = "inferno"
_PANEL = 2.1  # inches
_OUTLINE = "#00e5ff"


@dataclass(frozen=True)
class Panel:
    """What one model and one explainer make of an image.

    Attributes:
        label: explainer and model.
        image: RGB in [0, 1], ``[3, H, W]``, at the model's size.
        mask: ``[H, W]``, None where the set has none.
        heatmap: after post-processing, ``[H, W]``.
        probability: of the target.
        iou: of the binarised map and the mask; None without one.
    """

    label: str
    image: Float32
    mask: Bool | None
    heatmap: Float32
    probability: float
    iou: float | None


def require_matplotlib() -> None:
    """Raise where matplotlib is missing, before minutes of measuring.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise MissingExtraError(
            "the study's figures", package="matplotlib", extra="examples"
        ) from None


def file_name(image: str, variant: str) -> str:
    """Return the name of an image's figure, safe on every file system.

    >>> file_name("pets/cat 1.jpg", "chain")
    'pets_cat_1-chain.png'
    """
    stem = image.rpartition(".")[0] or image
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', stem)}-{variant}.png"


def draw(panels: Sequence[Panel], *, title: str, path: Path) -> None:
    """Write one PNG: the image and its mask at the left, a row of three maps for each panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(panels)
    figure = Figure(figsize=(5.7 * _PANEL, (count + 0.45) * _PANEL), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13)
    grid = figure.add_gridspec(count, 4, width_ratios=[2, 1, 1, 1])
    half = count // 2
    shown = panels[0]
    _show_image(figure.add_subplot(grid[:half, 0]), shown, title="image")
    outlined = figure.add_subplot(grid[half:, 0])
    _show_image(outlined, shown, title="mask" if shown.mask is not None else "no mask")
    _outline(outlined, shown.mask)
    for row, panel in enumerate(panels):
        axes = [figure.add_subplot(grid[row, column]) for column in (1, 2, 3)]
        heat = MinMax()(panel.heatmap)[0]
        binary = binarize(np.nan_to_num(panel.heatmap))[0]
        _show_image(axes[0], panel, title="overlay" if row == 0 else "")
        axes[0].imshow(heat, cmap=_HEAT, alpha=0.7 * heat, vmin=0, vmax=1)
        axes[0].set_ylabel(f"{panel.label}\np(target) = {panel.probability:.3f}", fontsize=10)
        axes[1].imshow(heat, cmap=_HEAT, vmin=0, vmax=1)
        axes[2].imshow(binary, cmap="gray", vmin=0, vmax=1)
        _outline(axes[2], panel.mask)
        _finish(axes[1], "heatmap" if row == 0 else "")
        _finish(axes[2], "binarised (Otsu)" if row == 0 else "")
        if panel.iou is not None:
            axes[2].set_xlabel(f"IoU {panel.iou:.3f}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.print_figure(path, format="png", dpi=110)


def _show_image(axes: Axes, panel: Panel, *, title: str) -> None:
    axes.imshow(np.clip(panel.image.transpose(1, 2, 0), 0, 1))
    _finish(axes, title)


def _outline(axes: Axes, mask: Bool | None) -> None:
    if mask is not None and mask.any() and not mask.all():
        # Dark under light, so that it is seen on every background.
        axes.contour(mask, levels=[0.5], colors="black", linewidths=2.6)
        axes.contour(mask, levels=[0.5], colors=_OUTLINE, linewidths=1.3)


def _finish(axes: Axes, title: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if title:
        axes.set_title(title, fontsize=11)
