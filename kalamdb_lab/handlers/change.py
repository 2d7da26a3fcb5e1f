"""UPDATE and DELETE: the engine evaluates a SELECT over the rows, the log takes the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from kalamdb_lab.clock import IdGenerator
from kalamdb_lab.errors import KalamError, NotSupportedError
from kalamdb_lab.handlers.conflicts import (
    changed_rows,
    checked_assignments,
    defaulted_columns,
    row_comparison,
)
from kalamdb_lab.handlers.embedding import remade_rows
from kalamdb_lab.handlers.returning import returned
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.query.constants import Source, Surroundings, source_of
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.statements import Delete, Update
from kalamdb_lab.tables.embedding import StatementVectors
from kalamdb_lab.tables.keys import storage_rows
from kalamdb_lab.tables.writing import TableWriter

Found = list[tuple[int, Row]]


class ChangeHandler:
    """Run UPDATE and DELETE while holding the write lock: what WHERE sees is what changes."""

    def __init__(
        self,
        targets: Targets,
        queries: Queries,
        writer: TableWriter,
        log: CommitLog,
        ids: IdGenerator,
    ) -> None:
        self._targets = targets
        self._queries = queries
        self._writer = writer
        self._log = log
        self._ids = ids

    def update(self, statement: Update, request: Request) -> Result:
        """Run one UPDATE; rows that stay the same are no new versions and are not counted."""
        table = self._targets.writable(statement.table, request.context)
        refuse_stream_update(table)
        assignments = checked_assignments(table, statement.assignments)
        key = self._key_wanted(table, statement.alias, statement.where)
        sources = [source_of(value, column.data_type, column.name) for column, value in assignments]
        assigned = frozenset(column.column_id for column, _ in assignments)
        defaulted = defaulted_columns(table, statement.assignments)
        vectors = StatementVectors(request.embedder, request.interruption)
        request = replace(request, embedder=vectors)
        partition = request.context.partition(table)

        def update() -> Result:
            with self._log.changing() as commit:
                self._writer.check_current(table)
                if key is not None and all(source is not None for source in sources):
                    found = self._by_key(table, partition, key, request)
                    set_rows = [
                        self._assigned(table, assignments, sources, row, request)
                        for _, row in found
                    ]
                else:
                    found, set_rows = self._by_query(table, statement, assignments, request)
                old_rows = [row for _, row in found]
                new = remade_rows(table, old_rows, set_rows, assigned, defaulted, vectors)
                same = row_comparison(table)
                changes = [
                    (seq, row)
                    for (seq, old), row in zip(found, new, strict=True)
                    if not same(old, row)
                ]
                rows = [row for _, row in changes]
                self._writer.check_not_null(table, rows)
                first = 0
                if rows:
                    first = commit.append_rows(
                        partition, table, rows, replaces=[seq for seq, _ in changes]
                    )
                answer = None
                if statement.returning:
                    written = list(enumerate(rows, start=first))
                    answer = returned(
                        self._queries, table, statement.alias, statement.returning, written, request
                    )
            return Result.of_count("UPDATE", len(rows), answer)

        return vectors.settled(update, table)

    def delete(self, statement: Delete, request: Request) -> Result:
        """Run one DELETE."""
        table = self._targets.writable(statement.table, request.context)
        key = self._key_wanted(table, statement.alias, statement.where)
        vectors = StatementVectors(request.embedder, request.interruption)
        request = replace(request, embedder=vectors)
        partition = request.context.partition(table)

        def delete() -> Result:
            with self._log.changing() as commit:
                self._writer.check_current(table)
                if key is not None:
                    found = self._by_key(table, partition, key, request)
                else:
                    found, _ = self._by_query(
                        table, statement, [], request, with_rows=bool(statement.returning)
                    )
                if found:
                    commit.append_rows(partition, table, [], deleted=[seq for seq, _ in found])
                answer = None
                if statement.returning:
                    answer = returned(
                        self._queries,
                        table,
                        statement.alias,
                        statement.returning,
                        found,
                        request,
                        deleted=True,
                    )
            return Result.of_count("DELETE", len(found), answer)

        return vectors.settled(delete, table)

    # --- one row by its key, without the engine ------------------------------------------------

    def _key_wanted(
        self, table: TableDef, alias: str | None, where: exp.Expression
    ) -> Source | None:
        """Return the key if WHERE is ``key = literal`` or ``key = parameter``."""
        column = table.primary_key
        if column is None or table.kind is TableKind.STREAM or not isinstance(where, exp.EQ):
            return None
        named, value = where.this, where.expression
        if not isinstance(named, exp.Column):
            named, value = value, named
        if (
            not isinstance(named, exp.Column)
            or named.name.lower() != column.name.lower()
            or named.table.lower() not in ("", (alias or table.table_id.name).lower())
            or named.args.get("db") is not None
        ):
            return None
        try:
            return source_of(value, column.data_type, column.name)
        except KalamError:
            return None  # a value that is not of the key's type: WHERE decides what it means

    def _by_key(
        self, table: TableDef, partition: PartitionKey, key: Source, request: Request
    ) -> Found:
        value = key(self._surroundings(request))
        if value is None:
            return []
        versions = self._writer.keys.find(table, partition, [value])
        return list(self._writer.keys.rows(table, partition, versions).values())

    def _assigned(
        self,
        table: TableDef,
        assignments: Sequence[tuple[ColumnDef, exp.Expression]],
        sources: Sequence[Source | None],
        row: Row,
        request: Request,
    ) -> Row:
        cells: list[StorageValue] = list(row)
        surroundings = self._surroundings(request)
        for (column, _), source in zip(assignments, sources, strict=True):
            assert source is not None
            cells[table.columns.index(column)] = source(surroundings)
        return tuple(cells)

    def _surroundings(self, request: Request) -> Surroundings:
        return Surroundings(request.params, request.context, self._ids)

    # --- any rows, by a SELECT --------------------------------------------------------------------

    def _by_query(
        self,
        table: TableDef,
        statement: Update | Delete,
        assignments: Sequence[tuple[ColumnDef, exp.Expression]],
        request: Request,
        *,
        with_rows: bool = True,
    ) -> tuple[Found, list[Row]]:
        alias = statement.alias or table.table_id.name
        whole = [exp.column(column.name, table=alias, quoted=True) for column in table.columns]
        tree = exp.Select(
            expressions=[
                exp.alias_(exp.column("_seq", table=alias, quoted=True), "version", quoted=True),
                *(
                    exp.alias_(column, f"c{at}", quoted=True)
                    for at, column in enumerate(whole if with_rows else [])
                ),
                *(
                    # exp.alias_ would give a subquery the alias of a table
                    exp.Alias(this=value.copy(), alias=exp.to_identifier(f"v{at}", quoted=True))
                    for at, (_, value) in enumerate(assignments)
                ),
            ],
            from_=exp.From(
                this=exp.Table(
                    this=exp.to_identifier(table.table_id.name, quoted=True),
                    db=exp.to_identifier(table.table_id.namespace, quoted=True),
                    alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)),
                )
            ),
            where=exp.Where(this=_live(statement.where, alias)),
        )
        key = ("change", statement.text, with_rows)
        answer = self._queries.run(tree, request, cache_key=key)
        versions = answer.column("version").to_pylist()
        if not with_rows:
            return [(seq, ()) for seq in versions], []
        cells = answer.select([f"c{at}" for at in range(len(whole))]).rename_columns(
            [column.name for column in table.columns]
        )
        old = storage_rows(table, cells)
        new = changed_rows(table, assignments, answer, old) if assignments else old
        # In the order of the versions, so that the same statement always writes the same log.
        order = sorted(range(len(versions)), key=versions.__getitem__)
        return [(versions[at], old[at]) for at in order], [new[at] for at in order]


def refuse_stream_update(table: TableDef) -> None:
    """Refuse changing events: they can only come and go."""
    if table.kind is TableKind.STREAM:
        raise NotSupportedError("UPDATE is not supported on STREAM tables")


def _live(where: exp.Expression, alias: str) -> exp.Expression:
    """Keep deleted rows out even where WHERE names ``_deleted``."""
    where = where.copy()
    if not any(column.name.lower() == "_deleted" for column in where.find_all(exp.Column)):
        return where
    live = exp.Not(this=exp.column("_deleted", table=alias, quoted=True))
    return exp.And(this=exp.Paren(this=where), expression=live)
