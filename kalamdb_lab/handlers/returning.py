"""RETURNING: expressions over the rows that a statement wrote."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.arrow.schemas import field_for
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request

_WRITTEN = "kalam written rows"
"""A name that no table can have."""


def returned(
    queries: Queries,
    table: TableDef,
    alias: str | None,
    expressions: Sequence[exp.Expression],
    rows: Sequence[tuple[int, Row]],
    request: Request,
    *,
    deleted: bool = False,
) -> pa.Table:
    """Return the answer of RETURNING for (version, row) pairs, in their order."""
    written = rows_table(table, rows, deleted=deleted)
    tree = _query(table, alias, expressions)
    return queries.run(tree, request.with_written({_WRITTEN: written}))


def check_returning(
    queries: Queries,
    table: TableDef,
    alias: str | None,
    expressions: Sequence[exp.Expression],
    request: Request,
) -> None:
    """Refuse a RETURNING that the caller must not or cannot ask; nothing is run."""
    if expressions:
        local = request.with_written({_WRITTEN: rows_table(table, [])})
        queries.plan(_query(table, alias, expressions), local)


def _query(table: TableDef, alias: str | None, expressions: Sequence[exp.Expression]) -> exp.Select:
    source = exp.Table(
        this=exp.to_identifier(_WRITTEN, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(alias or table.table_id.name, quoted=True)),
    )
    return exp.Select(
        expressions=[expression.copy() for expression in expressions], from_=exp.From(this=source)
    )


def rows_table(
    table: TableDef, rows: Sequence[tuple[int, Row]], *, deleted: bool = False
) -> pa.Table:
    """Return rows as Arrow: all columns of the table, ``_seq`` and ``_deleted``."""
    fields = [field_for(column).with_nullable(True) for column in table.columns]
    arrays = [
        array_from_storage([row[at] for _, row in rows], column.data_type)
        for at, column in enumerate(table.columns)
    ]
    arrays.append(pa.array([seq for seq, _ in rows], pa.int64()))
    arrays.append(pa.array([deleted] * len(rows), pa.bool_()))
    system = [pa.field("_seq", pa.int64()), pa.field("_deleted", pa.bool_())]
    return pa.Table.from_arrays(arrays, schema=pa.schema([*fields, *system]))
