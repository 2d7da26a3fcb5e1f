"""One pass over rows, in codes or in float32, that leaves the candidates for the k nearest."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from kalamdb_lab.vectors.bounds import Candidates, QueryBounds, Race
from kalamdb_lab.vectors.kernels import EightBitQueries
from kalamdb_lab.vectors.rows import CodeChunk, Float32s, Int8s, Metric, Positions

Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

FIRST_ROWS = 1_024
"""The block that sets the first bound: all of its rows are candidates."""

BLOCK_ROWS, BLOCK_PRODUCTS = 16_384, 262_144
"""A block has at most so many rows, and rows times queries: they stay in the processor's cache."""

FLOAT_ROWS = 2_048
"""The same for float32 rows, which are read twice."""

COPIED_ROWS, COPIED_BYTES = 4_096, 6 << 20
"""Rows that a filter keeps are copied into a buffer of so many, which is used again."""

SPAN_SINGLE, SPAN_BATCH = 3.0, 1.25
"""Rows lying this much apart, on average, are scanned with what is between them, not copied."""

THREADED_ROWS, MOST_THREADS = 131_072, 4
"""From so many rows on, codes are scanned by several threads."""

LEAST_LENGTH, MOST_LENGTH = 1e-12, 1e12
"""Float32 sums of squares neither overflow nor lose bits in between."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one chunk, all of them or those of ``only``.

    Attributes
    ----------
    target : int
        Number of the target that the rows belong to.
    start : int
        Position of the chunk's first row within the target.
    chunk : CodeChunk or (m, d) float32
    first, last : int
        Rows of the chunk to look at, counted from its own first.
    only : (p,) int64 or None
        If given, those to look at, ascending, likewise counted.
    without : (r,) int64 or None
        Rows left out, positions within the target.
    valid : (n,) bool or None
        Of the whole target.
    """

    target: int
    start: int
    chunk: CodeChunk | Float32s
    first: int
    last: int
    only: Positions | None
    without: Positions | None
    valid: Bools | None

    def left_out(self, first: int, last: int) -> Positions:
        """Return the rows of ``without`` among those of the chunk, counted from ``first``."""
        assert self.without is not None
        low, high = np.searchsorted(self.without, (self.start + first, self.start + last))
        return self.without[low:high] - (self.start + first)


@dataclass(frozen=True, slots=True)
class _Block:
    """Products (m, b) of rows; ``places`` are their rows in the chunk, or those from ``first``."""

    products: Float32s
    unit: Float32s
    rest: Float32s
    norm: Float32s
    first: int
    places: Positions | None = None


def pieces_of(
    target: int,
    chunks: Sequence[CodeChunk] | Sequence[Float32s],
    only: Positions | None,
    without: Positions | None,
    valid: Bools | None,
    piece_rows: int,
) -> Iterator[Piece]:
    """Cut a target at its chunks, and these at ``piece_rows``."""
    start = 0
    for chunk in chunks:
        row_count = len(chunk.codes if isinstance(chunk, CodeChunk) else chunk)
        if only is None:
            for first in range(0, row_count, piece_rows):
                last = min(first + piece_rows, row_count)
                yield Piece(target, start, chunk, first, last, None, without, valid)
        else:
            low, high = np.searchsorted(only, (start, start + row_count))
            kept = only[low:high] - start if start else only[low:high]
            for first in range(0, len(kept), piece_rows):
                part = kept[first : first + piece_rows]
                yield Piece(target, start, chunk, 0, row_count, part, without, valid)
        start += row_count


def scan(pieces: Sequence[Piece], bounds: QueryBounds, race: Race, kernel: Any | None) -> None:
    """Bring the candidates among the rows of all pieces into the race.

    Parameters
    ----------
    pieces : sequence of Piece
        All of codes if there is a kernel, all of float32 rows if there is none.
    bounds : QueryBounds
        The queries, in float32.
    race : Race
    kernel : module or None
        What `eight_bit_kernel` returned.
    """
    codes: Int8s | None = None
    if kernel is not None:
        bounds, codes = bounds.in_eight_bits()
    waiting = deque(pieces)

    def run() -> None:
        scanner = _Floats(bounds) if codes is None else _EightBits(bounds, codes, kernel)
        with np.errstate(all="ignore"):  # what overflows is looked at in float64
            while True:
                try:
                    piece = waiting.popleft()
                except IndexError:
                    return
                for block in scanner.blocks(piece, race):
                    _look(piece, block, bounds, race)

    # Rows that a filter keeps are copied first, which takes as long again.
    row_count = sum(p.last - p.first if p.only is None else 2 * len(p.only) for p in pieces)
    thread_count = min(MOST_THREADS, os.cpu_count() or 1, len(pieces))
    if codes is None or row_count < THREADED_ROWS or thread_count < 2:
        run()  # in float32, the BLAS of numpy has threads of its own
        return
    # A thread starts in a fifth of a millisecond; a pool that is kept would not outlive a fork.
    with ThreadPoolExecutor(thread_count - 1, "vector-scan") as pool:
        helpers = [pool.submit(run) for _ in range(thread_count - 1)]
        try:
            run()
        finally:
            waiting.clear()
        for helper in helpers:
            helper.result()


def _look(piece: Piece, block: _Block, bounds: QueryBounds, race: Race) -> None:
    lowest = race.lowest
    row_count, query_count = block.products.shape
    if race.started:
        out = _out_for_certain(block, bounds.thresholds(lowest), bounds.metric)
        hit = np.logical_not(out, out=out)  # NaN is no certainty
    else:
        hit = np.ones((row_count, query_count), dtype=bool)
    _leave_out(piece, block, hit)
    flat = np.flatnonzero(hit)
    row, query = np.divmod(flat, query_count)
    norm = block.norm[row]
    least, most = bounds.score_range(
        query,
        block.products.reshape(-1)[flat].astype(np.float64),
        block.unit[row].astype(np.float64),
        block.rest[row].astype(np.float64),
        norm.astype(np.float64),
    )
    matching = norm > 0 if bounds.metric is Metric.COSINE else norm >= 0  # NaN for NULL
    near = matching & (most >= lowest[query])
    position = (row + block.first if block.places is None else block.places[row]) + piece.start
    target = np.full(len(row), piece.target)
    race.add(Candidates(query, target, position, least, most).take(near), row_count)


def _out_for_certain(block: _Block, terms: Float32s, metric: Metric) -> Bools:
    """Return which rows (m, b) are further than the k-th for certain."""
    if block.products.shape[1] == 1:
        threshold = block.rest * terms[1, 0]
        threshold += terms[0, 0]
        if metric is not Metric.COSINE:
            threshold += terms[2, 0] / block.norm
        if metric is Metric.L2:
            threshold += terms[3, 0] * block.norm
        out: Bools = block.products[:, 0] * block.unit < threshold
        return out.reshape(-1, 1)
    inverse = 1 / np.where(block.unit == 0, np.float32(1), block.unit)
    columns = [inverse, block.rest * inverse]
    if metric is not Metric.COSINE:
        columns.append(inverse / block.norm)
    if metric is Metric.L2:
        columns.append(inverse * block.norm)
    # A matrix product would wake the threads of numpy's BLAS, which then wait for each other.
    thresholds = np.multiply.outer(columns[0], terms[0])
    more = np.empty_like(thresholds)
    for column, term in zip(columns[1:], terms[1:], strict=False):
        thresholds += np.multiply.outer(column, term, out=more)
    far: Bools = np.less(block.products, thresholds)
    return far


def _leave_out(piece: Piece, block: _Block, hit: Bools) -> None:
    if block.places is not None:
        if piece.valid is not None:
            hit &= piece.valid[block.places + piece.start][:, None]
        return
    first = piece.start + block.first
    last = first + len(hit)
    if piece.valid is not None:
        hit &= piece.valid[first:last, None]
    if piece.without is not None:
        hit[piece.left_out(block.first, block.first + len(hit))] = False


class _EightBits:
    """Blocks of codes, multiplied."""

    def __init__(self, bounds: QueryBounds, codes: Int8s, kernel: Any) -> None:
        self._batch = len(codes) > 1
        self._rows = max(min(BLOCK_ROWS, BLOCK_PRODUCTS // len(codes)), 2)
        self._queries = EightBitQueries(kernel, codes, self._rows)
        self._span = SPAN_BATCH if self._batch else SPAN_SINGLE
        self._copied_rows = max(min(COPIED_ROWS, int(self._rows / self._span)), 1)
        self._copies = np.empty((0, codes.shape[1]), np.int8)

    def blocks(self, piece: Piece, race: Race) -> Iterator[_Block]:
        chunk = piece.chunk
        assert isinstance(chunk, CodeChunk)
        if piece.only is None:
            first = piece.first
            while first < piece.last:
                last = min(first + (self._rows if race.started else FIRST_ROWS), piece.last)
                part = slice(first, min(last, first + self._rows))
                products = self._queries.products(chunk.codes[part])
                yield _Block(
                    products, chunk.scale[part], chunk.remainder[part], chunk.norm[part], first
                )
                first = part.stop
            return
        for at in range(0, len(piece.only), self._copied_rows):
            places = piece.only[at : at + self._copied_rows]
            yield _Block(
                self._products_at(chunk, places),
                chunk.scale[places],
                chunk.remainder[places],
                chunk.norm[places],
                0,
                places,
            )

    def _products_at(self, chunk: CodeChunk, places: Positions) -> Float32s:
        first, last = int(places[0]), int(places[-1]) + 1
        if last - first <= self._span * len(places):
            return self._queries.products(chunk.codes[first:last])[places - first]
        if len(self._copies) < len(places):
            self._copies = np.empty((len(places), chunk.codes.shape[1]), np.int8)
        copies = self._copies[: len(places)]
        np.take(chunk.codes, places, axis=0, out=copies, mode="clip")  # raise would copy twice
        return self._queries.products(copies)


class _Floats:
    """Blocks of float32 rows, multiplied.

    The sum of d products is within gamma_d |q| |x| of the inner product whatever their order,
    gamma_d = d u / (1 - d u), u = 2^-24; likewise the sum of squares, of whose error the root
    has half. Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
    """

    def __init__(self, bounds: QueryBounds) -> None:
        dimension = bounds.unit.shape[1]
        self._queries = np.ascontiguousarray(bounds.unit.T)
        self._rounding = np.float32(1.1 * (1.5 * dimension + 8) * 2.0**-24)
        self._rows = max(min(FLOAT_ROWS, COPIED_BYTES // (4 * dimension)), 1)
        self._copies = np.empty((0, dimension), np.float32)

    def blocks(self, piece: Piece, race: Race) -> Iterator[_Block]:
        rows = piece.chunk
        assert not isinstance(rows, CodeChunk)
        if piece.only is None:
            for first in range(piece.first, piece.last, self._rows):
                last = min(first + self._rows, piece.last)
                yield self._block(rows[first:last], first, None)
            return
        for at in range(0, len(piece.only), self._rows):
            places = piece.only[at : at + self._rows]
            first, last = int(places[0]), int(places[-1]) + 1
            if last - first == len(places):
                yield self._block(rows[first:last], 0, places)
                continue
            if len(self._copies) < len(places):
                self._copies = np.empty((len(places), rows.shape[1]), np.float32)
            copies = self._copies[: len(places)]
            np.take(rows, places, axis=0, out=copies, mode="clip")
            yield self._block(copies, 0, places)

    def _block(self, rows: Float32s, first: int, places: Positions | None) -> _Block:
        norm = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        rest = np.full(len(rows), self._rounding)
        known = (norm >= LEAST_LENGTH) & (norm <= MOST_LENGTH)
        if not known.all():
            rest[~known] = np.inf
            norm[~known] = 1
        return _Block(rows @ self._queries, 1 / norm, rest, norm, first, places)
