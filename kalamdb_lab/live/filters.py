"""Conditions of live queries: those of one shape are one query over a batch of changed rows.

A constant that is compared with a column of TEXT or whole numbers becomes a column of a table of
parameters, which is joined with the batch. All other constants stay where they were written, so
that a condition means here what it means in SELECT.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.errors import NotSupportedError
from kalamdb_lab.live.comparisons import Comparison, Value, comparisons_of
from kalamdb_lab.model.datatypes import BIGINT, TEXT, TypeKind
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.partitions.removals import Seqs
from kalamdb_lab.query.constants import plain_value
from kalamdb_lab.query.parameters import StatementContext
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.planner import Planner
from kalamdb_lab.query.relation_keys import LocalRef
from kalamdb_lab.query.relations import (
    ArrowPart,
    BoundPredicate,
    Part,
    Relation,
    ScanProvider,
    ScanRequest,
)

_PARAMETERS: Final = "__kalam_parameters"
_NUMBER: Final = "__kalam_number"
_MOST_SHAPES: Final = 512
_MOST_LISTED: Final = 32
_BIGINT: Final = range(-(2**63), 2**63)
_COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_SAID_BY_REPR: Final = (
    *(type(None), bool, int, float, str, bytes, Decimal, uuid.UUID),
    *(dt.date, dt.datetime, dt.time, dt.timedelta),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The plan of conditions that differ in their constants only.

    Attributes
    ----------
    types : tuple of pa.DataType
        Of the columns of the table of parameters.
    columns : frozenset of str
        The columns of the table that it reads, without ``_seq``.
    comparisons : tuple of Comparison or None
        What the condition is, if it is nothing else.
    """

    plan: Plan
    types: tuple[pa.DataType, ...]
    columns: frozenset[str]
    comparisons: tuple[Comparison, ...] | None


@dataclass(frozen=True, slots=True)
class Condition:
    """The WHERE of a live query, as it was written.

    Attributes
    ----------
    source : exp.Table
        The table with its alias, as the statement names it.
    params : tuple
        Values of the placeholders.
    """

    where: exp.Expression
    source: exp.Table
    params: tuple[Any, ...]
    context: StatementContext

    def columns(self, table: TableDef) -> Iterator[ColumnDef]:
        """Yield the columns of the table that it names; raises for ``_deleted``."""
        for node in self.where.find_all(exp.Column):
            for name in (node.name, node.table):
                if name.lower() == "_deleted":
                    raise NotSupportedError("_deleted is not supported in live queries")
                column = table.column(name)
                if column is not None:
                    yield column


class Filter:
    """A condition that is ready to be asked about rows of one version of a table.

    Attributes
    ----------
    group : Hashable
        Filters with equal groups are evaluated together.
    values : tuple
        The constants of this one.
    """

    def __init__(
        self, shapes: Shapes, condition: Condition, table: TableDef, shape: Shape, values: Any
    ) -> None:
        self._shapes = shapes
        self._condition = condition
        self._table = table
        self._exact: Shape | None = None if values else shape
        self.shape = shape
        self.values: tuple[Value, ...] = values
        plan, vectors = shape.plan, shape.plan.vectors
        numbers = {*plan.parameters, *(n for vector in vectors for n in vector.numbers)}
        self.group: Hashable = (
            id(shape),
            tuple(_said(condition.params[number - 1]) for number in sorted(numbers)),
            condition.context if plan.context else None,
            id(condition.context.embedder) if any(v.embedded for v in vectors) else None,
        )

    def matching(
        self, rows: pa.Table, parameters: pa.Table | None = None
    ) -> tuple[Seqs, Seqs | None]:
        """Return which rows match which of the filters of its group.

        Parameters
        ----------
        rows : pa.Table
            The columns of the shape and ``_seq``, which no two rows share.
        parameters : pa.Table, optional
            The constants of all filters, as `parameter_table` makes it; left out where the shape
            has none.

        Returns
        -------
        (n,) int64
            ``_seq`` of a row.
        (n,) int64 or None
            The number of a filter that it matches; None where the shape has no parameters.

        Raises
        ------
        KalamError
            The condition fails for one of the rows.
        """
        return self._ask(self.shape, rows, parameters)

    def matching_alone(self, rows: pa.Table) -> Seqs:
        """Return ``_seq`` of the rows that match this filter, exactly as SELECT would tell."""
        if self._exact is None:
            self._exact = self._shapes.exact(self._condition, self._table)
        return self._ask(self._exact, rows, None)[0]

    def _ask(
        self, shape: Shape, rows: pa.Table, parameters: pa.Table | None
    ) -> tuple[Seqs, Seqs | None]:
        found = self._shapes.planner.execute(
            shape.plan, _Batch(rows, parameters), self._condition.params, self._condition.context
        )
        seqs = found.column(0).to_numpy()
        return seqs, None if parameters is None else found.column(1).to_numpy()


def parameter_table(shape: Shape, values: Sequence[tuple[Value, ...]]) -> pa.Table | None:
    """Return the constants of some filters of a shape, numbered from 0."""
    if not shape.types:
        return None
    columns = [
        pa.array([row[at] for row in values], data_type) for at, data_type in enumerate(shape.types)
    ]
    names = [_column_name(at) for at in range(len(columns))]
    return pa.table([*columns, pa.array(np.arange(len(values)))], names=[*names, _NUMBER])


class Shapes:
    """The plans of shapes, kept while they are in use."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self._known: OrderedDict[Hashable, Shape] = OrderedDict()

    def filter(self, condition: Condition, table: TableDef) -> Filter:
        """Return a condition made ready.

        Raises
        ------
        KalamError
            As a SELECT with this WHERE is refused, before it is run.
        """
        where, types, values = _parameterised(condition, table)
        made = tuple(column.embedding for column in table.columns)
        key = (table.table_key, table.schema_version, made, repr(condition.source), repr(where))
        shape = self._known.get(key)
        if shape is None:
            shape = self._planned(where, condition, table, tuple(types))
            self._known[key] = shape
            while len(self._known) > _MOST_SHAPES:
                self._known.popitem(last=False)
        return Filter(self, condition, table, shape, tuple(values))

    def exact(self, condition: Condition, table: TableDef) -> Shape:
        """Return the plan of one condition with all its constants in it."""
        return self._planned(condition.where.copy(), condition, table, ())

    def _planned(
        self,
        where: exp.Expression,
        condition: Condition,
        table: TableDef,
        types: tuple[pa.DataType, ...],
    ) -> Shape:
        comparisons = None
        if types:
            comparisons = comparisons_of(
                where, lambda node: _name_of(node, condition.source, table), _place_of
            )
        results: list[exp.Expression] = [exp.column(exp.to_identifier("_seq"))]
        tree = exp.Select(
            expressions=results,
            from_=exp.From(this=condition.source.copy()),
            where=exp.Where(this=where),
        )
        parameters = None
        if types:
            results.append(_parameter(_NUMBER))
            source = exp.Table(this=exp.to_identifier(_PARAMETERS, quoted=True))
            tree.set("expressions", results)
            tree.set("joins", [exp.Join(this=source, kind="CROSS")])
            parameters = _relation_of(types)
        rows = Relation(
            LocalRef(str(table.table_id)), str(table.table_id), table.visible_columns, True
        )
        plan = self.planner.plan(tree, _Names(rows, parameters))
        read = {name for _, r in plan.requests if r.relation is rows for name in r.columns}
        return Shape(plan, types, frozenset(read - {"_seq"}), comparisons)


def _parameterised(
    condition: Condition, table: TableDef
) -> tuple[exp.Expression, list[pa.DataType], list[Value]]:
    """Return a condition with columns in the place of constants, their types, the constants."""
    root = exp.Paren(this=condition.where.copy())  # so that the top can be replaced too
    types: list[pa.DataType] = []
    values: list[Value] = []
    kinds: tuple[type[exp.Expression], ...] = (*_COMPARISONS, exp.Between, exp.In)
    for node in list(root.find_all(*kinds)):
        if node.find_ancestor(exp.Lambda) is not None:
            continue  # a name there may be an argument
        for column, constants in _compared(node):
            known = _known_column(column, condition.source, table)
            found = [_value(item, condition.params, known) for item in constants]
            if known is None or any(value is None for value in found):
                continue
            for item, value in zip(constants, found, strict=True):
                assert value is not None
                item.replace(_parameter(_column_name(len(values))))
                types.append(pa.string() if isinstance(value, str) else pa.int64())
                values.append(value)
    where = root.this
    assert isinstance(where, exp.Expression)
    return where, types, values


def _compared(node: exp.Expression) -> Iterator[tuple[exp.Expression, list[exp.Expression]]]:
    """Yield what is compared with which others."""
    if isinstance(node, exp.Between):
        if not node.args.get("symmetric"):
            yield node.this, [node.args["low"], node.args["high"]]
    elif isinstance(node, exp.In):
        only_listed = not any(value for name, value in node.args.items() if name not in _LISTED)
        if only_listed and 0 < len(node.expressions) <= _MOST_LISTED:
            yield node.this, list(node.expressions)
    elif isinstance(node.this, exp.Column):
        yield node.this, [node.expression]
    else:
        yield node.expression, [node.this]


_LISTED: Final = ("this", "expressions")


def _known_column(node: exp.Expression, source: exp.Table, table: TableDef) -> ColumnDef | None:
    """Return the column that a node names and nothing else, if it is of a type that is joined."""
    if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
        return None
    if node.args.get("catalog") is not None:
        return None
    if node.table and node.table.lower() != (source.alias or source.name).lower():
        return None  # a field of a struct
    column = table.column(node.name)
    if column is None or column.data_type.kind is TypeKind.TEXT or column.data_type.is_integer:
        return column
    return None


def _name_of(node: exp.Expression, source: exp.Table, table: TableDef) -> str | None:
    column = _known_column(node, source, table)
    return None if column is None else column.name


def _place_of(node: exp.Expression) -> int | None:
    is_parameter = isinstance(node, exp.Column) and node.table == _PARAMETERS
    return int(node.name.removeprefix(_column_name(""))) if is_parameter else None


def _value(
    node: exp.Expression, params: Sequence[object], column: ColumnDef | None
) -> Value | None:
    """Return a constant that a column of the parameters can hold without a change of meaning."""
    if column is None:
        return None
    if isinstance(node, exp.Placeholder):
        value: object = params[int(node.name) - 1] if node.name.isdecimal() else None
    elif isinstance(node, (exp.Literal, exp.Neg)):
        _, value = plain_value(node)
    else:
        return None
    if column.data_type.is_integer:
        is_whole = type(value) is int and value in _BIGINT
        return value if is_whole and isinstance(value, int) else None
    if type(value) is str and "\0" not in value:
        try:
            value.encode()
        except UnicodeEncodeError:
            return None  # the plan finds the words
        return value
    return None


def _said(value: object) -> Hashable:
    """Return what is equal for parameters that mean the same."""
    return (type(value), repr(value)) if type(value) in _SAID_BY_REPR else _Unlike()


class _Unlike:
    """Equal to nothing but itself."""


def _parameter(name: str) -> exp.Column:
    return exp.column(
        exp.to_identifier(name, quoted=True), table=exp.to_identifier(_PARAMETERS, quoted=True)
    )


def _column_name(at: int | str) -> str:
    return f"__kalam_{at}"


def _relation_of(types: tuple[pa.DataType, ...]) -> Relation:
    columns = [
        ColumnDef(column_id=at, name=_column_name(at - 1), data_type=TEXT, position=at)
        for at in range(1, len(types) + 1)
    ]
    columns = [
        replace(column, data_type=BIGINT) if kind == pa.int64() else column
        for column, kind in zip(columns, types, strict=True)
    ]
    number = ColumnDef(len(types) + 1, _NUMBER, BIGINT, position=len(types) + 1)
    return Relation(LocalRef(_PARAMETERS), _PARAMETERS, (*columns, number), False)


class _Names:
    """The only names of a shape: the changed rows, whatever they are called, and parameters."""

    def __init__(self, rows: Relation, parameters: Relation | None) -> None:
        self._rows = rows
        self._parameters = parameters

    def resolve(self, parts: tuple[str, ...]) -> Relation:
        if self._parameters is not None and parts == (_PARAMETERS,):
            return self._parameters
        return self._rows

    def all_users(self, table: str) -> Relation:
        raise AssertionError(f"no condition names all_users('{table}')")


class _Batch(ScanProvider):
    """The changed rows and the parameters as a scan provider."""

    def __init__(self, rows: pa.Table, parameters: pa.Table | None) -> None:
        self._rows = rows
        self._parameters = parameters

    def scan(
        self, request: ScanRequest, _predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        is_rows = request.relation.key != LocalRef(_PARAMETERS)
        source = self._rows if is_rows else self._parameters
        assert source is not None
        return (ArrowPart(source.select(list(request.columns))),)
