"""A classifier that can do nothing but a forward pass, as an ONNX file's."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class ForwardOnly:
    """Gives the logits of a function; keeps the sizes of its batches, call by call."""

    name = "forward-only"
    device = "cpu"
    mean = (0.5, 0.4, 0.3)

    def __init__(
        self, logits: Callable[[Tensor], Tensor], *, batch: int = 7, probabilities: bool = False
    ) -> None:
        self._logits = logits
        self._batch = batch
        self._gives_probabilities = probabilities
        self.calls: list[list[int]] = []

    def batch_size(self, height: int, width: int) -> int:
        assert height > 0
        assert width > 0
        return self._batch

    def scores(self, images: Tensor | Iterable[Tensor]) -> Tensor:
        logits = self.logits(images)
        return logits if self._gives_probabilities else torch.softmax(logits, dim=1)

    def logits(self, images: Tensor | Iterable[Tensor]) -> Tensor:
        self.calls.append([])
        found = []
        for batch in [images] if isinstance(images, Tensor) else images:
            assert batch.dtype == torch.float32
            self.calls[-1].append(len(batch))
            with torch.inference_mode():
                found.append(self._logits(batch).float())
        return torch.cat(found)

    @property
    def forwards(self) -> int:
        return sum(map(sum, self.calls))

    @property
    def largest_batch(self) -> int:
        return max(map(max, self.calls))
