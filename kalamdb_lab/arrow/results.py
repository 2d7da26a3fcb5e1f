"""What the query engine answers, in the Arrow types of our own."""

from __future__ import annotations

import pyarrow as pa

from kalamdb_lab.arrow.canonical import canonical
from kalamdb_lab.arrow.schemas import arrow_type, kalam_type, logical_field
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind


def result_table(table: pa.Table) -> pa.Table:
    """Return a table whose columns have plain Arrow types and carry their logical types.

    128-bit whole numbers become DECIMAL(38, 0), enumerations TEXT, UUID and JSON their plain
    forms, times microseconds. Columns that have the form are shared, not copied.

    Raises
    ------
    TypeMismatchError
        A column of a type that has no place; names both.
    InvalidValueError, ValueOutOfRangeError
        Times finer than a microsecond, numbers of more than 38 digits.
    """
    columns: list[pa.ChunkedArray] = []
    fields: list[pa.Field] = []
    for field, column in zip(table.schema, table.columns, strict=True):
        own = column_type(field, column)
        columns.append(canonical_column(column, own, field.name))
        fields.append(logical_field(field.name, own))
    if not fields:
        return table
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def column_type(field: pa.Field, column: pa.ChunkedArray) -> KalamDataType:
    """Return the logical type of a column; vectors with NULL components are lists."""
    own = kalam_type(field)
    if own.kind is TypeKind.EMBEDDING and any(_has_holes(chunk) for chunk in column.chunks):
        return types.list_of(types.FLOAT)
    return own


def _has_holes(vectors: pa.Array) -> bool:
    # To flatten leaves out what lies beneath NULL vectors, which is a copy.
    return bool(vectors.values.null_count > 0 and vectors.flatten().null_count > 0)


def canonical_column(
    column: pa.ChunkedArray, data_type: KalamDataType, name: str
) -> pa.ChunkedArray:
    """Return a column in the plain Arrow form of its logical type."""
    wanted = arrow_type(data_type)
    if column.type == wanted:
        return column
    chunks = [canonical(chunk, data_type, name) for chunk in column.chunks]
    return pa.chunked_array(chunks, wanted)


def result_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return one batch of a stream in the types of `result_table`.

    The schema follows from that of the batch alone, so that it is the same for each.
    """
    own = [kalam_type(field) for field in batch.schema]
    names = batch.schema.names
    columns = [
        canonical(column, data_type, name)
        for column, data_type, name in zip(batch.columns, own, names, strict=True)
    ]
    fields = [logical_field(name, data_type) for name, data_type in zip(names, own, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
