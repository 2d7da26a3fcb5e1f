"""Python values as storage values of dates, times and intervals."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from kalamdb_lab.errors import InvalidValueError
from kalamdb_lab.model import faults, literals
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.foreign_values import unwrapped
from kalamdb_lab.model.number_values import Convert

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1


class Interval(NamedTuple):
    """An INTERVAL that is no timedelta: months have no fixed length."""

    months: int
    days: int
    nanoseconds: int


def instant(data_type: KalamDataType) -> Convert:
    """Return the converter of TIMESTAMP, and of DATETIME, which is UTC where no zone is given."""
    zoned = data_type.kind is TypeKind.DATETIME

    def convert(value: object, column: str | None = None) -> StorageValue:
        if value is None or (plain := unwrapped(value)) is None:
            return None
        match plain:
            case dt.datetime():
                if getattr(plain, "nanosecond", 0):
                    raise faults.invalid_text(str(plain), data_type, column)
                offset = plain.utcoffset() is not None
                us = literals.microseconds(plain)
            case dt.date():
                offset = False
                us = (plain.toordinal() - literals.EPOCH_ORDINAL) * literals.US_PER_DAY
            case str():
                parsed = literals.parse_timestamp(plain)
                if parsed is None:
                    raise faults.invalid_text(plain, data_type, column)
                us, offset = parsed
            case _:
                raise faults.not_convertible(plain, data_type, column)
        if offset and not zoned:
            raise faults.takes_no_offset(data_type, column)
        if not literals.FIRST_US <= us <= literals.LAST_US:
            raise faults.out_of_range(data_type, column)
        return us

    return convert


def date(data_type: KalamDataType) -> Convert:
    """Return the converter of DATE; a datetime must be midnight."""

    def convert(value: object, column: str | None = None) -> StorageValue:
        if type(value) is dt.date:
            return value.toordinal() - literals.EPOCH_ORDINAL
        if value is None or (plain := unwrapped(value)) is None:
            return None
        match plain:
            case dt.datetime():
                if plain.tzinfo is not None or plain.time() != dt.time.min:
                    raise faults.not_convertible(plain, data_type, column)
                return plain.toordinal() - literals.EPOCH_ORDINAL
            case dt.date():
                return plain.toordinal() - literals.EPOCH_ORDINAL
            case str():
                days = literals.parse_date(plain)
                if days is None:
                    raise faults.invalid_text(plain, data_type, column)
                return days
        raise faults.not_convertible(plain, data_type, column)

    return convert


def time_of_day(data_type: KalamDataType) -> Convert:
    """Return the converter of TIME."""

    def convert(value: object, column: str | None = None) -> StorageValue:
        if value is None or (plain := unwrapped(value)) is None:
            return None
        match plain:
            case dt.time():
                if plain.tzinfo is not None:
                    raise faults.takes_no_offset(data_type, column)
                return literals.microseconds_of_day(plain)
            case str():
                us = literals.parse_time(plain)
                if us is None:
                    raise faults.invalid_text(plain, data_type, column)
                return us
        raise faults.not_convertible(plain, data_type, column)

    return convert


def interval(data_type: KalamDataType) -> Convert:
    """Return the converter of INTERVAL, exact to the microsecond."""

    def convert(value: object, column: str | None = None) -> StorageValue:
        if value is None or (plain := unwrapped(value)) is None:
            return None
        parts: tuple[int, int, int]
        match plain:
            case dt.timedelta():
                parts = interval_of_ns(
                    plain // dt.timedelta(microseconds=1) * 1_000 + getattr(plain, "nanoseconds", 0)
                )
            case str():
                parsed = literals.parse_interval(plain)
                if parsed is None:
                    raise faults.invalid_text(plain, data_type, column)
                parts = parsed
            case (int(), int(), int()):
                parts = (int(plain[0]), int(plain[1]), int(plain[2]))
            case _:
                raise faults.not_convertible(plain, data_type, column)
        months, days, nanoseconds = parts
        if max(abs(months), abs(days)) > MAX_INT32 or abs(nanoseconds) > MAX_INT64:
            raise faults.out_of_range(data_type, column)
        if nanoseconds % 1_000:
            raise InvalidValueError(faults.sentence(column, "INTERVAL is exact to the microsecond"))
        return months, days, nanoseconds

    return convert


def interval_of_ns(nanoseconds: int) -> tuple[int, int, int]:
    """Return a length of time as INTERVAL: whole days, and a rest of the same sign."""
    days = abs(nanoseconds) // literals.NS_PER_DAY
    if nanoseconds < 0:
        days = -days
    return 0, days, nanoseconds - days * literals.NS_PER_DAY


def interval_out(parts: tuple[int, int, int]) -> object:
    """Return an INTERVAL as a timedelta if it has no months, else as `Interval`."""
    months, days, nanoseconds = parts
    if months or nanoseconds % 1_000 or abs(days) > 999_000_000:
        return Interval(months, days, nanoseconds)
    return dt.timedelta(days=days, microseconds=nanoseconds // 1_000)
