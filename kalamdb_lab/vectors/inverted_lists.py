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
from kalamdb_lab.vectors.probing import Bools, probe, probe_lists
from kalamdb_lab.vectors.rows import CodeChunk, Float32s, Metric, Positions, VectorRows
from kalamdb_lab.vectors.search import Target, nearest

__all__ = ["InvertedLists", "build", "probe", "probe_lists", "recall"]

SAMPLE_ROWS = 65_536
SAMPLE_BYTES = 256 * 1024 * 1024
"""Rows that the centroids are trained on, and what they take at most."""

AIM = 0.98
"""Share of the ten nearest that default probes found when they were chosen. A little more than
the 0.97 that is promised: the choice rests on few queries."""

_NEIGHBOURS = 10
_QUERIES = 200
_BATCH = 20

DISTURBANCE = 0.1
"""How far queries made of rows go towards other rows."""


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
    index: InvertedLists, rows: VectorRows, *, k: int = 10, queries: int = 200, seed: int = 0
) -> float:
    """Return the share of the k nearest that the index finds, 0 to 1, against exact search.

    The queries lie near rows drawn at random, which do not count themselves. A row as near as the
    k-th counts as one of the k nearest.
    """
    generator = np.random.default_rng(seed)
    shares: list[float] = []
    for drawn, batch in _queries(index, rows, queries, generator):
        truth, _ = nearest([Target(rows)], batch, k + 1, index.metric)
        for i, exact in enumerate(truth):
            right = exact.distance[exact.position != drawn[i]][:k]
            if len(right):
                others = Target(rows, without=drawn[i : i + 1])
                (near,), _ = probe_lists(index, others, batch[i : i + 1], k, probes=index.probes)
                last = right[-1] + TIE * abs(right[-1]) + TIE_LEAST
                hits = int(np.count_nonzero(near.distance <= last))
                shares.append(min(hits, len(right)) / len(right))
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
    """Yield batches of queries near to rows drawn at random, with the positions of these."""
    count = min(count, len(index.order))
    entries = generator.choice(len(index.order), count, replace=False)
    others = generator.choice(len(index.order), count)
    for start in range(0, count, _BATCH):
        part = slice(start, start + _BATCH)
        drawn = index.order[entries[part]].astype(np.int64)
        near = rows.at(drawn)
        far = rows.at(index.order[others[part]].astype(np.int64))
        yield drawn, near + np.float32(DISTURBANCE) * (far - near)


def _enough_probes(
    index: InvertedLists,
    rows: VectorRows,
    labels: np.ndarray[Any, np.dtype[np.int32]],
    generator: np.random.Generator,
    tick: Tick,
) -> int:
    """Return how many lists hold `AIM` of the nearest rows, over queries near to rows."""
    ranks: list[Positions] = []
    for drawn, batch in _queries(index, rows, _QUERIES, generator):
        truth, _ = nearest([Target(rows)], batch, _NEIGHBOURS + 1, index.metric)
        sought = batch
        if index.metric is not Metric.L2:
            _, sought = split_lengths(batch.astype(np.float64))
        all_scores = index.list_scores(sought)
        for row, exact, scores in zip(drawn.tolist(), truth, all_scores, strict=True):
            right = exact.position[exact.position != row][:_NEIGHBOURS]
            rank = np.empty(index.list_count, np.int64)
            rank[np.argsort(-scores)] = np.arange(index.list_count)
            # Rows before all lists are always looked at.
            ranks.append(np.where(labels[right] < 0, 0, rank[labels[right]]))
        tick(rows.row_count * len(drawn) // _QUERIES)
    ascending = np.sort(np.concatenate([np.zeros(1, np.int64), *ranks]))
    return 1 + int(ascending[math.ceil(AIM * len(ascending)) - 1])
