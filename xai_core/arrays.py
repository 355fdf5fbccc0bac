"""What comes in: arrays, tensors, single images and batches, brought to one checked form."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xai_core.errors import ShapeError

Float64: TypeAlias = npt.NDArray[np.float64]
Float32: TypeAlias = npt.NDArray[np.float32]
Bool: TypeAlias = npt.NDArray[np.bool_]
Int64: TypeAlias = npt.NDArray[np.int64]
ArrayLike: TypeAlias = Any
"""A NumPy array, a torch tensor on any device, or nested lists of numbers."""


def as_numpy(values: ArrayLike) -> npt.NDArray[Any]:
    """Return ``values`` as a NumPy array; a tensor is detached and copied to the CPU."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values)


def as_images(values: ArrayLike, *, name: str = "images") -> Float32:
    """Return RGB images in [0, 1] as float32 ``[N, 3, H, W]``; one image gets ``N = 1``.

    Raises:
        ShapeError: another shape, integer values, or values outside [0, 1].
    """
    array = as_numpy(values)
    given = array.shape
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[1] != 3:
        msg = f"{name}: expected RGB [N, 3, H, W] or [3, H, W], got shape {given}"
        raise ShapeError(msg)
    if array.dtype.kind != "f":
        msg = f"{name}: expected floats in [0, 1], got {array.dtype}; divide bytes by 255"
        raise ShapeError(msg)
    low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        msg = (
            f"{name}: expected RGB in [0, 1], got values from {low:.3g} to {high:.3g}; "
            "give images before normalisation"
        )
        raise ShapeError(msg)
    return np.ascontiguousarray(array, dtype=np.float32)


def as_attributions(values: ArrayLike, *, name: str = "attributions") -> Float32:
    """Return signed attributions as float32 ``[N, C, H, W]``; one image gets ``N = 1``."""
    array = as_numpy(values)
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.dtype.kind != "f":
        msg = f"{name}: expected floats [N, C, H, W], got {array.dtype} of shape {array.shape}"
        raise ShapeError(msg)
    return np.ascontiguousarray(array, dtype=np.float32)


def as_heatmaps(values: ArrayLike, *, name: str = "heatmaps") -> Float32:
    """Return heatmaps as float32 ``[N, H, W]``; one map ``[H, W]`` gets ``N = 1``."""
    array = as_numpy(values)
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 or array.dtype.kind not in "fiu":
        msg = (
            f"{name}: expected one relevance per pixel, [N, H, W] or [H, W], "
            f"got {array.dtype} of shape {array.shape}; reduce attributions over channels first"
        )
        raise ShapeError(msg)
    return np.ascontiguousarray(array, dtype=np.float32)


def as_masks(values: ArrayLike, *, name: str = "masks") -> Bool:
    """Return object masks as bool ``[N, H, W]``; numbers must be 0/1 or 0/255."""
    array = as_numpy(values)
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3:
        msg = f"{name}: expected [N, H, W] or [H, W], got shape {array.shape}"
        raise ShapeError(msg)
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array)
    found = np.unique(array)
    if not (np.isin(found, (0, 1)).all() or np.isin(found, (0, 255)).all()):
        msg = f"{name}: expected a mask of 0/1, 0/255 or bool, got values {found[:8].tolist()}"
        raise ShapeError(msg)
    return np.ascontiguousarray(array > 0)


def as_targets(values: ArrayLike, count: int, *, name: str = "targets") -> Int64:
    """Return class indices as int64 ``[N]``; one index serves all ``count`` images."""
    array = as_numpy(values)
    if array.ndim == 0:
        array = np.full(count, array)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        msg = f"{name}: expected class indices [N], got {array.dtype} of shape {array.shape}"
        raise ShapeError(msg)
    return array.astype(np.int64)
