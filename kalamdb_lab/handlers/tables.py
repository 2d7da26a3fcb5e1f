"""CREATE TABLE, CREATE TABLE AS and DROP TABLE."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.arrow.arrays import coerce_array
from kalamdb_lab.arrow.schemas import field_for, kalam_type
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.catalog.system_tables import FIRST_FREE_TABLE_KEY
from kalamdb_lab.errors import (
    InvalidDefinitionError,
    KalamError,
    NotFoundError,
    NotSupportedError,
)
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.jobs.executors import DROPPED, TASK, table_parameters
from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.model.datatypes import FLOAT, list_of
from kalamdb_lab.model.ids import PartitionKey, checked_column_name
from kalamdb_lab.model.jobs import JobKind
from kalamdb_lab.model.readable import plural
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind, TableOptions
from kalamdb_lab.model.values import from_storage, storage_converter
from kalamdb_lab.partitions.commit import Commit
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.constants import own_function, source_of
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.queries import parse_default
from kalamdb_lab.sql.statements import CreateTable, DropTable
from kalamdb_lab.store.log import EntryKind
from kalamdb_lab.tables.definition import columns_of_query, new_columns, new_table
from kalamdb_lab.tables.options import table_kind, table_options
from kalamdb_lab.tables.registered import refuse_drop
from kalamdb_lab.tables.writing import TableWriter


class TableDropper:
    """Takes rows and files of dropped tables away.

    Parameters
    ----------
    waits : bool
        True if files of dropped tables have a retention: then a clean-up comes to them later.
    """

    def __init__(self, system: SystemKeeper, jobs: JobManager, *, waits: bool) -> None:
        self._system = system
        self._jobs = jobs
        self._waits = waits

    def drop_rows(self, commit: Commit, table: TableDef) -> None:
        """Stage the end of all partitions of a table."""
        for scope in commit.transaction.scopes(table.table_key):
            partition = PartitionKey(table.table_key, scope)
            commit.transaction.drop_partition(partition, commit.at_us)
            commit.append_event(partition, EntryKind.DROP)

    def delete_files(self, tables: Sequence[TableDef], request: Request) -> None:
        """Let a clean-up job delete the files of dropped tables of one namespace.

        The definitions go to segments first: a rebuild must not bring the tables back. The drop
        is done already; what hinders this leaves the files to a later clean-up.
        """
        self._system.keep()
        stored = [table for table in tables if table.is_stored]
        if not stored or self._waits:
            return
        first = stored[0]
        with suppress(KalamError):
            self._jobs.submit(
                JobKind.CLEANUP,
                # A table may be dropped, made and dropped again.
                key=f"cleanup:{first.table_id.namespace}:{first.table_id.name}:{first.table_key}",
                parameters={
                    **table_parameters(first),
                    "table_count": len(stored),
                    TASK: DROPPED,
                },
                created_by=request.context.user_id,
            )


class TableHandler:
    """Create and drop tables; each is one commit."""

    def __init__(
        self,
        catalog: Catalog,
        targets: Targets,
        queries: Queries,
        writer: TableWriter,
        log: CommitLog,
        dropper: TableDropper,
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._queries = queries
        self._writer = writer
        self._log = log
        self._dropper = dropper

    def create(self, statement: CreateTable, request: Request) -> Result:
        """Run CREATE TABLE."""
        table_id = self._targets.new(statement.table, request.context)
        is_there = Result.of_message(
            statement.kind, f"Table '{table_id}' already exists; nothing was done"
        )
        if statement.if_not_exists and self._catalog.find_table(table_id) is not None:
            return is_there
        kind = table_kind(statement.table_kind, statement.options)
        options = table_options(kind, statement.options)
        self._check_storage(options)
        self._catalog.check_free(table_id)
        rows = None
        if statement.query is not None:
            if kind is not TableKind.SHARED:
                raise NotSupportedError(
                    f"CREATE {kind.value.upper()} TABLE ... AS is not supported; create the table "
                    "and use INSERT ... SELECT"
                )
            rows = self._queries.run(statement.query, request)
            fields = [(field.name, kalam_type(field)) for field in rows.schema]
            if any(kind == list_of(FLOAT) for _, kind in fields):
                # So a vector looks that has NULL in it.
                fields = self._queries.query_fields(statement.query, request)
            columns = columns_of_query(fields)
            for column in columns:
                checked_column_name(column.name, quoted=True)
            rows = _checked(rows, columns)
        else:
            columns = new_columns(statement.columns, statement.primary_key, kind)
            for column in columns:
                check_default(self._queries, column, request)
        segments = []
        with self._log.commit() as commit:
            if statement.if_not_exists and self._catalog.find_table(table_id) is not None:
                return is_there  # others were faster
            self._check_storage(options)
            self._catalog.check_free(table_id)
            self._catalog.namespace(table_id.namespace)
            table = new_table(
                FIRST_FREE_TABLE_KEY + commit.transaction.last_seq() + 1,
                table_id,
                kind,
                columns,
                options,
                at_us=commit.at_us,
                created_by=request.context.user_id,
            )
            self._catalog.create_table(commit, table)
            if rows is not None and rows.num_rows:
                partition = request.context.partition(table)
                segments = self._writer.insert_arrow(commit, table, partition, rows)
        if segments:
            self._writer.published(table, request.context.partition(table))
        made = "" if rows is None else f" with {plural(rows.num_rows, 'row')}"
        return Result.of_message(statement.kind, f"Table '{table_id}' created{made}")

    def _check_storage(self, options: TableOptions) -> None:
        storage_id = options.storage_id
        if storage_id is not None and self._catalog.storages.get(storage_id) is None:
            raise NotFoundError("Storage", storage_id)

    def drop(self, statement: DropTable, request: Request) -> Result:
        """Run DROP TABLE: the definition and all rows of all users go at once."""
        table_id = self._targets.droppable(statement.table, request.context)
        with self._log.commit() as commit:
            if statement.if_exists and self._catalog.find_table(table_id) is None:
                return Result.of_message(
                    statement.kind, f"Table '{table_id}' does not exist; nothing was done"
                )
            table = self._catalog.table(table_id)
            if table.kind is TableKind.VIEW:
                raise NotSupportedError(f"{table_id} is a view, not a table; use DROP VIEW")
            refuse_drop(table)
            if statement.table_kind is not None and table.kind is not statement.table_kind:
                raise NotSupportedError(
                    f"{table_id} is a {table.kind.value.upper()} table, not a "
                    f"{statement.table_kind.value.upper()} table"
                )
            self._catalog.drop_tables(commit, [table])
            self._dropper.drop_rows(commit, table)
        self._dropper.delete_files([table], request)
        return Result.of_message(statement.kind, f"Table '{table_id}' dropped")


def _checked(rows: pa.Table, columns: Sequence[ColumnDef]) -> pa.Table:
    """Return rows of a query as those of its table; what no column holds is refused."""
    arrays = [
        coerce_array(
            rows.column(at),
            rows.schema.field(at),
            column.data_type,
            column=column.name,
            stored=True,
        )
        for at, column in enumerate(columns)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema([field_for(c) for c in columns]))


def check_default(queries: Queries, column: ColumnDef, request: Request) -> None:
    """Refuse a DEFAULT that names columns, has a subquery, or can never fit its column."""
    if column.default is None:
        return
    tree = parse_default(column.default)
    if any(tree.find(kind) for kind in (exp.Column, exp.Subquery, exp.Select, exp.Placeholder)):
        raise InvalidDefinitionError(
            f"Default of column '{column.name}' must be a value without columns, subqueries or "
            "parameters"
        )
    unfit = InvalidDefinitionError(
        f"Default of column '{column.name}' does not fit {column.data_type}"
    )
    own = own_function(tree)
    if own is not None:
        # UUID_V7() also fills TEXT, and an instant its plainer relatives.
        _, gives = own
        if gives != column.data_type and not (
            column.data_type.is_text_like or gives.widens_to(column.data_type)
        ):
            raise unfit
        return
    try:
        source = source_of(tree, column.data_type, column.name)
    except KalamError:
        raise unfit from None
    if source is None:
        # Evaluated once to see that the engine knows its functions and its type fits.
        ((value, given),) = queries.evaluate([tree], request)
        try:
            storage_converter(column.data_type)(from_storage(value, given), column.name)
        except KalamError:
            raise unfit from None
