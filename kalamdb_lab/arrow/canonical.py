"""Any Arrow array in the plain Arrow form of its Kalam type, without a change of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.schemas import arrow_type, is_hugeint
from kalamdb_lab.errors import InvalidValueError, KalamError, TypeMismatchError
from kalamdb_lab.model import faults, literals
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind

INTERVAL_DTYPE = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])

_HUGEINT = pa.decimal128(38, 0)
_UNITS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def canonical(array: pa.Array, data_type: KalamDataType, column: str | None) -> pa.Array:
    """Return ``array`` as ``arrow_type(data_type)``, where that is its own logical type.

    Dictionaries and runs are decoded, large and view layouts become plain ones, times take the
    unit of microseconds, durations become intervals. An array that has the form is returned.

    Raises
    ------
    InvalidValueError
        A time that is no whole microsecond.
    ValueOutOfRangeError
        A number or time that the form does not hold.
    """
    wanted = arrow_type(data_type)
    given = array.type
    if given == wanted:
        return array
    if pa.types.is_null(given):
        return pa.nulls(len(array), wanted)
    if pa.types.is_dictionary(given):
        # Values first: Arrow has no lookup among views.
        values = canonical(array.dictionary, data_type, column)
        return pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()
    if pa.types.is_run_end_encoded(given):
        return canonical(pc.run_end_decode(array), data_type, column)
    if pa.types.is_list_view(given) or pa.types.is_large_list_view(given):
        # Arrow's cast of views gives offsets that are none.
        return _rebuilt(array, data_type, column)
    if pa.types.is_duration(given):
        return _interval_from_duration(array, data_type, column)
    if is_hugeint(given):
        return _decimal_from_hugeint(array, data_type, column)
    try:
        return rescaled(array, wanted) if pa.types.is_decimal(given) else array.cast(wanted)
    except pa.ArrowNotImplementedError:
        if data_type.is_nested:
            return _rebuilt(array, data_type, column)
        raise TypeMismatchError(
            faults.sentence(column, f"values of this form do not become {data_type}")
        ) from None
    except pa.ArrowInvalid:
        raise _misfit(array, data_type, column) from None


def rescaled(array: pa.Array, arrow: pa.DataType) -> pa.Array:
    """Cast decimals; raise `pyarrow.ArrowInvalid` where one does not fit.

    A cast within 128 bits wraps silently when more digits after the point do not fit; 256 bits
    hold every product.
    """
    own = array.type
    if own.precision - own.scale + arrow.scale > 38:
        array = array.cast(pa.decimal256(76, own.scale)).cast(pa.decimal256(76, arrow.scale))
    return array.cast(arrow)


def _misfit(array: pa.Array, data_type: KalamDataType, column: str | None) -> KalamError:
    unit = getattr(array.type, "unit", None)
    if data_type.kind is TypeKind.DATE or unit == "ns":
        what = "a whole day" if data_type.kind is TypeKind.DATE else "exact to the microsecond"
        return InvalidValueError(
            faults.sentence(column, f"{data_type} is {what}; round the values first")
        )
    return faults.out_of_range(data_type, column)


def _interval_from_duration(
    array: pa.Array, data_type: KalamDataType, column: str | None
) -> pa.Array:
    """Split lengths of time into whole days and a rest of the same sign."""
    counts = array.cast(pa.int64()).fill_null(0).to_numpy()
    unit_ns = _UNITS_NS[array.type.unit]
    per_day = literals.NS_PER_DAY // unit_ns
    # Truncation toward zero, as INTERVAL '-1 hour' has no days.
    days = np.sign(counts) * (np.abs(counts) // per_day)
    parts = np.zeros(len(counts), INTERVAL_DTYPE)
    parts["days"] = days
    parts["nanoseconds"] = (counts - days * per_day) * unit_ns
    if np.any(np.abs(days) >= 2**31):
        raise faults.out_of_range(data_type, column)
    if np.any(parts["nanoseconds"] % 1_000):
        raise _misfit(array, data_type, column)
    return from_fixed_width(parts, array, arrow_type(data_type))


def _decimal_from_hugeint(
    array: pa.Array, data_type: KalamDataType, column: str | None
) -> pa.Array:
    """Read 16 bytes, little-endian and two's complement, as the decimal that has the same."""
    buffers = array.storage.buffers()
    numbers = pa.Array.from_buffers(_HUGEINT, len(array), buffers, offset=array.offset)
    try:
        numbers.validate(full=True)
    except pa.ArrowInvalid:
        raise faults.out_of_range(data_type, column) from None
    if array.type.type_name == "uhugeint" and pc.any(pc.less(numbers, 0)).as_py():
        raise faults.out_of_range(data_type, column)
    return canonical(numbers, data_type, column)


def from_fixed_width(values: np.ndarray[Any, Any], like: pa.Array, arrow: pa.DataType) -> pa.Array:
    """Return fixed-width values as an Arrow array that is NULL where ``like`` is.

    Parameters
    ----------
    values : ndarray, (n,) or (n, width)
        Contiguous, with the layout of ``arrow``.
    """
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(arrow, len(like), [validity(like), data])


def validity(array: pa.Array) -> pa.Buffer | None:
    """Return the bitmap of values that are not NULL, from bit 0, or None if all are."""
    if array.null_count == 0:
        return None
    return array.is_valid().buffers()[1]


def flat_items(array: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Take lists of any layout apart.

    Returns
    -------
    items : Array
        Elements of the lists that are not NULL, in order.
    offsets : Array of int32, (n + 1,)
        Where each list starts in ``items``.
    nulls : Array of bool, (n,)
        True where the list is NULL.
    """
    is_view = pa.types.is_list_view(array.type) or pa.types.is_large_list_view(array.type)
    if not is_view and not pa.types.is_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    lengths = pc.list_value_length(array).fill_null(0).to_numpy()
    offsets = np.zeros(len(array) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return array.flatten(), pa.array(offsets), array.is_null()


def map_entries(array: pa.Array) -> pa.Array:
    """Return maps as lists of structs of key and value."""
    pair = pa.struct(
        [pa.field("key", array.type.key_type), pa.field("value", array.type.item_type)]
    )
    return array.cast(pa.list_(pair))


def list_array(items: pa.Array, offsets: pa.Array, nulls: pa.Array) -> pa.Array:
    """Put together what `flat_items` took apart."""
    return pa.ListArray.from_arrays(offsets, items, mask=nulls)


def map_array(keys: pa.Array, items: pa.Array, offsets: pa.Array, nulls: pa.Array) -> pa.Array:
    """Return maps of flat keys and values."""
    return pa.MapArray.from_arrays(offsets, keys, items, mask=nulls)


def _rebuilt(array: pa.Array, data_type: KalamDataType, column: str | None) -> pa.Array:
    """Return a nested array whose children are each made canonical."""
    children = [child for _, child in data_type.children]
    if data_type.kind is TypeKind.STRUCT:
        names = [name for name, _ in data_type.children]
        parts = [
            canonical(part, child, column)
            for part, child in zip(array.flatten(), children, strict=True)
        ]
        return pa.StructArray.from_arrays(parts, names=names, mask=array.is_null())
    if data_type.kind is TypeKind.MAP:
        entries, offsets, nulls = flat_items(map_entries(array))
        keys, items = (
            canonical(part, child, column)
            for part, child in zip(entries.flatten(), children, strict=True)
        )
        return map_array(keys, items, offsets, nulls)
    items, offsets, nulls = flat_items(array)
    return list_array(canonical(items, children[0], column), offsets, nulls)
