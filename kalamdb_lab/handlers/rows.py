"""Rows of an INSERT: from expressions, parameters and defaults to storage values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.arrow.arrays import array_from_storage, coerce_array, storage_from_array
from kalamdb_lab.arrow.schemas import field_for
from kalamdb_lab.clock import IdGenerator
from kalamdb_lab.errors import InvalidDefinitionError, ReadOnlyError, SqlSyntaxError
from kalamdb_lab.handlers.embedding import Left
from kalamdb_lab.model.datatypes import StorageValue, TypeKind
from kalamdb_lab.model.ids import SYSTEM_COLUMNS
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.model.values import converted
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.query.constants import Source, Surroundings, source_of
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.sql.queries import parse_default
from kalamdb_lab.sql.statements import DEFAULT, Insert
from kalamdb_lab.tables.definition import (
    column_not_found,
    is_generated,
    refuse_repeated_names,
)

_TEMPLATES = 1_024


def writable_column(table: TableDef, name: str) -> ColumnDef:
    """Return a column that INSERT or UPDATE names, or refuse it."""
    if name.lower() in SYSTEM_COLUMNS:
        raise ReadOnlyError(f"{name.lower()} is a system column and cannot be written")
    column = table.column(name)
    if column is None:
        raise column_not_found(table, name)
    return column


def named_columns(table: TableDef, names: Sequence[str] | None) -> tuple[ColumnDef, ...]:
    """Return the columns of an INSERT list, or all in order if there was none."""
    if names is None:
        return table.columns
    refuse_repeated_names(names)
    return tuple(writable_column(table, name) for name in names)


def refuse_other_width(count: int, columns: Sequence[ColumnDef], place: str) -> None:
    """Refuse an INSERT that has not one value for each column."""
    if count != len(columns):
        values = "value" if count == 1 else "values"
        named = "column" if len(columns) == 1 else "columns"
        raise InvalidDefinitionError(
            f"INSERT has {count} {values} for {len(columns)} {named} in {place}"
        )


@dataclass(frozen=True, slots=True)
class RowTemplate:
    """An INSERT ... VALUES made ready: what each cell of each row is.

    Attributes
    ----------
    rows : tuple of tuple of Source
        In the order of ``table.columns``.
    expressions : tuple
        What the engine must evaluate first, with the column that each goes to.
    keys_are_generated : bool
        True if every key comes from an id function.
    left : Left
        The vectors that are left to their default.
    """

    rows: tuple[tuple[Source, ...], ...]
    expressions: tuple[tuple[exp.Expression, ColumnDef], ...]
    keys_are_generated: bool
    left: Left


class RowBuilder:
    """Makes rows for inserts; templates are kept by statement text and schema version."""

    def __init__(self, queries: Queries, ids: IdGenerator) -> None:
        self._queries = queries
        self._ids = ids
        self._templates: OrderedDict[tuple[str, int, int], RowTemplate] = OrderedDict()

    def rows(
        self, statement: Insert, table: TableDef, request: Request
    ) -> tuple[list[Row], RowTemplate]:
        """Return the rows of VALUES as storage values in the order of ``table.columns``."""
        key = (statement.text, table.table_key, table.schema_version)
        template = self._templates.get(key)
        if template is None:
            template = self._template(statement, table)
            self._templates[key] = template
            while len(self._templates) > _TEMPLATES:
                self._templates.popitem(last=False)
        evaluated: list[StorageValue] = []
        if template.expressions:
            values = self._queries.evaluate([node for node, _ in template.expressions], request)
            for (_, column), (value, data_type) in zip(template.expressions, values, strict=True):
                evaluated.append(converted(value, data_type, column.data_type, column.name))
        surroundings = Surroundings(request.params, request.context, self._ids, evaluated)
        return [tuple([source(surroundings) for source in row]) for row in template.rows], template

    def filled(
        self,
        table: TableDef,
        given: pa.Table,
        columns: Sequence[ColumnDef],
        request: Request,
        *,
        stored: bool = False,
        left: Mapping[int, Sequence[int]] | None = None,
    ) -> tuple[pa.Table, bool]:
        """Return all columns of the table for rows given in Arrow, and whether keys are new.

        Parameters
        ----------
        given : pa.Table
            Column ``i`` goes to ``columns[i]``; what is not given takes its default.
        stored : bool
            True for values of a query, which convert by type alone and are never quoted.
        left : dict of int to sequence of int, optional
            By the id of a given column, the rows that take its default all the same.
        """
        arrays: list[pa.Array | pa.ChunkedArray] = []
        by_id = {column.column_id: at for at, column in enumerate(columns)}
        keys_are_generated = False
        for column in table.columns:
            at = by_id.get(column.column_id)
            if at is None:
                values = self._default_values(column, given.num_rows, request)
                arrays.append(array_from_storage(values, column.data_type))
                keys_are_generated |= column.primary_key and is_generated(column.default)
            else:
                field = given.schema.field(at)
                values = given.column(at)
                array = coerce_array(
                    values, field, column.data_type, column=column.name, stored=stored
                )
                places = () if left is None else left.get(column.column_id, ())
                if places and column.default is not None:
                    cells = storage_from_array(array, column.data_type)
                    defaults = self._default_values(column, len(places), request)
                    for place, value in zip(places, defaults, strict=True):
                        cells[place] = value
                    array = array_from_storage(cells, column.data_type)
                arrays.append(array)
        schema = pa.schema([field_for(column).with_nullable(True) for column in table.columns])
        return pa.Table.from_arrays(arrays, schema=schema), keys_are_generated

    def default_value(self, column: ColumnDef, request: Request) -> StorageValue:
        """Evaluate a column's default once."""
        return self._default_values(column, 1, request)[0]

    def _default_values(
        self, column: ColumnDef, count: int, request: Request
    ) -> list[StorageValue]:
        if column.default is None:
            return [None] * count
        tree = parse_default(column.default)
        source = source_of(tree, column.data_type, column.name)
        surroundings = Surroundings(request.params, request.context, self._ids)
        if source is not None:
            return [source(surroundings) for _ in range(count)]
        # Each row has its own value: a default may be random.
        values = self._queries.evaluate([tree] * count, request)
        return [converted(value, kind, column.data_type, column.name) for value, kind in values]

    def _template(self, statement: Insert, table: TableDef) -> RowTemplate:
        columns = named_columns(table, statement.columns)
        expressions: list[tuple[exp.Expression, ColumnDef]] = []
        rows = []
        left: dict[int, set[int]] = {}
        keys_are_generated = True
        for number, values in enumerate(statement.rows or (), start=1):
            if not statement.default_values:
                refuse_other_width(len(values), columns, f"row {number}")
            given = dict(zip((c.column_id for c in columns), values, strict=False))
            cells: list[Source] = []
            for column in table.columns:
                value = given.get(column.column_id, DEFAULT)
                if value is DEFAULT:
                    if column.data_type.kind is TypeKind.EMBEDDING:
                        left.setdefault(column.column_id, set()).add(number - 1)
                    if column.default is None:
                        cells.append(_null)
                        keys_are_generated &= not column.primary_key
                        continue
                    value = parse_default(column.default)
                    keys_are_generated &= not column.primary_key or is_generated(column.default)
                else:
                    keys_are_generated &= not column.primary_key
                assert isinstance(value, exp.Expression)
                source = source_of(value, column.data_type, column.name)
                if source is None:
                    _refuse_columns(value)
                    source = _evaluated(len(expressions))
                    expressions.append((value, column))
                cells.append(source)
            rows.append(tuple(cells))
        said = Left(rows={column_id: frozenset(numbers) for column_id, numbers in left.items()})
        return RowTemplate(tuple(rows), tuple(expressions), keys_are_generated, said)


def _null(_: Surroundings) -> StorageValue:
    return None


def _evaluated(at: int) -> Callable[[Surroundings], StorageValue]:
    return lambda surroundings: surroundings.evaluated[at]


def _refuse_columns(value: exp.Expression) -> None:
    """VALUES sees no row of the table; a bare word is a mistake worth its own sentence."""
    for column in value.find_all(exp.Column):
        if column.find_ancestor(exp.Select) is None:
            raise SqlSyntaxError(
                f"A value cannot name the column '{column.name}'; write text in single quotes"
            )
