"""Segments back into Arrow, in the columns of the newest schema version."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from kalamdb_lab.arrow.schemas import field_for, logical_field
from kalamdb_lab.model.datatypes import BIGINT, TEXT, TypeKind
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.segments.cache import CacheKey, SegmentCache
from kalamdb_lab.segments.index_reader import IndexReader
from kalamdb_lab.segments.layout import SEQ_COLUMN, SEQ_FIELD_ID, damaged
from kalamdb_lab.segments.physical import from_file
from kalamdb_lab.segments.projection import projection
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.vector_reader import MAPPED_FILE_BYTES, VectorReader
from kalamdb_lab.segments.versions import column_at, converted, filled
from kalamdb_lab.vectors.inverted_lists import InvertedLists
from kalamdb_lab.vectors.rows import VectorRows

SEQ_FIELD = logical_field(SEQ_COLUMN, BIGINT, nullable=False)

_SEQ = ColumnDef(SEQ_FIELD_ID, SEQ_COLUMN, BIGINT, nullable=False)
_SMALL_ROWS = 250_000
"""A segment up to this size is decoded whole for one row, and then kept for the next one."""

_MOST_PLANS = 1_000

_Plan = tuple[tuple[ColumnDef, ...], list[ColumnDef], pa.Schema]
Numbers = np.ndarray[Any, np.dtype[np.int64]]


class SegmentReader:
    """Reads segments; keeps what it decoded, within the budget of its cache.

    Each file is compared with its digest before this process reads it for the first time: a
    flipped bit is an error that names the table, never a wrong row. Safe for threads.

    Parameters
    ----------
    storage_of : callable
        Gives the storage of an id.
    cache : SegmentCache
    """

    def __init__(self, storage_of: Callable[[str], Storage], cache: SegmentCache) -> None:
        self._storage_of = storage_of
        self._cache = cache
        self._verified: set[tuple[int, int]] = set()
        self._plans: dict[tuple[int, int, tuple[str, ...]], _Plan] = {}
        self._vectors = VectorReader(storage_of, cache, self._presence, self._array)
        self._indexes = IndexReader(storage_of)

    def read(
        self,
        meta: SegmentMeta,
        table: TableDef,
        columns: Sequence[str],
        *,
        keep_dictionaries: bool = False,
    ) -> pa.Table:
        """Return all rows of a segment.

        Parameters
        ----------
        columns : sequence of str
            Names in the newest schema version as they are spelled there, hidden ones too, and
            ``_seq``, in any order.
        keep_dictionaries : bool
            True leaves TEXT that the file holds as dictionaries in that form: less memory, and a
            third of the work for an engine that groups by it.

        Returns
        -------
        pa.Table
            The columns in their Arrow form, rows in ascending ``_seq``. Columns that are newer
            than the segment hold their fill; vectors are mapped, not copied.

        Raises
        ------
        CorruptError
            A file is damaged or missing.
        StorageError
            The storage cannot be reached.
        """
        _, wanted, schema = self._plan(table, columns)
        arrays = self._arrays(meta, table, wanted)
        if keep_dictionaries:
            schema = _with_dictionaries(schema, arrays)
        else:
            arrays = [_without_dictionary(array) for array in arrays]
        return pa.Table.from_arrays(arrays, schema=schema)

    def read_rows(
        self, meta: SegmentMeta, table: TableDef, columns: Sequence[str], seqs: Sequence[int]
    ) -> pa.Table:
        """Return the rows with these ``_seq``, in the order given; those not there are left out.

        The columns of a small segment stay decoded for the next rows; of a larger one only the
        row groups concerned are read.
        """
        numbers = self.seq_numbers(meta, table)
        given = np.asarray(seqs, np.int64)
        places = np.searchsorted(numbers, given)
        places[places == len(numbers)] = 0
        places = places[numbers[places] == given]
        if meta.row_count <= _SMALL_ROWS:
            rows = self.read(meta, table, columns, keep_dictionaries=True)
            plain = [_without_dictionary(_rows_at(column, places)) for column in rows.columns]
            return pa.Table.from_arrays(plain, schema=self._plan(table, columns)[2])
        return self._taken(meta, table, columns, places)

    def seq_numbers(self, meta: SegmentMeta, table: TableDef) -> Numbers:
        """Return ``_seq`` of all rows, ascending."""
        return cast("Numbers", self._arrays(meta, table, [_SEQ])[0].to_numpy())

    def vectors(self, meta: SegmentMeta, table: TableDef, column: ColumnDef) -> VectorRows:
        """Return an EMBEDDING column of the newest schema version as it is searched.

        Rows and codes are mapped, not copied, and asking again costs a look into the cache. A
        segment that is older than the column shows its fill in each row, or NULL; one that is
        small, or older than the codes, has no codes.

        Raises
        ------
        CorruptError
            A file is damaged or missing.
        StorageError
            The storage cannot be reached.
        """
        return self._vectors.rows(meta, table, column)

    def vector_index(
        self, meta: SegmentMeta, table: TableDef, column: ColumnDef
    ) -> InvertedLists | None:
        """Return what was built here for the ANN index of a column.

        None if the column has none, a job has not come to this segment, or its files are damaged
        or gone: the answer is the same without it.
        """
        return self._indexes.index(meta, table, column)

    def verified_path(self, meta: SegmentMeta, table: TableDef) -> str:
        """Return the absolute path of the Parquet file, which is what the manifest says it is."""
        self._parquet_bytes(meta, table)
        return str(self._storage_of(meta.storage_id).absolute(meta.path))

    def parquet_projection(
        self, meta: SegmentMeta, table: TableDef, columns: Sequence[str]
    ) -> list[tuple[str, str]] | None:
        """Return (SQL expression over the columns of the Parquet file, name) for each column.

        None if the file alone cannot answer: a column of vectors, or a conversion that only
        `read` does.
        """
        return projection(meta, table, self._plan(table, columns)[1])

    def forget(self, segment_ids: Collection[int]) -> None:
        """Drop what is known of retired segments."""
        self._cache.forget(segment_ids)
        self._vectors.forget(segment_ids)
        self._indexes.forget(segment_ids)
        known = self._verified.copy()  # other threads add to it
        self._verified = {item for item in known if item[0] not in segment_ids}

    def _plan(self, table: TableDef, columns: Sequence[str]) -> _Plan:
        """Return the columns of these names and their schema; a repeated one is a dict access."""
        key = (table.table_key, table.schema_version, tuple(columns))
        plan = self._plans.get(key)
        # A version that ALTER only tries out may be tried again with other columns.
        if plan is None or plan[0] != table.columns:
            by_name = {column.name: column for column in table.columns} | {SEQ_COLUMN: _SEQ}
            wanted = [by_name[name] for name in columns]
            fields = [SEQ_FIELD if item is _SEQ else field_for(item) for item in wanted]
            plan = table.columns, wanted, pa.schema(fields)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _arrays(
        self, meta: SegmentMeta, table: TableDef, wanted: Sequence[ColumnDef]
    ) -> list[pa.ChunkedArray]:
        """Return whole columns, from the cache where it has them."""
        found = {item.column_id: self._cache.get(_key(meta, table, item)) for item in wanted}
        missing = [item for item in wanted if found[item.column_id] is None]
        if missing:
            found |= self._load(meta, table, missing)
        return [found[item.column_id] for item in wanted]

    def _load(
        self, meta: SegmentMeta, table: TableDef, missing: Sequence[ColumnDef]
    ) -> dict[int, pa.ChunkedArray]:
        """Decode whole columns, all in one pass over the file, and offer them to the cache."""
        stored = [_stored(meta, table, item) for item in missing]
        in_file = [old for old in stored if old is not None]
        decoded: dict[int, pa.ChunkedArray] = {}
        if in_file:
            text = [old.name for old in in_file if old.data_type == TEXT]
            decoded = _decoded(self._parquet(meta, table, text), in_file, table)
        loaded: dict[int, pa.ChunkedArray] = {}
        for item, old in zip(missing, stored, strict=True):
            size_bytes = 0
            if old is None:
                array = filled(item, meta.row_count)
            elif old.data_type.kind is TypeKind.EMBEDDING:
                array = self._vectors.arrow(meta, table, old, decoded[old.column_id])
                # The vectors themselves are mapped: the system's page cache counts them.
                size_bytes = array.num_chunks * MAPPED_FILE_BYTES + meta.row_count // 8
            else:
                array = decoded[old.column_id]
            if old is not None and old.data_type != item.data_type:
                array = converted(
                    _without_dictionary(array),
                    old.data_type,
                    item.data_type,
                    column=item.name,
                    unfit_is_null=True,
                )
                size_bytes = 0
            self._cache.put(
                _key(meta, table, item), array, size_bytes or array.get_total_buffer_size()
            )
            loaded[item.column_id] = array
        return loaded

    def _taken(
        self, meta: SegmentMeta, table: TableDef, columns: Sequence[str], places: Numbers
    ) -> pa.Table:
        """Return single rows by their places; only their row groups are decoded."""
        _, wanted, schema = self._plan(table, columns)
        file = self._parquet(meta, table)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        group_of = np.searchsorted(starts, places, side="right") - 1
        groups = np.unique(group_of)
        read_starts = np.concatenate([[0], np.cumsum(np.asarray(sizes)[groups])])
        within = places - starts[group_of] + read_starts[np.searchsorted(groups, group_of)]
        stored = {item.column_id: _stored(meta, table, item) for item in wanted}
        in_file = [
            old
            for old in stored.values()
            if old is not None and old.data_type.kind is not TypeKind.EMBEDDING
        ]
        decoded = _decoded(file, in_file, table, groups.tolist())
        arrays: list[pa.ChunkedArray] = []
        for item in wanted:
            old = stored[item.column_id]
            if old is None:
                arrays.append(filled(item, len(places)))
            elif item.column_id in decoded:
                rows = decoded[item.column_id].take(pa.array(within))
                arrays.append(
                    converted(
                        rows, old.data_type, item.data_type, column=item.name, unfit_is_null=True
                    )
                )
            else:
                arrays.append(_rows_at(self._arrays(meta, table, [item])[0], places))
        return pa.Table.from_arrays(arrays, schema=schema)

    def _parquet(
        self, meta: SegmentMeta, table: TableDef, text: Sequence[str] = ()
    ) -> pq.ParquetFile:
        """Open the file; those columns of ``text`` that it holds as dictionaries stay so."""
        data = self._parquet_bytes(meta, table)
        try:
            file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            encoded = _with_dictionary_pages(file.metadata, text)
            if not encoded:
                return file
            return pq.ParquetFile(
                pa.BufferReader(data),
                metadata=file.metadata,
                read_dictionary=encoded,
                page_checksum_verification=True,
            )
        except (pa.ArrowException, OSError):
            raise damaged(table) from None

    def _parquet_bytes(self, meta: SegmentMeta, table: TableDef) -> pa.Buffer:
        """Map the file, and compare it with its digest unless this process did so before."""
        data = self._storage_of(meta.storage_id).map(meta.path)
        if data is None or data.size != meta.size_bytes:
            raise damaged(table)
        item = (meta.segment_id, SEQ_FIELD_ID)
        if item not in self._verified:
            if xxhash.xxh3_128_hexdigest(data) != meta.digest:
                raise damaged(table)
            self._verified.add(item)
        return data

    def _array(self, meta: SegmentMeta, table: TableDef, column: ColumnDef) -> pa.ChunkedArray:
        return self._arrays(meta, table, [column])[0]

    def _presence(self, meta: SegmentMeta, table: TableDef, stored: ColumnDef) -> pa.ChunkedArray:
        """Return which vectors of a stored column are there."""
        return _decoded(self._parquet(meta, table), [stored], table)[stored.column_id]


def _stored(meta: SegmentMeta, table: TableDef, column: ColumnDef) -> ColumnDef | None:
    if column.column_id == SEQ_FIELD_ID:
        return _SEQ
    return column_at(table, column.column_id, meta.schema_version)


def _key(meta: SegmentMeta, table: TableDef, column: ColumnDef) -> CacheKey:
    if meta.schema_version != table.schema_version and _stored(meta, table, column) is None:
        return meta.segment_id, column.column_id, (column.data_type, repr(column.fill))
    return meta.segment_id, column.column_id, column.data_type


def _decoded(
    file: pq.ParquetFile,
    columns: Sequence[ColumnDef],
    table: TableDef,
    row_groups: list[int] | None = None,
) -> dict[int, pa.ChunkedArray]:
    """Return columns as the file has them, by column id; presence in place of vectors."""
    names = [column.name for column in columns]
    try:
        if row_groups is None:
            rows = file.read(columns=names)
        else:
            rows = file.read_row_groups(row_groups, columns=names)
    except (pa.ArrowException, OSError):
        raise damaged(table) from None
    result: dict[int, pa.ChunkedArray] = {}
    for column in columns:
        # A name with a dot makes the file give more columns than were asked for.
        array = rows.column(rows.schema.get_field_index(column.name))
        if pa.types.is_dictionary(array.type):
            # One dictionary for all row groups, which an engine then looks at once.
            result[column.column_id] = array.unify_dictionaries()
        elif column.data_type.kind is TypeKind.EMBEDDING:
            result[column.column_id] = array
        else:
            result[column.column_id] = from_file(array, column.data_type)
    return result


def _with_dictionary_pages(metadata: pq.FileMetaData, names: Sequence[str]) -> list[str]:
    if not names or not metadata.num_row_groups:
        return []
    group = metadata.row_group(0)
    columns = (group.column(at) for at in range(group.num_columns))
    wanted = set(names)
    return [
        column.path_in_schema
        for column in columns
        if column.path_in_schema in wanted and column.has_dictionary_page
    ]


def _rows_at(array: pa.ChunkedArray, places: Numbers) -> pa.ChunkedArray:
    """Return rows by their places, in that order.

    Arrow's take puts the chunks of vectors together first, which copies all of a mapped column.
    """
    if not pa.types.is_fixed_size_list(array.type):
        return array.take(pa.array(places))
    starts = np.cumsum([0, *map(len, array.chunks)])
    chunk_of = np.searchsorted(starts, places, side="right") - 1
    pieces = [
        array.chunk(number).take(pa.array(places[chunk_of == number] - starts[number]))
        for number in np.unique(chunk_of).tolist()
    ]
    order = np.argsort(np.argsort(chunk_of, kind="stable"))
    return pa.chunked_array(pieces, array.type).take(pa.array(order))


def _without_dictionary(array: pa.ChunkedArray) -> pa.ChunkedArray:
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _with_dictionaries(schema: pa.Schema, arrays: Sequence[pa.ChunkedArray]) -> pa.Schema:
    return pa.schema(
        [field.with_type(array.type) for field, array in zip(schema, arrays, strict=True)]
    )
