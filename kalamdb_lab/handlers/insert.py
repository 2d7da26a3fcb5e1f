"""INSERT, and rows from dataframes and Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from kalamdb_lab.arrow.frames import left_out_rows, normalise_table
from kalamdb_lab.handlers.conflicts import ConflictResolver, Offered
from kalamdb_lab.handlers.embedding import (
    Left,
    blank_rows,
    filled_rows,
    filled_table,
    left_out,
)
from kalamdb_lab.handlers.returning import returned
from kalamdb_lab.handlers.rows import (
    RowBuilder,
    named_columns,
    refuse_other_width,
    writable_column,
)
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.statements import Insert
from kalamdb_lab.tables.definition import refuse_repeated_names
from kalamdb_lab.tables.embedding import StatementVectors
from kalamdb_lab.tables.keys import storage_rows
from kalamdb_lab.tables.writing import TableWriter


class InsertHandler:
    """Run INSERT: rows are made before the write lock is taken, checked while it is held."""

    def __init__(
        self,
        targets: Targets,
        queries: Queries,
        rows: RowBuilder,
        writer: TableWriter,
        log: CommitLog,
    ) -> None:
        self._targets = targets
        self._queries = queries
        self._rows = rows
        self._writer = writer
        self._log = log
        self.conflicts = ConflictResolver(queries, writer)

    def insert(self, statement: Insert, request: Request) -> Result:
        """Run one INSERT statement."""
        table = self._targets.writable(statement.table, request.context)
        if statement.on_conflict is not None:
            self.conflicts.check(table, statement.on_conflict, request)
        if statement.query is not None:
            return self._insert_query(statement, table, request)
        rows, template = self._rows.rows(statement, table, request)
        return self._insert_rows(
            statement, table, rows, template.left, request, keys_are_new=template.keys_are_generated
        )

    def insert_data(self, name: str, data: object, request: Request) -> Result:
        """Insert a dataframe or Arrow data; columns are matched by name."""
        table = self._targets.writable(tuple(name.split(".")), request.context)
        wanted = {column.name: column.data_type for column in table.columns}
        given = normalise_table(data, wanted=wanted)
        refuse_repeated_names(given.column_names)
        columns = [writable_column(table, column) for column in given.column_names]
        some = left_out_rows(data, given.column_names)
        left_rows = {writable_column(table, name).column_id: at for name, at in some.items()}
        rows, keys_are_new = self._rows.filled(table, given, columns, request, left=left_rows)
        left = left_out(table, [column.column_id for column in columns], left_rows)
        rows = filled_table(table, rows, left, _vectors(request))
        count = self._commit_arrow(table, rows, request, keys_are_new=keys_are_new)
        return Result.of_count("INSERT", count)

    def _insert_query(self, statement: Insert, table: TableDef, request: Request) -> Result:
        assert statement.query is not None
        columns = named_columns(table, statement.columns)
        given = self._queries.run(statement.query, request)
        refuse_other_width(given.num_columns, columns, "its query")
        rows, keys_are_new = self._rows.filled(table, given, columns, request, stored=True)
        left = left_out(table, [column.column_id for column in columns])
        if statement.on_conflict is None and not statement.returning:
            rows = filled_table(table, rows, left, _vectors(request))
            count = self._commit_arrow(table, rows, request, keys_are_new=keys_are_new)
            return Result.of_count("INSERT", count)
        return self._insert_rows(
            statement, table, storage_rows(table, rows), left, request, keys_are_new=keys_are_new
        )

    def _insert_rows(
        self,
        statement: Insert,
        table: TableDef,
        rows: Sequence[Row],
        left: Left,
        request: Request,
        *,
        keys_are_new: bool,
    ) -> Result:
        partition = request.context.partition(table)
        vectors = _vectors(request)
        request = replace(request, embedder=vectors)
        if statement.on_conflict is None:
            rows = filled_rows(table, rows, left, vectors)
            self._writer.check_not_null(table, rows)
        else:  # only of the rows that are written are vectors made
            self._writer.check_not_null(table, blank_rows(table, rows, left))

        def insert() -> Result:
            with self._log.changing() as commit:
                self._writer.check_current(table)
                if statement.on_conflict is None:
                    first = self._writer.insert(
                        commit, table, partition, rows, keys_are_new=keys_are_new
                    ).first_seq
                    written = list(enumerate(rows, start=first)) if statement.returning else []
                    count = len(rows)
                else:
                    offered = Offered(rows, left, vectors)
                    written = self.conflicts.insert(
                        commit, table, partition, offered, statement.on_conflict, request
                    )
                    count = len(written)
                answer = None
                if statement.returning:
                    # Within the commit: a RETURNING that cannot be answered undoes the statement.
                    answer = returned(
                        self._queries, table, None, statement.returning, written, request
                    )
            return Result.of_count("INSERT", count, answer)

        return vectors.settled(insert, table)

    def _commit_arrow(
        self, table: TableDef, rows: pa.Table, request: Request, *, keys_are_new: bool
    ) -> int:
        if not rows.num_rows:
            return 0
        partition = request.context.partition(table)
        with self._log.changing() as commit:
            self._writer.check_current(table)
            segments = self._writer.insert_arrow(
                commit, table, partition, rows, keys_are_new=keys_are_new
            )
        if segments:
            self._writer.published(table, partition)
        return int(rows.num_rows)


def _vectors(request: Request) -> StatementVectors:
    return StatementVectors(request.embedder, request.interruption)
