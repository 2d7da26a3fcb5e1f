"""The faults of values, worded once for single values and for whole Arrow columns."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

from kalamdb_lab.errors import (
    QUOTED_TEXT_LIMIT,
    DimensionMismatchError,
    InvalidValueError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.model.datatypes import KalamDataType


def sentence(column: str | None, fault: str) -> str:
    """Return ``fault`` with its column in front, or as a sentence of its own."""
    if column is None:
        return fault[0].upper() + fault[1:]
    return f"Column '{column}': {fault}"


def out_of_range(data_type: KalamDataType, column: str | None) -> ValueOutOfRangeError:
    """Return the error for a number, date or time beyond the bounds of its type."""
    return ValueOutOfRangeError(sentence(column, f"value is out of range for {data_type}"))


def not_convertible(
    value: object, data_type: KalamDataType, column: str | None
) -> TypeMismatchError:
    """Return the error for a literal or parameter that is not of the type."""
    return TypeMismatchError(sentence(column, f"cannot convert {quoted(value)} to {data_type}"))


def not_castable(
    source: KalamDataType | str, data_type: KalamDataType, column: str
) -> TypeMismatchError:
    """Return the error for stored values whose type does not widen to the column's."""
    return TypeMismatchError(f"Cannot cast {source} to {data_type} in column '{column}'")


def invalid_text(text: str, data_type: KalamDataType, column: str | None) -> InvalidValueError:
    """Return the error for a text that is no date, time or interval."""
    return InvalidValueError(sentence(column, f"invalid {data_type} {quoted(text)}"))


def invalid(data_type: KalamDataType, column: str | None) -> InvalidValueError:
    """Return the error for a JSON text or UUID that is none; it is not quoted."""
    return InvalidValueError(sentence(column, f"invalid {data_type}"))


def takes_no_offset(data_type: KalamDataType, column: str | None) -> InvalidValueError:
    """Return the error for a zone given to TIMESTAMP or TIME."""
    hint = "; use DATETIME" if data_type.kind.name == "TIMESTAMP" else ""
    return InvalidValueError(sentence(column, f"{data_type} takes no offset{hint}"))


def unfit_text(data_type: KalamDataType, column: str | None) -> InvalidValueError:
    """Return the error for a text with NUL or half of a surrogate pair."""
    return InvalidValueError(
        sentence(column, f"{data_type} holds Unicode without the character NUL")
    )


def wrong_dimension(
    data_type: KalamDataType, got: int, column: str | None
) -> DimensionMismatchError:
    """Return the error for a vector of another dimension."""
    start = "Expected" if column is None else f"Column '{column}' expects"
    return DimensionMismatchError(f"{start} {data_type.dimension} dimensions, got {got}")


def not_finite(component: int, column: str | None) -> InvalidValueError:
    """Return the error for NULL, NaN or infinity in a vector; components count from 1."""
    return InvalidValueError(sentence(column, f"component {component} is not a finite number"))


def kind_of(value: object) -> str:
    """Return the name of a Python class with its article."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def quoted(value: object) -> str:
    """Return a literal as text, cut; of other objects only their kind is told."""
    match value:
        case str():
            text = value
        case bool():
            text = str(value).lower()
        case int() if abs(value) >= 10**QUOTED_TEXT_LIMIT:
            return "a number"
        case int() | float() | Decimal() | uuid.UUID():
            text = str(value)
        case dt.date() | dt.time():
            text = value.isoformat()
        case _:
            return f"{kind_of(value)} value"
    return f"'{text[:QUOTED_TEXT_LIMIT]}'"
