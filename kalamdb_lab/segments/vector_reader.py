"""EMBEDDING columns of segments as they are searched: mapped files, each verified once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.schemas import arrow_type
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.segments.cache import CacheKey, SegmentCache
from kalamdb_lab.segments.layout import damaged, vectors_path
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.vectors import (
    blocks_of,
    digest_of,
    digest_of_codes,
    map_codes,
    map_vectors,
)
from kalamdb_lab.segments.versions import column_at
from kalamdb_lab.vectors.rows import CodeChunk, Float32s, VectorRows

MAPPED_FILE_BYTES = 32 * 1024
"""What a mapped file counts for in the cache. Systems limit how many a process may have, Linux to
65,530: the cache at its usual size lets go before that."""

_FILL_BYTES = 1024 * 1024

Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
ReadColumn: TypeAlias = Callable[[SegmentMeta, TableDef, ColumnDef], pa.ChunkedArray]


class VectorReader:
    """Reads EMBEDDING columns; what was handed out once costs a look into the cache.

    The arrays of a column are compared with their digest before this process uses them for the
    first time. Safe for threads.

    Parameters
    ----------
    storage_of : callable
        Gives the storage of an id.
    cache : SegmentCache
    read_presence : callable
        Gives the Parquet column that says which vectors of a stored column are there.
    read_column : callable
        Gives a column in its Arrow form, in the type of the newest schema version.
    """

    def __init__(
        self,
        storage_of: Callable[[str], Storage],
        cache: SegmentCache,
        read_presence: ReadColumn,
        read_column: ReadColumn,
    ) -> None:
        self._storage_of = storage_of
        self._cache = cache
        self._read_presence = read_presence
        self._read_column = read_column
        self._verified: set[tuple[int, int, str]] = set()

    def rows(self, meta: SegmentMeta, table: TableDef, column: ColumnDef) -> VectorRows:
        """Return a column of the newest schema version, as `SegmentReader.vectors` says."""
        # A version that ALTER only tries out may be tried again with another fill.
        key: CacheKey = (meta.segment_id, column.column_id, (column.data_type, column.fill, "rows"))
        found: VectorRows | None = self._cache.get(key)
        if found is None:
            found, size_bytes = self._rows(meta, table, column)
            self._cache.put(key, found, size_bytes)
        return found

    def arrow(
        self, meta: SegmentMeta, table: TableDef, stored: ColumnDef, presence: pa.ChunkedArray
    ) -> pa.ChunkedArray:
        """Return a column as it is stored, over its mapped files."""
        target: Any = arrow_type(stored.data_type)
        has_nulls = pc.all(presence).as_py() is False
        arrays: list[pa.Array] = []
        start = 0
        for rows in self._chunks(meta, table, stored):
            values: Any = pa.array(rows.reshape(-1))
            mask = None
            if has_nulls:
                mask = pc.invert(presence.slice(start, len(rows))).combine_chunks()
            arrays.append(pa.FixedSizeListArray.from_arrays(values, type=target, mask=mask))
            start += len(rows)
        return pa.chunked_array(arrays, target)

    def forget(self, segment_ids: Collection[int]) -> None:
        """Drop what is known of retired segments, but for what the cache holds of them."""
        known = self._verified.copy()  # other threads add to it
        self._verified = {item for item in known if item[0] not in segment_ids}

    def _rows(
        self, meta: SegmentMeta, table: TableDef, column: ColumnDef
    ) -> tuple[VectorRows, int]:
        """Return a column, and what it counts for in the cache."""
        stored = column_at(table, column.column_id, meta.schema_version)
        if stored is None:
            return _filled(column, meta.row_count)
        if stored.data_type != column.data_type:
            return _converted(self._read_column(meta, table, column), column.data_type.dimension)
        chunks = self._chunks(meta, table, stored)
        codes = self._codes(meta, table, stored)
        known = meta.statistics.get(stored.column_id)
        valid: Bools | None = None
        if known is None or known.null_count:
            valid = self._read_presence(meta, table, stored).to_numpy()
            valid.setflags(write=False)
        rows = VectorRows(stored.data_type.dimension, meta.row_count, chunks, codes, valid)
        files = len(chunks) + 4 * len(codes or ())
        return rows, files * MAPPED_FILE_BYTES + (0 if valid is None else valid.nbytes)

    def _chunks(
        self, meta: SegmentMeta, table: TableDef, stored: ColumnDef
    ) -> tuple[Float32s, ...]:
        chunks = map_vectors(
            self._storage_of(meta.storage_id),
            vectors_path(meta.path),
            stored.column_id,
            row_count=meta.row_count,
            dimension=stored.data_type.dimension,
        )
        if chunks is None:
            raise damaged(table)
        item = (meta.segment_id, stored.column_id, "rows")
        if item not in self._verified:
            if digest_of(chunks) != meta.vectors.get(stored.column_id):
                raise damaged(table)
            self._verified.add(item)
        return tuple(chunks)

    def _codes(
        self, meta: SegmentMeta, table: TableDef, stored: ColumnDef
    ) -> tuple[CodeChunk, ...] | None:
        digest = meta.codes.get(stored.column_id)
        if digest is None:
            return None
        codes = map_codes(
            self._storage_of(meta.storage_id),
            vectors_path(meta.path),
            stored.column_id,
            row_count=meta.row_count,
            dimension=stored.data_type.dimension,
        )
        if codes is None:
            raise damaged(table)
        item = (meta.segment_id, stored.column_id, "codes")
        if item not in self._verified:
            if digest_of_codes(codes) != digest:
                raise damaged(table)
            self._verified.add(item)
        return codes


def _filled(column: ColumnDef, row_count: int) -> tuple[VectorRows, int]:
    """Return what rows show that are older than the column: one small block, again and again."""
    dimension = column.data_type.dimension
    block_rows = max(1, min(row_count, _FILL_BYTES // (4 * dimension)))
    block = np.zeros((block_rows, dimension), np.float32)
    valid: Bools | None = None
    if isinstance(column.fill, bytes):
        block[:] = np.frombuffer(column.fill, "<f4")
    else:
        valid = np.zeros(row_count, np.bool_)
        valid.setflags(write=False)
    block.setflags(write=False)
    chunks = tuple(block[: row_count - start] for start in range(0, row_count, block_rows))
    size_bytes = block.nbytes + (0 if valid is None else valid.nbytes)
    return VectorRows(dimension, row_count, chunks, None, valid), size_bytes


def _converted(array: pa.ChunkedArray, dimension: int) -> tuple[VectorRows, int]:
    """Return a column that had another type in its segment."""
    blocks = list(blocks_of(array, dimension))
    valid: Bools | None = None
    if array.null_count:
        valid = array.is_valid().to_numpy()
    rows = VectorRows(dimension, len(array), tuple(block for block, _ in blocks), None, valid)
    return rows, array.nbytes
