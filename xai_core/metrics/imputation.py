"""What would stand where pixels are missing, judged by the pixels around them?"""

from __future__ import annotations

import numpy as np

from xai_core.arrays import Bool, Float32, Float64, Int64

NOISE = 0.01
"""Standard deviation of the noise on imputed values, in units of RGB in [0, 1]."""

_DIRECT, _DIAGONAL = 1 / 6, 1 / 12
_NEIGHBOURS = {
    (row, column): _DIAGONAL if row and column else _DIRECT
    for row in (-1, 0, 1)
    for column in (-1, 0, 1)
    if row or column
}
_KNOWN, _OUTSIDE = -1, -2


def imputed(image: Float32, removed: Bool, noise: Float32) -> Float32:
    """Return the image with its removed pixels by noisy linear imputation [Rong 2022, ROAD].

    Every removed pixel is the weighted mean of its neighbours, removed or not: 1/6 for each of
    the four beside it and 1/12 for each of the four at its corners, divided by their sum where
    some lie outside the image. That is one sparse linear system, factorised once for the three
    channels. Noise on the solution hides which pixels were removed from the classifier. Where
    nothing is left to impute from, every pixel is the image's mean colour.

    Args:
        image: RGB in [0, 1], ``[3, H, W]``.
        removed: ``[H, W]``.
        noise: added to what is imputed, ``[3, H, W]``; the sum may leave [0, 1] by that much.
    """
    filled = image.astype(np.float64)
    if removed.all():
        filled[:] = filled.mean(axis=(1, 2), keepdims=True)
    elif removed.any():
        filled[:, removed] = _means_of_neighbours(filled, removed)
    filled[:, removed] += noise[:, removed]
    return filled.astype(np.float32)


def _means_of_neighbours(image: Float64, removed: Bool) -> Float64:
    """Return the removed pixels' values, ``[3, removed]``, from those that are not removed."""
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    rows, columns = np.nonzero(removed)
    count = len(rows)
    unknown = np.full((removed.shape[0] + 2, removed.shape[1] + 2), _OUTSIDE)
    unknown[1:-1, 1:-1] = _KNOWN
    unknown[rows + 1, columns + 1] = np.arange(count)
    # The sum of the weights times the pixel, minus its unknown neighbours = its known ones.
    weights = np.zeros(count)
    right = np.zeros((count, len(image)))
    entries: list[tuple[float, Int64, Int64]] = []
    for (down, across), weight in _NEIGHBOURS.items():
        neighbour = unknown[rows + 1 + down, columns + 1 + across]
        weights += weight * (neighbour != _OUTSIDE)
        known = np.flatnonzero(neighbour == _KNOWN)
        right[known] += weight * image[:, rows[known] + down, columns[known] + across].T
        coupled = np.flatnonzero(neighbour >= 0)
        entries.append((-weight, coupled, neighbour[coupled]))
    values = np.concatenate([weights, *(np.full(len(of), value) for value, of, _ in entries)])
    of = np.concatenate([np.arange(count), *(of for _, of, _ in entries)])
    on = np.concatenate([np.arange(count), *(on for _, _, on in entries)])
    matrix = csc_matrix((values, (of, on)), shape=(count, count))
    # Symmetric and diagonally dominant: no pivots are needed, and the order may use the symmetry.
    factors = splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    solution: Float64 = factors.solve(right)
    return solution.T
