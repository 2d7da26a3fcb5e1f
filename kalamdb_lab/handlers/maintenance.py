"""STORAGE FLUSH, STORAGE COMPACT, VACUUM and ANALYZE: work on tables, as jobs."""

from __future__ import annotations

from collections.abc import Sequence

from kalamdb_lab.handlers.listing import Columns, listing
from kalamdb_lab.handlers.show import ShowHandler
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.jobs.cleanup import CleanUp
from kalamdb_lab.jobs.due import key_of
from kalamdb_lab.jobs.executors import table_parameters
from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.jobs.queue import Order
from kalamdb_lab.jobs.upkeep import TableUpkeep
from kalamdb_lab.model.datatypes import TEXT
from kalamdb_lab.model.ids import SYSTEM_NAMESPACE
from kalamdb_lab.model.jobs import Job, JobKind
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import TableDef
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

_JOBS: Columns = [
    ("job_id", TEXT),
    ("job_type", TEXT),
    ("table_name", TEXT),
    ("status", TEXT),
    ("message", TEXT),
]


class MaintenanceHandler:
    """Turns statements into jobs, one answer row per table.

    Flushes and compactions are made and go on by themselves; VACUUM is waited for.
    """

    def __init__(
        self,
        targets: Targets,
        queries: Queries,
        jobs: JobManager,
        upkeep: TableUpkeep,
        cleanup: CleanUp,
        show: ShowHandler,
    ) -> None:
        self._targets = targets
        self._queries = queries
        self._jobs = jobs
        self._upkeep = upkeep
        self._cleanup = cleanup
        self._show = show

    def flush_table(self, statement: FlushTable, request: Request) -> Result:
        """Run STORAGE FLUSH TABLE."""
        table = self._targets.flushable(statement.table, request.context, verb="flushed")
        return _answer(statement.kind, [self._submit(JobKind.FLUSH, table, request)])

    def flush_all(self, statement: FlushAll, request: Request) -> Result:
        """Run STORAGE FLUSH ALL."""
        return self._all(statement, JobKind.FLUSH, request)

    def compact_table(self, statement: CompactTable, request: Request) -> Result:
        """Run STORAGE COMPACT TABLE."""
        table = self._targets.flushable(statement.table, request.context, verb="compacted")
        return _answer(statement.kind, [self._submit(JobKind.COMPACT, table, request)])

    def compact_all(self, statement: CompactAll, request: Request) -> Result:
        """Run STORAGE COMPACT ALL."""
        return self._all(statement, JobKind.COMPACT, request)

    def vacuum(self, statement: Vacuum, request: Request) -> Result:
        """Run VACUUM: of one table, or of the whole database with users that are due."""
        by = request.context.user_id
        if statement.table is not None:
            table = self._targets.stored(statement.table, request.context, verb="vacuumed")
            job = self._jobs.run(
                JobKind.CLEANUP,
                key=key_of(JobKind.CLEANUP, table),
                parameters=table_parameters(table),
                created_by=by,
                interruption=request.interruption,
            )
            return _answer(statement.kind, [job])
        erased: list[Job] = []
        # First: what it leaves is taken out of the catalog's file by the other job.
        if users := self._cleanup.users_to_erase():
            job = self._jobs.attempt(
                JobKind.USER_CLEANUP,
                key="user_cleanup",
                parameters={"user_count": len(users)},
                created_by=by,
                interruption=request.interruption,
            )
            erased.append(job)
        job = self._jobs.run(
            JobKind.CLEANUP,
            key="cleanup",
            parameters={},
            created_by=by,
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

    def _submit(self, kind: JobKind, table: TableDef, request: Request) -> Job:
        job = self._jobs.submit(
            kind,
            key=key_of(kind, table),
            parameters=table_parameters(table),
            created_by=request.context.user_id,
        )
        assert job is not None
        return job

    def _all(self, statement: FlushAll | CompactAll, kind: JobKind, request: Request) -> Result:
        if statement.namespace is not None:
            self._queries.check_namespace(statement.namespace, request.context)
        by = request.context.user_id
        jobs = self._jobs.submit_all(
            [
                Order(kind, key_of(kind, table), table_parameters(table), by)
                for table in self._upkeep.tables(statement.namespace, streams=False)
            ]
        )
        if request.context.role < Role.DBA:
            jobs = [job for job in jobs if job.parameters["namespace_id"] != SYSTEM_NAMESPACE]
        return _answer(statement.kind, jobs)


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
