"""How results of one image are written as bytes, and read again: raw numbers, never pickles."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from xai_core.arrays import Float32

T = TypeVar("T")


class ImageExplanation(NamedTuple):
    """The explanation of one image; see `xai_core.explainers.Explanation`.

    Attributes:
        heatmap: ``[H, W]``.
        attributions: ``[3, H, W]``, or None.
        native: ``[h, w]``, or None.
    """

    heatmap: Float32
    attributions: Float32 | None
    native: Float32 | None


class Value(NamedTuple):
    """What a metric says of one image.

    Attributes:
        number: NaN where it has no value.
        undefined: why it has none; None where it has one.
    """

    number: float
    undefined: str | None = None


@dataclass(frozen=True)
class Form(Generic[T]):
    """How one kind of result is written and read.

    Attributes:
        encode: to bytes; None where it has no form as bytes.
        decode: the same result, bit by bit.

            Raises ValueError for other bytes.
    """

    encode: Callable[[T], bytes | None]
    decode: Callable[[bytes], T]


def explanations_of(size: tuple[int, int]) -> Form[ImageExplanation]:
    """Return the form of explanations of images ``[3, H, W]`` of a size: safetensors."""

    def encode(explanation: ImageExplanation) -> bytes | None:
        return _encoded(
            {key: array for key, array in explanation._asdict().items() if array is not None}
        )

    def decode(payload: bytes) -> ImageExplanation:
        found = _decoded(payload)
        heatmap = found.pop("heatmap", None)
        attributions, native = found.pop("attributions", None), found.pop("native", None)
        if found or heatmap is None or heatmap.shape != size:
            msg = f"not the explanation of an image of {size}"
            raise ValueError(msg)
        return ImageExplanation(heatmap, attributions, native)

    return Form(encode, decode)


def probabilities_of(classes: int) -> Form[Float32]:
    """Return the form of the probabilities of ``classes`` classes: safetensors."""

    def decode(payload: bytes) -> Float32:
        found = _decoded(payload)
        if list(found) != ["probabilities"] or found["probabilities"].shape != (classes,):
            msg = f"not the probabilities of {classes} classes"
            raise ValueError(msg)
        return found["probabilities"]

    return Form(lambda array: _encoded({"probabilities": array}), decode)


def _encode_value(value: Value) -> bytes:
    reason = b"" if value.undefined is None else b"?" + value.undefined.encode()
    return struct.pack("<d", value.number) + reason


def _decode_value(payload: bytes) -> Value:
    if len(payload) < 8:
        msg = f"{len(payload)} bytes, not a number of 8"
        raise ValueError(msg)
    (number,) = struct.unpack("<d", payload[:8])
    marker, reason = payload[8:9], payload[9:].decode()
    if np.isnan(number) != (marker == b"?") or marker not in (b"", b"?"):
        msg = f"{number} with the reason {reason!r}"
        raise ValueError(msg)
    return Value(number, reason if marker else None)


VALUES: Form[Value] = Form(_encode_value, _decode_value)
"""The form of values: a little-endian float64, and why there is none where it is NaN."""


def _encoded(arrays: dict[str, Float32]) -> bytes | None:
    from safetensors import SafetensorError
    from safetensors.numpy import save

    try:
        return save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
    except SafetensorError:  # of a type of numbers that the format does not know
        return None


def _decoded(payload: bytes) -> dict[str, Float32]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(payload)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
