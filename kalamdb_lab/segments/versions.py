"""Values of an older schema version in the types of the newest one."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.arrays import array_from_storage, storage_from_array
from kalamdb_lab.arrow.schemas import arrow_type
from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.datatypes import TEXT, KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.faults import not_castable
from kalamdb_lab.model.segments import ColumnStatistics, SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.model.values import from_storage, to_storage

_US_PER_DAY = 86_400_000_000
_INSTANTS = frozenset({TypeKind.TIMESTAMP, TypeKind.DATETIME})
_WITHOUT_TEXT = frozenset(
    {
        TypeKind.BYTES,
        TypeKind.EMBEDDING,
        TypeKind.INTERVAL,
        TypeKind.LIST,
        TypeKind.STRUCT,
        TypeKind.MAP,
    }
)


def column_at(table: TableDef, column_id: int, schema_version: int) -> ColumnDef | None:
    """Return a column as it was in a schema version; None if it was not there yet."""
    for column in table.columns_at(schema_version):
        if column.column_id == column_id:
            return column
    return None


def converted_value(
    value: StorageValue, old: KalamDataType, new: KalamDataType, *, column: str
) -> StorageValue:
    """Return one stored value of type ``old`` as ``new``; what MODIFY of a column means.

    Raises
    ------
    TypeMismatchError
        ``old`` does not widen to ``new`` and the value does not fit exactly. The value, which may
        be another user's, is not quoted.
    """
    if value is None or old == new:
        return value
    if new.kind is TypeKind.DOUBLE and old.is_numeric:
        return float(cast("Decimal", value))
    if old.kind is TypeKind.DATE and new.kind in _INSTANTS:
        return cast("int", value) * _US_PER_DAY
    if (old.kind in _INSTANTS and new.kind in _INSTANTS) or (old.is_text_like and new == TEXT):
        return value
    shown = _text(value, old) if new == TEXT else from_storage(value, old)
    try:
        result = to_storage(shown, new)
    except KalamError:
        raise not_castable(old, new, column) from None
    is_narrowed = old.is_numeric and new.is_numeric and not old.widens_to(new)
    is_nan = isinstance(value, float) and math.isnan(value)
    if is_narrowed and result != value and not is_nan:
        raise not_castable(old, new, column)
    return result


def _text(value: Any, data_type: KalamDataType) -> object:
    match data_type.kind:
        case TypeKind.BOOLEAN:
            return "true" if value else "false"
        case TypeKind.FLOAT:
            return str(np.float32(value))
        case TypeKind.DECIMAL:
            return f"{value:f}"
        case kind if kind in _WITHOUT_TEXT:
            return from_storage(value, data_type)
        case _:
            return str(from_storage(value, data_type))


def converted(
    array: pa.ChunkedArray,
    old: KalamDataType,
    new: KalamDataType,
    *,
    column: str,
    unfit_is_null: bool = False,
) -> pa.ChunkedArray:
    """Return a column of type ``old`` as ``new``, value for value as `converted_value`.

    ``unfit_is_null`` is for segments: ALTER looks at what can be seen, so a value that does not
    fit belongs to a version that was replaced, which nobody reads.
    """
    if old == new:
        return array
    target = arrow_type(new)
    if array.null_count == len(array):
        return pa.chunked_array([pa.nulls(len(array), target)], target)
    if old.is_text_like and new == TEXT:
        return array
    if old.widens_to(new) and (old.kind, new.kind) != (TypeKind.DECIMAL, TypeKind.DOUBLE):
        # BIGINT rounds to DOUBLE, which Arrow calls unsafe; Arrow's own conversion of DECIMAL to
        # DOUBLE may be off by the last bit.
        return pc.cast(array, target, safe=False)
    values: list[StorageValue] = []
    for value in storage_from_array(array, old):
        try:
            values.append(converted_value(value, old, new, column=column))
        except KalamError:
            if not unfit_is_null:
                raise
            values.append(None)
    return pa.chunked_array([array_from_storage(values, new)], target)


def filled(column: ColumnDef, row_count: int) -> pa.ChunkedArray:
    """Return what rows show that were written before the column existed."""
    target = arrow_type(column.data_type)
    if column.fill is None:
        return pa.chunked_array([pa.nulls(row_count, target)], target)
    one = array_from_storage([column.fill], column.data_type)
    return pa.chunked_array([one.take(pa.array(np.zeros(row_count, np.int64)))], target)


def bounds_now(meta: SegmentMeta, table: TableDef, column_id: int) -> ColumnStatistics | None:
    """Return a column's statistics in its present type; None if nothing is known.

    Conversions that keep the order are followed, others make the bounds unknown.
    """
    new = column_at(table, column_id, table.schema_version)
    if new is None:
        return None
    old = column_at(table, column_id, meta.schema_version)
    if old is None:
        fill = new.fill
        if isinstance(fill, float) and math.isnan(fill):
            return ColumnStatistics(0, None, None)
        return ColumnStatistics(0 if fill is not None else meta.row_count, fill, fill)
    found = meta.statistics.get(column_id)
    if found is None or old.data_type == new.data_type:
        return found
    if not old.data_type.widens_to(new.data_type):
        return ColumnStatistics(found.null_count, None, None)
    low = converted_value(found.low, old.data_type, new.data_type, column=new.name)
    high = converted_value(found.high, old.data_type, new.data_type, column=new.name)
    return ColumnStatistics(found.null_count, low, high)
