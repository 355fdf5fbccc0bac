"""Randomness that depends on the image, never on its place in a batch."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def generator_for(
    image: npt.NDArray[np.float32], *, seed: int, purpose: str
) -> np.random.Generator:
    """Return the random generator of one image for one purpose.

    The stream depends on the pixels, the seed and the purpose alone, so a stochastic method
    gives the same result for an image whatever batch, order or worker it stands in.

    Args:
        image: RGB in [0, 1], ``[3, H, W]``.
        seed: the run's seed.
        purpose: separates the streams of different uses on one image, e.g. ``"stability"``.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{purpose}|{seed}|{image.shape}|".encode())
    digest.update(np.ascontiguousarray(image, dtype=np.float32).tobytes())
    return np.random.Generator(np.random.Philox(int.from_bytes(digest.digest(), "little")))


def generator_of(*parts: str | int) -> np.random.Generator:
    """Return the random generator that belongs to ``parts``, such as a seed and digests.

    >>> int(generator_of(0, "draws").integers(100)) == int(generator_of(0, "draws").integers(100))
    True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest, "little")))
