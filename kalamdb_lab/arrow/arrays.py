"""Arrow arrays from storage values and back, and columns given by users made to fit a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from kalamdb_lab.arrow.canonical import canonical, flat_items, list_array, map_array, map_entries
from kalamdb_lab.arrow.conversions import converted, is_assignable, refuse_unfit
from kalamdb_lab.arrow.schemas import arrow_type, kalam_type
from kalamdb_lab.errors import TypeMismatchError
from kalamdb_lab.model import faults
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.values import python_converter, storage_converter

_AS_INTEGERS = {
    TypeKind.TIMESTAMP: pa.int64(),
    TypeKind.DATETIME: pa.int64(),
    TypeKind.TIME: pa.int64(),
    TypeKind.DATE: pa.int32(),
}
_SLICE_ROWS = 8_192
_FASTER_BY_NUMPY = frozenset({TypeKind.UUID, TypeKind.DECIMAL})


def array_from_storage(values: Sequence[StorageValue], data_type: KalamDataType) -> pa.Array:
    """Return storage values of one type as an Arrow array; None becomes NULL."""
    match data_type.kind:
        case TypeKind.EMBEDDING:
            return _vectors(values, data_type)
        case TypeKind.LIST | TypeKind.MAP:
            rows = cast("Sequence[list[Any] | None]", values)
            offsets = np.zeros(len(rows) + 1, np.int32)
            np.cumsum([len(row) if row is not None else 0 for row in rows], out=offsets[1:])
            nulls = pa.array([row is None for row in rows], pa.bool_())
            flat = [element for row in rows if row is not None for element in row]
            if data_type.kind is TypeKind.LIST:
                items = array_from_storage(flat, data_type.item)
                return list_array(items, pa.array(offsets), nulls)
            (_, key), (_, item) = data_type.children
            keys = array_from_storage([pair[0] for pair in flat], key)
            items = array_from_storage([pair[1] for pair in flat], item)
            return map_array(keys, items, pa.array(offsets), nulls)
        case TypeKind.STRUCT:
            structs = cast("Sequence[dict[str, StorageValue] | None]", values)
            parts = [
                array_from_storage([row and row[name] for row in structs], child)
                for name, child in data_type.children
            ]
            nulls = pa.array([row is None for row in structs], pa.bool_())
            names = [name for name, _ in data_type.children]
            return pa.StructArray.from_arrays(parts, names=names, mask=nulls)
        case _:
            return pa.array(values, arrow_type(data_type))


def _vectors(values: Sequence[StorageValue], data_type: KalamDataType) -> pa.Array:
    blank = bytes(4 * data_type.dimension)
    data = b"".join([blank if value is None else cast("bytes", value) for value in values])
    components = pa.Array.from_buffers(pa.float32(), len(data) // 4, [None, pa.py_buffer(data)])
    nulls = pa.array([value is None for value in values], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(components, data_type.dimension, mask=nulls)


def storage_from_array(
    array: pa.Array | pa.ChunkedArray, data_type: KalamDataType
) -> list[StorageValue]:
    """Return an array whose logical type is ``data_type`` as storage values; NULL becomes None."""
    if isinstance(array, pa.ChunkedArray):
        values: list[StorageValue] = []
        for chunk in array.chunks:
            values += _storage(canonical(chunk, data_type, None), data_type)
        return values
    return _storage(canonical(array, data_type, None), data_type)


def _storage(array: pa.Array, data_type: KalamDataType) -> list[StorageValue]:
    kind = data_type.kind
    if (integers := _AS_INTEGERS.get(kind)) is not None:
        return cast("list[StorageValue]", array.cast(integers).to_pylist())
    if kind in _FASTER_BY_NUMPY:
        return cast("list[StorageValue]", array.to_numpy(zero_copy_only=False).tolist())
    match kind:
        case TypeKind.EMBEDDING:
            return _packed(array, 4 * data_type.dimension)
        case TypeKind.INTERVAL:
            return [value if value is None else tuple(value) for value in array.to_pylist()]
        case TypeKind.LIST:
            items, offsets, nulls = flat_items(array)
            return _regrouped(_storage(items, data_type.item), offsets, nulls)
        case TypeKind.MAP:
            entries, offsets, nulls = flat_items(map_entries(array))
            (_, key), (_, item) = data_type.children
            keys, items = entries.flatten()
            pairs = zip(_storage(keys, key), _storage(items, item), strict=True)
            return _regrouped([[k, v] for k, v in pairs], offsets, nulls)
        case TypeKind.STRUCT:
            names = [name for name, _ in data_type.children]
            parts = [
                _storage(part, child)
                for part, (_, child) in zip(array.flatten(), data_type.children, strict=True)
            ]
            rows = zip(*parts, array.is_null().to_pylist(), strict=True)
            return [None if row[-1] else dict(zip(names, row, strict=False)) for row in rows]
        case _:
            return cast("list[StorageValue]", array.to_pylist())


def _packed(array: pa.Array, width: int) -> list[StorageValue]:
    """Return each vector as its bytes."""
    start = array.offset * width
    data = array.values.to_numpy(zero_copy_only=False).astype("<f4", copy=False).tobytes()
    ends = range(start, start + len(array) * width, width)
    vectors: list[StorageValue] = [data[at : at + width] for at in ends]
    if array.null_count:
        for at in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
            vectors[at] = None
    return vectors


def _regrouped(items: list[StorageValue], offsets: pa.Array, nulls: pa.Array) -> list[StorageValue]:
    bounds = offsets.to_pylist()
    groups = zip(bounds, bounds[1:], nulls.to_pylist(), strict=False)
    return [None if null else items[start:end] for start, end, null in groups]


def python_from_array(array: pa.Array | pa.ChunkedArray, data_type: KalamDataType) -> list[object]:
    """Return an array whose logical type is ``data_type`` as the values that users see.

    Raises
    ------
    ValueOutOfRangeError
        A date or time that Python's classes do not hold.
    """
    values = storage_from_array(array, data_type)
    convert = python_converter(data_type)
    if convert is None:
        return cast("list[object]", values)
    try:
        return [None if value is None else convert(value) for value in values]
    except (OverflowError, ValueError):
        raise faults.out_of_range(data_type, None) from None


def coerce_array(
    array: pa.Array | pa.ChunkedArray,
    source: pa.Field | None,
    data_type: KalamDataType,
    *,
    column: str,
    stored: bool = False,
) -> Any:
    """Return values on their way into a column as an array of the column's type.

    The rules, and the errors, are those of `to_storage` for each value; the common ones run
    without a loop over rows.

    Parameters
    ----------
    array : Array or ChunkedArray
        The result is of the same class.
    source : Field or None
        Where ``array`` comes from: its metadata may tell the logical type.
    column : str
        Named in errors.
    stored : bool
        True for the rows of a query: only implicit conversions apply (text is no number or
        date), texts and numbers are not checked again, and no value is quoted in an error.

    Raises
    ------
    TypeMismatchError, ValueOutOfRangeError, InvalidValueError, DimensionMismatchError
        The first value that does not fit.
    """
    if 0 < len(array) == array.null_count:  # NULL is of every type, whatever the engine calls it
        nulls = pa.nulls(len(array), arrow_type(data_type))
        return pa.chunked_array([nulls]) if isinstance(array, pa.ChunkedArray) else nulls
    field = pa.field(column, array.type) if source is None else source.with_name(column)
    own = kalam_type(field)
    if isinstance(array, pa.ChunkedArray):
        chunks = [_coerced(chunk, own, data_type, column, stored) for chunk in array.chunks]
        return pa.chunked_array(chunks, arrow_type(data_type))
    return _coerced(array, own, data_type, column, stored)


def _coerced(
    array: pa.Array, own: KalamDataType, data_type: KalamDataType, column: str, stored: bool
) -> pa.Array:
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), arrow_type(data_type))
    if stored and not is_assignable(own, data_type):
        raise faults.not_castable(own, data_type, column)
    if not stored:
        _refuse_damaged(array, own, column)
    plain = canonical(array, own, column)
    result = converted(plain, own, data_type, column, stored=stored)
    if result is None:
        try:
            return _one_by_one(plain, own, data_type, column)
        except TypeMismatchError:
            if stored:
                raise faults.not_castable(own, data_type, column) from None
            raise
    refuse_unfit(result, data_type, column, trusted=stored and own == data_type)
    return result


def _one_by_one(
    array: pa.Array, own: KalamDataType, data_type: KalamDataType, column: str
) -> pa.Array:
    """Convert value by value, in slices, so that an early fault is told early."""
    convert = storage_converter(data_type)
    values: list[StorageValue] = []
    for start in range(0, len(array), _SLICE_ROWS):
        part = python_from_array(array.slice(start, _SLICE_ROWS), own)
        values += [convert(value, column) for value in part]
    return array_from_storage(values, data_type)


def _refuse_damaged(array: pa.Array, own: KalamDataType, column: str) -> None:
    """Refuse memory that is not what it claims to be, such as text that is no UTF-8."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        if own.is_text_like:
            raise faults.unfit_text(own, column) from None
        raise faults.out_of_range(own, column) from None
