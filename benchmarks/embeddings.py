"""Vectors in clusters, as text models make them, from a seed; and which are truly nearest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

DIMENSION = 384
KEEPING = {"all": 100, "10 %": 10, "1 %": 1}
"""What ``part < ?`` keeps, by the share that it is of all rows."""

SEED = 384
_BLOCK = 20_000
_CLUSTERS = 2_000
_INNER = 64
_QUERIES = 1 << 30
_CLOSE = 1e-6

Floats = np.ndarray[Any, np.dtype[np.float32]]


def rows(count: int) -> Floats:
    """Return vectors of length one: the first ones are the same whatever the count.

    2,000 clusters whose sizes follow a power law; within them 64 directions that all share, and
    noise. The tenth nearest of 100,000 has a cosine of about 0.73.
    """
    made = np.empty((count, DIMENSION), np.float32)
    for number, start in enumerate(range(0, count, _BLOCK)):
        block = made[start : start + _BLOCK]
        # Every block is made whole, so that a shorter one begins with the same rows.
        block[:] = _made(number, _BLOCK)[: len(block)]
    return made


def queries(count: int) -> Floats:
    """Return vectors of the same clusters that are not among the rows."""
    return _made(_QUERIES, count)


def parts(count: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return a number from 0 to 99 for each row, at random."""
    return np.random.default_rng(SEED).integers(0, 100, count, np.int32)


def table(vectors: Floats, part: np.ndarray[Any, Any], *, start: int = 0) -> pa.Table:
    """Return rows (id, part, e) in Arrow; the vectors are not copied."""
    values = pa.array(vectors.reshape(-1))
    ids = np.arange(start, start + len(vectors))
    e = pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])
    return pa.table({"id": ids, "part": part, "e": e})


def slices(
    vectors: Floats, part: np.ndarray[Any, Any], at_once: int = 250_000
) -> Iterator[pa.Table]:
    """Yield all rows as tables that are loaded one after the other, to keep memory low."""
    for start in range(0, len(vectors), at_once):
        end = start + at_once
        yield table(vectors[start:end], part[start:end], start=start)


@dataclass(frozen=True, slots=True)
class Truth:
    """The rows nearest to some queries by cosine in float64, over every row.

    Attributes
    ----------
    ids : (b, k) int64
        Nearest first, ties by lower number.
    cosines : (b, k) float64
    """

    vectors: Floats
    queries: Floats
    ids: np.ndarray[Any, np.dtype[np.int64]]
    cosines: np.ndarray[Any, np.dtype[np.float64]]

    def recall(self, number: int, found: list[int]) -> float:
        """Return the share of the nearest rows of a query that were found."""
        expected = self.ids[number].tolist()
        return len(set(expected) & set(found)) / max(len(expected), 1)

    def is_right(self, number: int, found: list[int]) -> bool:
        """Return whether these are the nearest rows, up to what float32 cannot tell apart."""
        expected = self.cosines[number]
        if len(set(found)) != len(expected):
            return False
        cosines = _cosines(self.vectors[found], self.queries[number : number + 1])[:, 0]
        return bool(np.allclose(-np.sort(-cosines), expected, rtol=0, atol=_CLOSE))


def truths(
    vectors: Floats, queries: Floats, k: int, part: np.ndarray[Any, Any]
) -> dict[str, Truth]:
    """Return the truth for each share of `KEEPING`, in one pass over the rows."""
    best = {
        share: (np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0)))
        for share in KEEPING
    }
    for start in range(0, len(vectors), _BLOCK):
        cosines = _cosines(vectors[start : start + _BLOCK], queries).T
        for share, below in KEEPING.items():
            kept = np.flatnonzero(part[start : start + _BLOCK] < below)
            ids, known = best[share]
            ids = np.hstack([ids, np.broadcast_to(start + kept, (len(queries), len(kept)))])
            best[share] = _first(ids, np.hstack([known, cosines[:, kept]]), k)
    return {share: Truth(vectors, queries, *found) for share, found in best.items()}


def _first(ids: Any, cosines: Any, k: int) -> tuple[Any, Any]:
    order = np.lexsort((ids, -cosines))[:, :k]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(cosines, order, 1)


def _cosines(vectors: Floats, queries: Floats) -> np.ndarray[Any, np.dtype[np.float64]]:
    wide, asked = vectors.astype(np.float64), queries.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)[:, None] * np.linalg.norm(asked, axis=1)
    cosines: np.ndarray[Any, np.dtype[np.float64]] = wide @ asked.T / lengths
    return cosines


def _made(number: int, count: int) -> Floats:
    shared = np.random.default_rng(SEED)
    directions = shared.standard_normal((_INNER, DIMENSION), np.float32) / np.sqrt(_INNER)
    centres = shared.standard_normal((_CLUSTERS, _INNER), np.float32)
    weights = 1 / np.arange(1, _CLUSTERS + 1) ** 0.8
    random = np.random.default_rng((SEED, number))
    cluster = random.choice(_CLUSTERS, count, p=weights / weights.sum())
    inner = centres[cluster] + 0.5 * random.standard_normal((count, _INNER), np.float32)
    made = inner @ directions.astype(np.float32)
    made += 0.45 * random.standard_normal(made.shape, np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    result: Floats = made.astype(np.float32, copy=False)
    return result
