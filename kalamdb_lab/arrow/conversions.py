"""Conversions of whole columns between Kalam types, equal to those of single values."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.canonical import (
    INTERVAL_DTYPE,
    flat_items,
    from_fixed_width,
    map_entries,
    rescaled,
    validity,
)
from kalamdb_lab.arrow.schemas import arrow_type
from kalamdb_lab.errors import InvalidValueError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model import faults, literals
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind
from kalamdb_lab.model.text_values import is_json
from kalamdb_lab.model.values import storage_converter

_UTC = pa.timestamp("us", tz="UTC")
_NAIVE = pa.timestamp("us")
_FLOATS = (TypeKind.FLOAT, TypeKind.DOUBLE)
_INSTANTS = (TypeKind.TIMESTAMP, TypeKind.DATETIME)

_SLICE_ROWS = 8_192

_DATE = r"([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_WHOLE = r"^[+-]?[0-9]+$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


def is_assignable(source: KalamDataType, target: KalamDataType) -> bool:
    """Return whether query rows of one type may go into a column of another without CAST.

    Numbers may, with a check of each; so may text into UUID and JSON, and UUID into TEXT,
    because the functions that make UUIDs fill both.
    """
    if source.widens_to(target) or (source.is_numeric and target.is_numeric):
        return True
    pair = (source.kind, target.kind)
    match pair:
        case (TypeKind.TEXT, TypeKind.UUID | TypeKind.JSON) | (TypeKind.UUID, TypeKind.TEXT):
            return True
        case (TypeKind.DATE, TypeKind.DATETIME) | (TypeKind.EMBEDDING, TypeKind.EMBEDDING):
            return True
        case (TypeKind.LIST, TypeKind.EMBEDDING):
            return source.item.is_numeric
        case (TypeKind.EMBEDDING, TypeKind.LIST):
            return target.item.is_numeric
        case (TypeKind.LIST, TypeKind.LIST) | (TypeKind.MAP, TypeKind.MAP):
            pairs = zip(source.children, target.children, strict=True)
            return all(is_assignable(own, other) for (_, own), (_, other) in pairs)
        case (TypeKind.STRUCT, TypeKind.STRUCT):
            fields = {name.lower(): child for name, child in target.children}
            return all(
                name.lower() in fields and is_assignable(child, fields[name.lower()])
                for name, child in source.children
            )
        case _:
            return False


def converted(
    array: pa.Array,
    source: KalamDataType,
    target: KalamDataType,
    column: str,
    *,
    stored: bool,
) -> pa.Array | None:
    """Return a canonical array as ``target``, or None where values must be taken one by one.

    None also means that some value does not fit; the single value's error is the exact one.
    """
    if source == target:
        return array
    try:
        if source.is_numeric and target.is_numeric:
            return _number(array, source, target)
        if target.kind is TypeKind.EMBEDDING:
            return _embedding(array, source, target, column)
        if source.kind is TypeKind.TEXT:
            read = _FROM_TEXT.get(target.kind)
            return None if read is None else read(array, target)
        if target.kind in _INSTANTS:
            return _instant(array, source, target, stored=stored)
        if source.kind is TypeKind.TIMESTAMP and target.kind is TypeKind.DATE:
            days = array.cast(pa.date32())
            return days if days.cast(_NAIVE).equals(array) else None
    except pa.ArrowInvalid:
        return None
    return None


def _number(array: pa.Array, source: KalamDataType, target: KalamDataType) -> pa.Array | None:
    arrow = arrow_type(target)
    if target.is_integer:
        return array.cast(arrow)
    if target.kind in _FLOATS:
        if source.is_integer:
            array = array.cast(pa.float64(), safe=False)
        elif source.kind is TypeKind.DECIMAL:
            # Arrow's own cast of decimals to floats is off by a last bit; its parser is exact.
            array = array.cast(pa.string()).cast(pa.float64())
        return _narrowed(array) if target.kind is TypeKind.FLOAT else array.cast(arrow)
    if source.kind in _FLOATS:
        return _decimal_from_float(array, source, target)
    if source.is_integer:
        array = array.cast(pa.decimal128(20, 0))
    elif source.scale > target.scale:
        # Rounding may carry into one more digit than the source's precision has.
        wide = array.cast(pa.decimal256(source.precision + 1, source.scale))
        array = pc.round(wide, ndigits=target.scale, round_mode="half_towards_infinity")
    return rescaled(array, arrow)


def _narrowed(array: pa.Array) -> pa.Array | None:
    """Round float64 to the nearest float32; None if a finite one gets infinite."""
    single = array.cast(pa.float32(), safe=False)
    grown = pc.and_(pc.is_inf(single), pc.invert(pc.is_inf(array)))
    return None if pc.any(grown).as_py() else single


def _decimal_from_float(
    array: pa.Array, source: KalamDataType, target: KalamDataType
) -> pa.Array | None:
    """Round floats, read as their shortest decimals, to whole steps of the scale.

    Below 2**40 the product is less than 2**-11 off, and so is a float64 from its shortest
    decimal: only values that near to a tie need decimal arithmetic.
    """
    if source.kind is TypeKind.FLOAT:
        return None
    with np.errstate(over="ignore"):
        scaled = array.fill_null(0.0).to_numpy() * 10.0**target.scale
    limit = min(2.0**40, 10.0**target.precision - 1)
    # NaN fails the comparison too, and gets its error one by one.
    if not np.all(np.abs(scaled) < limit):
        return None
    round_tie = storage_converter(target)
    whole = np.zeros((len(array), 2), "<i8")
    whole[:, 0] = np.rint(scaled)
    for at in np.flatnonzero(np.abs(np.abs(scaled - np.trunc(scaled)) - 0.5) < 2.0**-10).tolist():
        if (number := array[at].as_py()) is not None:
            whole[at, 0] = int(cast("Decimal", round_tie(number)).scaleb(target.scale))
    whole[:, 1] = whole[:, 0] >> 63
    return from_fixed_width(whole, array, arrow_type(target))


def _instant(
    array: pa.Array, source: KalamDataType, target: KalamDataType, *, stored: bool
) -> pa.Array | None:
    if source.kind is TypeKind.DATE:
        return array.cast(_NAIVE).cast(pa.int64()).cast(arrow_type(target))
    if source.kind is TypeKind.TIMESTAMP or (source.kind is TypeKind.DATETIME and stored):
        return array.cast(pa.int64()).cast(arrow_type(target))
    return None


def _embedding(
    array: pa.Array, source: KalamDataType, target: KalamDataType, column: str
) -> pa.Array | None:
    """Return lists of numbers as vectors of n float32 each."""
    if source.kind is TypeKind.EMBEDDING:
        if len(array) > array.null_count:
            raise faults.wrong_dimension(target, source.dimension, column)
        return pa.nulls(len(array), arrow_type(target))
    if source.kind is not TypeKind.LIST or not source.item.is_numeric:
        return None
    lengths = pc.list_value_length(array)
    wrong = lengths.filter(pc.not_equal(lengths, target.dimension))
    if len(wrong):
        raise faults.wrong_dimension(target, wrong[0].as_py(), column)
    items, _, _ = flat_items(array)
    if source.item != types.FLOAT:
        wide = _number(items, source.item, types.DOUBLE)
        items = items if wide is None else wide
    single = items.cast(pa.float32(), safe=False)
    if array.null_count:
        spread = np.zeros((len(array), target.dimension), np.float32)
        filled = array.is_valid().to_numpy(zero_copy_only=False)
        if single.null_count:
            single = single.fill_null(float("nan"))
        spread[filled] = single.to_numpy().reshape(-1, target.dimension)
        single = pa.array(spread.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(single, target.dimension, mask=array.is_null())


def _all_match(array: pa.Array, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(array, pattern)).as_py() is not False


def _boolean_text(array: pa.Array, _target: KalamDataType) -> pa.Array | None:
    return array.cast(pa.bool_()) if _all_match(array, "^(?i:true|false)$") else None


def _integer_text(array: pa.Array, target: KalamDataType) -> pa.Array | None:
    trimmed = pc.ascii_trim_whitespace(array)
    if not _all_match(trimmed, _WHOLE):
        return None
    return pc.replace_substring_regex(trimmed, r"^\+", "").cast(arrow_type(target))


def _float_text(array: pa.Array, target: KalamDataType) -> pa.Array | None:
    trimmed = pc.ascii_trim_whitespace(array)
    if not _all_match(trimmed, _NUMBER):
        return None
    numbers = trimmed.cast(pa.float64())
    if pc.any(pc.is_inf(numbers)).as_py():
        return None
    return numbers if target.kind is TypeKind.DOUBLE else _narrowed(numbers)


def _date_text(array: pa.Array, _target: KalamDataType) -> pa.Array | None:
    return array.cast(pa.date32()) if _all_match(array, f"^{_DATE}$") else None


def _instant_text(array: pa.Array, target: KalamDataType) -> pa.Array | None:
    if _all_match(array, f"^{_DATE}([ T]{_TIME})?$"):
        return array.cast(_NAIVE).cast(pa.int64()).cast(arrow_type(target))
    zoned = f"^{_DATE}[ T]{_TIME}(Z|[+-][0-9]{{2}}:[0-9]{{2}})$"
    if target.kind is TypeKind.DATETIME and _all_match(array, zoned):
        return array.cast(_UTC)
    return None


def _time_text(array: pa.Array, target: KalamDataType) -> pa.Array | None:
    if not _all_match(array, f"^{_TIME}$"):
        return None
    instants = pc.binary_join_element_wise("1970-01-01", array, " ").cast(_NAIVE)
    return instants.cast(pa.int64()).cast(arrow_type(target))


def _uuid_text(array: pa.Array, target: KalamDataType) -> pa.Array | None:
    trimmed = pc.ascii_trim_whitespace(array)
    if not _all_match(trimmed, _UUID):
        return None
    digits = pc.replace_substring(trimmed, "-", "").fill_null("0" * 32)
    offsets, data = digits.buffers()[1:]
    first = int.from_bytes(offsets.slice(4 * digits.offset, 4), "little") if len(digits) else 0
    raw = bytes.fromhex(data.slice(first, 32 * len(digits)).to_pybytes().decode())
    buffers = [validity(array), pa.py_buffer(raw)]
    return pa.Array.from_buffers(arrow_type(target), len(array), buffers)


_FROM_TEXT: dict[TypeKind, Callable[[pa.Array, KalamDataType], pa.Array | None]] = {
    TypeKind.BOOLEAN: _boolean_text,
    **dict.fromkeys(types.INTEGER_BOUNDS, _integer_text),
    TypeKind.FLOAT: _float_text,
    TypeKind.DOUBLE: _float_text,
    TypeKind.DATE: _date_text,
    TypeKind.TIME: _time_text,
    TypeKind.TIMESTAMP: _instant_text,
    TypeKind.DATETIME: _instant_text,
    TypeKind.UUID: _uuid_text,
    TypeKind.JSON: lambda array, _: array,
}

_BOUNDS = {
    TypeKind.TIMESTAMP: (literals.FIRST_US, literals.LAST_US),
    TypeKind.DATETIME: (literals.FIRST_US, literals.LAST_US),
    TypeKind.DATE: (literals.FIRST_DAY, literals.LAST_DAY),
    TypeKind.TIME: (0, literals.US_PER_DAY - 1),
}


def refuse_unfit(
    array: pa.Array, data_type: KalamDataType, column: str, *, trusted: bool = False
) -> None:
    """Raise the error of the first value that Arrow's type holds and the Kalam type does not.

    ``trusted`` skips what only foreign memory can get wrong: JSON is not parsed again.
    """
    match data_type.kind:
        case TypeKind.TEXT:
            if pc.any(pc.match_substring(array, "\0")).as_py():
                raise faults.unfit_text(data_type, column)
        case TypeKind.JSON if not trusted:
            if not all(text is None or is_json(text) for text in array.to_pylist()):
                raise faults.invalid(data_type, column)
        case TypeKind.TIMESTAMP | TypeKind.DATETIME | TypeKind.DATE | TypeKind.TIME:
            _refuse_far(array, data_type, column)
        case TypeKind.EMBEDDING:
            _refuse_not_finite(array, data_type, column)
        case TypeKind.INTERVAL:
            _refuse_nanoseconds(array, column)
        case TypeKind.LIST:
            refuse_unfit(array.flatten(), data_type.item, column, trusted=trusted)
        case TypeKind.STRUCT:
            for part, (_, child) in zip(array.flatten(), data_type.children, strict=True):
                refuse_unfit(part, child, column, trusted=trusted)
        case TypeKind.MAP:
            _refuse_map(array, data_type, column, trusted=trusted)


def _refuse_far(array: pa.Array, data_type: KalamDataType, column: str) -> None:
    width = pa.int32() if data_type.kind is TypeKind.DATE else pa.int64()
    found = pc.min_max(array.cast(width)).as_py()
    low, high = _BOUNDS[data_type.kind]
    if found["min"] is not None and not low <= found["min"] <= found["max"] <= high:
        raise faults.out_of_range(data_type, column)


def _refuse_nanoseconds(array: pa.Array, column: str) -> None:
    data = memoryview(array.buffers()[1] or b"")  # of an empty array it may have any length
    size_bytes = INTERVAL_DTYPE.itemsize
    data = data[array.offset * size_bytes : (array.offset + len(array)) * size_bytes]
    parts = np.frombuffer(data, INTERVAL_DTYPE)
    odd = parts["nanoseconds"] % 1_000 != 0
    if np.any(odd & array.is_valid().to_numpy(zero_copy_only=False)):
        raise InvalidValueError(faults.sentence(column, "INTERVAL is exact to the microsecond"))


def _refuse_not_finite(array: pa.Array, data_type: KalamDataType, column: str) -> None:
    for start in range(0, len(array), _SLICE_ROWS):
        # Without NULL rows this is no copy, and with some a small one.
        components = array.slice(start, _SLICE_ROWS).flatten()
        if components.null_count == 0:
            # A sum of float32 in float64 is finite exactly if each of them is.
            with np.errstate(invalid="ignore"):
                total = np.sum(components.to_numpy(), dtype=np.float64)
            if np.isfinite(total):
                continue
        bad = pc.invert(pc.is_finite(components)).fill_null(True)
        first = pc.index(bad, True).as_py()
        if first >= 0:
            raise faults.not_finite(first % data_type.dimension + 1, column)


def _refuse_map(array: pa.Array, data_type: KalamDataType, column: str, *, trusted: bool) -> None:
    entries, offsets, _ = flat_items(map_entries(array))
    keys, items = entries.flatten()
    (_, key), (_, item) = data_type.children
    refuse_unfit(keys, key, column, trusted=trusted)
    refuse_unfit(items, item, column, trusted=trusted)
    rows = np.repeat(np.arange(len(array)), np.diff(offsets.to_numpy()))
    pairs = pa.table({"row": rows, "key": keys})
    if pairs.group_by(["row", "key"]).aggregate([]).num_rows < len(keys):
        raise InvalidValueError(faults.sentence(column, "a MAP key appears twice"))
