"""Python values as storage values of BOOLEAN and the numeric types."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import cast

from kalamdb_lab.model import faults
from kalamdb_lab.model.datatypes import INTEGER_BOUNDS, KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.foreign_values import unwrapped

Convert = Callable[..., StorageValue]
"""``convert(value, column=None)``: a Python value as a storage value, None for NULL."""

_WHOLE = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_NOT_FINITE = re.compile(r"\s*[+-]?(?:nan|inf|infinity)\s*", re.ASCII | re.IGNORECASE)
_TRUTH = {"true": True, "t": True, "false": False, "f": False}
_EXACT = Context(prec=100, rounding=ROUND_HALF_UP, Emin=-999_999, Emax=999_999)


def boolean(data_type: KalamDataType) -> Convert:
    """Return the converter of BOOLEAN; a number is no truth."""

    def convert(value: object, column: str | None = None) -> StorageValue:
        if value is True or value is False or value is None:
            return value
        plain = unwrapped(value)
        if plain is None or isinstance(plain, bool):
            return plain
        if isinstance(plain, str) and (truth := _TRUTH.get(plain.strip().lower())) is not None:
            return truth
        raise faults.not_convertible(plain, data_type, column)

    return convert


def integer(data_type: KalamDataType) -> Convert:
    """Return the converter of one width of whole numbers."""
    low, high = INTEGER_BOUNDS[data_type.kind]

    def convert(value: object, column: str | None = None) -> StorageValue:
        if type(value) is int and low <= value <= high:
            return value
        if value is None or (plain := unwrapped(value)) is None:
            return None
        number = _as_integer(plain, data_type, column)
        if not low <= number <= high:
            raise faults.out_of_range(data_type, column)
        return number

    return convert


def _as_integer(value: object, data_type: KalamDataType, column: str | None) -> int:
    match value:
        case bool():
            pass
        case int():
            return int(value)
        case float() | Decimal() if not math.isnan(value):
            if not -1e20 < value < 1e20:
                raise faults.out_of_range(data_type, column)
            if (number := int(value)) == value:
                return number
        case str() if _WHOLE.fullmatch(value):
            if len(value.strip().lstrip("+-0")) > 20:
                raise faults.out_of_range(data_type, column)
            return int(value)
    raise faults.not_convertible(value, data_type, column)


def floating(data_type: KalamDataType) -> Convert:
    """Return the converter of FLOAT and DOUBLE."""
    single = data_type.kind is TypeKind.FLOAT
    pack, unpack = struct.Struct("<f").pack, struct.Struct("<f").unpack

    def convert(value: object, column: str | None = None) -> StorageValue:
        if type(value) is float:
            number = value
        elif value is None or (plain := unwrapped(value)) is None:
            return None
        else:
            try:
                number = as_float(plain, data_type, column)
            except OverflowError:
                raise faults.out_of_range(data_type, column) from None
        if not single:
            return number
        try:
            return cast("float", unpack(pack(number))[0])
        except OverflowError:
            raise faults.out_of_range(data_type, column) from None

    return convert


def as_float(value: object, data_type: KalamDataType, column: str | None) -> float:
    """Return a number or numeric text as float. Raises OverflowError if it is too large."""
    match value:
        case bool():
            raise faults.not_convertible(value, data_type, column)
        case float() | int():
            return float(value)
        case Decimal():
            number = float(value)
            if math.isinf(number) and value.is_finite():
                raise OverflowError
            return number
        case str() if _NOT_FINITE.fullmatch(value):
            return float(value)
        case str() if _NUMBER.fullmatch(value):
            number = float(value)
            if math.isinf(number):
                raise OverflowError
            return number
        case _:
            raise faults.not_convertible(value, data_type, column)


def fixed_point(data_type: KalamDataType) -> Convert:
    """Return the converter of DECIMAL, which rounds half away from zero."""
    step = Decimal(1).scaleb(-data_type.scale)
    limit = Decimal(1).scaleb(data_type.precision - data_type.scale)
    zero = Decimal(0).quantize(step)

    def convert(value: object, column: str | None = None) -> StorageValue:
        if value is None or (plain := unwrapped(value)) is None:
            return None
        number = _as_decimal(plain, data_type, column)
        if not -limit < number < limit:
            raise faults.out_of_range(data_type, column)
        rounded = number.quantize(step, context=_EXACT)
        if not -limit < rounded < limit:
            raise faults.out_of_range(data_type, column)
        return rounded or zero

    return convert


def _as_decimal(value: object, data_type: KalamDataType, column: str | None) -> Decimal:
    match value:
        case bool():
            pass
        case Decimal() if not value.is_nan():
            return value
        case int():
            if abs(value) >= 10**38:
                raise faults.out_of_range(data_type, column)
            return Decimal(value)
        case float() if not math.isnan(value):
            return Decimal(repr(float(value)))
        case str() if _NUMBER.fullmatch(value):
            try:
                return Decimal(value.strip())
            except InvalidOperation:
                raise faults.out_of_range(data_type, column) from None
    raise faults.not_convertible(value, data_type, column)
