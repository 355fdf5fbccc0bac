"""The gate on neighbours in a run: an error names the key of the threshold file it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_xai.neighbour_gate import NeighbourJudgement, judge_neighbours, require_labels
from xai_core.errors import ConceptError, ImageSetError, LayerError, XaiError
from xai_core.progress import Progress, Silent

if TYPE_CHECKING:
    from pytest_xai.neighbour_thresholds import NeighbourSpec
    from xai_core.evaluation import Evaluation
    from xai_core.imageset import ImageSet


def judged_at(
    gate: NeighbourSpec,
    evaluation: Evaluation,
    load_reference: Callable[[], ImageSet],
    progress: Progress | None,
) -> NeighbourJudgement:
    """Return what comes of a threshold file's gate on neighbours.

    Raises:
        XaiError: the reference cannot be loaded, or the gate cannot be measured; the message names
            file, line and key.
    """
    try:
        reference = load_reference()
        require_labels(reference)
    except XaiError as error:
        msg = f"{gate.place('reference')}: {error}"
        raise ConceptError(msg) from None
    try:
        return judge_neighbours(
            evaluation, reference, gate.method, gate.conditions, progress or Silent()
        )
    except XaiError as error:
        msg = f"{gate.place(_key_of(error))}: {error}"
        raise ConceptError(msg) from None


def _key_of(error: XaiError) -> str:
    """Return the key that an error of the search is about."""
    if isinstance(error, ImageSetError):
        return "reference"  # the images themselves were decoded before
    if isinstance(error, LayerError):
        return "layer"
    # Too few images, or an embedding that has no cosine.
    return "k" if "`k`" in str(error) else "distance"
