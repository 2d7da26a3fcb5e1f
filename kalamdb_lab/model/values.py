"""Python values into storage values and back.

`storage_converter` and `python_converter` give one function per type: take it once per column
and call it once per value.
"""

from __future__ import annotations

import datetime as dt
import math
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

from kalamdb_lab.errors import InvalidValueError, TypeMismatchError
from kalamdb_lab.model import faults, literals, number_values, text_values, time_values
from kalamdb_lab.model.datatypes import INTEGER_BOUNDS, KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.foreign_values import unwrapped
from kalamdb_lab.model.number_values import Convert, as_float
from kalamdb_lab.model.time_values import Interval

__all__ = [
    "Convert",
    "Interval",
    "converted",
    "from_storage",
    "has_vectors",
    "python_converter",
    "storage_converter",
    "to_storage",
    "unwrapped",
]

_PLAIN_NUMBERS = frozenset({int, float})
_INSTANTS = frozenset({TypeKind.TIMESTAMP, TypeKind.DATETIME})


def to_storage(
    value: object, data_type: KalamDataType, *, column: str | None = None
) -> StorageValue:
    """Return a Python value, literal or parameter as a storage value of ``data_type``.

    Parameters
    ----------
    value : object
        None, a value of the type's Python class, or what converts without loss: digits in text,
        dates and the like as text, numpy and pandas scalars.
    column : str or None
        Named in errors.

    Raises
    ------
    TypeMismatchError
        The value is not of the type.
    ValueOutOfRangeError
        It is, and does not fit. Nothing wraps or is clipped.
    InvalidValueError, DimensionMismatchError
        A wrong date, JSON, UUID or vector.
    """
    return storage_converter(data_type)(value, column)


@lru_cache(maxsize=4096)
def storage_converter(data_type: KalamDataType) -> Convert:
    """Return the function ``convert(value, column=None)`` that `to_storage` runs."""
    return _CONVERTERS[data_type.kind](data_type)


def converted(
    value: StorageValue, given: KalamDataType, wanted: KalamDataType, column: str | None
) -> StorageValue:
    """Return the value of an expression of one type as a storage value of another.

    An instant becomes the wall time in UTC and the other way round, which a literal does not.
    Vectors are checked even where the types are equal: expressions may have what columns do not.

    Raises
    ------
    KalamError
        As from `to_storage`.
    """
    if (given == wanted and not has_vectors(wanted)) or {given.kind, wanted.kind} == _INSTANTS:
        return value
    return storage_converter(wanted)(from_storage(value, given), column)


@lru_cache(maxsize=4096)
def has_vectors(data_type: KalamDataType) -> bool:
    """Return whether values of a type are vectors or hold some."""
    return data_type.kind is TypeKind.EMBEDDING or any(
        has_vectors(child) for _, child in data_type.children
    )


def from_storage(value: StorageValue, data_type: KalamDataType) -> object:
    """Return a storage value as the Python value that users see."""
    convert = python_converter(data_type)
    return value if convert is None or value is None else convert(value)


@lru_cache(maxsize=4096)
def python_converter(data_type: KalamDataType) -> Callable[[Any], object] | None:
    """Return the function that `from_storage` runs on values that are not NULL.

    None means that storage values of this type are the Python values already.
    """
    match data_type.kind:
        case TypeKind.TIMESTAMP:
            return lambda us: literals.EPOCH + dt.timedelta(microseconds=us)
        case TypeKind.DATETIME:
            epoch = literals.EPOCH.replace(tzinfo=dt.UTC)
            return lambda us: epoch + dt.timedelta(microseconds=us)
        case TypeKind.DATE:
            return lambda days: dt.date.fromordinal(days + literals.EPOCH_ORDINAL)
        case TypeKind.TIME:
            return lambda us: (literals.EPOCH + dt.timedelta(microseconds=us)).time()
        case TypeKind.UUID:
            return lambda raw: uuid.UUID(bytes=raw)
        case TypeKind.EMBEDDING:
            unpack = struct.Struct(f"<{data_type.dimension}f").unpack
            return lambda raw: list(unpack(raw))
        case TypeKind.INTERVAL:
            return time_values.interval_out
        case TypeKind.LIST:
            item = data_type.item
            if python_converter(item) is None:
                return None
            return lambda values: [from_storage(value, item) for value in values]
        case TypeKind.STRUCT:
            fields = dict(data_type.children)
            return lambda row: {name: from_storage(row[name], fields[name]) for name in fields}
        case TypeKind.MAP:
            (_, key), (_, item) = data_type.children
            return lambda pairs: {from_storage(k, key): from_storage(v, item) for k, v in pairs}
        case _:
            return None


def _embedding(data_type: KalamDataType) -> Convert:
    dimension = data_type.dimension
    pack = struct.Struct(f"<{dimension}f").pack

    def convert(value: object, column: str | None = None) -> StorageValue:
        if value is None:
            return None
        components: Any
        if hasattr(value, "tolist"):
            components = cast("Any", value).tolist()
        elif hasattr(value, "to_list"):  # a Series of polars
            components = cast("Any", value).to_list()
        elif isinstance(value, str):
            components = literals.parse_vector(value)
        else:
            components = unwrapped(value)
        if components is None and not isinstance(value, str):
            return None
        if not isinstance(components, (list, tuple)):
            raise faults.not_convertible(value, data_type, column)
        if len(components) != dimension:
            raise faults.wrong_dimension(data_type, len(components), column)
        if set(map(type, components)) <= _PLAIN_NUMBERS:
            try:
                # In float64 a sum of so few float32 is finite exactly if each of them is.
                if math.isfinite(sum(components)):
                    return pack(*components)
            except (OverflowError, struct.error):
                pass
        return pack(*_components(components, data_type, column))

    return convert


def _components(
    values: Iterable[object], data_type: KalamDataType, column: str | None
) -> list[float]:
    """Return the components as float32 values, or the fault of the first that is none."""
    numbers: list[float] = []
    for position, value in enumerate(values, 1):
        plain = unwrapped(value)
        if isinstance(plain, (bool, str)):
            raise faults.not_convertible(plain, data_type, column)
        try:
            number = float("nan") if plain is None else as_float(plain, data_type, column)
            struct.pack("<f", number)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise faults.not_finite(position, column)
        numbers.append(number)
    return numbers


def _list(data_type: KalamDataType) -> Convert:
    item = storage_converter(data_type.item)

    def convert(value: object, column: str | None = None) -> StorageValue:
        if value is None:
            return None
        plain = cast("Any", value).tolist() if hasattr(value, "tolist") else unwrapped(value)
        if plain is None:
            return None
        if not isinstance(plain, (list, tuple)):
            raise faults.not_convertible(plain, data_type, column)
        return [item(element, column) for element in plain]

    return convert


def _struct(data_type: KalamDataType) -> Convert:
    fields = [(name, storage_converter(child)) for name, child in data_type.children]
    spelled = {name.lower(): name for name, _ in fields}

    def convert(value: object, column: str | None = None) -> StorageValue:
        if value is None or (plain := unwrapped(value)) is None:
            return None
        if not isinstance(plain, Mapping):
            raise faults.not_convertible(plain, data_type, column)
        given: dict[str, object] = {}
        for name, field_value in plain.items():
            own = spelled.get(name.lower()) if isinstance(name, str) else None
            if own is None or own in given:
                raise TypeMismatchError(
                    faults.sentence(column, f"STRUCT has no field {faults.quoted(name)}")
                )
            given[own] = field_value
        return {name: field(given.get(name), column) for name, field in fields}

    return convert


def _map(data_type: KalamDataType) -> Convert:
    key_of, value_of = (storage_converter(child) for _, child in data_type.children)

    def convert(value: object, column: str | None = None) -> StorageValue:
        if value is None or (plain := unwrapped(value)) is None:
            return None
        pairs = plain.items() if isinstance(plain, Mapping) else plain
        if not isinstance(pairs, Iterable) or isinstance(pairs, (str, bytes)):
            raise faults.not_convertible(plain, data_type, column)
        result: list[StorageValue] = []
        seen: set[object] = set()
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise faults.not_convertible(plain, data_type, column)
            key = key_of(pair[0], column)
            if key is None:
                raise InvalidValueError(faults.sentence(column, "a MAP key cannot be NULL"))
            if key in seen:
                raise InvalidValueError(faults.sentence(column, "a MAP key appears twice"))
            seen.add(key)
            result.append([key, value_of(pair[1], column)])
        return result

    return convert


_CONVERTERS: dict[TypeKind, Callable[[KalamDataType], Convert]] = {
    **dict.fromkeys(INTEGER_BOUNDS, number_values.integer),
    TypeKind.BOOLEAN: number_values.boolean,
    TypeKind.FLOAT: number_values.floating,
    TypeKind.DOUBLE: number_values.floating,
    TypeKind.DECIMAL: number_values.fixed_point,
    TypeKind.TEXT: text_values.text,
    TypeKind.JSON: text_values.document,
    TypeKind.BYTES: text_values.raw_bytes,
    TypeKind.TIMESTAMP: time_values.instant,
    TypeKind.DATETIME: time_values.instant,
    TypeKind.DATE: time_values.date,
    TypeKind.TIME: time_values.time_of_day,
    TypeKind.UUID: text_values.unique_id,
    TypeKind.EMBEDDING: _embedding,
    TypeKind.INTERVAL: time_values.interval,
    TypeKind.LIST: _list,
    TypeKind.STRUCT: _struct,
    TypeKind.MAP: _map,
}
