"""Bounds of a column, computed once when its segment is written."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.segments import ColumnStatistics

LONGEST_BOUND = 64
"""Characters of TEXT and bytes of BYTES that a bound keeps."""

_UNORDERED = frozenset(
    {
        TypeKind.JSON,
        TypeKind.EMBEDDING,
        TypeKind.INTERVAL,
        TypeKind.LIST,
        TypeKind.STRUCT,
        TypeKind.MAP,
    }
)


def column_statistics(column: pa.ChunkedArray, data_type: KalamDataType) -> ColumnStatistics:
    """Return null count and bounds of a column in its Arrow form.

    A low bound of `LONGEST_BOUND` characters may be cut; a high bound that would be is None. A
    NaN makes both None, because it sorts above every number.
    """
    null_count = column.null_count
    if data_type.kind in _UNORDERED or null_count == len(column):
        return ColumnStatistics(null_count, None, None)
    if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
        return ColumnStatistics(null_count, None, None)
    bounds = pc.min_max(column)
    both = pa.array([bounds["min"], bounds["max"]], column.type)
    low, high = storage_from_array(both, data_type)
    return ColumnStatistics(null_count, _start(low), None if _is_long(high) else high)


def _is_long(value: StorageValue) -> bool:
    return isinstance(value, (str, bytes)) and len(value) > LONGEST_BOUND


def _start(value: StorageValue) -> StorageValue:
    return value[:LONGEST_BOUND] if isinstance(value, (str, bytes)) else value
