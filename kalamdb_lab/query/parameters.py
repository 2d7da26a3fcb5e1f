"""Values that a statement is given: placeholders and what it is told of its surroundings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kalamdb_lab.errors import (
    InvalidValueError,
    ParametersError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.model.faults import kind_of
from kalamdb_lab.model.values import unwrapped
from kalamdb_lab.tables.embedding import NO_FUNCTIONS, Embedder

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MAX_DIGITS = 38
_BIGINT = range(-(2**63), 2**63)


def engine_value(value: object) -> Any:
    """Return a parameter as the engine takes it, meaning the same.

    Raises
    ------
    ValueOutOfRangeError, InvalidValueError, TypeMismatchError
        No type holds the value.
    """
    value = unwrapped(value)
    if value is None or isinstance(value, (bool, float, str)):
        return _checked_text(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return value if value in _BIGINT else _decimal(Decimal(value))
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (list, tuple)):
        return [engine_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): engine_value(item) for key, item in value.items()}
    if isinstance(value, dt.time) and value.tzinfo is not None:
        raise InvalidValueError("Parameter: TIME takes no offset")
    if hasattr(value, "tolist"):  # a numpy array
        return engine_value(value.tolist())
    if hasattr(value, "to_list"):  # a Series of polars
        return engine_value(value.to_list())
    if isinstance(value, (bytes, dt.date, dt.time, dt.timedelta)) or hasattr(value, "hex"):
        return value
    raise TypeMismatchError(
        f"A parameter cannot be {kind_of(value)}; use a Python scalar, list or dict"
    )


def _checked_text(text: str) -> str:
    if "\0" in text:
        raise InvalidValueError("A parameter holds the character U+0000, which TEXT cannot")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValueError("A parameter is not valid Unicode") from None
    return text


def _decimal(value: Decimal) -> Any:
    """Return a Decimal that has no exponent: the engine reads 1E+5 as 1.00000."""
    if not value.is_finite():
        return float(value)
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if exponent > 0:
        digits, exponent = (*digits, *([0] * min(exponent, _MAX_DIGITS + 1))), 0
    if max(len(digits), -exponent) > _MAX_DIGITS:
        raise ValueOutOfRangeError("Parameter: value is out of range for DECIMAL(38, 0)")
    return Decimal((sign, digits, exponent))


def checked_count(numbers: Sequence[int], parameters: Sequence[object]) -> dict[int, object]:
    """Return the parameters by number, or refuse too few.

    A query may be one part of a statement whose other parts use further values; whether the
    statement was given exactly as many as it has placeholders is checked when it is bound.
    """
    expected = max(numbers, default=0)
    if len(parameters) < expected:
        plural = "" if expected == 1 else "s"
        raise ParametersError(f"Expected {expected} parameter{plural}, got {len(parameters)}")
    return dict(enumerate(parameters, start=1))


@dataclass(frozen=True, slots=True)
class StatementContext:
    """What a statement is told of its surroundings, the same for all its rows.

    Attributes
    ----------
    user_id : str
        The effective user: CURRENT_USER.
    now_us : int
        NOW, CURRENT_DATE and CURRENT_TIME as microseconds since 1970 in UTC.
    embedder : Embedder
        Makes vectors of the texts that distances are measured to.
    """

    user_id: str
    now_us: int
    embedder: Embedder = field(default=NO_FUNCTIONS, compare=False)

    def value(self, name: str) -> object:
        """Return ``user``, ``now``, ``today`` or ``time`` for the engine."""
        if name == "user":
            return self.user_id
        now = _EPOCH + dt.timedelta(microseconds=self.now_us)
        return {"now": now, "today": now.date(), "time": now.time()}[name]
