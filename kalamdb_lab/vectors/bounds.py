"""What an approximate similarity says for certain: which rows may still be among the k nearest.

Every row x gets products p, so that the cosine to the query is c = p * unit * t, at most
w = rest * (1 + e) + e + SLACK away. With codes, x / |x| = unit * codes + r and
q / |q| = t * codes' + f, where |r| <= rest and |f| <= e; so
<q^, x^> - t unit <codes', codes> = <q^, r> + <f, x^ - r>, at most rest + e (1 + rest) by
Cauchy-Schwarz. With float32 rows, t = 1, e = 0, unit = 1 / |x| and rest is the rounding of the sum.

Scores order rows best first and do not depend on the length of the query: cosine c; inner
product |x| c; L2 y (2 c - y) for y = |x| / |q|, which is 1 - (distance / |q|)^2.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.rows import Float32s, Float64s, Int8s, Metric, Positions

SLACK = 2e-6
"""Covers what rounding to float32 does to a cosine: of the query, the norm, the product with unit
and t, the sum's last bits beyond 2^24. Each is below 1.1 * 2^-24, and they are fewer than 20."""

TERM_SLACK = 1e-6
"""A threshold is a sum of up to four float32 terms of at most seven roundings (2^-24) each."""

TIE, TIE_LEAST = 1e-9, 1e-12
"""Distances this close to the k-th, relative and absolute, are ties."""


@dataclass(frozen=True, slots=True)
class QueryBounds:
    """Queries (b, d) with their part of every bound.

    Attributes
    ----------
    metric : Metric
    rows : (b, d) float64
        As given.
    unit : (b, d) float32
        Divided by their lengths.
    length : (b,) float64
    scale, error : (b,) float64
        t and e above: ones and zeros for queries kept in float32.
    """

    metric: Metric
    rows: Float64s
    unit: Float32s
    length: Float64s
    scale: Float64s
    error: Float64s

    @classmethod
    def of(cls, metric: Metric, rows: Float64s, length: Float64s) -> QueryBounds:
        """Take the queries as they are, in float32."""
        with np.errstate(all="ignore"):  # bounds of a query without length are never asked for
            unit = (rows / length[:, None]).astype(np.float32)
        return cls(metric, rows, unit, length, np.ones(len(rows)), np.zeros(len(rows)))

    def in_eight_bits(self) -> tuple[QueryBounds, Int8s]:
        """Return the same queries with the error of their codes, and the codes (b, d) int8."""
        chunk = encode(self.unit)
        scale, error = chunk.scale.astype(np.float64), chunk.remainder.astype(np.float64)
        bounds = QueryBounds(self.metric, self.rows, self.unit, self.length, scale, error)
        return bounds, chunk.codes

    def one(self, place: int) -> QueryBounds:
        """Return one of the queries alone."""
        own = slice(place, place + 1)
        return QueryBounds(
            self.metric,
            self.rows[own],
            self.unit[own],
            self.length[own],
            self.scale[own],
            self.error[own],
        )

    def distances(self, rows: Float32s) -> Float64s:
        """Return how far rows (m, d) are from the only query, in float64; NaN: no match."""
        wide = rows.astype(np.float64)
        if self.metric is Metric.L2:
            wide -= self.rows
            away: Float64s = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            return away
        # A matrix product rounds by where a row lies, and equal rows must have equal distances.
        products: Float64s = np.einsum("ij,j->i", wide, self.rows[0])
        if self.metric is Metric.INNER_PRODUCT:
            return np.negative(products)
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide)) * self.length[0]
        lengths[lengths == 0] = np.nan
        cosine: Float64s = np.clip(1 - products / lengths, 0, 2)
        return cosine

    def score(self, distance: Float64s) -> Float64s:
        """Return the scores (b,) that belong to distances (b,)."""
        if self.metric is Metric.COSINE:
            return 1 - distance
        if self.metric is Metric.INNER_PRODUCT:
            return -distance / self.length
        return 1 - (distance / self.length) ** 2

    def tied(self, score: Float64s) -> Float64s:
        """Return the lowest scores that count as ties of these (b,), a little lower still."""
        if self.metric is Metric.COSINE:
            return score - 2 * TIE * np.maximum(1 - score, 0) - 2 * TIE_LEAST
        if self.metric is Metric.INNER_PRODUCT:
            return score - 2 * TIE * np.abs(score) - 2 * TIE_LEAST / self.length
        away = np.sqrt(np.maximum(1 - score, 0)) * (1 + 2 * TIE) + 2 * TIE_LEAST / self.length
        return 1 - away * away

    def thresholds(self, lowest: Float64s) -> Float32s:
        """Return coefficients (4, b) that tell which rows cannot reach the scores ``lowest``.

        They are those for which p * unit < g0 + g1 rest + g2 / norm + g3 norm.
        """
        terms = np.zeros((4, len(lowest)))
        terms[0] = -(self.error + SLACK)
        terms[1] = -(1 + self.error)
        if self.metric is Metric.COSINE:
            terms[0] += lowest
        elif self.metric is Metric.INNER_PRODUCT:
            terms[2] = lowest
        else:
            terms[2] = lowest * self.length / 2
            terms[3] = 0.5 / self.length
        terms /= self.scale
        terms -= TERM_SLACK * np.abs(terms)
        return terms.astype(np.float32)

    def score_range(
        self, query: Positions, product: Float64s, unit: Float64s, rest: Float64s, norm: Float64s
    ) -> tuple[Float64s, Float64s]:
        """Return the least and the greatest score of rows (m,), each for its own query (m,)."""
        similarity = product * unit * self.scale[query]
        error = self.error[query]
        width = rest * (1 + error) + error + SLACK
        least, most = similarity - width, similarity + width
        if self.metric is Metric.INNER_PRODUCT:
            least, most = norm * least, norm * most
        elif self.metric is Metric.L2:
            far = norm / self.length[query]
            rounding = TERM_SLACK * (far + far * far)  # the norm is a float32
            least = far * (2 * least - far) - rounding
            most = far * (2 * most - far) + rounding
        unknown = ~np.isfinite(width)
        least[unknown], most[unknown] = -np.inf, np.inf
        return least, most


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that may be among the k nearest of their queries; the arrays are (m,)."""

    query: Positions
    target: Positions
    position: Positions
    least: Float64s
    most: Float64s

    def take(self, which: slice | np.ndarray[Any, Any]) -> Candidates:
        """Return those at the places, or where true."""
        return Candidates(
            self.query[which],
            self.target[which],
            self.position[which],
            self.least[which],
            self.most[which],
        )

    @classmethod
    def joined(cls, parts: list[Candidates]) -> Candidates:
        if len(parts) == 1:
            return parts[0]
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("query", "target", "position", "least", "most")
            )
        )


_NONE = np.empty(0, np.int64)
NOBODY = Candidates(_NONE, _NONE, _NONE, np.empty(0), np.empty(0))


class Race:
    """The candidates of a search, and the score that a row must be able to reach to be one.

    Threads may add to it at once. The score only rises.
    """

    def __init__(self, bounds: QueryBounds, k: int) -> None:
        self._bounds = bounds
        self._k = k
        self._lock = threading.Lock()
        self._parts: list[Candidates] = []
        self._waiting = 0
        self._kept = 0
        self._scanned = 0
        self._next_cut = 1
        self.lowest: Float64s = np.full(len(bounds.length), -np.inf)
        """(b,): replaced as a whole, so that it may be read at any time."""

    @property
    def started(self) -> bool:
        """Whether any query has k candidates yet."""
        return bool((self.lowest > -np.inf).any())

    def add(self, found: Candidates, scanned: int) -> None:
        """Take the candidates among ``scanned`` more rows."""
        with self._lock:
            self._scanned += scanned
            if len(found.query):
                self._parts.append(found)
                self._waiting += len(found.query)
            # Seldom enough that sorting costs nothing beside scanning, soon enough to matter.
            crowded = self._waiting > 2_000 + 2 * self._k * len(self.lowest) + self._kept
            if crowded or self._scanned >= self._next_cut:
                self._next_cut = 2 * self._scanned
                self._cut()

    def finished(self) -> Candidates:
        """Return all candidates that are left, ordered by query."""
        with self._lock:
            self._cut()
            left = self._parts[0] if self._parts else NOBODY
            return left.take(np.argsort(left.query, kind="stable"))

    def _cut(self) -> None:
        self._waiting = 0
        if not self._parts:
            return
        all_parts = Candidates.joined(self._parts)
        kth = self._kth_least(all_parts)
        self.lowest = np.fmax(self.lowest, self._bounds.tied(kth))
        left = all_parts.take(all_parts.most >= self.lowest[all_parts.query])
        self._parts = [left]
        self._kept = len(left.query)

    def _kth_least(self, candidates: Candidates) -> Float64s:
        query_count, k = len(self.lowest), self._k
        kth = np.full(query_count, -np.inf)
        if query_count == 1:
            if len(candidates.least) >= k:
                kth[0] = -np.partition(-candidates.least, k - 1)[k - 1]
            return kth
        order = np.lexsort((-candidates.least, candidates.query))
        counts = np.bincount(candidates.query, minlength=query_count)
        places = np.cumsum(counts) - counts + k - 1
        enough = counts >= k
        kth[enough] = candidates.least[order[places[enough]]]
        return kth
