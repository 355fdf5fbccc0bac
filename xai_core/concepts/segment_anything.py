"""Segment Anything [Kirillov 2023]: segments and objects of images by a local checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np

from xai_core.arrays import Bool, Float32, Float64
from xai_core.concepts.mask_generation import (
    MaskGeneration,
    point_grid,
    stable_masks,
    suppressed,
)
from xai_core.errors import MissingExtraError, ParameterError, WeightsError
from xai_core.torchvision_import import import_torchvision

if TYPE_CHECKING:
    from torch import Tensor

Prompt: TypeAlias = tuple[float, float] | tuple[float, float, float, float]
"""A point ``(x, y)`` on the object, or its box ``(left, top, right, bottom)``, in pixels."""

# What the encoder was trained on, whatever the checkpoint.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_MASKS_AT_ONCE = 16


class SegmentAnything:
    """A Segment Anything model: a `Segmenter`, and the object at a prompt.

    Args:
        model: a ``transformers.SamModel``; it is moved to ``device`` and set to evaluation.
        source: where it comes from, for reports.
        device: torch device name.
        generation: how all segments of an image are found.
    """

    def __init__(
        self,
        model: Any,
        *,
        source: str,
        device: str = "cpu",
        generation: MaskGeneration | None = None,
    ) -> None:
        self.source = source
        self.device = device
        self.generation = generation or MaskGeneration()
        self._model = model.float().to(device).eval().requires_grad_(False)
        self._side = int(model.config.vision_config.image_size)

    def __repr__(self) -> str:
        return f"SegmentAnything({self.source!r}, {self.device})"

    @property
    def name(self) -> str:
        """``Segment Anything`` and where the checkpoint lies."""
        return f"Segment Anything, {self.source}"

    def __call__(self, image: Float32) -> list[Bool]:
        """Return all segments of one image, those of the highest estimated quality first.

        Every point of a grid is a prompt that gives three masks; see `MaskGeneration` for which
        of them stay. The segments may overlap.

        Args:
            image: RGB in [0, 1], ``[3, H, W]``.
        """
        how = self.generation
        height, width = image.shape[1:]
        embedding = self._embedding(image)
        grid = point_grid(how.points, height=height, width=width)
        masks: list[Bool] = []
        qualities: list[float] = []
        for start in range(0, len(grid), how.points_per_pass):
            points = grid[start : start + how.points_per_pass]
            logits, estimates = self._decoded(embedding, image, points=points)
            good = np.flatnonzero(estimates > how.iou_above)
            # Enlarging is what costs memory: first those that the cheaper filter leaves.
            for first in range(0, len(good), _MASKS_AT_ONCE):
                some = good[first : first + _MASKS_AT_ONCE]
                large = self._enlarged(logits[some.tolist()], (height, width))
                stable = stable_masks(large, estimates[some], how)
                masks += stable[0]
                qualities += stable[1]
        return suppressed(masks, qualities, overlap=how.overlap)

    def object_mask(self, image: Float32, prompt: Prompt) -> Bool:
        """Return the mask of what lies at a prompt, bool ``[H, W]``; it may be empty.

        A point may mean a part or the whole: of its three masks that of the highest estimated
        quality is taken. A box has one.

        Args:
            image: RGB in [0, 1], ``[3, H, W]``.
            prompt: see `Prompt`.

        Raises:
            ParameterError: the prompt lies outside the image, or the box is empty.
        """
        height, width = image.shape[1:]
        _check_prompt(prompt, height=height, width=width)
        embedding = self._embedding(image)
        place = np.array([prompt], dtype=np.float64)
        if len(prompt) == 2:
            logits, estimates = self._decoded(embedding, image, points=place)
        else:
            logits, estimates = self._decoded(embedding, image, boxes=place)
        best = int(np.argmax(estimates))
        mask: Bool = self._enlarged(logits[best : best + 1], (height, width))[0] > 0
        return mask

    def _embedding(self, image: Float32) -> Tensor:
        import torch

        pixels = torch.from_numpy(np.array(image, dtype=np.float32))[None].to(self.device)
        resized = torch.nn.functional.interpolate(
            pixels, size=self._fitted(image.shape[1:]), mode="bilinear", antialias=True
        )
        mean = torch.tensor(_MEAN, device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(_STD, device=self.device).view(1, 3, 1, 1)
        down, right = (self._side - side for side in resized.shape[2:])
        padded = torch.nn.functional.pad((resized - mean) / std, (0, right, 0, down))
        with torch.no_grad():
            embedding: Tensor = self._model.get_image_embeddings(padded)
        return embedding

    def _decoded(
        self,
        embedding: Tensor,
        image: Float32,
        *,
        points: Float64 | None = None,
        boxes: Float64 | None = None,
    ) -> tuple[Tensor, Float64]:
        """Return the small masks' logits ``[M, h, w]`` and their estimated qualities ``[M]``."""
        import torch

        def scaled(places: Float64) -> Tensor:
            height, width = image.shape[1:]
            rows, columns = self._fitted((height, width))
            factors = np.array([columns / width, rows / height])
            moved = (places.reshape(-1, 2) * factors).reshape(places.shape)
            return torch.tensor(moved, dtype=torch.float32, device=self.device)[None]

        with torch.no_grad():
            found = self._model(
                image_embeddings=embedding,
                input_points=None if points is None else scaled(points)[:, :, None],
                input_boxes=None if boxes is None else scaled(boxes),
                multimask_output=boxes is None,
            )
        estimates = found.iou_scores[0].flatten().cpu().double().numpy()
        return found.pred_masks[0].flatten(0, 1), estimates

    def _enlarged(self, logits: Tensor, size: tuple[int, int]) -> Float32:
        """Return logits at the image's size, ``[M, H, W]``: first the padding is cut off."""
        import torch

        rows, columns = self._fitted(size)
        padded = torch.nn.functional.interpolate(
            logits[:, None], size=(self._side, self._side), mode="bilinear"
        )
        large = torch.nn.functional.interpolate(
            padded[..., :rows, :columns], size=size, mode="bilinear"
        )
        enlarged: Float32 = large[:, 0].cpu().numpy()
        return enlarged

    def _fitted(self, size: Sequence[int]) -> tuple[int, int]:
        """Return height and width of an image whose longer side fits the encoder."""
        scale = self._side / max(size)
        height, width = (int(side * scale + 0.5) for side in size)
        return max(1, height), max(1, width)


def load_segment_anything(
    folder: str | os.PathLike[str],
    *,
    device: str = "cpu",
    generation: MaskGeneration | None = None,
) -> SegmentAnything:
    """Return the model of a checkpoint on this machine; the network is never asked.

    Args:
        folder: with ``config.json`` and ``model.safetensors`` (one file or several with an
            index), as ``SamModel.save_pretrained`` writes them. Pickled weights, which can run
            code, are not read, nor is code in the folder.
        device: torch device name.
        generation: how all segments of an image are found.

    Raises:
        WeightsError: no such folder or file, a checkpoint of another model, or weights that are
            broken, missing or do not fit.
        MissingExtraError: transformers is not installed.
    """
    path = Path(folder)
    _require_checkpoint(path)
    try:
        import_torchvision()  # which transformers imports as it is
        import transformers
    except ImportError:
        raise MissingExtraError("Segment Anything", package="transformers", extra="sam") from None
    try:
        with _quiet(transformers):
            model, found = transformers.SamModel.from_pretrained(
                path,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are listed, and refused below
            )
    except Exception as error:  # transformers, safetensors and the configuration raise many types
        msg = f"{path}: cannot be read as a Segment Anything checkpoint ({error}); get it again"
        raise WeightsError(msg) from error
    for what in ("missing_keys", "mismatched_keys"):
        if listed := sorted(map(str, found[what])):
            msg = (
                f"{path}: {what.replace('_', ' ')}, {len(listed)} of the model's weights: "
                f"{', '.join(listed[:3])}; they would be random; get the whole checkpoint"
            )
            raise WeightsError(msg)
    return SegmentAnything(model, source=os.fspath(folder), device=device, generation=generation)


def _require_checkpoint(path: Path) -> None:
    if not path.is_dir():
        msg = (
            f"{path}: no such folder (looked in {Path.cwd()}); expected a Segment Anything "
            "checkpoint on this machine: config.json and model.safetensors; none is downloaded"
        )
        raise WeightsError(msg)
    configuration = path / "config.json"
    try:
        content = msgspec.json.decode(configuration.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        msg = f"{configuration}: cannot be read ({error}); it belongs to the checkpoint"
        raise WeightsError(msg) from None
    kind = content.get("model_type")
    if kind != "sam":
        msg = (
            f"{configuration}: model_type is {kind!r}, expected 'sam' (sam-vit-base, -large, "
            "-huge and what is trained from them)"
        )
        raise WeightsError(msg)
    if not any(path.glob("*.safetensors")):
        msg = (
            f"{path}: no .safetensors file; other formats can run code when they are read. Write "
            "the checkpoint again with SamModel.save_pretrained"
        )
        raise WeightsError(msg)


def _check_prompt(prompt: Prompt, *, height: int, width: int) -> None:
    inside = len(prompt) in (2, 4) and all(
        0 <= value <= (height if index % 2 else width) for index, value in enumerate(prompt)
    )
    if not inside or (len(prompt) == 4 and not (prompt[0] < prompt[2] and prompt[1] < prompt[3])):
        msg = (
            f"prompt {prompt}: expected a point (x, y) or a box (left, top, right, bottom) inside "
            f"an image {width} pixels wide and {height} high"
        )
        raise ParameterError(msg)


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' progress bar and its table of weights, whose facts are checked."""
    logging = transformers.utils.logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
