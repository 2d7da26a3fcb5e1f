"""An ANN index of a segment's column on disk: one zarr v3 group, written once.

``centroids``, ``offsets`` and ``order`` are as `InvertedLists` explains them, ``q8``, ``scale``,
``remainder`` and ``norm`` the codes in the order of the lists. Metric and probes are attributes of
the group. As with the vectors themselves all chunks are uncompressed and hold whole rows, so that
an index is opened by mapping its files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash

from kalamdb_lab.segments.storage import NewDirectory, Storage
from kalamdb_lab.segments.vectors import (
    describe_array,
    digest_of_codes,
    map_array,
    map_code_arrays,
    rows_per_chunk,
)
from kalamdb_lab.vectors.inverted_lists import InvertedLists
from kalamdb_lab.vectors.rows import Metric


def write_index(storage: Storage, path: str, index: InvertedLists) -> str:
    """Write an index as the directory ``path``, complete and durable or not at all.

    Returns
    -------
    str
        Its `index_digest`.

    Raises
    ------
    StorageError
        The disk is full, read-only or gone; nothing was changed then.
    """
    attributes = {"metric": index.metric.value, "probes": index.probes}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    entries = len(index.order)
    dimension = index.centroids.shape[1]
    chunk_rows = rows_per_chunk(entries, dimension, component_bytes=1)
    with storage.writing_directory(path) as directory:
        directory.write("zarr.json", json.dumps(group, indent=2).encode())
        for name, array in (("centroids", index.centroids), ("offsets", index.offsets)):
            _write(directory, name, [array], len(array))
        _write(directory, "order", [index.order], entries)
        _write(directory, "q8", [chunk.codes for chunk in index.codes], chunk_rows)
        for name in ("scale", "remainder", "norm"):
            _write(directory, name, [getattr(chunk, name) for chunk in index.codes], chunk_rows)
    return index_digest(index)


def map_index(
    storage: Storage,
    path: str,
    *,
    row_count: int,
    dimension: int,
    metric: Metric,
    list_count: int,
) -> InvertedLists | None:
    """Return an index as mapped arrays.

    None if a file is missing, has another size than it must have, or is of another metric.
    Whether the bytes are those that were written tells `index_digest`.

    Parameters
    ----------
    row_count : int
        Of the segment; no more rows than these are in lists.
    list_count : int
        ``InvertedLists.list_count`` of the index that was written.
    """
    probes = _probes(storage, path, metric)
    centroids = map_array(storage, f"{path}/centroids/c/0/0", "<f4", (list_count, dimension))
    offsets = map_array(storage, f"{path}/offsets/c/0", "<i8", (list_count + 1,))
    if probes is None or centroids is None or offsets is None:
        return None
    entries = int(offsets[-1])
    if not 0 <= entries <= row_count:
        return None
    if entries == 0:
        return InvertedLists(metric, centroids, offsets, np.empty(0, np.int32), (), probes)
    order = map_array(storage, f"{path}/order/c/0", "<i4", (entries,))
    codes = map_code_arrays(storage, path, row_count=entries, dimension=dimension)
    if order is None or codes is None:
        return None
    return InvertedLists(metric, centroids, offsets, order, codes, probes)


def index_digest(index: InvertedLists) -> str:
    """Return the xxh3_128 of all that an index holds, however its codes are cut."""
    digest = xxhash.xxh3_128(f"{index.metric.value} {index.probes}".encode())
    for array in (index.centroids, index.offsets, index.order):
        digest.update(array.data)
    digest.update(digest_of_codes(index.codes).encode())
    return digest.hexdigest()


def _probes(storage: Storage, path: str, metric: Metric) -> int | None:
    """Return the attribute; None if it is not there, or the metric is another one."""
    text = storage.read(f"{path}/zarr.json")
    try:
        attributes = json.loads(text or b"{}")["attributes"]
        probes = attributes["probes"]
        return probes if attributes["metric"] == metric and type(probes) is int else None
    except (ValueError, KeyError, TypeError):
        return None


def _write(
    directory: NewDirectory, name: str, pieces: Sequence[np.ndarray[Any, Any]], chunk_rows: int
) -> None:
    """Write arrays, one after the other, as one zarr array."""
    dtype, width = pieces[0].dtype, pieces[0].shape[1:]
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    chunk_rows = max(1, chunk_rows)
    describe_array(directory, name, dtype.name, (ends[-1], *width), chunk_rows)
    for number, start in enumerate(range(0, ends[-1], chunk_rows)):
        with directory.writing(f"{name}/c/{number}" + "/0" * len(width)) as file:
            for piece, end in zip(pieces, ends, strict=True):
                first = end - len(piece)
                part = piece[max(0, start - first) : max(0, start + chunk_rows - first)]
                file.write(np.ascontiguousarray(part, dtype.newbyteorder("<")).data)
            # Every chunk of a zarr array has the full size; the hole costs no disk.
            file.truncate(chunk_rows * math.prod(width) * dtype.itemsize)
