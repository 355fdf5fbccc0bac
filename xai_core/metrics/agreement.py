"""Do two explainers say the same of an image?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
import numpy as np

from xai_core.arrays import Bool, Float32, Float64
from xai_core.metrics.changed_maps import defined, of_shape
from xai_core.metrics.declaration import metric, unusable_heatmaps
from xai_core.metrics.localization import binarize
from xai_core.metrics.ranking import most_relevant
from xai_core.metrics.similarity import SIMILARITIES

Other = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        description="the text of the other explainer, e.g. 'integrated_gradients(steps=20)'",
    ),
]
"""The text of an explainer."""

AgreementOf = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(spearman|spearman_abs|ssim|iou|iou\(top=0?\.\d*[1-9]\d*\))$",
        description=(
            "'spearman', 'spearman_abs', 'ssim', 'iou' (of the pixels above Otsu's threshold) or "
            "'iou(top=f)' (of the share f of the pixels, 0 < f < 1, e.g. 'iou(top=0.1)')"
        ),
    ),
]
"""``"spearman"``, ``"spearman_abs"``, ``"ssim"``, ``"iou"`` or ``"iou(top=f)"``."""


@metric(better="higher", range=(-1, 1), source="Krishna 2022 (ranks, top pixels); SSIM, Wang 2004")
def agreement(
    heatmaps: Float32,
    heatmaps_of: Callable[[str], Float32],
    *,
    other: Other = "",
    similarity: AgreementOf = "spearman",
) -> Float64:
    """Similarity of the heatmap to another explainer's heatmap of the same image.

    s(h, h'): the rank correlation of the pixels, SSIM, or the IoU of the relevant pixels of both,
    |B and B'| / |B or B'|. Two explainers may agree and both be wrong. ``other`` has no default.

    >>> import numpy as np
    >>> agreement(np.eye(4), lambda text: 1 - np.eye(4), other="gradcam").round(6)
    array([-1.])

    Args:
        heatmaps: ``[N, H, W]``.
        heatmaps_of: the text of an explainer to its heatmaps of the same images and targets,
            ``[N, H, W]``, without post-processing.
        other: the text of the other explainer, e.g. ``"integrated_gradients(steps=20)"``.
        similarity: ``"spearman"``; ``"spearman_abs"`` of |h|, for signed maps; ``"ssim"``;
            ``"iou"`` of the pixels above each map's Otsu threshold; ``"iou(top=f)"`` of those
            among the share f of the most relevant ones: above the first value that is not among
            them, so that tied pixels are in or out together.

    Raises:
        ParameterError: no ``other``.
        UndefinedMeasurementError: the other heatmap is constant or not finite; or |h| of one is,
            for ``"spearman_abs"``; or more than that share of a map's pixels are its maximum, for
            ``"iou(top=f)"``.
        ShapeError: ``heatmaps_of`` gives maps of another shape.
    """
    others = of_shape(heatmaps_of(other), heatmaps.shape, f"heatmaps_of {other!r}")
    reasons = {i: f"of {other}, {why}" for i, why in unusable_heatmaps(others).items()}
    usable = np.array([index for index in range(len(heatmaps)) if index not in reasons], dtype=int)
    values = np.zeros(len(heatmaps))
    if similarity in SIMILARITIES:
        values[usable] = SIMILARITIES[similarity](heatmaps[usable], others[usable])
        for index in np.flatnonzero(np.isnan(values)).tolist():
            reasons[index] = "|h| of one of the heatmaps is the same everywhere"
        return defined(values, reasons)
    for index in usable.tolist():
        both = [_relevant(maps[index], similarity) for maps in (heatmaps, others)]
        if not all(relevant.any() for relevant in both):
            reasons[index] = f"more pixels than {similarity!r} takes share a map's maximum"
        else:
            values[index] = np.sum(both[0] & both[1]) / np.sum(both[0] | both[1])
    return defined(values, reasons)


def _relevant(heatmap: Float32, similarity: str) -> Bool:
    """Return the pixels ``[H, W]`` that count as relevant."""
    if similarity == "iou":
        above_otsu: Bool = binarize(heatmap, "otsu")[0]
        return above_otsu
    share = float(similarity.removeprefix("iou(top=").removesuffix(")"))
    relevant: Bool = most_relevant(heatmap[None], share)[0]
    return relevant
