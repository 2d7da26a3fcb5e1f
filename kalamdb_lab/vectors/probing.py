"""Searching inverted lists.

A query looks at the lists whose centroids are nearest to it. Within these lists the answer is
certified by the bounds of `CodeChunk` and ranked from the float32 rows, so that what an index can
miss lies in lists it did not look at. Filters are one truth value a row. Recall is measured, never
assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from kalamdb_lab.vectors.bounds import TIE, TIE_LEAST, QueryBounds
from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.kernels import EightBitQueries, eight_bit_kernel
from kalamdb_lab.vectors.lists import RANGE_ROWS, InvertedLists, split_lengths
from kalamdb_lab.vectors.rows import (
    Float32s,
    Float64s,
    Int8s,
    Metric,
    Positions,
    VectorRows,
)
from kalamdb_lab.vectors.search import Found, Target, Work, merged

Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

PATH = "inverted lists"

FEWEST_ROWS = 50_000
"""Exact search of fewer rows, of 384 numbers, takes little more than a millisecond, and what a
statement costs beside it is more than an index saves."""

MOST_LOOKED_AT = 0.3
"""Share of the lists from which reading all codes in order takes no longer than theirs."""

MOST_FOR_A_FILTER = 1.5
"""The same, for each share of rows that a filter keeps: exact search reads just these, by place,
at twice the cost of rows in lists. So filters that keep less than 5 to 10 % are left to it."""

MEASURED_K = 10
"""The k that default probes are chosen for."""

WIDENING = 0.67
"""More neighbours, and those that a filter keeps, lie further away: lists grow by k / 10 and by
1 / share to this power. Measured to hold the recall up to k = 300 and down to a twentieth."""

ROWS_FOR_EACH = 4
"""Rows to look at for each that is wanted; fewer can hardly hold them."""

ROUNDING = 2e-6
"""More than what float32 does to a cosine, and to the square of a norm."""

_RANKED_ROWS = 1_024


def probe(
    index: InvertedLists,
    target: Target,
    queries: Float32s,
    k: int,
    *,
    probes: int | None = None,
) -> tuple[list[Found], Work] | None:
    """Return nearly the k nearest rows of each query, or None where exact search is faster.

    Parameters
    ----------
    index : InvertedLists
        Of ``target.rows``.
    queries : (b, d) float32
    probes : int, optional
        Lists to look at instead of ``index.probes``.

    Returns
    -------
    list of Found, one a query, and Work
        Always min(k, matching) rows at least: more lists are looked at if need be.
    """
    if not is_asked(index, target, k, probes=probes):
        return None
    wanted = index.probes if probes is None else probes
    return probe_lists(index, target, queries, k, probes=wanted)


def is_asked(index: InvertedLists, target: Target, k: int, *, probes: int | None = None) -> bool:
    """Return whether `probe` answers: false where exact search is faster."""
    share = _share(target)
    wanted = index.probes if probes is None else probes
    looked_at = _widened(wanted, share, k) / index.list_count
    rows_seen = looked_at * share * len(index.order)
    return (
        len(index.order) >= FEWEST_ROWS
        and looked_at <= min(MOST_LOOKED_AT, MOST_FOR_A_FILTER * share)
        and k * ROWS_FOR_EACH <= rows_seen
    )


def probe_lists(
    index: InvertedLists, target: Target, queries: Float32s, k: int, *, probes: int
) -> tuple[list[Found], Work]:
    """Do as `probe` does, also where exact search is faster."""
    lists = max(1, round(_widened(probes, _share(target), k)))
    return search_lists(index, target, queries, k, lists=lists)


def search_lists(
    index: InvertedLists, target: Target, queries: Float32s, k: int, *, lists: int
) -> tuple[list[Found], Work]:
    """Do as `probe` does in just so many lists, whatever the filter and k, if they hold enough."""
    wide = np.asarray(queries, np.float64)
    lengths, directions = split_lengths(wide)
    scores = index.list_scores(queries if index.metric is Metric.L2 else directions)
    codes = encode(directions)
    looking = _Looking(index, target, k, lists)
    found = []
    for i, query in enumerate(wide):
        code = _QueryCode(
            codes.codes[i : i + 1],
            codes.scale[i].item(),
            codes.remainder[i].item(),
            lengths[i].item(),
        )
        found.append(looking.nearest(query, code, scores[i]))
    return found, Work(PATH, looking.scanned, looking.reranked)


def _share(target: Target) -> float:
    """Return about what share of the rows is kept, as if those left out were spread evenly."""
    rows = target.rows.row_count
    kept = rows if target.only is None else len(target.only)
    left_out = 0 if target.without is None else len(target.without)
    return max(0, kept - left_out * kept // max(rows, 1)) / max(rows, 1)


def _widened(probes: int, share: float, k: int) -> float:
    """Return how many lists k rows are sought in, if a filter keeps ``share`` of all rows."""
    wider = max(1, k / MEASURED_K) / max(share, 1e-6)
    # Up to half as many again for filters that keep other rows than the query's surroundings.
    return float(probes * wider**WIDENING * (1.5 - 0.5 * share))


class _Looking:
    """One call of `search_lists`: what its queries have in common, and what was done."""

    def __init__(self, index: InvertedLists, target: Target, k: int, lists: int) -> None:
        self.scanned = 0
        self.reranked = 0
        self._index = index
        self._rows = target.rows
        self._k = k
        self._allowed = _allowed(target)
        self._first = min(index.list_count, lists)
        # As many rows as are left by a filter that has nothing to do with where they lie.
        expected = len(index.order) * _share(target) * self._first / index.list_count
        self._enough = k if self._allowed is None else max(k, math.ceil(expected))

    def nearest(self, query: Float64s, code: _QueryCode, scores: Float64s) -> Found:
        """Rank the rows of the best lists for one query."""
        index = self._index
        if self._k < 1 or (code.length == 0 and index.metric is Metric.COSINE):
            return merged([], self._k)
        ranked = np.argsort(-scores)
        products = _products(code.codes)
        apart = index.order[: index.offsets[0]]
        if self._allowed is not None:
            apart = apart[self._allowed[apart]]
        seen, done, upto = len(apart), 0, self._first
        parts: list[_Part] = []
        while True:
            parts.append(self._scan(ranked[done:upto], products))
            seen += len(parts[-1].positions)
            done = upto
            if done == index.list_count or seen >= self._enough:
                break
            # At least a quarter more: the lists to come hold fewer and fewer neighbours.
            missing = done * (self._enough - seen) / max(seen, 1)
            upto = min(index.list_count, done + min(done, max(done // 4, math.ceil(missing))))
        part = _Part.joined(parts)
        # With all lists looked at nothing is missed: the answer is that of exact search.
        most = len(part.positions) if done == index.list_count else max(100, 10 * self._k)
        near = part.positions[self._candidates(part, code, most)]
        positions = np.concatenate([apart, near]).astype(np.int64)
        self.scanned += len(apart)
        self.reranked += len(positions)
        distances = _distances(self._rows, positions, query, index.metric)
        return merged([Found(np.zeros_like(positions), positions, distances)], self._k)

    def _scan(self, lists: Positions, products: Callable[[Int8s], Float32s]) -> _Part:
        """Return what the codes of some lists say, without the rows that the filter drops."""
        index = self._index
        parts: list[_Part] = []
        for chunk, start, inside in index.ranges(np.sort(lists)):
            scale = chunk.scale[inside]
            self.scanned += len(scale)
            positions = index.order[start : start + len(scale)]
            cosine = scale * products(chunk.codes[inside])
            parts.append(_Part(positions, cosine, chunk.remainder[inside], chunk.norm[inside]))
        part = _Part.joined(parts)
        if self._allowed is None:
            return part
        kept = np.flatnonzero(self._allowed[part.positions])
        return _Part(part.positions[kept], part.cosine[kept], part.remainder[kept], part.norm[kept])

    def _candidates(self, part: _Part, code: _QueryCode, most: int) -> Positions:
        """Return which of the rows may be among the k nearest; the likeliest ``most`` of them."""
        likely = part.cosine.astype(np.float64) * code.scale
        # |<q, x> - <q', x'>| <= |x - x'| + |q - q'| (1 + |x - x'|) for x and q of length 1.
        error = part.remainder * (1 + code.remainder) + (code.remainder + ROUNDING)
        if self._index.metric is not Metric.COSINE:
            norms = part.norm.astype(np.float64)
            likely *= code.length * norms
            error = error * (code.length * norms)
            if self._index.metric is Metric.L2:
                # |q|^2 - |q - x|^2, halved.
                likely -= 0.5 * norms * norms
                error += ROUNDING * norms * norms
        kth = len(likely) - self._k
        if kth <= 0:
            return np.arange(len(likely))
        bound = float(np.partition(likely - error, kth)[kth])
        near = np.flatnonzero(likely + error >= self._tied(bound, code.length))
        if len(near) > most:
            near = near[np.argpartition(-likely[near], most)[:most]]
        return near

    def _tied(self, likely: float, length: float) -> float:
        """Return what rows that tie with one of this likelihood reach at least."""
        if self._index.metric is not Metric.L2:
            return likely - 2 * (TIE * abs(likely) + TIE_LEAST)
        away = math.sqrt(max(length * length - 2 * likely, 0)) * (1 + 2 * TIE) + 2 * TIE_LEAST
        return 0.5 * (length * length - away * away)


class _QueryCode(NamedTuple):
    """A query's direction in eight bits (1, d), as `CodeChunk` has it, and its length."""

    codes: Int8s
    scale: float
    remainder: float
    length: float


class _Part(NamedTuple):
    """Some rows and what their codes say: the cosine to the query, but for the query's scale."""

    positions: np.ndarray[Any, np.dtype[np.int32]]
    cosine: Float32s
    remainder: Float32s
    norm: Float32s

    @classmethod
    def joined(cls, parts: Sequence[_Part]) -> _Part:
        if len(parts) == 1:
            return parts[0]
        none = np.empty(0, np.float32)
        return cls(
            np.concatenate([np.empty(0, np.int32), *(part.positions for part in parts)]),
            np.concatenate([none, *(part.cosine for part in parts)]),
            np.concatenate([none, *(part.remainder for part in parts)]),
            np.concatenate([none, *(part.norm for part in parts)]),
        )


def _allowed(target: Target) -> Bools | None:
    """Return which positions the filter keeps; None for all."""
    if target.only is None and target.without is None:
        return None
    allowed = np.full(target.rows.row_count, target.only is None)
    if target.only is not None:
        allowed[target.only] = True
    if target.without is not None:
        allowed[target.without] = False
    return allowed


def _products(query: Int8s) -> Callable[[Int8s], Float32s]:
    """Return what multiplies rows in eight bits with the query (1, d); (m,), valid until called."""
    kernel = eight_bit_kernel()
    if kernel is None:
        floats = query[0].astype(np.float32)
        return lambda codes: codes.astype(np.float32) @ floats
    multiplied = EightBitQueries(kernel, query, RANGE_ROWS)
    return lambda codes: multiplied.products(codes)[:, 0]


def _distances(rows: VectorRows, positions: Positions, query: Float64s, metric: Metric) -> Float64s:
    wide = query[None, :]
    bounds = QueryBounds.of(metric, wide, np.sqrt(np.einsum("ij,ij->i", wide, wide)))
    distances = np.empty(len(positions))
    for start in range(0, len(positions), _RANKED_ROWS):
        part = slice(start, start + _RANKED_ROWS)
        distances[part] = bounds.distances(rows.at(positions[part]))
    return distances
