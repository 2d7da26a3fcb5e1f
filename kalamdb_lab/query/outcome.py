"""The engine's Arrow in our types: what a statement's result is, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kalamdb_lab.arrow.results import result_batch, result_table
from kalamdb_lab.arrow.schemas import is_hugeint
from kalamdb_lab.errors import ValueOutOfRangeError


def canonical_table(table: pa.Table, *, sums: bool) -> pa.Table:
    """Return a whole result in our types, sharing memory where it can.

    Parameters
    ----------
    sums : bool
        True if 128-bit whole numbers are sums, which are BIGINT; else they are DECIMAL(38, 0).

    Raises
    ------
    ValueOutOfRangeError
        A sum is beyond BIGINT.
    """
    if sums and any(is_hugeint(kind) for kind in table.schema.types):
        batches = [_with_sums(batch) for batch in table.to_batches()]
        table = pa.Table.from_batches(batches, _schema_with_sums(table.schema))
    return result_table(table)


def canonical_reader(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], *, sums: bool
) -> pa.RecordBatchReader:
    """Return a stream of batches in our types; see `canonical_table`."""
    if sums and any(is_hugeint(kind) for kind in schema.types):
        schema, batches = _schema_with_sums(schema), map(_with_sums, batches)
    # Arrow makes no empty values of nested types that hold UUID or JSON, but it makes no NULLs.
    nothing = [pa.nulls(0, field.type) for field in schema]
    own = result_batch(pa.RecordBatch.from_arrays(nothing, schema=schema)).schema
    return pa.RecordBatchReader.from_batches(own, map(result_batch, batches))


def _schema_with_sums(schema: pa.Schema) -> pa.Schema:
    return pa.schema(
        [pa.field(field.name, pa.int64()) if is_hugeint(field.type) else field for field in schema]
    )


def _with_sums(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [_bigint(column) if is_hugeint(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=_schema_with_sums(batch.schema))


def _bigint(array: Any) -> pa.Array:
    storage = array.storage
    words = np.frombuffer(storage.buffers()[1] or b"", np.int64)
    words = words.reshape(-1, 2)[storage.offset : storage.offset + len(storage)]
    low, high = words[:, 0], words[:, 1]
    known = np.asarray(storage.is_valid())
    if bool(np.any((high != low >> 63) & known)):
        raise ValueOutOfRangeError(
            "The sum is out of range for BIGINT; cast to DECIMAL(38, 0) before summing"
        )
    return pa.array(low.copy(), pa.int64(), mask=~known)
