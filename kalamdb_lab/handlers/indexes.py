"""CREATE INDEX and DROP INDEX: the definition changes at once, a job does the rest."""

from __future__ import annotations

from contextlib import suppress

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import JobRunningError, KalamError, NotFoundError
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.jobs.executors import INDEXES, TASK, table_parameters
from kalamdb_lab.jobs.indexes import INDEX, index_job_key
from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.jobs import JobKind
from kalamdb_lab.model.tables import ColumnDef, TableDef, VectorIndex
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.statements import CreateIndex, DropIndex
from kalamdb_lab.tables.definition import present_column
from kalamdb_lab.tables.indexes import (
    check_index_free,
    embedding_column,
    find_index,
    index_name,
    index_not_found,
    index_options,
    refuse_unindexable,
    with_index,
    without_index,
)


class IndexHandler:
    """Create and drop ANN indexes; each is one commit, and no answer is wrong without them."""

    def __init__(
        self, catalog: Catalog, targets: Targets, log: CommitLog, jobs: JobManager
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._log = log
        self._jobs = jobs

    def create(self, statement: CreateIndex, request: Request) -> Result:
        """Run CREATE INDEX, and let a job build what it defines."""
        self._target(statement, request)
        options = index_options(statement.options)
        with self._log.commit() as commit:
            table, column, name = self._target(statement, request)
            shown = f"{table.table_id.namespace}.{name}"
            others = self._catalog.tables_in(table.table_id.namespace)
            if statement.if_not_exists and find_index(others, name) is not None:
                return Result.of_message(
                    statement.kind, f"Index '{shown}' already exists; nothing was done"
                )
            check_index_free(others, table.table_id.namespace, name)
            index = VectorIndex(
                name=name,
                # A number that no other commit takes.
                index_key=commit.transaction.last_seq() + 1,
                column_id=column.column_id,
                metric=options.metric,
                lists=options.lists,
                probes=options.probes,
            )
            self._catalog.tables.put(commit, with_index(table, index, at_us=commit.at_us))
        job_id = self._build(table, index, request)
        then = "a job builds it" if job_id is None else f"job {job_id} builds it"
        return Result.of_message(statement.kind, f"Index '{shown}' created; {then}")

    def drop(self, statement: DropIndex, request: Request) -> Result:
        """Run DROP INDEX; a job takes away what was built."""
        with self._log.commit() as commit:
            found = self._find(statement, request)
            if found is None:
                assert statement.name is not None, "only a name may be of nothing"
                shown = TableId.of(statement.name, namespace=request.context.namespace)
                return Result.of_message(
                    statement.kind, f"Index '{shown}' does not exist; nothing was done"
                )
            table, index = found
            self._catalog.tables.put(commit, without_index(table, index, at_us=commit.at_us))
        with suppress(KalamError):  # else the next job of an index of the table does it
            self._jobs.submit(
                JobKind.CLEANUP,
                # An index may be dropped, made and dropped again.
                key=f"cleanup:{index_job_key(table, index)}:{index.index_key}",
                parameters={**table_parameters(table), TASK: INDEXES},
                created_by=request.context.user_id,
            )
        shown = TableId(table.table_id.namespace, index.name)
        return Result.of_message(statement.kind, f"Index '{shown}' dropped")

    def _target(self, statement: CreateIndex, request: Request) -> tuple[TableDef, ColumnDef, str]:
        """Return the table and the column of a new index, and its name."""
        table = self._targets.table(statement.table, request.context)
        refuse_unindexable(table)
        column = embedding_column(table, statement.indexed_column)
        return table, column, index_name(table, column, statement.name)

    def _find(self, statement: DropIndex, request: Request) -> tuple[TableDef, VectorIndex] | None:
        """Return what a statement drops; None if it is not there and need not be."""
        if statement.name is not None:
            index_id = self._targets.droppable(statement.name, request.context)
            others = self._catalog.tables_in(index_id.namespace)
            found = find_index(others, index_id.name)
            if found is None and not statement.if_exists:
                raise index_not_found(others, index_id)
            return found
        assert statement.table is not None
        assert statement.indexed_column is not None
        table = self._targets.table(statement.table, request.context)
        refuse_unindexable(table)
        column = present_column(table, statement.indexed_column)
        index = table.index_on(column.column_id)
        if index is None:
            raise NotFoundError("Index", column.name, within=str(table.table_id))
        return table, index

    def _build(self, table: TableDef, index: VectorIndex, request: Request) -> str | None:
        """Make the job; None if that fails: what is scheduled makes it then."""
        try:
            job = self._jobs.submit(
                JobKind.COMPACT,
                key=index_job_key(table, index),
                parameters={**table_parameters(table), INDEX: index.name},
                created_by=request.context.user_id,
            )
        except JobRunningError as running:
            return running.job_id  # it looks for the index of that name until it is done
        except KalamError:
            return None
        return None if job is None else job.job_id
