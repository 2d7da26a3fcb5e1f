"""Queries that need no engine: one row by its key, COUNT, MIN and MAX of a whole table.

Waking the engine costs about a millisecond; the log and the manifest know these answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from kalamdb_lab.arrow.arrays import array_from_storage, storage_from_array
from kalamdb_lab.arrow.schemas import logical_field
from kalamdb_lab.clock import IdGenerator
from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.datatypes import BIGINT, StorageValue, TypeKind
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import ColumnDef, SchemaChange, TableDef, TableKind
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.partition import PartitionSnapshot
from kalamdb_lab.query.constants import Source, Surroundings, source_of
from kalamdb_lab.query.request import Request
from kalamdb_lab.tables.keys import KeyLookup

_PLAIN_SELECT = frozenset({"expressions", "from_", "where", "kind"})


@dataclass(frozen=True, slots=True)
class KeyRead:
    """``SELECT columns FROM t WHERE key = value``.

    Attributes
    ----------
    outputs : tuple of (str, int)
        Name of each result column and where its value stands in a row; -1 is ``_seq``.
    """

    table_key: int
    key: Source
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class WholeTable:
    """``SELECT count(*), min(c), max(c) FROM t``: (name, function, column or None) each."""

    table_key: int
    outputs: tuple[tuple[str, str, ColumnDef | None], ...]


Direct = KeyRead | WholeTable


def recognised(tree: exp.Expression, table: TableDef) -> Direct | None:
    """Return how to answer a query over ``table`` without the engine, or None.

    The caller has resolved the only relation of the query and checked the right to read it.
    """
    if table.kind in (TableKind.STREAM, TableKind.VIEW):
        return None
    if tree.args.get("where") is None:
        return _whole_table(tree, table)
    return _key_read(tree, table)


def only_table(tree: exp.Expression) -> exp.Table | None:
    """Return the table of ``SELECT ... FROM t [WHERE ...]``, or None for any other query."""
    if not isinstance(tree, exp.Select) or any(
        value and name not in _PLAIN_SELECT for name, value in tree.args.items()
    ):
        return None
    source = tree.args.get("from_")
    table = source.this if source is not None else None
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        return None
    if any(v and name not in ("this", "db", "alias") for name, v in table.args.items()):
        return None
    alias = table.args.get("alias")
    return None if alias is not None and alias.columns else table


class DirectQueries:
    """Answers recognised queries from the log and the manifest.

    Parameters
    ----------
    keys : KeyLookup
        Finds rows by key, hot and flushed.
    """

    def __init__(self, log: CommitLog, keys: KeyLookup, ids: IdGenerator) -> None:
        self._log = log
        self._keys = keys
        self._ids = ids

    def answer(
        self, direct: Direct, table: TableDef, partition: PartitionKey, request: Request
    ) -> pa.Table | None:
        """Return the rows, or None if only the engine can tell."""
        match direct:
            case KeyRead():
                return self._row(direct, table, partition, request)
            case WholeTable():
                return self._aggregates(direct, table, partition)

    def _row(
        self, read: KeyRead, table: TableDef, partition: PartitionKey, request: Request
    ) -> pa.Table | None:
        try:
            value = read.key(Surroundings(request.params, request.context, self._ids))
        except KalamError:
            return None  # not of the key's type: what the comparison means is the engine's word
        rows: list[tuple[int, tuple[StorageValue, ...]]] = []
        if value is not None:
            with self._log.visible([partition]):
                versions = self._keys.find(table, partition, [value])
                rows = list(self._keys.rows(table, partition, versions).values())
        arrays, fields = [], []
        for name, at in read.outputs:
            data_type = BIGINT if at < 0 else table.columns[at].data_type
            values = [seq if at < 0 else row[at] for seq, row in rows]
            arrays.append(array_from_storage(values, data_type))
            fields.append(logical_field(name, data_type))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _aggregates(
        self, whole: WholeTable, table: TableDef, partition: PartitionKey
    ) -> pa.Table | None:
        (snapshot,) = self._log.snapshot([(partition, table)])
        arrays, fields = [], []
        for name, function, column in whole.outputs:
            if column is None:
                value: StorageValue = snapshot.row_count
                data_type = BIGINT
            else:
                bounds = column_bounds(snapshot, column)
                if bounds is None:
                    return None
                value = bounds[0] if function == "min" else bounds[1]
                data_type = column.data_type
            arrays.append(array_from_storage([value], data_type))
            fields.append(logical_field(name, data_type))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def column_bounds(
    snapshot: PartitionSnapshot, column: ColumnDef
) -> tuple[StorageValue, StorageValue] | None:
    """Return the least and greatest value of a column, (None, None) without any; None if unknown.

    A segment's statistics are exact only while nothing was removed from it and its column has
    the type it was written with.
    """
    lows: list[Any] = []
    highs: list[Any] = []
    for view in snapshot.segments:
        statistics = view.meta.statistics.get(column.column_id)
        if len(view.removed) or statistics is None:
            return None
        if statistics.null_count == view.meta.row_count:
            continue
        if statistics.low is None or statistics.high is None:
            return None
        lows.append(statistics.low)
        highs.append(statistics.high)
    if snapshot.hot.num_rows:
        extremes = pc.min_max(snapshot.hot.column(column.name))
        ends = pa.array([extremes["min"].as_py(), extremes["max"].as_py()], extremes["min"].type)
        low, high = storage_from_array(ends, column.data_type)
        if low is not None:
            lows.append(low)
            highs.append(high)
    return min(lows, default=None), max(highs, default=None)


_EXACT_BOUNDS = frozenset(
    {
        TypeKind.SMALLINT,
        TypeKind.INT,
        TypeKind.BIGINT,
        TypeKind.TINYINT,
        TypeKind.DATE,
        TypeKind.TIMESTAMP,
        TypeKind.DATETIME,
    }
)
"""Types whose bounds in the manifest are values of the column: no cut text, no NaN."""


def _whole_table(tree: exp.Expression, table: TableDef) -> WholeTable | None:
    outputs: list[tuple[str, str, ColumnDef | None]] = []
    for item in tree.expressions:
        function = item.unalias()
        if not isinstance(function, (exp.Count, exp.Min, exp.Max)):
            return None
        name = item.alias or function.sql(dialect="duckdb", normalize_functions="lower")
        match function:
            case exp.Count(this=exp.Star()) if not function.expressions:
                outputs.append((name, "count", None))
            case exp.Min(this=exp.Column() as named) | exp.Max(this=exp.Column() as named):
                column = _own_column(named, tree, table)
                same = column is not None and len({_type_at(c, column) for c in table.history}) == 1
                if column is None or column.data_type.kind not in _EXACT_BOUNDS or not same:
                    return None
                outputs.append((name, "min" if isinstance(function, exp.Min) else "max", column))
            case _:
                return None
    return WholeTable(table.table_key, tuple(outputs)) if outputs else None


def _type_at(change: SchemaChange, column: ColumnDef) -> object:
    return next((c.data_type for c in change.columns if c.column_id == column.column_id), None)


def _key_read(tree: exp.Expression, table: TableDef) -> KeyRead | None:
    key, where = table.primary_key, tree.args["where"].this
    if key is None or key.hidden or not isinstance(where, exp.EQ):
        return None
    named, value = where.this, where.expression
    if not isinstance(named, exp.Column):
        named, value = value, named
    if not isinstance(named, exp.Column) or _own_column(named, tree, table) != key:
        return None
    try:
        source = source_of(value, key.data_type, key.name)
    except KalamError:
        return None
    if source is None:
        return None
    outputs: list[tuple[str, int]] = []
    for item in tree.expressions:
        expression = item.unalias()
        if isinstance(expression, exp.Star) and not any(expression.args.values()):
            outputs += [(c.name, table.columns.index(c)) for c in table.visible_columns]
            continue
        if not isinstance(expression, exp.Column):
            return None
        if expression.name.lower() == "_seq" and not expression.table:
            outputs.append((item.alias or "_seq", -1))
            continue
        column = _own_column(expression, tree, table)
        if column is None:
            return None
        outputs.append((item.alias or column.name, table.columns.index(column)))
    return KeyRead(table.table_key, source, tuple(outputs))


def _own_column(named: exp.Column, tree: exp.Expression, table: TableDef) -> ColumnDef | None:
    if isinstance(named.this, exp.Star) or named.args.get("db") is not None:
        return None
    source = only_table(tree)
    assert source is not None
    if named.table and named.table.lower() != source.alias_or_name.lower():
        return None
    return table.column(named.name)
