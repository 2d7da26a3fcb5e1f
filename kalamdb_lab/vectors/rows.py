"""The vectors of a segment, or of hot rows, as they are searched."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Float32s: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Float64s: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Int8s: TypeAlias = np.ndarray[Any, np.dtype[np.int8]]
Positions: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
"""Places of rows within their segment, from 0, ascending."""


class Metric(enum.StrEnum):
    """How far two vectors are from each other."""

    COSINE = "cosine"
    L2 = "l2"
    INNER_PRODUCT = "inner_product"


@dataclass(frozen=True, slots=True)
class CodeChunk:
    """Rows x in eight bits: x / norm is about scale * codes, and remainder away from it at most.

    Attributes
    ----------
    codes : (m, d) int8
        -127 to 127.
    scale : (m,) float32
    remainder : (m,) float32
        Euclidean length of what the codes leave out of x / norm, rounded up. Infinite for rows
        whose norm float32 cannot hold well: such a row is always looked at itself.
    norm : (m,) float32
        Euclidean length of the row; NaN for NULL, which matches nothing.
    """

    codes: Int8s
    scale: Float32s
    remainder: Float32s
    norm: Float32s


@dataclass(frozen=True, slots=True)
class VectorRows:
    """An EMBEDDING column, row for row.

    Attributes
    ----------
    chunks : tuple of (m, d) float32
        All rows in order; those of NULL may hold anything finite.
    codes : tuple of CodeChunk or None
        The same rows in order, cut at other places perhaps. None for few rows.
    valid : (n,) bool or None
        False for NULL; None if there is none.
    """

    dimension: int
    row_count: int
    chunks: tuple[Float32s, ...]
    codes: tuple[CodeChunk, ...] | None = None
    valid: np.ndarray[Any, np.dtype[np.bool_]] | None = None

    def at(self, positions: Positions) -> Float32s:
        """Return a copy of rows, (m, d), in the order of ``positions``, which may be any."""
        rows = np.empty((len(positions), self.dimension), np.float32)
        start = 0
        for chunk in self.chunks:
            inside = np.flatnonzero((positions >= start) & (positions < start + len(chunk)))
            if len(inside) == len(positions):
                # Mode "clip" writes without a buffer in between; nothing is outside.
                return np.take(chunk, positions - start, axis=0, out=rows, mode="clip")
            if len(inside):
                rows[inside] = chunk[positions[inside] - start]
            start += len(chunk)
        return rows
