"""Centres of many vectors, and which of them is nearest: k-means by blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kalamdb_lab.vectors.rows import Float32s

ITERATIONS = 6
BLOCK_BYTES = 8 * 1024 * 1024
"""Bytes of the rows, and of their scores, that are worked on at once."""

Tick = Callable[[int], None]
"""Called with the number of rows just done; what it raises ends the work."""


def blocks(row_count: int, dimension: int, lists: int) -> Iterator[slice]:
    """Cut ``row_count`` rows so that neither their floats nor their scores are many."""
    step = max(64, BLOCK_BYTES // (4 * max(dimension, lists)))
    for start in range(0, row_count, step):
        yield slice(start, min(start + step, row_count))


def half_squares(centroids: Float32s) -> Float32s:
    """Return |c|^2 / 2 of each centroid."""
    with np.errstate(over="ignore"):
        halves: Float32s = np.float32(0.5) * np.einsum("ld,ld->l", centroids, centroids)
    return halves


def centroid_scores(rows: Float32s, centroids: Float32s, halves: Float32s) -> Float32s:
    """Return x.c - |c|^2 / 2 as (rows, lists): the largest is the nearest centroid of a row.

    Rows of 1e19 and more are too long for that in float32: any list may be called theirs.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        scores: Float32s = rows @ centroids.T
        scores -= halves
    return scores


def trained(sample: Float32s, lists: int, generator: np.random.Generator, tick: Tick) -> Float32s:
    """Return the means (lists, d) of as many groups of the sample, by Lloyd's iterations.

    Parameters
    ----------
    sample : (s, d) float32
        At least as many rows as lists, in random order.
    """
    centroids = sample[:lists].copy()
    for _ in range(ITERATIONS):
        halves = half_squares(centroids)
        sums = np.zeros(centroids.shape, np.float64)
        counts = np.zeros(lists, np.int64)
        for block in blocks(len(sample), sample.shape[1], lists):
            rows = sample[block]
            labels = centroid_scores(rows, centroids, halves).argmax(axis=1)
            order = np.argsort(labels, kind="stable")
            found, starts = np.unique(labels[order], return_index=True)
            with np.errstate(over="ignore", invalid="ignore"):
                sums[found] += np.add.reduceat(rows[order], starts, axis=0)
            counts += np.bincount(labels, minlength=lists)
            tick(len(rows))
        empty = np.flatnonzero(counts == 0)
        centroids = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        # A row drawn at random is likely to lie in a large group, which is so cut in two.
        centroids[empty] = sample[generator.integers(0, len(sample), len(empty))]
    return centroids
