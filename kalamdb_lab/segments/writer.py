"""Rows into a new segment: its vectors first, then its Parquet file, each all or nothing."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from kalamdb_lab.arrow.schemas import FIELD_ID, field_for
from kalamdb_lab.errors import StorageError
from kalamdb_lab.model.datatypes import TypeKind
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import ColumnStatistics, SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.segments.layout import (
    FOOTER_KEY,
    FORMAT_VERSION,
    SEQ_COLUMN,
    SEQ_FIELD_ID,
    SegmentRecord,
    encode_record,
    segment_path,
    statistics_record,
    vectors_path,
)
from kalamdb_lab.segments.physical import file_type, to_file
from kalamdb_lab.segments.statistics import column_statistics
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.vectors import write_vectors

ROW_GROUP_ROWS = 122_880
"""DuckDB's own row group: a larger one would leave threads idle, a smaller one prunes no better."""

_BLOOM_FALSE_POSITIVES = 0.01
_SAMPLE_ROWS = 1_024
_HAS_BLOOM = "bloom_filter_options" in inspect.signature(pq.write_table).parameters


def write_segment(
    storage: Storage,
    table: TableDef,
    partition: PartitionKey,
    directory: str,
    segment_id: int,
    rows: pa.Table,
    *,
    created_at_us: int,
    replaces: Sequence[int] = (),
) -> SegmentMeta:
    """Write rows of the newest schema version as a segment that no manifest names yet.

    Once this returns the files are durable; a crash before leaves names that are temporary, or
    vectors without their Parquet file, never a part of a file.

    Parameters
    ----------
    directory : str
        Where in the storage, as `Storage.directory` says.
    rows : pa.Table
        One row or more: all columns of the table in their Arrow form, hidden ones too, and int64
        ``_seq``, ascending. Other columns are left out.
    replaces : sequence of int
        Segments that this one merges. A manifest that is rebuilt from footers leaves them out.

    Raises
    ------
    StorageError
        The disk is full, read-only or gone; no file of the segment is left under its name.
    """
    if not rows.num_rows:
        raise ValueError("a segment holds at least one row")
    path = segment_path(directory, segment_id)
    embeddings = {
        column.column_id: (rows.column(column.name), column.data_type.dimension)
        for column in table.columns
        if column.data_type.kind is TypeKind.EMBEDDING
    }
    statistics = {
        column.column_id: column_statistics(rows.column(column.name), column.data_type)
        for column in table.columns
    }
    seq = rows.column(SEQ_COLUMN)
    record = SegmentRecord(
        format_version=FORMAT_VERSION,
        table=str(table.table_id),
        table_key=partition.table_key,
        scope=partition.scope,
        schema_version=table.schema_version,
        segment_id=segment_id,
        row_count=rows.num_rows,
        min_seq=seq[0].as_py(),
        max_seq=seq[-1].as_py(),
        created_at_us=created_at_us,
        statistics=statistics_record(statistics),
        replaces=tuple(replaces),
    )
    if embeddings:
        vectors, codes = write_vectors(storage, vectors_path(path), embeddings)
        record.vectors = {str(column_id): digest for column_id, digest in vectors.items()}
        record.codes = {str(column_id): digest for column_id, digest in codes.items()}
    try:
        in_file = _file_table(rows, table, record)
        options = _leaf_options(in_file, table, statistics) | _bloom_options(in_file, table)
        digest, size_bytes = _write_parquet(storage, path, in_file, options)
    except BaseException:
        if embeddings:
            storage.discard(vectors_path(path))
        raise
    return record.meta(storage.storage_id, path=path, digest=digest, size_bytes=size_bytes)


def _file_table(rows: pa.Table, table: TableDef, record: SegmentRecord) -> pa.Table:
    fields: list[pa.Field] = []
    arrays: list[pa.ChunkedArray] = []
    for column in table.columns:
        field, array = field_for(column), rows.column(column.name)
        if column.data_type.kind is TypeKind.EMBEDDING:
            fields.append(field.with_type(pa.bool_()).with_nullable(False))
            arrays.append(pc.is_valid(array))
        else:
            fields.append(field.with_type(file_type(column.data_type)))
            arrays.append(to_file(array, column.data_type))
    field_id = {FIELD_ID: str(SEQ_FIELD_ID).encode()}
    fields.append(pa.field(SEQ_COLUMN, pa.int64(), nullable=False, metadata=field_id))
    schema = pa.schema(fields, metadata={FOOTER_KEY: encode_record(record)})
    return pa.Table.from_arrays([*arrays, rows.column(SEQ_COLUMN)], schema=schema)


def _write_parquet(
    storage: Storage, path: str, rows: pa.Table, options: dict[str, Any]
) -> tuple[str, int]:
    with storage.writing(path) as sink:
        pq.write_table(
            rows,
            sink,
            compression="zstd",
            row_group_size=ROW_GROUP_ROWS,
            write_page_checksum=True,
            column_encoding={SEQ_COLUMN: "DELTA_BINARY_PACKED"},
            **options,
        )
    data = storage.map(path)
    if data is None:
        raise StorageError(f"Storage '{storage.storage_id}' is unreachable")
    return xxhash.xxh3_128_hexdigest(data), data.size


def _bloom_options(rows: pa.Table, table: TableDef) -> dict[str, Any]:
    key = table.primary_key
    # DuckDB 1.5.6 misses keys of unprintable bytes where a file has bounds and a bloom filter.
    if not _HAS_BLOOM or key is None or key.data_type.kind in (TypeKind.BOOLEAN, TypeKind.BYTES):
        return {}
    distinct = min(rows.num_rows, ROW_GROUP_ROWS)
    return {"bloom_filter_options": {key.name: {"ndv": distinct, "fpp": _BLOOM_FALSE_POSITIVES}}}


def _leaf_options(
    rows: pa.Table, table: TableDef, statistics: dict[int, ColumnStatistics]
) -> dict[str, Any]:
    """Choose the leaves that get a dictionary, and those that get bounds.

    A dictionary of values that do not repeat is built, found useless and thrown away: half the
    time of writing. Bounds leave NaN out, which engines then believe: they would skip a row
    group for ``x > 5`` though NaN is above every number.
    """
    dictionary: list[str] = []
    bounded = [SEQ_COLUMN]
    for column in table.columns:
        array = rows.column(column.name)
        if array.type.num_fields:
            leaves = _leaves(column.name, array.type)
            dictionary += [path for path, leaf in leaves if not pa.types.is_boolean(leaf)]
            bounded += [path for path, leaf in leaves if not pa.types.is_floating(leaf)]
            continue
        if not pa.types.is_boolean(array.type) and _repeats(array):
            dictionary.append(column.name)
        if not pa.types.is_floating(array.type) or statistics[column.column_id].low is not None:
            bounded.append(column.name)
    return {"use_dictionary": dictionary, "write_statistics": bounded}


def _repeats(array: pa.ChunkedArray) -> bool:
    """Guess from a sample whether at most half the values of a row group are distinct."""
    group: Any = array.slice(0, ROW_GROUP_ROWS)
    count = min(len(group), _SAMPLE_ROWS)
    sample = group.take(pa.array(np.linspace(0, len(group) - 1, count).astype(np.int64)))
    if isinstance(array.type, pa.BaseExtensionType):
        sample = pa.chunked_array([chunk.storage for chunk in sample.chunks])
    return bool(pc.count_distinct(sample, mode="all").as_py() * 2 <= count)


def _leaves(path: str, arrow: Any) -> list[tuple[str, pa.DataType]]:
    """Return paths and types of a nested column's leaves, as Parquet names them."""
    if pa.types.is_struct(arrow):
        children = [(f"{path}.{child.name}", child.type) for child in arrow]
    elif pa.types.is_map(arrow):
        entry = f"{path}.key_value"
        children = [(f"{entry}.key", arrow.key_type), (f"{entry}.value", arrow.item_type)]
    elif arrow.num_fields:
        children = [(f"{path}.list.element", arrow.value_type)]
    else:
        return [(path, arrow)]
    return [leaf for name, child in children for leaf in _leaves(name, child)]
