"""Several vectors searched at once: each has its nearest rows in one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.query.outcome import canonical_table
from kalamdb_lab.vectors.rows import Metric, Positions
from kalamdb_lab.vectors.search import Found

Distances: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows found for several vectors, each row once.

    Attributes
    ----------
    rows : pa.Table
        The columns of the request.
    places : list of (m,) int64
        For each vector the places in ``rows`` of those found for it; more than asked for where
        several tie with the last one.
    distances : list of (m,) float64
    """

    rows: pa.Table
    metric: Metric
    places: list[Positions]
    distances: list[Distances]


def distinct(founds: Sequence[Found]) -> tuple[Positions, Positions, list[Positions]]:
    """Return sources and positions of all rows found, each once, and where each found's stand."""
    every = [np.stack([found.target, found.position], axis=1) for found in founds]
    sizes = [len(pairs) for pairs in every]
    pairs, places = np.unique(np.concatenate(every), axis=0, return_inverse=True)
    ends = np.cumsum(sizes)[:-1]
    return pairs[:, 0], pairs[:, 1], np.split(places.reshape(-1), ends)


def ranked(
    batch: Batch, columns: Sequence[str], k: int, *, ties: str, is_numbered: bool
) -> pa.Table:
    """Return the k nearest rows of each vector, vector by vector, the nearest first.

    Parameters
    ----------
    columns
        What of the rows to show; ``distance`` comes last.
    ties : str
        The column that rows of equal distance go by.
    is_numbered : bool
        True for a first column ``query``: the number of the vector, from 0.
    """
    counts = [len(places) for places in batch.places]
    places = np.concatenate(batch.places)
    distances = np.concatenate(batch.distances)
    queries = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((ranks(batch.rows.column(ties))[places], distances, queries))
    starts = np.cumsum([0, *counts[:-1]])
    within = np.arange(len(order)) - np.repeat(starts, counts)
    order = order[within < k]
    rows = batch.rows.select(list(columns)).take(pa.array(places[order]))
    shown = np.concatenate(distances_of(batch))
    arrays = [*rows.columns, pa.array(shown[order])]
    fields = [*rows.schema, pa.field("distance", pa.float64())]
    if is_numbered:
        arrays.insert(0, pa.array(queries[order], pa.int64()))
        fields.insert(0, pa.field("query", pa.int64()))
    return canonical_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), sums=False)


def distances_of(batch: Batch) -> list[Distances]:
    """Return what the functions of SQL give for the rows found: the inner product as it is."""
    if batch.metric is Metric.INNER_PRODUCT:
        return [0.0 - distances for distances in batch.distances]
    return batch.distances


def ranks(column: pa.ChunkedArray) -> Positions:
    """Return the place of each value among all of them."""
    values = column.combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    places: Positions = pc.rank(values, tiebreaker="first").to_numpy().astype(np.int64)
    return places
