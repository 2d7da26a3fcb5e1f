"""REGISTER TABLE and UNREGISTER TABLE."""

from __future__ import annotations

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.system_tables import FIRST_FREE_TABLE_KEY
from kalamdb_lab.handlers.show import description
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.segments.registered_files import RegisteredFilesReader
from kalamdb_lab.sql.commands import RegisterTable, UnregisterTable
from kalamdb_lab.tables.registered import (
    refuse_unregister,
    registered_columns,
    registered_files,
    registered_table,
)


class RegisteredHandler:
    """Define tables over files that stay where they are; the files are never touched."""

    def __init__(
        self, catalog: Catalog, targets: Targets, files: RegisteredFilesReader, log: CommitLog
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._files = files
        self._log = log

    def register(self, statement: RegisterTable, request: Request) -> Result:
        """Run REGISTER TABLE; answers the columns as DESCRIBE TABLE does."""
        table_id = self._targets.new(statement.table, request.context)
        self._catalog.check_free(table_id)
        files, options = registered_files(statement.source, statement.options)
        columns = registered_columns(self._files.fields(files))
        with self._log.commit() as commit:
            self._catalog.check_free(table_id)
            self._catalog.namespace(table_id.namespace)
            table = registered_table(
                FIRST_FREE_TABLE_KEY + commit.transaction.last_seq() + 1,
                table_id,
                files,
                options,
                columns,
                at_us=commit.at_us,
                created_by=request.context.user_id,
            )
            self._catalog.create_table(commit, table)
        return description(statement.kind, table)

    def unregister(self, statement: UnregisterTable, request: Request) -> Result:
        """Run UNREGISTER TABLE."""
        table_id = self._targets.droppable(statement.table, request.context)
        with self._log.commit() as commit:
            table = self._catalog.table(table_id)
            refuse_unregister(table)
            self._catalog.drop_tables(commit, [table])
        return Result.of_message(statement.kind, f"Table '{table_id}' unregistered")
