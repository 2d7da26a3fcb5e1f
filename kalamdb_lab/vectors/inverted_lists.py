"""Building inverted lists, and measuring what they find. Searching them is in `probing`.

Only directions are clustered for cosine and inner product, and rows as they are for l2. Work goes
by blocks: beside the codes, which are a quarter of the floats, and a sample for training, no more
than a few megabytes of the column are in memory at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kalamdb_lab.vectors.bounds import TIE, TIE_LEAST
from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.kmeans import (
    ITERATIONS,
    Tick,
    blocks,
    centroid_scores,
    half_squares,
    trained,
)
from kalamdb_lab.vectors.lists import InvertedLists, split_lengths
from kalamdb_lab.vectors.probing import Bools, is_asked, probe, probe_lists, search_lists
from kalamdb_lab.vectors.rows import CodeChunk, Float32s, Metric, Positions, VectorRows
from kalamdb_lab.vectors.search import Target, nearest

__all__ = ["InvertedLists", "build", "is_asked", "probe", "probe_lists", "recall", "search_lists"]

SAMPLE_ROWS = 65_536
SAMPLE_BYTES = 256 * 1024 * 1024
"""Rows that the centroids are trained on, and what they take at most."""

AIM = 0.97
"""Share of the ten nearest that default probes found when they were chosen."""

BLENDED_ROWS = 4
"""Rows that a query is made of when probes are chosen and recall is measured; see `recall`."""

_NEIGHBOURS = 10
_QUERIES = 400
_BATCH = 20


def build(
    rows: VectorRows,
    metric: Metric,
    *,
    lists: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> InvertedLists:
    """Cluster the rows and sort their codes by cluster.

    Parameters
    ----------
    lists : int, optional
        How many lists; about the square root of the rows if it is not said, and never more than
        there are rows that can match.
    seed : int
        The same rows, lists and seed make the same index on the same machine.
    progress : callable, optional
        Called often with (done, total); what it raises ends the work.
    """
    # Encoding, training, assigning, sorting, measuring.
    total = rows.row_count * (3 if rows.codes is not None else 4)
    total += ITERATIONS * min(SAMPLE_ROWS, rows.row_count) + 1
    done = 0

    def tick(rows_done: int) -> None:
        nonlocal done
        done = min(done + rows_done, total)
        if progress is not None:
            progress(done, total)

    generator = np.random.default_rng(seed)
    codes = _encoded(rows, tick) if rows.codes is None else rows.codes
    norms = np.concatenate([chunk.norm for chunk in codes] or [np.empty(0, np.float32)])
    is_apart, is_inside = _split(codes, norms, metric)
    inside = np.flatnonzero(is_inside)
    if lists is None:
        lists = 1 << math.ceil(math.log2(max(len(inside), 1)) / 2)
    lists = max(1, min(lists, len(inside)))

    def clustered(block: Float32s, positions: Positions) -> Float32s:
        if metric is Metric.L2:
            return block
        lengths = norms[positions]
        lengths[lengths == 0] = 1
        directions: Float32s = block / lengths[:, None]
        return directions

    sample_rows = max(lists, min(SAMPLE_ROWS, SAMPLE_BYTES // (4 * rows.dimension)))
    chosen = generator.permutation(len(inside))[:sample_rows]
    centroids = np.zeros((lists, rows.dimension), np.float32)
    if len(inside):
        sample = clustered(rows.at(inside[chosen]), inside[chosen])
        centroids = trained(sample, lists, generator, tick)
        del sample
    halves = half_squares(centroids)
    labels = np.full(rows.row_count, -1, np.int32)
    for start, block in _row_blocks(rows, lists):
        kept = np.flatnonzero(is_inside[start : start + len(block)])
        block_rows = clustered(block[kept], start + kept)
        labels[start + kept] = centroid_scores(block_rows, centroids, halves).argmax(axis=1)
        tick(len(block))
    order = np.concatenate(
        [np.flatnonzero(is_apart), inside[np.argsort(labels[inside], kind="stable")]]
    )
    sizes = np.bincount(labels[inside], minlength=lists)
    index = InvertedLists(
        metric=metric,
        centroids=centroids,
        offsets=np.cumsum([is_apart.sum(), *sizes], dtype=np.int64),
        order=order.astype(np.int32),
        codes=(_sorted(codes, order, rows.dimension, tick),),
        probes=lists,
    )
    probes = _enough_probes(index, rows, labels, generator, tick)
    tick(total)
    return replace(index, probes=probes)


def recall(
    index: InvertedLists,
    rows: VectorRows,
    *,
    k: int = 10,
    queries: int = _QUERIES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Return the share of the k nearest that the index finds, 0 to 1, against exact search.

    Whoever asks does not ask with a row: questions lie away from all rows, and their neighbours
    in more lists than those of a row. So each query is the mean of the directions of four rows
    drawn at random, which do not count themselves; for l2 it has the length of one of the four.
    Recorded questions to embedded texts are found with about that recall or a higher one, and so
    are vectors like the rows; queries beside single rows say 0.99 where questions get 0.85.

    A row as near as the k-th counts as one of the k nearest.

    Parameters
    ----------
    progress : callable, optional
        Called often with (done, total), in queries; what it raises ends the work.
    """
    shares: list[float] = []
    done = 0
    for drawn, batch in _queries(index, rows, queries, np.random.default_rng(seed)):
        wanted = k + BLENDED_ROWS
        truth, _ = nearest([Target(rows)], batch, wanted, index.metric)
        answers, _ = search_lists(index, Target(rows), batch, wanted, lists=index.probes)
        for own, exact, near in zip(drawn, truth, answers, strict=True):
            right = exact.distance[~np.isin(exact.position, own)][:k]
            if len(right):
                last = right[-1] + TIE * abs(right[-1]) + TIE_LEAST
                found = near.distance[~np.isin(near.position, own)]
                hits = int(np.count_nonzero(found <= last))
                shares.append(min(hits, len(right)) / len(right))
        done += len(batch)
        if progress is not None:
            progress(done, queries)
    return float(np.mean(shares)) if shares else 1.0


def _encoded(rows: VectorRows, tick: Tick) -> tuple[CodeChunk, ...]:
    codes = []
    for start, block in _row_blocks(rows, 1):
        valid = None if rows.valid is None else rows.valid[start : start + len(block)]
        codes.append(encode(block, valid))
        tick(len(block))
    return tuple(codes)


def _split(codes: Sequence[CodeChunk], norms: Float32s, metric: Metric) -> tuple[Bools, Bools]:
    """Return which rows stand before all lists, and which are in one."""
    remainders = np.concatenate([c.remainder for c in codes] or [np.empty(0, np.float32)])
    is_there = ~np.isnan(norms)
    is_apart = is_there & np.isinf(remainders)
    is_inside = is_there & ~is_apart
    if metric is Metric.COSINE:
        is_inside &= norms > 0
    return is_apart, is_inside


def _row_blocks(rows: VectorRows, lists: int) -> Iterator[tuple[int, Float32s]]:
    """Yield all rows in blocks, as (position of the first, rows)."""
    start = 0
    for chunk in rows.chunks:
        for block in blocks(len(chunk), rows.dimension, lists):
            yield start + block.start, chunk[block]
        start += len(chunk)


def _sorted(codes: Sequence[CodeChunk], order: Positions, dimension: int, tick: Tick) -> CodeChunk:
    """Return the codes of the rows in ``order``."""
    count = sum(len(chunk.scale) for chunk in codes)
    entry_of = np.full(count, -1, np.int64)
    entry_of[order] = np.arange(len(order))
    scalars = (np.empty(len(order), np.float32) for _ in range(3))
    result = CodeChunk(np.empty((len(order), dimension), np.int8), *scalars)
    start = 0
    for chunk in codes:
        for block in blocks(len(chunk.scale), dimension, 1):
            entries = entry_of[start + block.start : start + block.stop]
            kept = np.flatnonzero(entries >= 0)
            for name in ("codes", "scale", "remainder", "norm"):
                getattr(result, name)[entries[kept]] = getattr(chunk, name)[block][kept]
            tick(len(entries))
        start += len(chunk.scale)
    return result


def _queries(
    index: InvertedLists, rows: VectorRows, count: int, generator: np.random.Generator
) -> Iterator[tuple[Positions, Float32s]]:
    """Yield batches of queries amid rows drawn at random, with the positions (b, 4) of these."""
    if len(index.order) == 0:
        return
    entries = generator.integers(0, len(index.order), (count, BLENDED_ROWS))
    for start in range(0, count, _BATCH):
        drawn = index.order[entries[start : start + _BATCH]].astype(np.int64)
        lengths, directions = split_lengths(rows.at(drawn.ravel()).astype(np.float64))
        means = directions.reshape(*drawn.shape, -1).mean(axis=1, dtype=np.float64)
        _, batch = split_lengths(means)
        if index.metric is Metric.L2:
            batch *= lengths.reshape(drawn.shape)[:, :1].astype(np.float32)
        yield drawn, batch


def _enough_probes(
    index: InvertedLists,
    rows: VectorRows,
    labels: np.ndarray[Any, np.dtype[np.int32]],
    generator: np.random.Generator,
    tick: Tick,
) -> int:
    """Return how many lists hold `AIM` of the nearest rows, over queries as in `recall`."""
    ranks: list[Positions] = []
    for drawn, batch in _queries(index, rows, _QUERIES, generator):
        truth, _ = nearest([Target(rows)], batch, _NEIGHBOURS + BLENDED_ROWS, index.metric)
        all_scores = index.list_scores(batch)
        for own, exact, scores in zip(drawn, truth, all_scores, strict=True):
            right = exact.position[~np.isin(exact.position, own)][:_NEIGHBOURS]
            rank = np.empty(index.list_count, np.int64)
            rank[np.argsort(-scores)] = np.arange(index.list_count)
            # Rows before all lists are always looked at.
            ranks.append(np.where(labels[right] < 0, 0, rank[labels[right]]))
        tick(rows.row_count * len(drawn) // _QUERIES)
    ascending = np.sort(np.concatenate([np.zeros(1, np.int64), *ranks]))
    return 1 + int(ascending[math.ceil(AIM * len(ascending)) - 1])
