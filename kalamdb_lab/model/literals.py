"""Dates, times, intervals and vectors written as text, read into storage values.

Each function returns None for a text that is none, so that the caller words the fault.
"""

from __future__ import annotations

import datetime as dt
import json
import re

US_PER_DAY = 86_400_000_000
NS_PER_DAY = US_PER_DAY * 1_000
EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - TIMESTAMP has no zone
FIRST_DAY = 1 - EPOCH_ORDINAL
"""0001-01-01 in days since 1970."""
LAST_DAY = dt.date.max.toordinal() - EPOCH_ORDINAL
"""9999-12-31 in days since 1970."""
FIRST_US = FIRST_DAY * US_PER_DAY
LAST_US = (LAST_DAY + 1) * US_PER_DAY - 1

_DATE_FORM = r"\d{4}-\d\d-\d\d"
_TIME_FORM = r"[0-2]\d:[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?"
_DATE = re.compile(_DATE_FORM, re.ASCII)
_TIME = re.compile(_TIME_FORM, re.ASCII)
_OFFSET = r"Z|z|[+-]\d\d(?::?\d\d(?::\d\d)?)?"
_TIMESTAMP = re.compile(rf"({_DATE_FORM})(?:[ Tt]({_TIME_FORM}) ?({_OFFSET})?)?", re.ASCII)
_QUANTITY = re.compile(r"([+-]?\d{1,18})(?:\.(\d{1,9}))?\s*([a-z]+)", re.ASCII)
_CLOCK = re.compile(r"([+-]?)(\d{1,9}):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,6}))?)?", re.ASCII)
_GAP = re.compile(r"[\s,]*")

_MONTHS = {"month": 1, "mon": 1, "year": 12, "yr": 12, "y": 12, "decade": 120, "century": 1200}
_DAYS = {"day": 1, "d": 1, "week": 7, "w": 7}
_NANOSECONDS = {
    "hour": 3_600_000_000_000,
    "hr": 3_600_000_000_000,
    "h": 3_600_000_000_000,
    "minute": 60_000_000_000,
    "min": 60_000_000_000,
    "m": 60_000_000_000,
    "second": 1_000_000_000,
    "sec": 1_000_000_000,
    "s": 1_000_000_000,
    "millisecond": 1_000_000,
    "ms": 1_000_000,
    "microsecond": 1_000,
    "us": 1_000,
}


def microseconds(instant: dt.datetime) -> int:
    """Return microseconds since 1970 of a datetime, in UTC if it has a zone."""
    offset = instant.utcoffset()
    since = instant.replace(tzinfo=None) - EPOCH
    if offset:
        since -= offset
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def microseconds_of_day(time: dt.time) -> int:
    """Return microseconds since midnight."""
    seconds = (time.hour * 60 + time.minute) * 60 + time.second
    return seconds * 1_000_000 + time.microsecond


def parse_date(text: str) -> int | None:
    """Return the days since 1970 of ``2031-04-30``."""
    text = text.strip()
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return dt.date.fromisoformat(text).toordinal() - EPOCH_ORDINAL
    except ValueError:
        return None


def parse_time(text: str) -> int | None:
    """Return the microseconds of the day of ``18:05[:00[.ffffff]]``."""
    text = text.strip()
    if _TIME.fullmatch(text) is None:
        return None
    try:
        return microseconds_of_day(dt.time.fromisoformat(text))
    except ValueError:
        return None


def parse_timestamp(text: str) -> tuple[int, bool] | None:
    """Return the microseconds since 1970 of a date and time, and whether it had an offset.

    Date and time are parted by a blank or ``T``; a date alone is its midnight. With an offset
    the result is in UTC, and may lie beyond the years 1 to 9999.
    """
    match = _TIMESTAMP.fullmatch(text.strip())
    if match is None:
        return None
    day, time, offset = match.groups()
    try:
        if time is None:
            return microseconds(dt.datetime.fromisoformat(day)), False
        shift = "+00:00" if offset in ("Z", "z") else offset or ""
        instant = dt.datetime.fromisoformat(f"{day}T{time}{shift}")
        return microseconds(instant), offset is not None
    except ValueError:
        return None


def parse_interval(text: str) -> tuple[int, int, int] | None:
    """Return (months, days, nanoseconds) of ``3 hours 5 minutes``, ``1 day 02:30:00`` ..."""
    text = text.strip().lower()
    months = days = nanoseconds = at = 0
    if not text:
        return None
    while at < len(text):
        if (match := _CLOCK.match(text, at)) is not None:
            sign, hours, minutes, seconds, fraction = match.groups()
            total_s = int(hours) * 3_600 + int(minutes) * 60 + int(seconds or 0)
            clock_ns = total_s * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
            nanoseconds += -clock_ns if sign == "-" else clock_ns
        elif (match := _QUANTITY.match(text, at)) is not None:
            whole, fraction, unit = match.groups()
            if unit not in _NANOSECONDS and unit.endswith("s"):
                unit = unit[:-1]
            count = int(whole)
            if unit in _NANOSECONDS:
                size_ns = _NANOSECONDS[unit]
                part_ns = int((fraction or "").ljust(9, "0")) * size_ns // 1_000_000_000
                nanoseconds += count * size_ns + (-part_ns if whole[0] == "-" else part_ns)
            elif fraction:
                return None
            elif unit in _DAYS:
                days += count * _DAYS[unit]
            elif unit in _MONTHS:
                months += count * _MONTHS[unit]
            else:
                return None
        else:
            return None
        gap = _GAP.match(text, match.end())
        at = gap.end() if gap is not None else match.end()
    return months, days, nanoseconds


def parse_vector(text: str) -> list[object] | None:
    """Return the components of ``[0.1, 2]``, unchecked."""
    try:
        components = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return components if isinstance(components, list) else None
