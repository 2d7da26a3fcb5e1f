"""STORAGE FLUSH, STORAGE COMPACT, VACUUM and ANALYZE: work on tables, as jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.handlers.listing import Columns, listing
from kalamdb_lab.handlers.show import ShowHandler
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.jobs.cleanup import CleanUp, deletion_message
from kalamdb_lab.jobs.manager import JobManager, JobRun
from kalamdb_lab.jobs.upkeep import TableUpkeep
from kalamdb_lab.model.datatypes import TEXT
from kalamdb_lab.model.ids import SYSTEM_NAMESPACE
from kalamdb_lab.model.jobs import Job, JobKind
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.commands import (
    Analyze,
    CompactAll,
    CompactTable,
    FlushAll,
    FlushTable,
    ShowStats,
    Vacuum,
)

TableWork = Callable[[TableDef, JobRun], str]

_JOBS: Columns = [
    ("job_id", TEXT),
    ("job_type", TEXT),
    ("table_name", TEXT),
    ("status", TEXT),
    ("message", TEXT),
]


class MaintenanceHandler:
    """Turns statements into jobs, one answer row per table.

    Parameters
    ----------
    scrub : callable
        Takes what was deleted out of the catalog's file for good; False if a reader hinders it.
    """

    def __init__(
        self,
        catalog: Catalog,
        targets: Targets,
        queries: Queries,
        jobs: JobManager,
        upkeep: TableUpkeep,
        cleanup: CleanUp,
        show: ShowHandler,
        scrub: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._queries = queries
        self._jobs = jobs
        self._upkeep = upkeep
        self._cleanup = cleanup
        self._show = show
        self._scrub = scrub

    def flush_table(self, statement: FlushTable, request: Request) -> Result:
        """Run STORAGE FLUSH TABLE."""
        table = self._targets.flushable(statement.table, request.context, verb="flushed")
        job = self._on_table(self._jobs.run, JobKind.FLUSH, table, self._upkeep.flush, request)
        return _answer(statement.kind, [job])

    def flush_all(self, statement: FlushAll, request: Request) -> Result:
        """Run STORAGE FLUSH ALL."""
        return self._all(statement, JobKind.FLUSH, self._upkeep.flush, request)

    def compact_table(self, statement: CompactTable, request: Request) -> Result:
        """Run STORAGE COMPACT TABLE."""
        table = self._targets.flushable(statement.table, request.context, verb="compacted")
        job = self._on_table(self._jobs.run, JobKind.COMPACT, table, self._upkeep.compact, request)
        return _answer(statement.kind, [job])

    def compact_all(self, statement: CompactAll, request: Request) -> Result:
        """Run STORAGE COMPACT ALL."""
        return self._all(statement, JobKind.COMPACT, self._upkeep.compact, request)

    def vacuum(self, statement: Vacuum, request: Request) -> Result:
        """Run VACUUM: of one table, or of the whole database with users that are due."""
        if statement.table is not None:
            table = self._targets.stored(statement.table, request.context, verb="vacuumed")
            run = self._jobs.run
            job = self._on_table(run, JobKind.CLEANUP, table, self._vacuum_table, request)
            return _answer(statement.kind, [job])
        by = request.context.user_id
        erased: list[Job] = []
        # First: what it leaves is taken out of the catalog's file by the other job.
        if users := self._cleanup.users_to_erase():
            job = self._jobs.attempt(
                JobKind.USER_CLEANUP,
                key="user_cleanup",
                parameters={"user_count": len(users)},
                created_by=by,
                work=lambda run: self._cleanup.erase(users, run),
                interruption=request.interruption,
            )
            erased.append(job)
        job = self._jobs.run(
            JobKind.CLEANUP,
            key="cleanup",
            parameters={},
            created_by=by,
            work=self._vacuum_everything,
            interruption=request.interruption,
        )
        return _answer(statement.kind, [job, *erased])

    def analyze(self, statement: Analyze, request: Request) -> Result:
        """Run ANALYZE: the statistics of all scopes anew, and the answer of SHOW STATS."""
        self._targets.readable(statement.table, request.context)
        table = self._targets.stored(statement.table, request.context, verb="analyzed")
        self._upkeep.analyze(table)
        stats = ShowStats(
            text=statement.text,
            line=statement.line,
            column=statement.column,
            table=statement.table,
        )
        answer = self._show.stats(stats, request)
        return Result.of_table(statement.kind, answer.to_arrow())

    def _vacuum_table(self, table: TableDef, run: JobRun) -> str:
        versions = self._upkeep.purge(table, run)
        self._upkeep.trim(forgets=True)
        return deletion_message(self._cleanup.delete_retired(), versions=versions)

    def _vacuum_everything(self, run: JobRun) -> str:
        versions = 0
        for table in self._tables(None, streams=True):
            dropped = self._upkeep.purge(table, run)
            versions += 0 if table.kind is TableKind.SYSTEM else dropped
        self._upkeep.trim(forgets=True)
        deleted = self._cleanup.delete_retired()
        orphans = self._cleanup.delete_orphans(run)
        run.check()
        message = deletion_message(deleted, versions=versions, orphans=orphans)
        if not self._scrub():
            message += "; an open transaction keeps freed pages of the catalog"
        return message

    def _all(
        self, statement: FlushAll | CompactAll, kind: JobKind, work: TableWork, request: Request
    ) -> Result:
        if statement.namespace is not None:
            self._queries.check_namespace(statement.namespace, request.context)
        tables = self._tables(statement.namespace, streams=False)
        jobs = [self._on_table(self._jobs.attempt, kind, table, work, request) for table in tables]
        if request.context.role < Role.DBA:
            jobs = [job for job in jobs if job.parameters["namespace_id"] != SYSTEM_NAMESPACE]
        return _answer(statement.kind, jobs)

    def _tables(self, namespace: str | None, *, streams: bool) -> list[TableDef]:
        tables = self._catalog.tables_in(namespace)
        if namespace is None:
            tables = [*tables, *self._catalog.tables_in(SYSTEM_NAMESPACE)]
        return [t for t in tables if t.is_stored and (streams or t.kind is not TableKind.STREAM)]

    def _on_table(
        self,
        run: Callable[..., Job],
        kind: JobKind,
        table: TableDef,
        work: TableWork,
        request: Request,
    ) -> Job:
        namespace, name = table.table_id.namespace, table.table_id.name
        return run(
            kind,
            key=f"{kind.value}:{namespace}:{name}",
            parameters={"namespace_id": namespace, "table_name": name},
            created_by=request.context.user_id,
            work=lambda job: work(table, job),
            interruption=request.interruption,
        )


def _answer(kind: str, jobs: Sequence[Job]) -> Result:
    return listing(
        kind,
        _JOBS,
        [
            (job.job_id, job.kind.value, _table_name(job), job.status.value, job.message)
            for job in jobs
        ],
    )


def _table_name(job: Job) -> str | None:
    namespace, table = job.parameters.get("namespace_id"), job.parameters.get("table_name")
    return None if table is None else f"{namespace}.{table}"
