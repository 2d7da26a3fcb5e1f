"""The form that columns have in Parquet, where it is not their Arrow form.

UUID and JSON carry their Parquet types, so that every reader knows them. INTERVAL has no place
in Parquet and becomes a struct. EMBEDDING columns are not written at all (`vectors`); a BOOLEAN
of the same name says where they are not NULL.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from kalamdb_lab.arrow.schemas import arrow_type
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind

INTERVAL_STRUCT = pa.struct(
    [("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64())]
)


@lru_cache(maxsize=1024)
def file_type(data_type: KalamDataType) -> pa.DataType:
    """Return the Arrow type that a column of ``data_type`` is written with."""
    match data_type.kind:
        case TypeKind.UUID:
            return pa.uuid()
        case TypeKind.JSON:
            return pa.json_(pa.string())
        case TypeKind.INTERVAL:
            return INTERVAL_STRUCT
        case TypeKind.LIST:
            return pa.list_(file_type(data_type.item))
        case TypeKind.STRUCT:
            return pa.struct([(name, file_type(child)) for name, child in data_type.children])
        case TypeKind.MAP:
            (_, key), (_, value) = data_type.children
            return pa.map_(file_type(key), file_type(value))
        case _:
            return arrow_type(data_type)


def to_file(column: pa.ChunkedArray, data_type: KalamDataType) -> pa.ChunkedArray:
    """Return a column in the form that is written; buffers are shared where they can be."""
    target = file_type(data_type)
    if column.type == target and not data_type.is_nested:
        return column
    return pa.chunked_array([_to_file(chunk, data_type) for chunk in column.chunks], target)


def from_file(column: pa.ChunkedArray, data_type: KalamDataType) -> pa.ChunkedArray:
    """Return what was read as a column of ``data_type``; the inverse of `to_file`."""
    target = arrow_type(data_type)
    if column.type == target and not data_type.is_nested:
        return column
    return pa.chunked_array([_from_file(chunk, data_type) for chunk in column.chunks], target)


def _to_file(array: Any, data_type: KalamDataType) -> pa.Array:
    target: Any = file_type(data_type)
    match data_type.kind:
        case TypeKind.UUID | TypeKind.JSON:
            return pa.ExtensionArray.from_storage(target, array)
        case TypeKind.INTERVAL:
            return _interval_struct(array)
        case TypeKind.LIST | TypeKind.STRUCT | TypeKind.MAP:
            children = [child for _, child in data_type.children]
            parts = [_to_file(*pair) for pair in zip(_parts(array), children, strict=True)]
            return _joined(array, parts, target)
        case _:
            return array


def _from_file(array: Any, data_type: KalamDataType) -> pa.Array:
    target: Any = arrow_type(data_type)
    match data_type.kind:
        case TypeKind.UUID | TypeKind.JSON:
            return array.storage if isinstance(array, pa.ExtensionArray) else array
        case TypeKind.INTERVAL:
            return _interval(array)
        case TypeKind.LIST | TypeKind.STRUCT | TypeKind.MAP:
            children = [child for _, child in data_type.children]
            parts = [_from_file(*pair) for pair in zip(_parts(array), children, strict=True)]
            return _joined(array, parts, target)
        case _:
            return array if array.type == target else array.cast(target)


def _parts(array: Any) -> list[Any]:
    """Return the children: of a list or map whole, whatever its offset; of a struct cut to it."""
    if isinstance(array, pa.MapArray):
        return [array.keys, array.items]
    if isinstance(array, pa.StructArray):
        return [array.field(index) for index in range(array.type.num_fields)]
    return [array.values]


def _joined(array: Any, parts: list[Any], target: Any) -> pa.Array:
    if pa.types.is_struct(target):
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(parts, fields=list(target), mask=mask)
    if pa.types.is_map(target):
        entries = pa.StructArray.from_arrays(parts, fields=[target.key_field, target.item_field])
        parts = [entries]
    buffers = array.buffers()[:2]
    return pa.Array.from_buffers(target, len(array), buffers, offset=array.offset, children=parts)


def _interval_struct(array: Any) -> pa.Array:
    # A month-day-nano value is 16 bytes: int32 months, int32 days, int64 nanoseconds.
    raw = np.frombuffer(array.buffers()[1] or b"", np.uint8)[array.offset * 16 :]
    raw = raw[: len(array) * 16]
    mask = array.is_null() if array.null_count else None
    words, longs = raw.view("<i4").reshape(-1, 4), raw.view("<i8").reshape(-1, 2)
    parts = [
        pa.array(np.ascontiguousarray(part)) for part in (words[:, 0], words[:, 1], longs[:, 1])
    ]
    return pa.StructArray.from_arrays(parts, fields=list(INTERVAL_STRUCT), mask=mask)


def _interval(array: Any) -> pa.Array:
    raw = np.zeros((len(array), 2), "<i8")
    words = raw.view("<i4")
    for place, name in ((words[:, 0], "months"), (words[:, 1], "days"), (raw[:, 1], "nanoseconds")):
        place[:] = array.field(name).fill_null(0).to_numpy(zero_copy_only=False)
    validity = None
    if array.null_count:
        validity = array.is_valid().buffers()[1]
    return pa.Array.from_buffers(
        pa.month_day_nano_interval(), len(array), [validity, pa.py_buffer(raw)]
    )
