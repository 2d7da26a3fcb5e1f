"""Values that need no engine: literals, parameters and the functions of our own."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlglot import exp

from kalamdb_lab.clock import IdGenerator
from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.datatypes import (
    BIGINT,
    DATE,
    DATETIME,
    TEXT,
    TIME,
    TIMESTAMP,
    UUID,
    KalamDataType,
    StorageValue,
)
from kalamdb_lab.model.values import converted, from_storage, storage_converter
from kalamdb_lab.sql.cast_types import data_type_of

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What values of one statement may depend on.

    Attributes
    ----------
    evaluated : sequence of StorageValue
        Results of the expressions that went to the engine, already of their column's type.
    """

    params: Sequence[Any]
    context: ExecutionContext
    ids: IdGenerator
    evaluated: Sequence[StorageValue] = ()


Source = Callable[[Surroundings], StorageValue]
"""Gives one cell of a row of the statement."""


def plain_value(node: exp.Expression) -> tuple[bool, object]:
    """Return (True, Python value) for a literal of any type, else (False, None)."""
    match node:
        case exp.Paren():
            return plain_value(node.this)
        case exp.Null():
            return True, None
        case exp.Boolean():
            return True, bool(node.this)
        case exp.Literal():
            return True, node.this if node.is_string else _number(node.this)
        case exp.Neg(this=exp.Literal(is_string=False) as literal):
            return True, -_number(literal.this)
        case exp.HexString():
            return True, bytes.fromhex(node.this)
        case exp.Array():
            values = [plain_value(item) for item in node.expressions]
            if all(known for known, _ in values):
                return True, [value for _, value in values]
        case exp.Cast(this=exp.Literal(is_string=True) as literal):
            try:
                data_type = data_type_of(node.args["to"])
                return True, from_storage(
                    storage_converter(data_type)(literal.this, None), data_type
                )
            except KalamError:
                return False, None  # the engine finds the words for it
    return False, None


def _number(text: str) -> int | float | Decimal:
    if "e" in text.lower():
        number = float(text)
        return number if math.isfinite(number) else Decimal(text)
    return Decimal(text) if "." in text else int(text)


def source_of(node: exp.Expression, data_type: KalamDataType, column: str) -> Source | None:
    """Return how to make a cell of a column without the engine, or None if only it can.

    Raises
    ------
    KalamError
        The literal is not of the column's type.
    """
    convert = storage_converter(data_type)
    if isinstance(node, exp.Placeholder):
        at = int(node.name) - 1
        return lambda s: convert(s.params[at], column)
    known, value = plain_value(node)
    if known:
        if data_type == TIMESTAMP and isinstance(value, dt.datetime) and value.tzinfo is not None:
            return None  # DATETIME '...' says its type, which widens as a column's does
        constant = convert(value, column)
        return lambda _: constant
    own = own_function(node)
    if own is None:
        return None
    make, gives = own
    if gives == data_type:
        return make
    return lambda s: converted(make(s), gives, data_type, column)


def own_function(node: exp.Expression) -> tuple[Source, KalamDataType] | None:
    """Return one of our functions and the type that it gives, or None."""
    match node:
        case exp.CurrentTimestamp(this=None):
            return (lambda s: s.context.now_us), DATETIME
        case exp.CurrentDate(this=None):
            return (lambda s: s.context.now_us // _DAY_US), DATE
        case exp.CurrentTime(this=None):
            return (lambda s: s.context.now_us % _DAY_US), TIME
        case exp.CurrentUser(this=None):
            return (lambda s: s.context.user_id), TEXT
        case exp.Anonymous(expressions=[]):
            match node.name.upper():
                case "SNOWFLAKE_ID":
                    return (lambda s: s.ids.snowflake_id()), BIGINT
                case "ULID":
                    return (lambda s: s.ids.ulid()), TEXT
                case "UUID_V7":
                    return (lambda s: _uuid_bytes(s.ids.uuid_v7())), UUID
                case "NOW":
                    return (lambda s: s.context.now_us), DATETIME
                case "CURRENT_USER":
                    return (lambda s: s.context.user_id), TEXT
    return None


def _uuid_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))
