"""What the language means, said in the engine's words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ErrorLevel

from kalamdb_lab.errors import NotSupportedError, ValueOutOfRangeError
from kalamdb_lab.model import datatypes
from kalamdb_lab.model.datatypes import TypeKind
from kalamdb_lab.model.values import to_storage
from kalamdb_lab.query import guards, vectors
from kalamdb_lab.query.functions import VECTOR_FUNCTIONS
from kalamdb_lab.query.names import INLINED
from kalamdb_lab.query.relations import Relation

_MAX_NAME = 128
_ENGINE_SQL = DuckDB()
"""The dialect itself: its name may be taken by another in this process."""
_NAMED_ALREADY = (exp.Alias, exp.Aliases, exp.Column, exp.Star, exp.Dot, exp.Explode)
_CHECKED_LITERALS = {
    exp.DType.DATE: datatypes.DATE,
    exp.DType.TIME: datatypes.TIME,
    exp.DType.TIMESTAMP: datatypes.TIMESTAMP,
    exp.DType.TIMESTAMPNTZ: datatypes.TIMESTAMP,
    exp.DType.TIMESTAMPTZ: datatypes.DATETIME,
    exp.DType.UUID: datatypes.UUID,
}
_CONTEXT: dict[type[exp.Expr], str] = {
    exp.CurrentTimestamp: "now",
    exp.CurrentDate: "today",
    exp.CurrentTime: "time",
    exp.CurrentUser: "user",
}
_LEAVES: frozenset[type[exp.Expr]] = frozenset(
    {exp.Literal, exp.Identifier, exp.Column, exp.Placeholder}
)
_ARITHMETIC: frozenset[type[exp.Expr]] = frozenset(
    {exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod}
)
_NUMBER = re.compile(r"\s*([+-]?)(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*")
_PER_ROW = {"snowflake_id": "__kalam_snowflake_id", "ulid": "__kalam_ulid"}
_LAMBDA_TAKERS = frozenset(
    f"{kind}_{name}" for kind in ("list", "array") for name in ("transform", "filter", "apply")
) | {"filter"}
_UNITS = (
    "years quarters months weeks days hours minutes seconds milliseconds microseconds decades "
    "centuries millennia"
)
_MAKE_INTERVALS = frozenset(f"to_{unit}" for unit in _UNITS.split())


@dataclass(slots=True)
class Written:
    """A tree in the engine's words, and what it needs to run.

    Attributes
    ----------
    parameters : tuple of int
        Numbers of the placeholders, ascending.
    context : frozenset of str
        Names of the values that the statement is told: ``user now today time``.
    literals : frozenset of str
        The texts that the statement itself holds; errors may quote them.
    sums : bool
        True if a result beyond BIGINT may be a sum of whole numbers.
    operands : frozenset of str
        Placeholders in arithmetic: digits in a text given for one are the number they say.
    """

    tree: exp.Expression
    parameters: tuple[int, ...]
    context: frozenset[str]
    literals: frozenset[str]
    sums: bool
    operands: frozenset[str]


def number_in(text: str) -> int | float | Decimal | str:
    """Return the number that a text says, or the text.

    Raises
    ------
    ValueOutOfRangeError
        The number is beyond DOUBLE.
    """
    if _NUMBER.fullmatch(text) is None:
        return text
    _check_size(text)
    if "e" in text.lower():
        return float(text)
    return Decimal(text) if "." in text else int(Decimal(text))  # int() takes 4,300 digits


def _check_size(number: str) -> None:
    if math.isinf(float(number)):
        raise ValueOutOfRangeError("A value is out of range for DOUBLE")


def prepare_text(tree: exp.Expression) -> None:
    """Make a parsed text say what it means, and name its nameless results as they are written.

    ``->`` is a lambda in a function that takes one, and JSON everywhere else.
    """
    for node in list(tree.find_all(exp.Lambda, exp.JSONExtract)):
        takes_lambda = _takes_lambda(node.parent)
        if isinstance(node, exp.Lambda):
            if not takes_lambda and not node.args.get("colon") and len(node.expressions) == 1:
                document = exp.column(node.expressions[0])
                node.replace(exp.paren(exp.JSONExtract(this=document, expression=node.this)))
            else:
                node.set("colon", True)
        elif takes_lambda and node.arg_key == "expression":
            name = node.this.unnest()
            if isinstance(name, exp.Column) and isinstance(node.this, exp.Paren):
                function = exp.Lambda(this=node.expression, expressions=[name.this], colon=True)
                node.replace(function)
    _name_projections(tree)


def _takes_lambda(node: exp.Expr | None) -> bool:
    if isinstance(node, exp.Anonymous):
        return node.name.lower() in _LAMBDA_TAKERS
    return isinstance(node, (exp.Transform, exp.ArrayFilter))


def _name_projections(tree: exp.Expression) -> None:
    for select in tree.find_all(exp.Select):
        for position, projection in enumerate(select.expressions):
            if not isinstance(projection, _NAMED_ALREADY):
                name = _name_of(projection)
                if isinstance(projection, exp.Subquery) and _is_taken(name, projection, select):
                    name = _written(projection)
                alias = exp.Alias(alias=exp.to_identifier(name, quoted=True))
                alias.set("this", projection)
                select.expressions[position] = alias
                alias.parent, alias.arg_key, alias.index = select, "expressions", position


def _name_of(node: exp.Expr) -> str:
    if isinstance(node, exp.Subquery):
        first = next(iter(node.unnest().expressions), None)
        if isinstance(first, exp.Expr):
            return first.alias or (first.name if type(first) is exp.Column else _name_of(first))
    return _written(node)


def _is_taken(name: str, subquery: exp.Expr, select: exp.Select) -> bool:
    """Return whether ORDER BY may mean another result by the name: an alias would win there."""
    lowered, has_star = name.lower(), False
    for other in select.expressions:
        if other is not subquery:
            own = _name_of(other) if isinstance(other, exp.Subquery) else other.alias_or_name
            if own.lower() == lowered:
                return True
            has_star = has_star or other.is_star
    order = select.args.get("order") if has_star else None
    return order is not None and any(
        column.name.lower() == lowered and not column.table for column in order.find_all(exp.Column)
    )


def _written(node: exp.Expr) -> str:
    try:
        text: str = node.sql(
            dialect=_ENGINE_SQL,
            comments=False,
            normalize_functions="lower",
            unsupported_level=ErrorLevel.IGNORE,
        )
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - a wrong call, which will have its own error
        return node.key
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 3]}..."


def rewrite(tree: exp.Expression, relations: Iterable[Relation], *, text: bool) -> Written:
    """Rewrite a resolved tree in place.

    Views keep the meaning of text in whatever tree they are inlined.

    Raises
    ------
    InvalidValueError
        A literal of DATE, TIME, TIMESTAMP, DATETIME or UUID that is none.
    LimitError, NotSupportedError
        From the guards.
    TypeMismatchError
        A distance between things that are no vectors.
    """
    intervals = frozenset(
        column.name.lower()
        for relation in relations
        for column in relation.columns
        if column.data_type.kind is TypeKind.INTERVAL
    )
    writer = _Writer(intervals)
    nodes = list(_in_order(tree, text))
    for node, is_text in reversed(nodes):
        replaced = writer.write(node, is_text)
        if replaced is not None and replaced is not node:
            node.replace(replaced)
    return Written(
        tree,
        tuple(sorted(writer.parameters)),
        frozenset(writer.context),
        frozenset(writer.literals),
        writer.sums,
        frozenset(writer.operands),
    )


def _in_order(tree: exp.Expr, text: bool) -> Iterator[tuple[exp.Expr, bool]]:
    pending = [(tree, text)]
    while pending:
        node, is_text = pending.pop()
        is_text = node.meta.get(INLINED, is_text)
        yield node, is_text
        pending.extend((child, is_text) for child in node.iter_expressions())


class _Writer:
    def __init__(self, intervals: frozenset[str]) -> None:
        self._intervals = intervals
        self.parameters: set[int] = set()
        self.context: set[str] = set()
        self.literals: set[str] = set()
        self.operands: set[str] = set()
        self.sums = False

    def write(self, node: exp.Expr, text: bool) -> exp.Expr | None:
        """Return what a node becomes, None to keep it; its children are written already."""
        kind = type(node)
        if kind in _LEAVES:
            self._leaf(node)
            return None
        if kind in _CONTEXT:
            return self._told(_CONTEXT[kind])
        if isinstance(node, exp.Anonymous):
            return self._call(node, text)
        if isinstance(node, exp.Lambda):
            node.set("colon", True)  # the arrow form is gone from the engine
            return None
        if text and kind in _ARITHMETIC:
            return self._arithmetic(node)
        if text and isinstance(node, (exp.Cast, exp.TryCast)):
            self._check_literal(node)
            return None
        if kind is exp.Sum:
            self.sums = True
            return None
        if kind is exp.Extract and isinstance(node.expression, exp.Cast):
            # sqlglot doubts the time zone, which is always UTC; it does not look into parentheses.
            node.set("expression", exp.paren(node.expression))
            return None
        return guards.guarded(node)

    def _leaf(self, node: exp.Expr) -> None:
        if isinstance(node, exp.Literal) and node.is_string:
            self.literals.add(node.name)
        elif isinstance(node, exp.Literal):
            _check_size(node.name)
        elif isinstance(node, exp.Placeholder) and node.name.isdecimal():
            self.parameters.add(int(node.name))
            node.set("this", f"p{node.name}")

    def _arithmetic(self, node: exp.Expr) -> exp.Expr | None:
        for side in (node.this, node.expression):
            self._read_number(side)
        if isinstance(node, exp.Mod):
            node.set("expression", guards.divisor(node.expression))
        elif isinstance(node, (exp.Div, exp.IntDiv)):
            return self._quotient(node)
        return None

    def _read_number(self, node: exp.Expr) -> None:
        """Digits in a text become the number they say, as an operand of a number."""
        if isinstance(node, exp.Literal) and node.is_string:
            match = _NUMBER.fullmatch(node.name)
            if match is not None:
                _check_size(match[2])
                number = exp.Literal.number(match[2])
                node.replace(exp.paren(exp.Neg(this=number)) if match[1] == "-" else number)
        elif isinstance(node, exp.Placeholder) and node.name[1:].isdecimal():
            self.operands.add(node.name)  # written already: p1, p2, ...

    def _told(self, name: str) -> exp.Expr:
        self.context.add(name)
        value = exp.Placeholder(this=f"k_{name}")
        return exp.cast(value, "TEXT") if name == "user" else value

    def _call(self, node: exp.Anonymous, text: bool) -> exp.Expr | None:
        name = node.name.lower()
        if name in VECTOR_FUNCTIONS:
            raise node.meta[vectors.FAULT]
        if name == "now":
            return self._told("now")
        if name == "current_user":
            return self._told("user")
        if name == "uuid_v7":
            return guards.call("uuidv7")
        if name in _PER_ROW:
            return guards.call(_PER_ROW[name], exp.Literal.number(1))
        if name == "divide" and text and len(node.expressions) == 2:
            left, right = node.expressions
            return guards.call(name, left, guards.divisor(right))
        if name in ("list_sum", "sum"):
            self.sums = True
        return guards.guarded(node)

    def _quotient(self, node: exp.Expr) -> exp.Expr:
        left, right = node.this, guards.divisor(node.expression)
        if isinstance(node, exp.Div) and not self._is_interval(left):
            return exp.IntDiv(this=left, expression=right)
        node.set("expression", right)
        return node

    def _is_interval(self, node: exp.Expr) -> bool:
        while isinstance(node, (exp.Paren, exp.Neg)):
            node = node.this
        if isinstance(node, exp.Cast):
            return bool(node.to.is_type(exp.DType.INTERVAL))
        if isinstance(node, exp.Column):
            return node.name.lower() in self._intervals
        if isinstance(node, exp.Anonymous):
            return node.name.lower() in _MAKE_INTERVALS
        return isinstance(node, (exp.Interval, exp.ToDays))

    def _check_literal(self, node: exp.Expr) -> None:
        literal, kind = node.this, _CHECKED_LITERALS.get(node.args["to"].this)
        if kind is None or not isinstance(literal, exp.Literal) or not literal.is_string:
            return
        if isinstance(node, exp.Cast):
            to_storage(literal.name, kind, column=None)


def generated_sql(tree: exp.Expression, *, text: bool) -> str:
    """Return the text that the engine gets: from the tree alone, which is used up by it.

    Raises
    ------
    NotSupportedError
        The text would say less than the tree: an argument would be lost.
    """
    level = ErrorLevel.RAISE if text else ErrorLevel.IGNORE
    try:
        sql: Any = tree.sql(
            dialect=_ENGINE_SQL, identify=True, comments=False, copy=False, unsupported_level=level
        )
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - it raises anything on calls with wrong arguments
        raise NotSupportedError("A function is not supported with these arguments") from None
    return str(sql)
