"""Numbers that stand for the values of columns: equal ones for equal values, NULL and NaN too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Positions: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Columns: TypeAlias = Sequence[pa.Array]

_MOST_CODES = 1 << 62
_SPREAD = 4


def rows_codes(columns: Columns, rows: int) -> tuple[Positions, int]:
    """Return a number for each row, equal for equal rows and below a count, and that count."""
    codes, count = np.zeros(rows, np.int64), 1 if rows else 0
    for column in columns:
        own, own_count = values_codes(column)
        if count * max(own_count, 1) >= _MOST_CODES:
            codes, count = dense(codes)
        codes, count = codes * max(own_count, 1) + own, count * max(own_count, 1)
    return dense(codes) if len(columns) > 1 else (codes, count)


def dense(values: Positions) -> tuple[Positions, int]:
    """Return small numbers for large ones, equal for equal ones and below a count."""
    return _dictionary(pa.array(values))


def _dictionary(array: pa.Array) -> tuple[Positions, int]:
    encoded = array.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), len(encoded.dictionary)


def values_codes(array: pa.Array) -> tuple[Positions, int]:
    """Return a number for each value, equal for equal values and below a count, and that count."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return values_codes(array.storage)
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int64), 1
    if pa.types.is_floating(kind):
        values = floats_of(array).astype(np.float64)
        values = np.where(np.isnan(values), np.nan, values) + 0.0
        nulls = nulls_of(array) if array.null_count else None
        return _dictionary(pa.array(values.view(np.int64), mask=nulls))
    if pa.types.is_struct(kind):
        parts = [values_codes(part)[0] for part in array.flatten()]
        return _packed(np.stack(parts, axis=1) if parts else np.zeros((len(array), 1)), array)
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
        items = array.values.slice(array.offset * width, len(array) * width)
        return _packed(values_codes(items)[0].reshape(len(array), width), array)
    if pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _of_lists(array)
    if pa.types.is_interval(kind):
        return _dictionary(_fixed_width(array, 16))
    if pa.types.is_integer(kind) and not array.null_count and len(array):
        # Keys lie close together as a rule: their distance from the least is a number already.
        least, most = (value.as_py() for value in pc.min_max(array).values())
        if most - least < _SPREAD * len(array):
            values = array.to_numpy(zero_copy_only=False)
            wide = values if values.dtype == np.uint64 else values.astype(np.int64)
            return (wide - wide.dtype.type(least)).astype(np.int64), most - least + 1
    return _dictionary(array)


def _packed(codes: npt.NDArray[Any], like: pa.Array) -> tuple[Positions, int]:
    """Return one number for each row of numbers; rows that are NULL in ``like`` share one."""
    codes = np.ascontiguousarray(codes, np.int64)
    if like.null_count:
        codes[nulls_of(like)] = -1
    width = max(8 * codes.shape[1], 1)
    data = codes.tobytes() if codes.shape[1] else bytes(len(like))
    rows = pa.Array.from_buffers(pa.binary(width), len(like), [None, pa.py_buffer(data)])
    return _dictionary(rows)


def _of_lists(array: pa.Array) -> tuple[Positions, int]:
    lengths = np.diff(np.asarray(array.offsets))
    nulls = nulls_of(array)
    start, end = int(array.offsets[0].as_py()), int(array.offsets[-1].as_py())
    if pa.types.is_map(array.type):
        items = pa.StructArray.from_arrays([array.keys, array.items], names=["k", "v"])
    else:
        items = array.values
    codes, _ = values_codes(items.slice(start, end - start))
    # A list is the bytes of its items' numbers; those of a NULL are there and mean nothing.
    offsets = np.concatenate([[0], np.cumsum(lengths)]) * 8
    rows = pa.Array.from_buffers(
        pa.large_binary(),
        len(array),
        [None, pa.py_buffer(offsets.astype(np.int64).tobytes()), pa.py_buffer(codes.tobytes())],
    )
    numbers, count = _dictionary(rows)
    numbers[nulls] = count
    return numbers, count + 1


def _fixed_width(array: pa.Array, width: int) -> pa.Array:
    data = array.buffers()[1]
    part = data.slice(array.offset * width, len(array) * width)
    rows = pa.Array.from_buffers(pa.binary(width), len(array), [None, part])
    nulls = nulls_of(array)
    return pc.if_else(pa.array(nulls), pa.scalar(None, pa.binary(width)), rows)


def floats_of(array: pa.Array) -> npt.NDArray[Any]:
    """Return FLOAT or DOUBLE values; what NULLs become means nothing."""
    known = array.fill_null(0) if array.null_count else array
    return cast("npt.NDArray[Any]", known.to_numpy(zero_copy_only=False))


def nulls_of(array: pa.Array) -> Mask:
    """Return which values are NULL."""
    return cast("Mask", array.is_null().to_numpy(zero_copy_only=False))
