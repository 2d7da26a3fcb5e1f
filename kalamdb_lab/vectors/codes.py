"""Vectors in eight bits, with how far they are from the vectors themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalamdb_lab.vectors.rows import CodeChunk, Float32s

BLOCK_ROWS = 256
"""Rows encoded at once: their float64 copies stay in the processor's cache."""

LEAST_NORM = 1e-30
MOST_NORM = 1e30
"""Outside of these, a norm in float32 is looked at as unknown."""


def encode(rows: Float32s, valid: np.ndarray[Any, np.dtype[np.bool_]] | None = None) -> CodeChunk:
    """Give rows their codes of eight bits and the proven error of these.

    Parameters
    ----------
    rows : (n, d) float32
        Finite where valid.
    valid : (n,) bool, optional
        False for NULL, whatever stands in its row.

    Returns
    -------
    CodeChunk
        Zero rows have scale and remainder 0. NULL has codes, scale and remainder 0, norm NaN.

    Notes
    -----
    Per row: norm = |x|, scale = max|x| / (127 norm), codes = x / (norm scale) to the nearest,
    remainder = scale |x / (norm scale) - codes|. All in float64, whose rounding (below 1e-12
    here) is far below the last bit of float32 by which the remainder is rounded up.
    """
    row_count, dimension = rows.shape
    codes = np.empty((row_count, dimension), np.int8)
    scale = np.empty(row_count, np.float32)
    remainder = np.empty(row_count, np.float32)
    norm = np.empty(row_count, np.float32)
    wide = np.empty((min(BLOCK_ROWS, row_count), dimension))
    whole = np.empty_like(wide)
    with np.errstate(all="ignore"):
        for start in range(0, row_count, BLOCK_ROWS):
            part = slice(start, min(start + BLOCK_ROWS, row_count))
            x = wide[: part.stop - start]
            nearest = whole[: part.stop - start]
            np.copyto(x, rows[part])
            length = np.sqrt(np.einsum("ij,ij->i", x, x))
            step = np.maximum(x.max(axis=1), -x.min(axis=1)) / (127 * length)
            # The float32 is what will be multiplied with, so the codes are made for it; one
            # bit more keeps them within 127.
            step32 = np.nextafter(step.astype(np.float32), np.float32(np.inf))
            usable = np.isfinite(length) & (length > 0)
            if valid is not None:
                usable &= valid[part]
            step32[~usable] = 0
            x *= np.where(usable, 1 / (length * step32), 0)[:, None]
            x[~usable] = 0
            np.rint(x, out=nearest)
            codes[part] = nearest
            x -= nearest
            rest = np.sqrt(np.einsum("ij,ij->i", x, x)) * step32 + 1e-9
            scale[part] = step32
            norm[part] = length
            remainder[part] = np.where(
                usable, np.nextafter(rest.astype(np.float32), np.float32(np.inf)), 0
            )
            unknown = ~((length >= LEAST_NORM) & (length <= MOST_NORM)) & (length != 0)
            remainder[part][unknown] = np.inf
    if valid is not None:
        norm[~valid] = np.nan
        remainder[~valid] = 0
    return CodeChunk(codes, scale, remainder, norm)
