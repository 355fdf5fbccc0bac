"""What does the classifier say of images that a metric makes?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from xai_core.arrays import Float64, Int64
from xai_core.errors import ShapeError, UndefinedMeasurementError

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.classifier import Classifier

Output = Literal["probability", "logit"]

_BATCHES_PER_CALL = 64  # bounds what is kept of the other classes


def outputs_of_variants(
    classifier: Classifier,
    build: Callable[[Tensor, Tensor], Tensor],
    targets: Int64,
    variants: int,
    size: tuple[int, int],
    *,
    output: Output = "probability",
) -> Float64:
    """Return the targets' outputs on as many variants of every image, ``[N, variants]``.

    Args:
        classifier: gives the outputs.
        build: indices of images and of their variants, both ``[B]``, to ``[B, 3, H, W]``.
        targets: ``[N]``.
        variants: of each image.
        size: height and width of the variants.
        output: the target's ``probability`` or ``logit``.

    Raises:
        ShapeError: a target that is no class.
        UndefinedMeasurementError: an output that is not finite.
    """

    def built(index: Tensor) -> Tensor:
        return build(index // variants, index % variants)

    outputs = target_outputs(classifier, built, np.repeat(targets, variants), size, output=output)
    table = outputs.reshape(-1, variants)
    bad = ~np.isfinite(table).all(axis=1)
    if bad.any():
        why = f"the classifier gives a {output} that is not finite"
        raise UndefinedMeasurementError({int(index): why for index in np.flatnonzero(bad)})
    return table


def target_outputs(
    classifier: Classifier,
    build: Callable[[Tensor], Tensor],
    targets: Int64,
    size: tuple[int, int],
    *,
    output: Output = "probability",
) -> Float64:
    """Return the targets' outputs on the images that ``build`` makes of their indices, ``[V]``.

    Images are built batch by batch as the classifier asks for them, every batch but the last
    full, so memory does not grow with their number.

    Raises:
        ShapeError: a target that is no class.
    """
    import torch

    if targets.min() < 0 or targets.max() >= classifier.num_classes:
        msg = (
            f"targets: expected class indices from 0 to {classifier.num_classes - 1}, "
            f"got {targets.min()} to {targets.max()}"
        )
        raise ShapeError(msg)
    ask = classifier.scores if output == "probability" else classifier.logits
    batch = classifier.batch_size(*size)
    indices = torch.arange(len(targets), device=classifier.device)

    def batches(part: Tensor) -> Iterator[Tensor]:
        for index in torch.split(part, batch):
            yield build(index)

    found = []
    for part in torch.split(indices, batch * _BATCHES_PER_CALL):
        outputs = ask(batches(part))
        classes = torch.from_numpy(targets).to(outputs.device)[part.to(outputs.device)]
        found.append(outputs.gather(1, classes[:, None])[:, 0].cpu().numpy())
    return np.concatenate(found).astype(np.float64)
