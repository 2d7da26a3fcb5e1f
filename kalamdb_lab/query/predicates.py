"""Conditions of a WHERE that let a scan leave rows unread."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlglot import exp

from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.datatypes import BIGINT, BOOLEAN, KalamDataType, TypeKind
from kalamdb_lab.model.values import to_storage, unwrapped
from kalamdb_lab.query.relations import (
    BoundPredicate,
    Comparison,
    Parameter,
    ScanRequest,
)

_OPERATORS: dict[type[exp.Expression], Comparison] = {
    exp.EQ: "=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_MIRRORED: dict[Comparison, Comparison] = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_MAX_IN = 10_000
_KEEPS_ALL = frozenset(
    {exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ, exp.DType.TIMESTAMPNTZ, exp.DType.UUID}
)
_NOTHING = object()
_MAX_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Conjunct:
    """``column op operand``, where all rows of the answer meet it."""

    column: exp.Column
    op: Comparison
    operand: Any = None


def conjuncts_of(condition: exp.Expression) -> list[Conjunct]:
    """Return the simple comparisons that ``condition`` demands, all of them together."""
    found: list[Conjunct] = []
    pending = [condition]
    while pending:
        node = pending.pop()
        if isinstance(node, exp.And):
            pending += [node.this, node.expression]
        elif isinstance(node, exp.Paren):
            pending.append(node.this)
        else:
            found += _comparison(node)
    return found


def _comparison(node: exp.Expression) -> list[Conjunct]:
    op = _OPERATORS.get(type(node))
    if op is not None:
        left, right = node.this, node.expression
        if not isinstance(left, exp.Column):
            left, right, op = right, left, _MIRRORED[op]
        operand = _operand(right)
        if isinstance(left, exp.Column) and operand is not _NOTHING:
            return [Conjunct(left, op, operand)]
    elif isinstance(node, exp.Between) and isinstance(node.this, exp.Column):
        if not node.args.get("symmetric"):
            low, high = _operand(node.args["low"]), _operand(node.args["high"])
            bounds: list[tuple[Comparison, Any]] = [(">=", low), ("<=", high)]
            return [
                Conjunct(node.this, side, bound) for side, bound in bounds if bound is not _NOTHING
            ]
    elif isinstance(node, exp.In) and isinstance(node.this, exp.Column):
        operands = [_operand(item) for item in node.expressions]
        if 0 < len(operands) <= _MAX_IN and _NOTHING not in operands:
            return [Conjunct(node.this, "in", tuple(operands))]
    elif isinstance(node, exp.Is) and isinstance(node.this, exp.Column):
        if isinstance(node.expression, exp.Null):
            return [Conjunct(node.this, "is null")]
    elif isinstance(node, exp.Not) and isinstance(node.this, exp.Is):
        inner = node.this
        if isinstance(inner.this, exp.Column) and isinstance(inner.expression, exp.Null):
            return [Conjunct(inner.this, "is not null")]
    return []


def _operand(node: exp.Expression) -> Any:
    """Return the value of a literal, a `Parameter`, or `_NOTHING`."""
    negative = False
    if isinstance(node, exp.Neg):
        negative, node = True, node.this
    if isinstance(node, exp.Placeholder) and not negative and node.name.isdecimal():
        return Parameter(int(node.name))
    if isinstance(node, exp.Boolean) and not negative:
        return bool(node.this)
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and not negative:
        # TIMESTAMP '2031-04-30 18:00': the text says as much as long as the type keeps all of it.
        text, kind = node.this.name, node.to.this
        keeps_all = kind in _KEEPS_ALL or (kind is exp.DType.DATE and len(text) == 10)
        return text if node.this.is_string and keeps_all else _NOTHING
    if not isinstance(node, exp.Literal):
        return _NOTHING
    if node.is_string:
        return _NOTHING if negative else node.name
    try:
        number = Decimal(node.name)
    except ArithmeticError:
        return _NOTHING
    return -number if negative else number


def bind(request: ScanRequest, parameters: Mapping[int, object]) -> tuple[BoundPredicate, ...]:
    """Return the predicates of a request with values, less those that cannot be decided.

    A condition that nothing meets (``= NULL``) is left to the engine as well.
    """
    if not request.predicates:
        return ()
    types = {column.name: column.data_type for column in request.relation.columns}
    types |= {"_seq": BIGINT, "_deleted": BOOLEAN}
    bound: list[BoundPredicate] = []
    for predicate in request.predicates:
        if predicate.op in ("is null", "is not null"):
            bound.append(BoundPredicate(predicate.column, predicate.op))
            continue
        operands = predicate.operand if predicate.op == "in" else (predicate.operand,)
        values = [
            _storage(
                parameters.get(operand.number) if isinstance(operand, Parameter) else operand,
                types[predicate.column],
            )
            for operand in operands
        ]
        if _NOTHING not in values:
            bound.append(BoundPredicate(predicate.column, predicate.op, tuple(values)))
    return tuple(bound)


def _storage(value: object, data_type: KalamDataType) -> Any:
    """Return ``value`` as the engine would compare it with a column, if that is beyond doubt."""
    value = unwrapped(value)
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return value if data_type.kind is TypeKind.BOOLEAN else _NOTHING
    if isinstance(value, (int, float, Decimal)):
        return _number(value, data_type)
    if data_type.kind is TypeKind.TEXT:
        return value if isinstance(value, str) else _NOTHING
    if _says_all(value, data_type.kind):
        try:
            return to_storage(value, data_type, column=None)
        except KalamError:
            return _NOTHING
    return _NOTHING


def _number(value: float | Decimal, data_type: KalamDataType) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return _NOTHING
    if isinstance(value, Decimal) and (not value.is_finite() or value.adjusted() > _MAX_DIGITS):
        return _NOTHING
    if data_type.is_integer:
        return whole if (whole := int(value)) == value else _NOTHING
    if data_type.kind is TypeKind.DOUBLE:
        return float(value) if float(value) == value else _NOTHING
    if data_type.kind is TypeKind.DECIMAL and not isinstance(value, float):
        return Decimal(value)
    return _NOTHING


def _says_all(value: object, kind: TypeKind) -> bool:
    """Return whether a column of ``kind`` keeps all that a text or time says."""
    is_instant = isinstance(value, dt.datetime)
    match kind:
        case TypeKind.UUID:
            return True
        case TypeKind.DATE:
            return isinstance(value, str) or (isinstance(value, dt.date) and not is_instant)
        case TypeKind.TIME:
            return isinstance(value, (str, dt.time))
        case TypeKind.TIMESTAMP:
            zoned = isinstance(value, dt.datetime) and value.tzinfo is not None
            return isinstance(value, str) or (is_instant and not zoned)
        case TypeKind.DATETIME:
            return isinstance(value, str) or is_instant
        case _:
            return False
