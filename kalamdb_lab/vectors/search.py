"""Exact search: the k nearest rows of each query, with all that tie with the k-th.

Every row gets an approximate similarity and a proven bound of its error (`bounds`). Rows whose
best possible distance reaches the k-th worst possible one are ranked again in float64 from the
float32 rows. So the answer is that of a full search in float64, whichever way it was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kalamdb_lab.vectors.bounds import TIE, TIE_LEAST, Candidates, QueryBounds, Race
from kalamdb_lab.vectors.kernels import eight_bit_kernel
from kalamdb_lab.vectors.rows import CodeChunk, Float32s, Float64s, Metric, Positions, VectorRows
from kalamdb_lab.vectors.scan import LEAST_LENGTH, MOST_LENGTH, Piece, pieces_of, scan

FEWEST_ROWS = 512
"""Up to here, all rows are ranked in float64 at once."""

FEW_ROWS = 512
"""Up to here, reading float32 rows costs no more than the codes and then some float32 rows."""

PIECE_ROWS = 32_768
"""What a thread takes at once."""

BATCH = 64
"""Queries scanned together."""

RANKED_ROWS = 1_024
"""Candidates ranked at once in float64, the best first."""


@dataclass(frozen=True, slots=True)
class Target:
    """Rows to search.

    Attributes
    ----------
    rows : VectorRows
    only : (m,) int64, optional
        The rows to rank, ascending; all of them if None.
    without : (m,) int64, optional
        Rows left out, ascending; for example removed versions.
    """

    rows: VectorRows
    only: Positions | None = None
    without: Positions | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What is nearest to one query, nearest first; equal distances by target and position.

    Attributes
    ----------
    target, position : (m,) int64
        Number of the target, and the row within it.
    distance : (m,) float64
        1 - cosine, Euclidean distance, or minus the inner product. m is at least min(k, matching
        rows): rows that tie with the k-th within 1e-9 of it (and 1e-12) are all there.
    """

    target: Positions
    position: Positions
    distance: Float64s


@dataclass(frozen=True, slots=True)
class Work:
    """How an answer was found.

    Attributes
    ----------
    path : str
        ``float32``, ``certified int8``, ``float32 and certified int8``, or that of an index.
    scanned : int
        Rows that were looked at, once for all queries.
    reranked : int
        Rows ranked in float64, summed over the queries.
    """

    path: str
    scanned: int
    reranked: int


def nearest(
    targets: Sequence[Target], queries: Float32s, k: int, metric: Metric
) -> tuple[list[Found], Work]:
    """Return the k nearest rows of all targets together, for each query.

    Parameters
    ----------
    targets : sequence of Target
        NULL never matches, nor does a row of length zero by cosine.
    queries : (b, d) float32
        Finite. By cosine, one of length zero matches nothing.
    k : int
        May exceed the number of rows.
    metric : Metric

    Returns
    -------
    list of Found
        One for each query, in order.
    Work

    Notes
    -----
    Exact up to the rounding of float64 itself. For inner products far smaller than |q| |x| that
    rounding (about 1e-16 |q| |x|) may exceed the tolerance of ties.
    """
    exact = np.asarray(queries, dtype=np.float64)
    length = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    found = [_NOTHING] * len(exact)
    plan = _Plan.of(targets)
    sought = length > 0 if metric is Metric.COSINE else np.ones(len(exact), dtype=bool)
    if k <= 0 or not plan.row_count:
        return found, Work(plan.path, 0, 0)
    bounded = sought & (max(k, FEWEST_ROWS) < plan.row_count)
    if metric is not Metric.COSINE:
        bounded &= (length >= LEAST_LENGTH) & (length <= MOST_LENGTH)
    reranked = 0
    numbers = np.flatnonzero(bounded)
    for first in range(0, len(numbers), BATCH):
        batch = numbers[first : first + BATCH]
        bounds = QueryBounds.of(metric, exact[batch], length[batch])
        candidates = plan.candidates(bounds, k)
        edges = np.searchsorted(candidates.query, np.arange(len(batch) + 1))
        for place, number in enumerate(batch):
            own = candidates.take(slice(edges[place], edges[place + 1]))
            found[number], count = _ranked(targets, bounds.one(place), own, k)
            reranked += count
    for number in np.flatnonzero(sought & ~bounded):
        # Too few rows for an estimate to pay, or a query too long or short for one in float32.
        bounds = QueryBounds.of(metric, exact[[number]], length[[number]])
        found[number] = plan.ranked(bounds, k)
        reranked += plan.row_count
    path = plan.path if bounded.any() else "float32"
    return found, Work(path, plan.row_count if sought.any() else 0, reranked)


def path_of(targets: Sequence[Target]) -> str:
    """Return how `nearest` would search: the ``path`` of its work."""
    return _Plan.of(targets).path


def merged(parts: Sequence[Found], k: int) -> Found:
    """Return the k nearest of all parts, with all that tie with the k-th, in order.

    Parameters
    ----------
    parts : sequence of Found
        Of one query, that number their targets alike and have no row in common.
    k : int
    """
    if not parts or k <= 0:
        return _NOTHING
    target = np.concatenate([part.target for part in parts])
    position = np.concatenate([part.position for part in parts])
    distance = np.concatenate([part.distance for part in parts])
    return _nearest_of(target, position, distance, k)


def _nearest_of(target: Positions, position: Positions, distance: Float64s, k: int) -> Found:
    if k < len(distance):
        kth = float(np.partition(distance, k - 1)[k - 1])
        near = np.flatnonzero(distance <= kth + TIE * abs(kth) + TIE_LEAST)
        target, position, distance = target[near], position[near], distance[near]
    order = np.lexsort((position, target, distance))
    return Found(target[order], position[order], distance[order])


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which rows of each target are searched, and how."""

    targets: Sequence[Target]
    only: tuple[Positions | None, ...]
    row_count: int
    by_codes: tuple[Piece, ...]
    by_floats: tuple[Piece, ...]
    kernel: Any

    @classmethod
    def of(cls, targets: Sequence[Target]) -> _Plan:
        kept: list[Positions | None] = []
        by_codes: list[Piece] = []
        by_floats: list[Piece] = []
        kernel, row_count = None, 0
        for number, target in enumerate(targets):
            rows, only, without = target.rows, target.only, target.without
            if only is None:
                count = rows.row_count - (0 if without is None else len(without))
            else:
                only, without = _kept(only, without), None
                count = len(only)
            kept.append(only)
            row_count += count
            if count > FEW_ROWS and rows.codes is not None:
                kernel = eight_bit_kernel()
            if count > FEW_ROWS and rows.codes is not None and kernel is not None:
                by_codes += pieces_of(number, rows.codes, only, without, rows.valid, PIECE_ROWS)
            elif count:
                by_floats += pieces_of(number, rows.chunks, only, without, rows.valid, PIECE_ROWS)
        return cls(targets, tuple(kept), row_count, tuple(by_codes), tuple(by_floats), kernel)

    @property
    def path(self) -> str:
        if not self.by_codes or self.row_count <= FEWEST_ROWS:
            return "float32"
        return "float32 and certified int8" if self.by_floats else "certified int8"

    def candidates(self, bounds: QueryBounds, k: int) -> Candidates:
        """Return the rows that may be among the k nearest of each query, ordered by query."""
        race = Race(bounds, k)
        if self.by_floats:  # the fewer rows, so they set the bound for the many
            scan(self.by_floats, bounds, race, None)
        if self.by_codes:
            scan(self.by_codes, bounds, race, self.kernel)
        return race.finished()

    def ranked(self, query: QueryBounds, k: int) -> Found:
        """Return the k nearest of all rows, each ranked in float64."""
        best = _Best(k)
        for piece in self._rows_themselves():
            best.add(_piece_ranked(piece, query))
        return best.found()

    def _rows_themselves(self) -> Iterator[Piece]:
        for number, (target, only) in enumerate(zip(self.targets, self.only, strict=True)):
            rows, without = target.rows, target.without if only is None else None
            yield from pieces_of(number, rows.chunks, only, without, rows.valid, RANKED_ROWS)


def _piece_ranked(piece: Piece, query: QueryBounds) -> Found:
    assert not isinstance(piece.chunk, CodeChunk)
    if piece.only is None:
        rows = piece.chunk[piece.first : piece.last]
        position = np.arange(piece.start + piece.first, piece.start + piece.last)
    else:
        rows, position = piece.chunk[piece.only], piece.only + piece.start
    distance = query.distances(rows)
    matching = ~np.isnan(distance)
    if piece.valid is not None:
        matching &= piece.valid[position]
    if piece.without is not None:
        matching[piece.left_out(piece.first, piece.last)] = False
    if not matching.all():
        position, distance = position[matching], distance[matching]
    return Found(np.full(len(position), piece.target), position, distance)


def _kept(only: Positions, without: Positions | None) -> Positions:
    if without is None or not len(without) or not len(only):
        return only
    place = np.minimum(np.searchsorted(without, only), len(without) - 1)
    kept: Positions = only[without[place] != only]
    return kept


def _ranked(
    targets: Sequence[Target], query: QueryBounds, candidates: Candidates, k: int
) -> tuple[Found, int]:
    """Return the k nearest of one query's candidates, and how many of these were looked at."""
    if len(candidates.position) > RANKED_ROWS:
        candidates = candidates.take(np.argsort(-candidates.most, kind="stable"))
    best, count = _Best(k), 0
    for first in range(0, len(candidates.position), RANKED_ROWS):
        if best.kth is not None:
            lowest = query.tied(query.score(np.array([best.kth])))
            if candidates.most[first] < lowest[0]:
                break  # nor can any of those after it be near enough
        part = candidates.take(slice(first, first + RANKED_ROWS))
        order = np.lexsort((part.position, part.target))
        target, position = part.target[order], part.position[order]
        distance = query.distances(_rows_at(targets, target, position))
        matching = ~np.isnan(distance)
        best.add(Found(target[matching], position[matching], distance[matching]))
        count += len(position)
    return best.found(), count


class _Best:
    """The k nearest of what was added so far, and their ties."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._parts: list[Found] = []
        self._kept = self._waiting = 0
        self.kth: float | None = None
        """A distance that the k-th nearest does not exceed, once there are k."""

    def add(self, part: Found) -> None:
        self._parts.append(part)
        self._waiting += len(part.distance)
        if self._waiting > self._kept:  # so that many ties are not sorted again and again
            best = merged(self._parts, self._k)
            self._parts, self._kept, self._waiting = [best], len(best.distance), 0
            if self._kept >= self._k:
                self.kth = float(best.distance[self._k - 1])

    def found(self) -> Found:
        return self._parts[0] if self._waiting == 0 and self._kept else merged(self._parts, self._k)


def _rows_at(targets: Sequence[Target], target: Positions, position: Positions) -> Float32s:
    """Copy rows, given ordered by target and position, into one array (m, d)."""
    numbers, starts = np.unique(target, return_index=True)
    ends = np.append(starts[1:], len(target))
    parts = [
        targets[number].rows.at(position[start:end])
        for number, start, end in zip(numbers, starts, ends, strict=True)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


_NOTHING = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
