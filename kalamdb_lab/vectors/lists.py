"""Inverted lists as arrays: rows around centroids, and their codes in the order of the lists."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kalamdb_lab.vectors.kmeans import centroid_scores, half_squares
from kalamdb_lab.vectors.rows import CodeChunk, Float32s, Float64s, Metric, Positions

RANGE_ROWS = 16_384
"""Codes that are multiplied at once."""


@dataclass(frozen=True)
class InvertedLists:
    """Rows of one column, in lists of neighbours.

    Attributes
    ----------
    centroids : (l, d) float32
        Means of the lists: of the rows for l2, else of the rows scaled to length 1.
    offsets : (l + 1,) int64
        List i has the entries ``offsets[i]`` to ``offsets[i + 1]``. Entries before ``offsets[0]``
        are in no list: rows whose length float32 does not hold well, which each query looks at.
    order : (m,) int32
        The row's position, by entry. Rows that match nothing (NULL, for cosine also zeros) are
        not in it.
    codes : tuple of CodeChunk
        By entry.
    probes : int
        Lists that a query looks at by default.
    """

    metric: Metric
    centroids: Float32s
    offsets: Positions
    order: np.ndarray[Any, np.dtype[np.int32]]
    codes: tuple[CodeChunk, ...]
    probes: int

    @property
    def list_count(self) -> int:
        return len(self.centroids)

    @cached_property
    def _halves(self) -> Float32s:
        return half_squares(self.centroids)

    @cached_property
    def chunk_starts(self) -> list[int]:
        """The first entry of each of `codes`."""
        sizes = [len(chunk.scale) for chunk in self.codes]
        return [0, *np.cumsum(sizes[:-1], dtype=np.int64).tolist()]

    @cached_property
    def longest(self) -> Float64s:
        """The largest norm in each list; 0 for an empty one."""
        norms = np.concatenate([np.zeros(1, np.float32), *(c.norm for c in self.codes)])
        filled = np.diff(self.offsets) > 0
        longest = np.zeros(self.list_count)
        if filled.any():
            # What lies between two lists that are filled is empty ones only.
            bounded = norms[1 : 1 + self.offsets[-1]]
            longest[filled] = np.maximum.reduceat(bounded, self.offsets[:-1][filled])
        return longest

    def ranges(self, lists: Positions) -> Iterator[tuple[CodeChunk, int, slice]]:
        """Yield where the entries of some lists lie, as (chunk, first entry, part of the chunk).

        ``lists`` ascend; those side by side come as one.
        """
        starts, ends = self.offsets[:-1][lists], self.offsets[1:][lists]
        parted = np.flatnonzero(starts[1:] != ends[:-1])
        firsts = [0, *(parted + 1).tolist()] if len(lists) else []
        lasts = [*parted.tolist(), len(lists) - 1]
        for start, end in zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=False):
            at = start
            while at < end:
                number = bisect.bisect_right(self.chunk_starts, at) - 1
                chunk, first = self.codes[number], self.chunk_starts[number]
                upto = min(end, first + len(chunk.scale), at + RANGE_ROWS)
                yield chunk, at, slice(at - first, upto - first)
                at = upto

    def list_scores(self, queries: Float32s) -> Float64s:
        """Return how promising each list is for each query, as (queries, lists).

        Queries are of length 1 but for l2.

        For inner product the directions are clustered, and a list is worth the longest of its
        rows times the cosine that its centroid promises: right for rows of one length as for
        cosine, and a list with a long row is looked at from further away.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scores = centroid_scores(queries, self.centroids, self._halves).astype(np.float64)
            if self.metric is Metric.INNER_PRODUCT:
                # |q - c|^2 = 1 - 2 (q.c - |c|^2 / 2) for a query of length 1.
                scores = (0.5 + scores) * self.longest
        return scores


def split_lengths(vectors: Float64s) -> tuple[Float64s, Float32s]:
    """Return the lengths (n,) of vectors (n, d) and their directions; zeros have none."""
    lengths = np.linalg.norm(vectors, axis=1)
    return lengths, (vectors / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)
